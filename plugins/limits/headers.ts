/** What an answer tells of its budget: `X-RateLimit-*`, and `RateLimit` with its policy (draft-ietf-httpapi-ratelimit-headers-10). */
import type { FastifyReply } from 'fastify'
import { setPrepared, type Prepared } from '../prepared.js'
import type { Decision } from '../state/index.js'
import type { Budget } from './budget.js'

const NAMES = new Set(['x-ratelimit-limit', 'x-ratelimit-remaining', 'x-ratelimit-reset', 'ratelimit-policy', 'ratelimit'])

export function tellBudget (reply: FastifyReply, budget: Budget, decision: Decision): void {
  setPrepared(reply, new Told(budget, decision))
}

/** Numbers of a decision, and what the windows are called, which is of letters, digits and a slash. */
class Told implements Prepared {
  readonly #budget: Budget
  readonly #window: number
  readonly #remaining: number
  readonly #reset: number

  /** What is told is what was decided, whatever a service does to the decision later (`refuse`). */
  constructor (budget: Budget, { window, remaining, resetMs }: Decision) {
    this.#budget = budget
    this.#window = window
    this.#remaining = remaining
    this.#reset = Math.ceil(resetMs / 1000)
  }

  has (name: string): boolean { return NAMES.has(name) }

  get text (): string {
    const { fixed, rest } = this.#budget.said[this.#window]!
    const remaining = digits(this.#remaining)
    const reset = digits(this.#reset)
    return `${fixed}x-ratelimit-remaining: ${remaining}\r\nx-ratelimit-reset: ${reset}\r\nratelimit: ${rest}${remaining};t=${reset}\r\n`
  }

  get set (): Record<string, string> {
    const { limit, rest } = this.#budget.said[this.#window]!
    return {
      'x-ratelimit-limit': limit,
      'x-ratelimit-remaining': String(this.#remaining),
      'x-ratelimit-reset': String(this.#reset),
      'ratelimit-policy': this.#budget.policy,
      ratelimit: `${rest}${this.#remaining};t=${this.#reset}`,
    }
  }
}

const THREE = Array.from({ length: 1000 }, (_none, n) => String(n).padStart(3, '0'))
const UP_TO_THREE = Array.from({ length: 1000 }, (_none, n) => String(n))

/**
 * A whole number from 0 as text. The engine keeps each text that it makes of a number, so that one that never comes again outlives
 * the collection that it should be lost in.
 */
function digits (n: number): string {
  if (n < 1000) return UP_TO_THREE[n]!
  const rest = Math.floor(n / 1000)
  return digits(rest) + THREE[n - rest * 1000]!
}

/** Whole seconds, never too early. */
export function retryAfter (ms: number): string {
  return String(Math.max(1, Math.ceil(ms / 1000)))
}
