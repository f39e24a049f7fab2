/**
 * Which slot a name has, by linear hashing (Litwin, VLDB 1980): with each new name one bucket is split, so that there is
 * never a moment at which all of a million names move. A Map of that size stands still for a quarter of a second when it grows.
 *
 * Names are not kept, only 64 bits of a keyed hash; two names of a million fall together once in thirty million services.
 * Who must be exact says what is the same.
 */
import { KeyedHash } from './keyed-hash.js'
import { Rows } from './rows.js'

/** What no name has: a slot that stays empty. */
export const NO_SLOT = 0
/** Numbers of a slot: the halves of its hash, and the next slot in its bucket; below 0, it is free, and names the next free one. */
const LOW = 0
const HIGH = 1
const NEXT = 2
const PER_SLOT = 3

/** One for all, so that a name that is looked for in several is hashed once. */
const hash = new KeyedHash()

export class Directory {
  readonly #isSame: ((slot: number, name: string) => boolean) | null
  /** The first slot of each bucket. */
  readonly #heads = new Rows(Int32Array, 1)
  readonly #slots = new Rows(Int32Array, PER_SLOT)
  #buckets = 1
  /** Buckets at the last doubling; those beyond are made of the first of these, one by one. */
  #round = 1
  #free = NO_SLOT
  #end = NO_SLOT + 1
  #size = 0

  /** @param isSame asked where the hash is the same; null: the hash is enough */
  constructor (isSame: ((slot: number, name: string) => boolean) | null = null) {
    this.#isSame = isSame
    this.#heads.begin(0)
    this.#slots.begin(NO_SLOT)
    this.#slots.of(NO_SLOT)[NEXT] = -1
  }

  get size (): number { return this.#size }

  /** One more than the highest slot that was ever given. */
  get end (): number { return this.#end }

  /** Slots that were looked at to find a name, and those that a split has moved: what its operations cost, for tests. */
  looked = 0
  moved = 0

  has (slot: number): boolean {
    return this.#slots.of(slot)[this.#slots.at(slot) + NEXT]! >= 0
  }

  /** {@link NO_SLOT} where the name has none. */
  find (name: string): number {
    if (this.#size === 0) return NO_SLOT
    hash.of(name)
    const { low, high } = hash
    const bucket = this.#bucketOf(low)
    let slot = this.#heads.of(bucket)[this.#heads.at(bucket)]!
    while (slot !== NO_SLOT) {
      this.looked++
      const numbers = this.#slots.of(slot)
      const at = this.#slots.at(slot)
      if (numbers[at + LOW] === low && numbers[at + HIGH] === high && (this.#isSame === null || this.#isSame(slot, name))) return slot
      slot = numbers[at + NEXT]!
    }
    return NO_SLOT
  }

  /** The slot of a name that has none yet. */
  open (name: string): number {
    hash.of(name)
    const slot = this.#takeSlot()
    const numbers = this.#slots.of(slot)
    const at = this.#slots.at(slot)
    numbers[at + LOW] = hash.low
    numbers[at + HIGH] = hash.high
    this.#link(slot, this.#bucketOf(hash.low))
    this.#size++
    if (this.#size > this.#buckets) this.#split()
    return slot
  }

  close (slot: number): void {
    const numbers = this.#slots.of(slot)
    const at = this.#slots.at(slot)
    this.#unlink(slot, this.#bucketOf(numbers[at + LOW]!))
    numbers[at + NEXT] = ~this.#free
    this.#free = slot
    this.#size--
  }

  #takeSlot (): number {
    const slot = this.#free
    if (slot === NO_SLOT) {
      this.#slots.begin(this.#end)
      return this.#end++
    }
    this.#free = ~this.#slots.of(slot)[this.#slots.at(slot) + NEXT]!
    return slot
  }

  #bucketOf (low: number): number {
    const bucket = low & (2 * this.#round - 1)
    return bucket < this.#buckets ? bucket : bucket - this.#round
  }

  #link (slot: number, bucket: number): void {
    const heads = this.#heads.of(bucket)
    const at = this.#heads.at(bucket)
    this.#slots.of(slot)[this.#slots.at(slot) + NEXT] = heads[at]!
    heads[at] = slot
  }

  #unlink (slot: number, bucket: number): void {
    const next = this.#slots.of(slot)[this.#slots.at(slot) + NEXT]!
    const heads = this.#heads.of(bucket)
    let before = heads[this.#heads.at(bucket)]!
    if (before === slot) {
      heads[this.#heads.at(bucket)] = next
      return
    }
    for (;;) {
      const numbers = this.#slots.of(before)
      const at = this.#slots.at(before) + NEXT
      if (numbers[at] === slot) {
        numbers[at] = next
        return
      }
      before = numbers[at]!
    }
  }

  /** Divides one bucket between itself and a new one. */
  #split (): void {
    const old = this.#buckets - this.#round
    const heads = this.#heads.of(old)
    let slot = heads[this.#heads.at(old)]!
    heads[this.#heads.at(old)] = NO_SLOT
    this.#heads.begin(this.#buckets)
    this.#buckets++
    while (slot !== NO_SLOT) {
      const numbers = this.#slots.of(slot)
      const at = this.#slots.at(slot)
      const next = numbers[at + NEXT]!
      this.moved++
      this.#link(slot, this.#bucketOf(numbers[at + LOW]!))
      slot = next
    }
    if (this.#buckets === 2 * this.#round) this.#round = this.#buckets
  }
}
