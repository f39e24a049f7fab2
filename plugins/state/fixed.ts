/** Fixed windows: each begins with its first hit and ends as a whole. */
import { WindowTable, type Meter } from './meter.js'
import type { Window } from './port.js'

/** Numbers of one window in a slot: when it began, and the count in it. */
const START = 0
const COUNT = 1
const PER_WINDOW = 2

export class FixedWindows extends WindowTable implements Meter {
  constructor (windows: readonly Window[]) { super(windows, PER_WINDOW) }

  left (slot: number, window: number, cost: number, now: number): number {
    const { limit, ms } = this.windows[window]!
    const at = slot * this.stride + window * PER_WINDOW
    this.#advance(at, ms, now)
    return limit - cost - this.numbers[at + COUNT]!
  }

  waitMs (slot: number, window: number, cost: number, now: number): number {
    const { limit, ms } = this.windows[window]!
    return cost > limit ? ms : this.resetMs(slot, window, cost, now)
  }

  resetMs (slot: number, window: number, _cost: number, now: number): number {
    return Math.ceil(this.windows[window]!.ms - (now - this.numbers[slot * this.stride + window * PER_WINDOW + START]!))
  }

  count (slot: number, cost: number): void {
    const base = slot * this.stride
    for (let at = base; at < base + this.stride; at += PER_WINDOW) this.numbers[at + COUNT]! += cost
  }

  protected share (at: number, { limit, ms }: Window, now: number): number {
    this.#advance(at, ms, now)
    return this.numbers[at + COUNT]! / limit
  }

  /** What has ended, or holds nothing, begins anew; what was counted before the clock was set back stays, for one window at most. */
  #advance (at: number, ms: number, now: number): void {
    const { numbers } = this
    const elapsed = now - numbers[at + START]!
    if (elapsed >= 0 && elapsed < ms && numbers[at + COUNT]! > 0) return
    if (elapsed >= ms) numbers[at + COUNT] = 0
    numbers[at + START] = now
  }
}
