/**
 * State in the process's own memory: exact, synchronous and bounded.
 *
 * Counters live in one array of numbers each (a slot a subject), so that a million subjects cost no million objects.
 * What has expired is collected by a hand that moves a few places at every write: there is never a sweep.
 */
import type { Counter, CounterOptions, Decision, State, Window } from './index.js'

interface MemoryOptions {
  maxEntries: number
  maxSubjects: number
  now: () => number
  /** Called when only what must be remembered is left; throws. */
  refuse: () => never
}

interface Entry { value: string | Set<string>, expires: number, pinned: boolean }

/** Places that the collecting hand looks at in one write, and the most it looks at to find room. */
const PLACES_PER_WRITE = 2
const PLACES_FOR_ROOM = 512

export function memoryState (options: MemoryOptions): State {
  const { maxEntries, now, refuse } = options
  const entries = new Map<string, Entry>()
  const counters = new Map<string, SlidingCounter>()
  let hand = entries.entries()

  function live (key: string): Entry | undefined {
    const entry = entries.get(key)
    if (entry === undefined) return undefined
    if (entry.expires > now()) return entry
    entries.delete(key)
    return undefined
  }

  function put (key: string, value: string | Set<string>, ttlMs: number, pinned: boolean): void {
    const time = now()
    const known = entries.get(key)
    if (known !== undefined) {
      known.value = value
      known.expires = time + ttlMs
      known.pinned = pinned
      return
    }
    collect(PLACES_PER_WRITE, time, false)
    if (entries.size >= maxEntries && !collect(PLACES_FOR_ROOM, time, true)) refuse()
    entries.set(key, { value, expires: time + ttlMs, pinned })
  }

  /** Moves the hand; drops what has expired and, where room is needed, the first that may be forgotten. */
  function collect (places: number, time: number, needsRoom: boolean): boolean {
    for (let i = 0; i < places && entries.size > 0; i++) {
      let place = hand.next()
      if (place.done === true) {
        hand = entries.entries()
        place = hand.next()
        if (place.done === true) return true
      }
      const [key, entry] = place.value
      if (entry.expires <= time || (needsRoom && !entry.pinned)) {
        entries.delete(key)
        if (needsRoom) return true
      }
    }
    return false
  }

  return {
    kind: 'memory',
    counter (counterOptions) {
      const known = counters.get(counterOptions.name)
      if (known !== undefined) return known
      const counter = new SlidingCounter(counterOptions, options)
      counters.set(counterOptions.name, counter)
      return counter
    },
    get: key => live(key)?.value as string | undefined ?? null,
    getMany: keys => keys.map(key => live(key)?.value as string | undefined ?? null),
    set: (key, value, ttlMs, pinned = false) => put(key, value, ttlMs, pinned),
    claim (key, value, ttlMs) {
      if (live(key) !== undefined) return false
      put(key, value, ttlMs, true)
      return true
    },
    swap (key, expected, next, ttlMs) {
      const entry = live(key)
      if (entry === undefined) return 'missing'
      if (entry.value !== expected) return 'mismatch'
      put(key, next, ttlMs, entry.pinned)
      return 'swapped'
    },
    delete: key => { entries.delete(key) },
    raise (key, floor, ttlMs) {
      const next = Math.max(Number(live(key)?.value ?? 0) + 1, floor)
      put(key, String(next), ttlMs, true)
      return next
    },
    add (key, by, ttlMs) {
      const entry = live(key)
      const count = Math.max(0, Number(entry?.value ?? 0) + by)
      if (entry === undefined) {
        if (count > 0) put(key, String(count), ttlMs, true)
        return { count, ttlMs }
      }
      entry.value = String(count)
      return { count, ttlMs: entry.expires - now() }
    },
    join (key, member, max, ttlMs) {
      const entry = live(key)
      if (entry === undefined) {
        put(key, new Set([member]), ttlMs, true)
        return 1
      }
      const members = entry.value as Set<string>
      if (members.size < max) members.add(member)
      return members.size
    },
    size: () => ({ entries: entries.size, counters: [...counters.values()].reduce((sum, counter) => sum + counter.size, 0) }),
    close () {
      entries.clear()
      counters.clear()
    },
  }
}

/** Numbers of one window in a slot: when its current window began, the count in it, the count in the one before. */
const START = 0
const CURRENT = 1
const PREVIOUS = 2
const PER_WINDOW = 3
const FIRST_SLOTS = 64

class SlidingCounter implements Counter {
  readonly windows: readonly Window[]
  readonly #slides: boolean
  readonly #stride: number
  readonly #slots = new Map<string, number>()
  readonly #subjects: (string | undefined)[] = []
  readonly #free: number[] = []
  readonly #options: MemoryOptions
  #numbers: Float64Array
  #hand = 0

  constructor ({ windows, algorithm = 'sliding' }: CounterOptions, options: MemoryOptions) {
    this.windows = windows
    this.#slides = algorithm === 'sliding'
    this.#stride = windows.length * PER_WINDOW
    this.#numbers = new Float64Array(FIRST_SLOTS * this.#stride)
    this.#options = options
  }

