/**
 * Counters in the process's own memory: who is counted, in slots of flat arrays, and who may be forgotten. How it is
 * counted is said by the meter of each algorithm.
 */
import { Bans } from './bans.js'
import { TokenBuckets } from './bucket.js'
import { checkCost, type SettledCounter } from './counter-options.js'
import { Directory, NO_SLOT } from './directory.js'
import { FixedWindows } from './fixed.js'
import { ExactLog, type LogRoom } from './log.js'
import type { Meter } from './meter.js'
import type { Counter, Decision, Window } from './port.js'
import { PLACES_FOR_ROOM, PLACES_PER_WRITE } from './shelf.js'
import { SlidingWindows } from './sliding.js'

export interface CounterBounds {
  maxSubjects: number
  now: () => number
  /** Called when only subjects are left that must be remembered; throws. */
  refuse: () => never
}

/** Times that the logs of a counter hold at most, for each subject that it may hold. */
const TIMES_PER_SUBJECT = 8
/** Who has used no more than this share of every budget may be forgotten to make room: it gives away half a budget at most. */
const HARMLESS = 0.5
const NONE: readonly number[] = Object.freeze([])

export class MemoryCounter implements Counter {
  readonly settled: SettledCounter
  readonly windows: readonly Window[]
  readonly #meter: Meter
  readonly #bans: Bans | null
  readonly #slots = new Directory()
  readonly #bounds: CounterBounds
  #hand = 0

  constructor (settled: SettledCounter, bounds: CounterBounds) {
    this.settled = settled
    this.windows = settled.windows
    this.#bounds = bounds
    this.#bans = settled.ban === null ? null : new Bans(settled.ban)
    this.#meter = meterOf(settled, {
      maxTimes: bounds.maxSubjects * TIMES_PER_SUBJECT,
      makeRoom: (keep, now) => { this.#makeRoom(keep, now) },
    })
  }

  get size (): number { return this.#slots.size }

  take (subject: string, cost = 1): Decision {
    checkCost(cost)
    const now = this.#bounds.now()
    const slot = this.#slots.find(subject)
    const decision = this.#decide(slot, cost, now)
    const bannedMs = this.#bans === null ? 0 : this.#bans.leftMs(slot, now)
    if (bannedMs > 0) return refuseBanned(decision, bannedMs)
    if (decision.allowed) this.#meter.count(slot === NO_SLOT ? this.#open(subject, now) : slot, cost, now)
    else if (this.#bans !== null) {
      const startedMs = this.#bans.strike(slot === NO_SLOT ? this.#open(subject, now) : slot, now)
      if (startedMs > 0) return refuseBanned(decision, startedMs)
    }
    return decision
  }

  peek (subject: string): Decision {
    const now = this.#bounds.now()
    const slot = this.#slots.find(subject)
    const bannedMs = this.#bans === null ? 0 : this.#bans.leftMs(slot, now)
    const decision = this.#decide(slot, 1, now)
    return bannedMs > 0 ? refuseBanned(decision, bannedMs) : decision
  }

  reset (subject: string): void {
    const slot = this.#slots.find(subject)
    if (slot !== NO_SLOT) this.#close(slot)
  }

  #decide (slot: number, cost: number, now: number): Decision {
    const { windows } = this
    const meter = this.#meter
    let nearest = 0
    let least = Infinity
    let longest = 0
    let retryMs = -1
    let violated: number[] | null = null
    for (let w = 0; w < windows.length; w++) {
      const left = meter.left(slot, w, cost, now)
      if (left < 0) {
        (violated ??= []).push(w)
        const waitMs = meter.waitMs(slot, w, cost, now)
        if (waitMs > retryMs) {
          longest = w
          retryMs = waitMs
        }
      } else if (left < least) {
        nearest = w
        least = left
      }
    }
    if (violated === null) {
      const resetMs = meter.resetMs(slot, nearest, cost, now)
      return { allowed: true, window: nearest, limit: windows[nearest]!.limit, remaining: Math.floor(least), resetMs, retryMs: 0, violated: NONE, banned: false }
    }
    return {
      allowed: false, window: longest, limit: windows[longest]!.limit, remaining: 0, resetMs: meter.resetMs(slot, longest, 0, now), retryMs, violated, banned: false,
    }
  }

  #open (subject: string, now: number): number {
    this.#collect(PLACES_PER_WRITE, now)
    if (this.#slots.size >= this.#bounds.maxSubjects) this.#makeRoom(NO_SLOT, now)
    const slot = this.#slots.open(subject)
    this.#meter.open(slot, now)
    this.#bans?.open(slot, now)
    return slot
  }

  #close (slot: number): void {
    this.#slots.close(slot)
    this.#meter.close(slot)
  }

  /** Drops subjects of whom nothing is left to remember. */
  #collect (places: number, now: number): void {
    for (let i = 0; i < places; i++) {
      const slot = this.#nextPlace()
      if (this.#share(slot, now) === 0) this.#close(slot)
    }
  }

  /** Drops one subject that is far from every limit; throws where none is found. */
  #makeRoom (keep: number, now: number): void {
    for (let i = 0; i < PLACES_FOR_ROOM; i++) {
      const slot = this.#nextPlace()
      if (slot !== keep && this.#share(slot, now) <= HARMLESS) return this.#close(slot)
    }
    this.#bounds.refuse()
  }

  #nextPlace (): number {
    const slot = this.#hand
    this.#hand = (slot + 1) % this.#slots.end
    return slot
  }

  /** The largest share of a budget that the subject of a place has used; infinite where it must stay, and where there is none. */
  #share (slot: number, now: number): number {
    if (!this.#slots.has(slot) || this.#bans?.mustStay(slot, now) === true) return Infinity
    return this.#meter.used(slot, now)
  }
}

/** Until the ban is over, and until the windows that refuse beside it take the request. */
function refuseBanned ({ allowed, window, limit, resetMs, retryMs, violated }: Decision, leftMs: number): Decision {
  return { allowed: false, window, limit, remaining: 0, resetMs: Math.max(allowed ? 0 : resetMs, leftMs), retryMs: Math.max(retryMs, leftMs), violated, banned: true }
}

function meterOf ({ windows, algorithm }: SettledCounter, room: LogRoom): Meter {
  if (algorithm === 'fixed') return new FixedWindows(windows)
  if (algorithm === 'log') return new ExactLog(windows, room)
  return algorithm === 'bucket' ? new TokenBuckets(windows) : new SlidingWindows(windows)
}
