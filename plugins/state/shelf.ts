/**
 * A bounded map of what expires. What has expired is collected by a hand that moves a few places at every write:
 * there is never a sweep, and never a timer.
 */

interface Kept<Value> { value: Value, expires: number }

/** Places that the collecting hand looks at in one write, and the most it looks at to find room. */
export const PLACES_PER_WRITE = 2
export const PLACES_FOR_ROOM = 512

export class Shelf<Value> {
  readonly #kept = new Map<string, Kept<Value>>()
  readonly #max: number
  readonly #forgot: (() => void) | null
  #hand = this.#kept.entries()
  /** Each place that it has passed is gone, so that its next place is the oldest. */
  #oldest = this.#kept.keys()

  /** @param forgot called where the oldest is dropped before its time to make room; null where nothing may be */
  constructor (max: number, forgot: (() => void) | null) {
    this.#max = max
    this.#forgot = forgot
  }

  get size (): number { return this.#kept.size }

  /** What is kept under the key and has not expired. */
  get (key: string, time: number): Kept<Value> | undefined {
    const kept = this.#kept.get(key)
    if (kept === undefined || kept.expires > time) return kept
    this.#kept.delete(key)
    return undefined
  }

  /** @returns false where there is no room */
  put (key: string, value: Value, expires: number, time: number): boolean {
    const known = this.#kept.get(key)
    if (known === undefined) {
      this.#collect(PLACES_PER_WRITE, time)
      if (this.#kept.size >= this.#max && !this.#makeRoom(time)) return false
    } else if (this.#forgot === null) {
      known.value = value
      known.expires = expires
      return true
    } else this.#kept.delete(key) // written again, it is the youngest
    this.#kept.set(key, { value, expires })
    return true
  }

  delete (key: string): void { this.#kept.delete(key) }

  clear (): void { this.#kept.clear() }

  #makeRoom (time: number): boolean {
    if (this.#collect(PLACES_FOR_ROOM, time)) return true
    if (this.#forgot === null) return false
    let place = this.#oldest.next()
    if (place.done === true) {
      this.#oldest = this.#kept.keys()
      place = this.#oldest.next()
    }
    this.#kept.delete(place.value!)
    this.#forgot()
    return true
  }

  /** Moves the hand and drops what has expired; true where it dropped something. */
  #collect (places: number, time: number): boolean {
    const before = this.#kept.size
    for (let i = 0; i < places; i++) {
      let place = this.#hand.next()
      if (place.done === true) {
        this.#hand = this.#kept.entries()
        place = this.#hand.next()
        if (place.done === true) break
      }
      const [key, { expires }] = place.value
      if (expires <= time) this.#kept.delete(key)
    }
    return this.#kept.size < before
  }
}