  get size (): number { return this.#slots.size }

  take (subject: string, cost = 1): Decision {
    const now = this.#options.now()
    let slot = this.#slots.get(subject)
    if (slot === undefined) slot = this.#open(subject, now)
    const decision = this.#decide(slot, cost, now)
    if (decision.allowed) {
      const base = slot * this.#stride
      for (let w = 0; w < this.windows.length; w++) this.#numbers[base + w * PER_WINDOW + CURRENT]! += cost
    }
    return decision
  }

  peek (subject: string): Decision {
    const slot = this.#slots.get(subject)
    if (slot !== undefined) return this.#decide(slot, 1, this.#options.now())
    const limits = this.windows.map(({ limit }) => limit)
    const window = limits.indexOf(Math.min(...limits))
    return { allowed: true, window, limit: limits[window]!, remaining: limits[window]!, resetMs: 0, retryMs: 0 }
  }

  reset (subject: string): void {
    const slot = this.#slots.get(subject)
    if (slot !== undefined) this.#close(slot)
  }

  #decide (slot: number, cost: number, now: number): Decision {
    const { windows } = this
    const numbers = this.#numbers
    let nearest = 0
    let nearestLeft = Infinity
    let nearestReset = 0
    let refused = -1
    let retryMs = 0
    for (let w = 0; w < windows.length; w++) {
      const { limit, ms } = windows[w]!
      const at = slot * this.#stride + w * PER_WINDOW
      this.#advance(at, ms, now)
      const elapsed = now - numbers[at + START]!
      const current = numbers[at + CURRENT]!
      const previous = numbers[at + PREVIOUS]!
      const used = current + previous * (1 - elapsed / ms)
      if (used + cost > limit) {
        const wait = waitFor(limit - cost, current, previous, elapsed, ms)
        if (refused === -1 || wait > retryMs) {
          refused = w
          retryMs = wait
        }
      }
      const left = limit - used - cost
      if (left < nearestLeft) {
        nearestLeft = left
        nearest = w
        nearestReset = this.#slides && current + cost > 0 ? 2 * ms - elapsed : ms - elapsed
      }
    }
    if (refused === -1) {
      return {
        allowed: true, window: nearest, limit: windows[nearest]!.limit, remaining: Math.max(0, Math.floor(nearestLeft)), resetMs: nearestReset, retryMs: 0,
      }
    }
    return { allowed: false, window: refused, limit: windows[refused]!.limit, remaining: 0, resetMs: retryMs, retryMs }
  }

  /** Moves a window on: what was the current one becomes the previous, or both are over. */
  #advance (at: number, ms: number, now: number): void {
    const numbers = this.#numbers
    const elapsed = now - numbers[at + START]!
    if (elapsed < ms && elapsed >= 0) return
    if (this.#slides && elapsed >= 0 && elapsed < 2 * ms) {
      numbers[at + PREVIOUS] = numbers[at + CURRENT]!
      numbers[at + START]! += ms
    } else {
      numbers[at + PREVIOUS] = 0
      numbers[at + START] = now
    }
    numbers[at + CURRENT] = 0
  }

  #open (subject: string, now: number): number {
    this.#collect(PLACES_PER_WRITE, now, false)
    if (this.#slots.size >= this.#options.maxSubjects && !this.#collect(PLACES_FOR_ROOM, now, true)) this.#options.refuse()
    const slot = this.#free.pop() ?? this.#subjects.length
    const base = slot * this.#stride
    if (base + this.#stride > this.#numbers.length) {
      const grown = new Float64Array(this.#numbers.length * 2)
      grown.set(this.#numbers)
      this.#numbers = grown
    }
    this.#slots.set(subject, slot)
    this.#subjects[slot] = subject
    for (let w = 0; w < this.windows.length; w++) {
      const at = base + w * PER_WINDOW
      this.#numbers[at + START] = now
      this.#numbers[at + CURRENT] = 0
      this.#numbers[at + PREVIOUS] = 0
    }
    return slot
  }

  /** Drops subjects whose windows are all over; where room is needed also one that is far from every limit. */
  #collect (places: number, now: number, needsRoom: boolean): boolean {
    const count = this.#subjects.length
    for (let i = 0; i < places && count > 0; i++) {
      const slot = this.#hand
      this.#hand = (slot + 1) % count
      if (this.#subjects[slot] === undefined) continue
      if (this.#isOver(slot, now) || (needsRoom && this.#isHarmless(slot, now))) {
        this.#close(slot)
        if (needsRoom) return true
      }
    }
    return false
  }

  #isOver (slot: number, now: number): boolean {
    for (let w = 0; w < this.windows.length; w++) {
      const spans = this.#slides ? 2 : 1
      if (now - this.#numbers[slot * this.#stride + w * PER_WINDOW + START]! < this.windows[w]!.ms * spans) return false
    }
    return true
  }

  /** Less than half of every budget is used: forgetting it gives nobody much. */
  #isHarmless (slot: number, now: number): boolean {
    for (let w = 0; w < this.windows.length; w++) {
      const { limit, ms } = this.windows[w]!
      const at = slot * this.#stride + w * PER_WINDOW
      this.#advance(at, ms, now)
      if ((this.#numbers[at + CURRENT]! + this.#numbers[at + PREVIOUS]!) * 2 > limit) return false
    }
    return true
  }

  #close (slot: number): void {
    this.#slots.delete(this.#subjects[slot]!)
    this.#subjects[slot] = undefined
    this.#free.push(slot)
  }
}

/** Milliseconds until the weighted count has come down to `room`; never too few. */
function waitFor (room: number, current: number, previous: number, elapsed: number, ms: number): number {
  if (room < 0) return ms
  // Inside the current window the previous one fades: current + previous × (1 − t / ms) ≤ room.
  if (current <= room && previous > 0) {
    return Math.max(1, Math.ceil(ms * (1 - (room - current) / previous) - elapsed))
  }
  // Only once the current window has become the previous one: current × (1 − t / ms) ≤ room.
  const untilNext = ms - elapsed
  if (current <= 0 || current <= room) return Math.max(1, Math.ceil(untilNext))
  return Math.max(1, Math.ceil(untilNext + ms * (1 - room / current)))
}
