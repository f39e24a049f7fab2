/** Who is refused too often is refused everything for a while. */
import { Table } from './meter.js'
import type { Ban } from './port.js'

/** Numbers of a slot: when the first strike was, how many there are, and when the ban ends (0: there is none). */
const FIRST = 0
const STRIKES = 1
const ENDS = 2
const PER_SLOT = 3

export class Bans extends Table {
  readonly #ban: Ban

  constructor (ban: Ban) {
    super(1, PER_SLOT)
    this.#ban = ban
  }

  /** Milliseconds that are left of the subject's ban; 0 where there is none. */
  leftMs (slot: number, now: number): number {
    const numbers = this.of(slot)
    const at = this.at(slot, 0) + ENDS
    const left = numbers[at]! - now
    if (left > 0 && left <= this.#ban.ms) return left
    numbers[at] = left > 0 ? now + this.#ban.ms : 0 // the clock was set back, or it is over
    return left > 0 ? this.#ban.ms : 0
  }

  /** Counts a refusal of somebody who is not banned; answers the milliseconds of the ban that it starts, or 0. */
  strike (slot: number, now: number): number {
    const numbers = this.of(slot)
    const at = this.at(slot, 0)
    if (!this.#hasStrikes(numbers, at, now)) numbers[at + FIRST] = now
    numbers[at + STRIKES]! += 1
    if (numbers[at + STRIKES]! < this.#ban.after) return 0
    numbers[at + STRIKES] = 0
    numbers[at + ENDS] = now + this.#ban.ms
    return this.#ban.ms
  }

  /** A ban, or strikes that may lead to one. */
  mustStay (slot: number, now: number): boolean {
    return this.leftMs(slot, now) > 0 || this.#hasStrikes(this.of(slot), this.at(slot, 0), now)
  }

  #hasStrikes (numbers: Float64Array, at: number, now: number): boolean {
    if (numbers[at + STRIKES] === 0) return false
    const elapsed = now - numbers[at + FIRST]!
    if (elapsed < 0) numbers[at + FIRST] = now // the clock was set back
    else if (elapsed >= this.#ban.ms) numbers[at + STRIKES] = 0
    return numbers[at + STRIKES]! > 0
  }
}
