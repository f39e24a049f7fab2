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
    const numbers = this.of(slot)
    const at = this.at(slot, window)
    this.#advance(numbers, at, ms, now)
    return limit - cost - numbers[at + COUNT]!
  }

  waitMs (slot: number, window: number, cost: number, now: number): number {
    const { limit, ms } = this.windows[window]!
    return cost > limit ? ms : this.resetMs(slot, window, cost, now)
  }

  resetMs (slot: number, window: number, _cost: number, now: number): number {
    return Math.ceil(this.windows[window]!.ms - (now - this.of(slot)[this.at(slot, window) + START]!))
  }

  count (slot: number, cost: number): void {
    const numbers = this.of(slot)
    for (let w = 0; w < this.windows.length; w++) numbers[this.at(slot, w) + COUNT]! += cost
  }

  protected share (numbers: Float64Array, at: number, { limit, ms }: Window, now: number): number {
    this.#advance(numbers, at, ms, now)
    return numbers[at + COUNT]! / limit
  }

  /** What has ended, or holds nothing, begins anew; what was counted before the clock was set back stays, for one window at most. */
  #advance (numbers: Float64Array, at: number, ms: number, now: number): void {
    const elapsed = now - numbers[at + START]!
    if (elapsed >= 0 && elapsed < ms && numbers[at + COUNT]! > 0) return
    if (elapsed >= ms) numbers[at + COUNT] = 0
    numbers[at + START] = now
  }
}
