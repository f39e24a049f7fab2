import { NO_SLOT } from './directory.js'
import type { Window } from './port.js'
import { Rows } from './rows.js'

/**
 * How one algorithm counts: numbers, a slot a subject. A counter asks `left` of each window and then, of the same
 * request, what else it wants to know.
 *
 * All is decided in whole numbers (requests, milliseconds and their products): a rounding error would let a request
 * through too early, or send somebody away for longer than was said.
 */
export interface Meter {
  /** Requests that are left in a window after one of `cost`, not always a whole number; below 0 where the window refuses. Moves it on to `now`. */
  left: (slot: number, window: number, cost: number, now: number) => number
  /** Milliseconds until a window that refuses a request of `cost` takes it; exact. */
  waitMs: (slot: number, window: number, cost: number, now: number) => number
  /** Milliseconds until a window has its whole budget again, once `cost` more is counted (0: as it stands). */
  resetMs: (slot: number, window: number, cost: number, now: number) => number
  /** Counts in all windows, after `left` was asked of each. */
  count: (slot: number, cost: number, now: number) => void
  /** The largest share of a budget that is used; 0 where all windows are over. Moves them on to `now`. */
  used: (slot: number, now: number) => number
  /** Begins a slot: nothing is counted in it. */
  open: (slot: number, now: number) => void
  close: (slot: number) => void
}

/** Of each slot some groups of numbers, the first of which is a time. */
export class Table {
  readonly #groups: number
  readonly #perGroup: number
  readonly #rows: Rows<Float64Array>

  constructor (groups: number, perGroup: number) {
    this.#groups = groups
    this.#perGroup = perGroup
    this.#rows = new Rows(Float64Array, groups * perGroup)
    this.open(NO_SLOT, 0)
  }

  /** Where the numbers of a slot are, from {@link at} on. */
  protected of (slot: number): Float64Array { return this.#rows.of(slot) }

  protected at (slot: number, group: number): number { return this.#rows.at(slot) + group * this.#perGroup }

  open (slot: number, now: number): void {
    this.#rows.begin(slot)
    const numbers = this.of(slot)
    numbers.fill(0, this.at(slot, 0), this.at(slot, this.#groups))
    for (let group = 0; group < this.#groups; group++) numbers[this.at(slot, group)] = now
  }

  /** The numbers stay until the slot is opened again. */
  close (_slot: number): void {}
}

/** Meters with a group of numbers for each window. */
export abstract class WindowTable extends Table {
  protected readonly windows: readonly Window[]

  constructor (windows: readonly Window[], perWindow: number) {
    super(windows.length, perWindow)
    this.windows = windows
  }

  used (slot: number, now: number): number {
    const numbers = this.of(slot)
    let most = 0
    for (let w = 0; w < this.windows.length; w++) most = Math.max(most, this.share(numbers, this.at(slot, w), this.windows[w]!, now))
    return most
  }

  /** The share of this window's budget that is used, once it is moved on to `now`. */
  protected abstract share (numbers: Float64Array, at: number, window: Window, now: number): number
}
