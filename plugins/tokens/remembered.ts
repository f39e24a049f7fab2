/**
 * A bounded memory of what was found out about a token, by the whole token: never by a part or a short hash of
 * it, which could answer with another token's claims (GHSA-rp9m-7r4c-75qg).
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

  get (token: string): Value | undefined {
    const young = this.#young.get(token)
    if (young !== undefined) return young
    const old = this.#old.get(token)
    if (old !== undefined) this.set(token, old)
    return old
  }

  set (token: string, value: Value): void {
    if (this.#young.size >= this.#max) {
      this.#old = this.#young
      this.#young = new Map()
    }
    this.#young.set(token, value)
  }

  delete (token: string): void {
    this.#young.delete(token)
    this.#old.delete(token)
  }
}
