/** Sliding windows: the count of the window before fades as the current one goes by. */
import { WindowTable, type Meter } from './meter.js'
import type { Window } from './port.js'

/** Numbers of one window in a slot: when its current window began, the count in it, the count in the one before. */
const START = 0
const CURRENT = 1
const PREVIOUS = 2
const PER_WINDOW = 3

export class SlidingWindows extends WindowTable implements Meter {
  constructor (windows: readonly Window[]) { super(windows, PER_WINDOW) }

  left (slot: number, window: number, cost: number, now: number): number {
    const { limit, ms } = this.windows[window]!
    const numbers = this.of(slot)
    const at = this.at(slot, window)
    this.#advance(numbers, at, ms, now)
    return ((limit - cost - numbers[at + CURRENT]!) * ms - numbers[at + PREVIOUS]! * this.#untilNext(numbers, at, ms, now)) / ms
  }

  waitMs (slot: number, window: number, cost: number, now: number): number {
    const { limit, ms } = this.windows[window]!
    const cap = limit - cost
    if (cap < 0) return ms // a cost above the limit never passes
    const numbers = this.of(slot)
    const at = this.at(slot, window)
    const current = numbers[at + CURRENT]!
    const untilNext = this.#untilNext(numbers, at, ms, now)
    // Inside the current window the previous one fades: current × ms + previous × (time that is left) ≤ cap × ms.
    if (current <= cap) return Math.ceil(untilNext - Math.floor((cap - current) * ms / numbers[at + PREVIOUS]!))
    // Only once the current window has become the previous one, and has faded to the cap.
    return Math.ceil(untilNext + ms - Math.floor(cap * ms / current))
  }

  resetMs (slot: number, window: number, cost: number, now: number): number {
    const { ms } = this.windows[window]!
    const numbers = this.of(slot)
    const at = this.at(slot, window)
    const untilNext = this.#untilNext(numbers, at, ms, now)
    return numbers[at + CURRENT]! + cost > 0 ? untilNext + ms : untilNext
  }

  count (slot: number, cost: number): void {
    const numbers = this.of(slot)
    for (let w = 0; w < this.windows.length; w++) numbers[this.at(slot, w) + CURRENT]! += cost
  }

  protected share (numbers: Float64Array, at: number, { limit, ms }: Window, now: number): number {
    this.#advance(numbers, at, ms, now)
    return (numbers[at + CURRENT]! + numbers[at + PREVIOUS]!) / limit
  }

  #untilNext (numbers: Float64Array, at: number, ms: number, now: number): number {
    return ms - (now - numbers[at + START]!)
  }

  /** Moves a window on: what was the current one becomes the previous, or both are over. */
  #advance (numbers: Float64Array, at: number, ms: number, now: number): void {
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
    numbers[at + PREVIOUS] = elapsed < 2 * ms ? numbers[at + CURRENT]! : 0
    numbers[at + CURRENT] = 0
    numbers[at + START] = numbers[at + PREVIOUS] === 0 ? now : numbers[at + START]! + ms
  }
}
