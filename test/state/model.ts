/** What a counter has to do, said as plainly as possible: all hits are kept, and there are whole numbers only. */
import type { Algorithm, Window } from '../../plugins/state/index.js'

interface Hit { at: number, cost: number }

export class Model {
  readonly #hits: Hit[] = []
  readonly #windows: readonly Window[]
  readonly #algorithm: Algorithm

  constructor (windows: readonly Window[], algorithm: Algorithm) {
    this.#windows = windows
    this.#algorithm = algorithm
  }

  count (at: number, cost: number): void { this.#hits.push({ at, cost }) }

  /** Indices of the windows that refuse. */
  refusing (at: number, cost: number): number[] {
    return this.#windows.flatMap((window, w) => this.used(window, at) + BigInt(cost) * BigInt(window.ms) > budget(window) ? [w] : [])
  }

  wouldPass (at: number, cost: number): boolean { return this.refusing(at, cost).length === 0 }

  /** Whole requests that are left in the window that is nearest to its limit. */
  remaining (at: number): number {
    return Math.min(...this.#windows.map(window => Number((budget(window) - this.used(window, at)) / BigInt(window.ms))))
  }

  /** What is used of a window, in requests × milliseconds. */
  used (window: Window, at: number): bigint {
    if (this.#algorithm === 'log') return BigInt(sum(this.#hits.filter(hit => at - hit.at < window.ms))) * BigInt(window.ms)
    return this.#algorithm === 'bucket' ? this.#level(window, at) : this.#counted(window, at)
  }

  /** The most that passed in any span of `ms`. */
  busiest (ms: number): number {
    return Math.max(0, ...this.#hits.map(({ at }) => sum(this.#hits.filter(hit => hit.at >= at && hit.at < at + ms))))
  }

  #level ({ limit, ms }: Window, at: number): bigint {
    let level = 0n
    let since = 0
    for (const { at: time, cost } of [...this.#hits, { at, cost: 0 }]) {
      level -= BigInt(limit) * BigInt(time - since)
      if (level < 0n) level = 0n
      level += BigInt(cost) * BigInt(ms)
      since = time
    }
    return level
  }

  #counted ({ ms }: Window, at: number): bigint {
    let [start, current, previous] = [at, 0, 0]
    for (const { at: time, cost } of [...this.#hits, { at, cost: 0 }]) {
      while (current + previous > 0 && time - start >= ms) {
        previous = this.#algorithm === 'fixed' ? 0 : current
        current = 0
        start += ms
      }
      if (current + previous === 0) start = time
      current += cost
    }
    return BigInt(current) * BigInt(ms) + BigInt(previous) * BigInt(start + ms - at)
  }
}

function budget ({ limit, ms }: Window): bigint { return BigInt(limit) * BigInt(ms) }

function sum (hits: readonly Hit[]): number { return hits.reduce((total, { cost }) => total + cost, 0) }
