/** Reports of refusals: a run is of one budget and one subject. A ban is recorded at once, when this process meets it. */
import type { FastifyRequest } from 'fastify'
import type { EventRuns, SecurityEvents } from '../events.js'
import type { Decision } from '../state/index.js'

/** Milliseconds in which a run is recorded once. */
const QUIET_MS = 10_000
/** Of a ban, at most: runs that are quiet for long keep others from being told. */
const MAX_QUIET_MS = 600_000
/** Runs that are held. */
const MAX_RUNS = 10_000

const ORDINARY = Object.freeze({})

type Refused = Pick<Decision, 'limit' | 'retryMs' | 'banned'>
type Named = { name: string, plan: string | null }

export class Reports {
  readonly #runs: EventRuns
  /** Of the last refusal: in a flood most are of one who does not stop. */
  #last: { budget: Named, subject: string, key: string } | null = null

  constructor (events: SecurityEvents, now: () => number) {
    this.#runs = events.runs('rate_limited', { quietMs: QUIET_MS, max: MAX_RUNS, now })
  }

  refused (budget: Named, subject: string, { limit, retryMs, banned }: Refused, request: FastifyRequest | null): void {
    const details: Record<string, unknown> = { budget: budget.name, limit, retryMs }
    if (budget.plan !== null) details.plan = budget.plan
    if (banned) Object.assign(details, { banned, severity: 'critical' })
    this.#runs.record(this.#keyOf(budget, subject), request, details, banned ? { isGrave: true, quietMs: Math.min(MAX_QUIET_MS, Math.max(QUIET_MS, retryMs)) } : ORDINARY)
  }

  /** The next refusal is the first of a run. */
  forget (budget: Named, subject: string): void {
    this.#runs.forget(this.#keyOf(budget, subject))
  }

  #keyOf (budget: Named, subject: string): string {
    if (this.#last?.budget !== budget || this.#last.subject !== subject) this.#last = { budget, subject, key: `${budget.name} ${budget.plan} ${subject}` }
    return this.#last.key
  }
}
