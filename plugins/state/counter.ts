/**
 * Counters in the process's own memory: one array of numbers each, a slot a subject, so that a million subjects
 * cost no million objects.
 *
 * All is decided in requests × milliseconds, which are whole numbers: a rounding error would let a request through too
 * early, or send somebody away for longer than was said.
 */
import type { Algorithm, Counter, CounterOptions, Decision, Window } from './port.js'
import { PLACES_FOR_ROOM, PLACES_PER_WRITE } from './shelf.js'

export interface CounterBounds {
  maxSubjects: number
  now: () => number
  /** Called when only subjects are left that must be remembered; throws. */
  refuse: () => never
}

/** Numbers of one window in a slot: when its current window began, the count in it, the count in the one before. */
const START = 0
const CURRENT = 1
const PREVIOUS = 2
const PER_WINDOW = 3
const FIRST_SLOTS = 64
const MAX_WINDOWS = 8
/** The slot of a subject that was never counted: always empty. */
const UNKNOWN = 0
const NONE: readonly number[] = Object.freeze([])

export class MemoryCounter implements Counter {
  readonly windows: readonly Window[]
  readonly algorithm: Algorithm
  readonly #slides: boolean
  readonly #stride: number
  readonly #slots = new Map<string, number>()
  readonly #subjects: (string | undefined)[] = [undefined]
  readonly #free: number[] = []
  readonly #bounds: CounterBounds
  #numbers: Float64Array
  #hand = 0

  /** @throws TypeError where a window is wrong */
  constructor ({ name, windows, algorithm = 'sliding' }: CounterOptions, bounds: CounterBounds) {
    const isRight = ({ limit, ms }: Window) => Number.isSafeInteger(limit) && limit >= 1 && Number.isSafeInteger(ms) && ms >= 1
    if (windows.length < 1 || windows.length > MAX_WINDOWS || !windows.every(isRight)) {
      throw new TypeError(`counter ${name}: needs one to ${MAX_WINDOWS} windows, each with a limit and milliseconds of at least 1`)
    }
    this.windows = windows.map(({ limit, ms }) => ({ limit, ms }))
    this.algorithm = algorithm
    this.#slides = algorithm === 'sliding'
    this.#stride = windows.length * PER_WINDOW
    this.#numbers = new Float64Array(FIRST_SLOTS * this.#stride)
    this.#bounds = bounds
  }

  get size (): number { return this.#slots.size }

  take (subject: string, cost = 1): Decision {
    if (!Number.isSafeInteger(cost) || cost < 1) throw new TypeError('the cost of a request must be a whole number of at least 1')
    const now = this.#bounds.now()
    let slot = this.#slots.get(subject) ?? UNKNOWN
    const decision = this.#decide(slot, cost, now)
    if (decision.allowed) {
      if (slot === UNKNOWN) slot = this.#open(subject, now)
      const base = slot * this.#stride
      for (let w = 0; w < this.windows.length; w++) this.#numbers[base + w * PER_WINDOW + CURRENT]! += cost
    }
    return decision
  }

  peek (subject: string): Decision {
    return this.#decide(this.#slots.get(subject) ?? UNKNOWN, 1, this.#bounds.now())
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
    let refusedReset = 0
    let retryMs = 0
    const violated: number[] = []
    for (let w = 0; w < windows.length; w++) {
      const { limit, ms } = windows[w]!
      const at = slot * this.#stride + w * PER_WINDOW
      this.#advance(at, ms, now)
      const current = numbers[at + CURRENT]!
      const previous = numbers[at + PREVIOUS]!
      const untilNext = ms - (now - numbers[at + START]!)
      const room = (limit - cost - current) * ms - previous * untilNext
      if (room < 0) {
        violated.push(w)
        const wait = this.#waitFor(limit - cost, current, previous, untilNext, ms)
        if (refused === -1 || wait > retryMs) {
          refused = w
          retryMs = wait
          refusedReset = this.#slides && current > 0 ? untilNext + ms : untilNext
        }
      } else if (room / ms < nearestLeft) {
        nearest = w
        nearestLeft = room / ms
        nearestReset = this.#slides ? untilNext + ms : untilNext
      }
    }
    if (refused !== -1) return { allowed: false, window: refused, limit: windows[refused]!.limit, remaining: 0, resetMs: refusedReset, retryMs, violated, banned: false }
    return { allowed: true, window: nearest, limit: windows[nearest]!.limit, remaining: Math.floor(nearestLeft), resetMs: nearestReset, retryMs: 0, violated: NONE, banned: false }
  }

  /** Milliseconds until a window that refuses has come down to `cap`; exact. */
  #waitFor (cap: number, current: number, previous: number, untilNext: number, ms: number): number {
    if (cap < 0) return ms // a cost above the limit never passes
    if (!this.#slides) return Math.ceil(untilNext)
    // Inside the current window the previous one fades: current × ms + previous × (time that is left) ≤ cap × ms.
    if (current <= cap) return Math.ceil(untilNext - Math.floor((cap - current) * ms / previous))
    // Only once the current window has become the previous one, and has faded to the cap.
    return Math.ceil(untilNext + ms - Math.floor(cap * ms / current))
  }

  /** Moves a window on: what was the current one becomes the previous, or both are over. */
  #advance (at: number, ms: number, now: number): void {
    const numbers = this.#numbers
    const elapsed = now - numbers[at + START]!
    if (elapsed >= 0 && elapsed < ms) {
      // A window that holds nothing begins with its first hit, not with who looked at it.
      if (numbers[at + CURRENT] === 0 && numbers[at + PREVIOUS] === 0) numbers[at + START] = now
      return
    }
    if (elapsed < 0) { // the clock was set back: what was counted stays, for one window at most
      numbers[at + START] = now
      return
    }
    const follows = this.#slides && elapsed < 2 * ms
    numbers[at + PREVIOUS] = follows ? numbers[at + CURRENT]! : 0
    numbers[at + CURRENT] = 0
    numbers[at + START] = numbers[at + PREVIOUS] === 0 ? now : numbers[at + START]! + ms
  }

  #open (subject: string, now: number): number {
    this.#collect(PLACES_PER_WRITE, now, false)
    if (this.#slots.size >= this.#bounds.maxSubjects && !this.#collect(PLACES_FOR_ROOM, now, true)) this.#bounds.refuse()
    const slot = this.#free.pop() ?? this.#subjects.length
    const base = slot * this.#stride
    if (base + this.#stride > this.#numbers.length) {
      const grown = new Float64Array(this.#numbers.length * 2)
      grown.set(this.#numbers)
      this.#numbers = grown
    }
    this.#slots.set(subject, slot)
    this.#subjects[slot] = subject
    this.#numbers.fill(0, base, base + this.#stride)
    for (let w = 0; w < this.windows.length; w++) this.#numbers[base + w * PER_WINDOW + START] = now
    return slot
  }

  /** Drops subjects whose windows are all over; where room is needed also one that is far from every limit. */
  #collect (places: number, now: number, needsRoom: boolean): boolean {
    const count = this.#subjects.length
    for (let i = 0; i < places; i++) {
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
    const spans = this.#slides ? 2 : 1
    for (let w = 0; w < this.windows.length; w++) {
      if (now - this.#numbers[slot * this.#stride + w * PER_WINDOW + START]! < this.windows[w]!.ms * spans) return false
    }
    return true
  }

  /** At most half of every budget is used: forgetting it gives nobody much. */
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
