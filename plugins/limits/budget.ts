/** A budget: some windows with their counter, and what is done when the shared counter is away. */
import { PreparedHeaders } from '../prepared.js'
import type { Counter, Decision, MaybePromise, State } from '../state/index.js'
import { LimitsMisconfigured } from './errors.js'
import { violationsOf, type Violations } from './refusal.js'
import type { BanRule, BudgetTerms } from './terms.js'
import { parseSpan, parseWindow } from './windows.js'

/** What counts when the shared state is away or too slow: this process's own counters, nobody (503), or nothing. */
export type WhenAway = 'local' | 'refuse' | 'allow'

/** Codes of a shared state that is away, or has no memory left; every other error is thrown on. */
const AWAY: ReadonlySet<unknown> = new Set(['FST_BASTION_STATE_UNAVAILABLE', 'FST_BASTION_STATE_FULL'])
/** What a window of the algorithm `log` may hold: it keeps the time of each request. */
const MAX_LOG = 10_000

export class Budget {
  readonly name: string
  /** The plan for whose callers it is; null for all others. */
  readonly plan: string | null
  /** As they were written; also the names of the policies in headers and problems. */
  readonly windows: readonly string[]
  /** `RateLimit-Policy`. */
  readonly policy: string
  /** What each window says in headers: its limit, how its `RateLimit` begins, and the lines that are the same on each answer. */
  readonly said: readonly { limit: string, rest: string, fixed: string }[]
  /** What a refusal says of its windows. */
  readonly violations: Violations
  /** The decision where nothing was counted; told to nobody. */
  readonly uncounted: Decision
  readonly #shared: Counter
  readonly #local: Counter
  readonly #whenAway: WhenAway

  /** @throws LimitsMisconfigured */
  constructor (name: string, plan: string | null, { windows, algorithm, ban }: BudgetTerms, state: State, whenAway: WhenAway) {
    const parsed = windows.map(text => {
      const window = parseWindow(text)
      if (window === null) throw new LimitsMisconfigured(`limits: ${text} is not of the form '5/second'`)
      if (algorithm === 'log' && window.limit > MAX_LOG) {
        throw new LimitsMisconfigured(`limits: ${text}: algorithm 'log' keeps the time of each request, so ${MAX_LOG} at most: take 'sliding'`)
      }
      return window
    })
    const options = { name: plan === null ? `limits:${name}` : `limits:plan ${JSON.stringify(plan)} ${name}`, windows: parsed, algorithm, ...(ban !== undefined && { ban: banOf(ban) }) }
    this.name = name
    this.plan = plan
    this.windows = [...windows]
    this.policy = parsed.map(({ limit, ms }, i) => `"${windows[i]}";q=${limit};w=${Math.ceil(ms / 1000)}`).join(', ')
    this.said = parsed.map(({ limit }, i) => ({
      limit: String(limit),
      rest: `"${windows[i]}";r=`,
      fixed: new PreparedHeaders({ 'x-ratelimit-limit': String(limit), 'ratelimit-policy': this.policy }).text,
    }))
    this.violations = violationsOf(this.windows)
    this.uncounted = Object.freeze({ allowed: true, window: 0, limit: parsed[0]!.limit, remaining: parsed[0]!.limit, resetMs: 0, retryMs: 0, violated: [], banned: false })
    try {
      this.#shared = state.counter(options)
      this.#local = state.local.counter(options)
    } catch (error) {
      throw new LimitsMisconfigured(`limits: ${(error as Error).message}`)
    }
    this.#whenAway = whenAway
  }

  get limits (): readonly number[] { return this.#shared.windows.map(({ limit }) => limit) }

  take (subject: string, cost: number): MaybePromise<Decision> {
    let decision
    try {
      decision = this.#shared.take(subject, cost)
    } catch (error) {
      return this.#takeAway(error, subject, cost)
    }
    return decision instanceof Promise ? decision.catch(error => this.#takeAway(error, subject, cost)) : decision
  }

  async peek (subject: string): Promise<Decision> {
    return this.#shared.peek(subject)
  }

  /** Forgets the subject, its ban too. */
  async reset (subject: string): Promise<void> {
    await this.#local.reset(subject)
    await this.#shared.reset(subject)
  }

  #takeAway (error: unknown, subject: string, cost: number): MaybePromise<Decision> {
    if (this.#shared === this.#local || !AWAY.has((error as { code?: string }).code)) throw error
    if (this.#whenAway === 'local') return this.#local.take(subject, cost)
    if (this.#whenAway === 'allow') return this.uncounted
    throw error // a 503 with Retry-After
  }
}

function banOf ({ after, for: text }: BanRule): { after: number, ms: number } {
  const ms = parseSpan(text)
  if (ms === null) throw new LimitsMisconfigured(`limits: ban: for: ${JSON.stringify(text)} is not of the form '15m'`)
  return { after, ms }
}
