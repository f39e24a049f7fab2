/** When keys were last used: kept in memory and written together, so that no request waits for a write. */
import type { ApiKeyStore } from './store.js'

/** Keys of which a use is kept at most between two writes; of more, the use is not noted this time. */
const MAX = 100_000

export class Uses {
  readonly #store: ApiKeyStore
  #last = new Map<string, number>()
  #writing: Promise<void> | null = null

  constructor (store: ApiKeyStore) { this.#store = store }

  note (id: string, ms: number): void {
    if (this.#last.size < MAX || this.#last.has(id)) this.#last.set(id, ms)
  }

  /** What this process knows beyond what the store says. */
  after (id: string, stored: Date | null): Date | null {
    const last = this.#last.get(id)
    return last === undefined || (stored !== null && stored.getTime() >= last) ? stored : new Date(last)
  }

  /** Writes what was noted, in one statement. Where that fails it is kept for the next time. */
  async write (): Promise<void> {
    await this.#writing?.catch(() => {})
    if (this.#last.size === 0) return
    const uses = this.#last
    this.#last = new Map()
    this.#writing = this.#store.used([...uses].map(([id, ms]) => ({ id, at: new Date(ms) })))
    try {
      await this.#writing
    } catch (error) {
      for (const [id, ms] of uses) if (!this.#last.has(id)) this.note(id, ms)
      throw error
    } finally {
      this.#writing = null
    }
  }
}
