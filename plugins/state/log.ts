/**
 * The exact sliding log: the time of each request, once for each unit of its cost. All windows of a counter share
 * one log a subject, which keeps what the widest of them needs.
 */
import type { Meter } from './meter.js'
import type { Window } from './port.js'

/** Times in their order; those before `first` are over. */
interface Log { times: number[], first: number }

export interface LogRoom {
  /** Times that are held at most, of all subjects together. */
  maxTimes: number
  /** Forgets a subject other than this one; throws where all must be remembered. */
  makeRoom: (keep: number, now: number) => void
}

/** Fewer times that are over than this are not worth a copy. */
const WORTH_A_COPY = 16

export class ExactLog implements Meter {
  readonly #windows: readonly Window[]
  readonly #widestMs: number
  readonly #room: LogRoom
  readonly #logs: (Log | undefined)[] = []
  #held = 0

  constructor (windows: readonly Window[], room: LogRoom) {
    this.#windows = windows
    this.#widestMs = Math.max(...windows.map(({ ms }) => ms))
    this.#room = room
  }

  left (slot: number, window: number, cost: number, now: number): number {
    const { limit, ms } = this.#windows[window]!
    const log = this.#logs[slot]
    if (log === undefined) return limit - cost
    if (window === 0) this.#advance(log, now)
    return limit - cost - (log.times.length - firstWithin(log, ms, now))
  }

  waitMs (slot: number, window: number, cost: number, now: number): number {
    const { limit, ms } = this.#windows[window]!
    const log = this.#logs[slot]
    if (cost > limit || log === undefined) return ms // never passes
    // All of its hits but the newest `limit - cost` have to be over.
    return log.times[log.times.length - 1 - (limit - cost)]! + ms - now
  }

  resetMs (slot: number, window: number, cost: number, now: number): number {
    const { ms } = this.#windows[window]!
    const newest = cost > 0 ? now : this.#logs[slot]?.times.at(-1) ?? -Infinity
    return Math.max(0, newest + ms - now)
  }

  count (slot: number, cost: number, now: number): void {
    while (this.#held + cost > this.#room.maxTimes) this.#room.makeRoom(slot, now)
    const log = this.#logs[slot]!
    if (log.times.length === 0) log.times = Array<number>(cost).fill(now) // no more room than that: most come once
    else for (let i = 0; i < cost; i++) log.times.push(now)
    this.#held += cost
  }

  used (slot: number, now: number): number {
    const log = this.#logs[slot]
    if (log === undefined) return 0
    this.#advance(log, now)
    return Math.max(...this.#windows.map(({ limit, ms }) => (log.times.length - firstWithin(log, ms, now)) / limit))
  }

  open (slot: number): void {
    this.#logs[slot] = { times: [], first: 0 }
  }

  close (slot: number): void {
    this.#held -= this.#logs[slot]!.times.length
    this.#logs[slot] = undefined
  }

  /** Drops what the widest window needs no more. What was counted before the clock was set back counts as of now. */
  #advance (log: Log, now: number): void {
    const { times } = log
    for (let i = times.length - 1; i >= log.first && times[i]! > now; i--) times[i] = now
    log.first = firstWithin(log, this.#widestMs, now)
    if (log.first < WORTH_A_COPY || log.first * 2 < times.length) return
    this.#held -= log.first
    log.times = times.slice(log.first)
    log.first = 0
  }
}

/** Index of the oldest time that still counts in a window. */
function firstWithin ({ times, first }: Log, ms: number, now: number): number {
  let [low, high] = [first, times.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if (now - times[middle]! >= ms) low = middle + 1
    else high = middle
  }
  return low
}
