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
  const loose = new Shelf<string>(Math.floor(maxEntries / 2), forgot)
  const pinned = new Shelf<string>(Math.floor(maxEntries / 4), null)
  const tallies = new Shelf<number | Set<string>>(Math.floor(maxEntries / 4), null)
  const counters = new Map<string, MemoryCounter>()

  function valueOf (key: string, time = now()): string | null {
    return (loose.get(key, time) ?? pinned.get(key, time))?.value ?? null
  }

  function put<Value> (shelf: Shelf<Value>, key: string, value: Value, ttlMs: number): void {
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
      const kept = tallies.get(key, now())
      if (kept !== undefined && typeof kept.value !== 'number') throw new TypeError('state: add was called on a set')
      const count = Math.max(0, (kept?.value as number | undefined ?? 0) + by)
      if (count === 0) tallies.delete(key)
      else if (kept === undefined) put(tallies, key, count, ttlMs)
      else kept.value = count
      return { count, ttlMs: kept === undefined || count === 0 ? ttlMs : kept.expires - now() }
    },
    join (key, member, max, ttlMs) {
      const kept = tallies.get(key, now())
      if (kept === undefined) {
        put(tallies, key, new Set([member]), ttlMs)
        return 1
      }
      if (typeof kept.value === 'number') throw new TypeError('state: join was called on a number')
      if (kept.value.size < max) kept.value.add(member)
      return kept.value.size
    },
    leave (key, member) {
      const kept = tallies.get(key, now())
      if (kept === undefined || typeof kept.value === 'number') return
      kept.value.delete(member)
      if (kept.value.size === 0) tallies.delete(key)
    },
    size: () => ({
      entries: loose.size + pinned.size + tallies.size,
      counters: [...counters.values()].reduce((sum, counter) => sum + counter.size, 0),
    }),
    close () {
      for (const shelf of [loose, pinned, tallies]) shelf.clear()
      counters.clear()
    },
  }
  return state
}
