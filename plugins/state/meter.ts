import type { Window } from './port.js'

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

const FIRST_SLOTS = 64

/** Numbers in one array, so that a million subjects cost no million objects: of each slot some groups, whose first number is a time. */
export class Table {
  readonly stride: number
  readonly #group: number
  numbers: Float64Array

  constructor (groups: number, numbersOfOne: number) {
    this.stride = groups * numbersOfOne
    this.#group = numbersOfOne
    this.numbers = new Float64Array(FIRST_SLOTS * this.stride)
  }

  open (slot: number, now: number): void {
    const base = slot * this.stride
    if (base + this.stride > this.numbers.length) {
      const grown = new Float64Array(this.numbers.length * 2)
      grown.set(this.numbers)
      this.numbers = grown
    }
    this.numbers.fill(0, base, base + this.stride)
    for (let at = base; at < base + this.stride; at += this.#group) this.numbers[at] = now
  }

  /** The numbers stay until the slot is opened again. */
  close (_slot: number): void {}
}

/** Meters with a group of numbers for each window. */
export abstract class WindowTable extends Table {
  protected readonly windows: readonly Window[]
  readonly #numbersOfOne: number

  constructor (windows: readonly Window[], numbersOfOne: number) {
    super(windows.length, numbersOfOne)
    this.windows = windows
    this.#numbersOfOne = numbersOfOne
  }

  used (slot: number, now: number): number {
    let most = 0
    for (let w = 0; w < this.windows.length; w++) {
      most = Math.max(most, this.share(slot * this.stride + w * this.#numbersOfOne, this.windows[w]!, now))
    }
    return most
  }

  /** The share of this window's budget that is used, once it is moved on to `now`. */
  protected abstract share (at: number, window: Window, now: number): number
}
