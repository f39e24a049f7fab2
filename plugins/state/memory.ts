/**
 * State in the process's own memory: exact, synchronous and bounded.
 *
 * Three shelves, so that nobody's flood pushes out what somebody else stands on: values that may be forgotten (the
 * oldest goes first), values that must not be, and the tallies of failures, which strangers can make.
 */
import { MemoryCounter } from './counter.js'
import { checkSameCounter, settleCounter } from './counter-options.js'
import type { State } from './port.js'
import { Shelf } from './shelf.js'
import { wholeTtl } from './ttl.js'

interface MemoryOptions {
  maxEntries: number
  maxSubjects: number
  now: () => number
  /** Called when only what must be remembered is left; throws. */
  refuse: () => never
  /** Called when a value was forgotten before its time. */
  forgot: () => void
}

export function memoryState ({ maxEntries, maxSubjects, now, refuse, forgot }: MemoryOptions): State {
  let [loose, pinned, tallies] = emptyShelves()
  const counters = new Map<string, MemoryCounter>()

  function emptyShelves (): [Shelf, Shelf, Shelf] {
    return [new Shelf(Math.floor(maxEntries / 2), forgot), new Shelf(Math.floor(maxEntries / 4), null), new Shelf(Math.floor(maxEntries / 4), null)]
  }

  function valueOf (key: string, time = now()): string | null {
    return (loose.get(key, time) ?? pinned.get(key, time))?.value ?? null
  }

  function put (shelf: Shelf, key: string, value: string, ttlMs: number): void {
    const time = now()
    if (!shelf.put(key, value, time + wholeTtl(key, ttlMs), time)) refuse()
  }

  const state: State = {
    kind: 'memory',
    within: () => state,
    get local () { return state },
    answers: () => true,
    counter (options) {
      const settled = settleCounter(options)
      let counter = counters.get(options.name)
      if (counter === undefined) counters.set(options.name, counter = new MemoryCounter(settled, { maxSubjects, now, refuse }))
      else checkSameCounter(counter.settled, settled)
      return counter
    },
    get: key => valueOf(key),
    getMany (keys) {
      const time = now()
      return keys.map(key => valueOf(key, time))
    },
    set (key, value, ttlMs, mustStay = false) {
      put(mustStay ? pinned : loose, key, value, ttlMs)
      if (mustStay) loose.delete(key)
      else pinned.delete(key)
    },
    claim (key, value, ttlMs) {
      if (valueOf(key) !== null) return false
      put(pinned, key, value, ttlMs)
      return true
    },
    swap (key, expected, next, ttlMs) {
      const isLoose = loose.get(key, now()) !== undefined
      const known = valueOf(key)
      if (known === null) return 'missing'
      if (known !== expected) return 'mismatch'
      put(isLoose ? loose : pinned, key, next, ttlMs)
      return 'swapped'
    },
    delete (key) {
      loose.delete(key)
      pinned.delete(key)
      tallies.delete(key)
    },
    raise (key, floor, ttlMs) {
      const known = Number(valueOf(key) ?? 0)
      if (Number.isNaN(known)) throw new TypeError('state: raise was called on what is no number')
      const next = Math.max(known + 1, floor)
      put(pinned, key, String(next), ttlMs)
      loose.delete(key)
      return next
    },
    add (key, by, ttlMs) {
      const time = now()
      const kept = tallies.get(key, time)
      if (kept !== undefined && isSet(kept.value)) throw new TypeError('state: add was called on a set')
      const count = Math.max(0, Number(kept?.value ?? 0) + by)
      if (count === 0) tallies.delete(key)
      else if (kept === undefined) put(tallies, key, String(count), ttlMs)
      else tallies.put(key, String(count), kept.expires, time)
      return { count, ttlMs: kept === undefined || count === 0 ? ttlMs : kept.expires - time }
    },
    join (key, member, max, ttlMs) {
      const time = now()
      const kept = tallies.get(key, time)
      if (kept === undefined) {
        put(tallies, key, JSON.stringify([member]), ttlMs)
        return 1
      }
      if (!isSet(kept.value)) throw new TypeError('state: join was called on a number')
      const members = JSON.parse(kept.value) as string[]
      if (members.length >= max || members.includes(member)) return members.length
      tallies.put(key, JSON.stringify(members.concat(member)), kept.expires, time)
      return members.length + 1
    },
    leave (key, member) {
      const time = now()
      const kept = tallies.get(key, time)
      if (kept === undefined || !isSet(kept.value)) return
      const members = (JSON.parse(kept.value) as string[]).filter(other => other !== member)
      if (members.length === 0) tallies.delete(key)
      else tallies.put(key, JSON.stringify(members), kept.expires, time)
    },
    size: () => ({
      entries: loose.size + pinned.size + tallies.size,
      counters: [...counters.values()].reduce((sum, counter) => sum + counter.size, 0),
    }),
    close () {
      [loose, pinned, tallies] = emptyShelves()
      counters.clear()
    },
  }
  return state
}

/** A tally is a number, or the members of a set as a list. */
function isSet (tally: string): boolean {
  return tally.startsWith('[')
}
