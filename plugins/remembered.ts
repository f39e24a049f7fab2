/**
 * A bounded memory of what was found out about a text, by the whole text: never by a part or a short hash of
 * it, which could answer with what belongs to another one (GHSA-rp9m-7r4c-75qg).
 *
 * Two generations: when the young one is full it becomes the old one, and what is asked for moves back. Every
 * operation is O(1) and nothing is ever swept.
 */
export class Remembered<Value> {
  readonly #max: number
  #young = new Map<string, Value>()
  #old = new Map<string, Value>()

  /** @param max entries of one generation; at most twice as many are held */
  constructor (max: number) { this.#max = max }

  get (text: string): Value | undefined {
    const young = this.#young.get(text)
    if (young !== undefined) return young
    const old = this.#old.get(text)
    if (old !== undefined) this.set(text, old)
    return old
  }

  set (text: string, value: Value): void {
    if (this.#young.size >= this.#max) {
      this.#old = this.#young
      this.#young = new Map()
    }
    this.#young.set(text, value)
  }

  delete (text: string): void {
    this.#young.delete(text)
    this.#old.delete(text)
  }
}
