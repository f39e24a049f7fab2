/**
 * Token buckets, told from their other side: what is taken out is a level that drains evenly, `limit` × `ms` in `ms`.
 * So nothing is ever added up in fractions of a token.
 */
import { WindowTable, type Meter } from './meter.js'
import type { Window } from './port.js'

/** Numbers of one bucket in a slot: when it was looked at, and how much was taken out of it then, in requests × milliseconds. */
const SINCE = 0
const LEVEL = 1
const PER_WINDOW = 2

export class TokenBuckets extends WindowTable implements Meter {
  constructor (windows: readonly Window[]) { super(windows, PER_WINDOW) }

  left (slot: number, window: number, cost: number, now: number): number {
    const { limit, ms } = this.windows[window]!
    const numbers = this.of(slot)
    const at = this.at(slot, window)
    this.#drain(numbers, at, limit, ms, now)
    return ((limit - cost) * ms - numbers[at + LEVEL]!) / ms
  }

  waitMs (slot: number, window: number, cost: number): number {
    const { limit, ms } = this.windows[window]!
    if (cost > limit) return ms // never passes
    return Math.ceil((this.of(slot)[this.at(slot, window) + LEVEL]! - (limit - cost) * ms) / limit)
  }

  resetMs (slot: number, window: number, cost: number): number {
    const { limit, ms } = this.windows[window]!
    return Math.ceil((this.of(slot)[this.at(slot, window) + LEVEL]! + cost * ms) / limit)
  }

  count (slot: number, cost: number): void {
    const numbers = this.of(slot)
    for (let w = 0; w < this.windows.length; w++) numbers[this.at(slot, w) + LEVEL]! += cost * this.windows[w]!.ms
  }

  protected share (numbers: Float64Array, at: number, { limit, ms }: Window, now: number): number {
    this.#drain(numbers, at, limit, ms, now)
    return numbers[at + LEVEL]! / (limit * ms)
  }

  /** A clock that was set back drains nothing, and from then on counts as any other. */
  #drain (numbers: Float64Array, at: number, limit: number, ms: number, now: number): void {
    const elapsed = now - numbers[at + SINCE]!
    if (elapsed >= ms) numbers[at + LEVEL] = 0
    else if (elapsed > 0) numbers[at + LEVEL] = Math.max(0, numbers[at + LEVEL]! - limit * elapsed)
    numbers[at + SINCE] = now
  }
}
