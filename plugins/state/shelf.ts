/**
 * A bounded map of texts that expire. What has expired is collected by a hand that moves a few places at every write:
 * there is never a sweep, and never a timer.
 */
import { Directory, NO_SLOT } from './directory.js'
import { Rows } from './rows.js'
import { Texts } from './texts.js'

/** Places that the collecting hand looks at in one write, and the most it looks at to find room. */
export const PLACES_PER_WRITE = 2
export const PLACES_FOR_ROOM = 512

/** Numbers of a slot: where its text is (key and value in one), characters of the key, and its neighbours by age. */
const TEXT = 0
const KEY_LENGTH = 1
const OLDER = 2
const YOUNGER = 3
const PER_SLOT = 4

export class Shelf {
  readonly #max: number
  readonly #forgot: (() => void) | null
  /** A value that is another's would let somebody in: the whole key is compared. */
  readonly #slots = new Directory((slot, key) => this.#holds(slot, key))
  readonly #numbers = new Rows(Int32Array, PER_SLOT)
  readonly #times = new Rows(Float64Array, 1)
  readonly #texts = new Texts()
  /** What was read last, to compare its key. */
  #read = ''
  #hand = 0

  /** @param forgot called where the oldest is dropped before its time to make room; null where nothing may be */
  constructor (max: number, forgot: (() => void) | null) {
    this.#max = max
    this.#forgot = forgot
    this.#numbers.begin(NO_SLOT) // stands between the youngest and the oldest
    this.#times.begin(NO_SLOT)
  }

  get size (): number { return this.#slots.size }

  /** What is kept under the key and has not expired. */
  get (key: string, time: number): { value: string, expires: number } | undefined {
    const slot = this.#slots.find(key)
    if (slot === NO_SLOT) return undefined
    const expires = this.#expiresOf(slot)
    if (expires > time) return { value: this.#read.slice(key.length), expires }
    this.#remove(slot)
    return undefined
  }

  /** @returns false where there is no room */
  put (key: string, value: string, expires: number, time: number): boolean {
    let slot = this.#slots.find(key)
    if (slot === NO_SLOT) {
      this.#collect(PLACES_PER_WRITE, time)
      if (this.#slots.size >= this.#max && !this.#makeRoom(time)) return false
      slot = this.#slots.open(key)
      this.#numbers.begin(slot)
      this.#times.begin(slot)
    } else this.#takeOut(slot)
    const numbers = this.#numbers.of(slot)
    const at = this.#numbers.at(slot)
    numbers[at + TEXT] = this.#texts.put(key + value)
    numbers[at + KEY_LENGTH] = key.length
    this.#times.of(slot)[this.#times.at(slot)] = expires
    this.#join(this.#numbers.of(NO_SLOT)[OLDER]!, slot) // the youngest
    this.#join(slot, NO_SLOT)
    return true
  }

  delete (key: string): void {
    const slot = this.#slots.find(key)
    if (slot !== NO_SLOT) this.#remove(slot)
  }

  #holds (slot: number, key: string): boolean {
    const numbers = this.#numbers.of(slot)
    const at = this.#numbers.at(slot)
    this.#read = this.#texts.read(numbers[at + TEXT]!)
    return numbers[at + KEY_LENGTH] === key.length && this.#read.startsWith(key)
  }

  #expiresOf (slot: number): number { return this.#times.of(slot)[this.#times.at(slot)]! }

  #remove (slot: number): void {
    this.#takeOut(slot)
    this.#slots.close(slot)
  }

  #takeOut (slot: number): void {
    const numbers = this.#numbers.of(slot)
    const at = this.#numbers.at(slot)
    this.#texts.drop(numbers[at + TEXT]!)
    this.#join(numbers[at + OLDER]!, numbers[at + YOUNGER]!)
  }

  #join (older: number, younger: number): void {
    this.#numbers.of(older)[this.#numbers.at(older) + YOUNGER] = younger
    this.#numbers.of(younger)[this.#numbers.at(younger) + OLDER] = older
  }

  #makeRoom (time: number): boolean {
    if (this.#collect(PLACES_FOR_ROOM, time)) return true
    if (this.#forgot === null) return false
    this.#remove(this.#numbers.of(NO_SLOT)[YOUNGER]!)
    this.#forgot()
    return true
  }

  /** Moves the hand and drops what has expired; true where it dropped something. */
  #collect (places: number, time: number): boolean {
    const before = this.#slots.size
    for (let i = 0; i < places; i++) {
      const slot = this.#hand
      this.#hand = (slot + 1) % this.#slots.end
      if (this.#slots.has(slot) && this.#expiresOf(slot) <= time) this.#remove(slot)
    }
    return this.#slots.size < before
  }
}
