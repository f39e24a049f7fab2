/**
 * Reports of refusals, which must not be a flood themselves: of a run of refusals the first is recorded, then at most
 * one in ten seconds, with how many there were. A ban is recorded when it starts, and what it refuses is not.
 */
import type { FastifyRequest } from 'fastify'
import type { SecurityEvents } from '../events.js'
import type { Decision } from '../state/index.js'

/** Milliseconds in which a run is recorded once. */
const QUIET_MS = 10_000
/** Runs that are held; what there is no room for shares one. */
const MAX_RUNS = 10_000
/** Runs looked at, at each new one, to drop those that are over. */
const PLACES_PER_RUN = 2

type Refused = Pick<Decision, 'limit' | 'retryMs' | 'violated' | 'banned'>

interface Run {
  toldAt: number
  /** Refusals since. */
  untold: number
}

export class Reports {
  readonly #events: SecurityEvents
  readonly #now: () => number
  readonly #runs = new Map<string, Run>()
  readonly #others = newRun()
  #hand = this.#runs.entries()

  constructor (events: SecurityEvents, now: () => number) {
    this.#events = events
    this.#now = now
  }

  refused (budget: { name: string, plan: string | null }, subject: string, decision: Refused, request: FastifyRequest | null): void {
    const { limit, retryMs, banned, violated } = decision
    const details = { budget: budget.name, ...(budget.plan !== null && { plan: budget.plan }), limit, retryMs }
    if (banned) {
      // The refusal that starts a ban is one of the windows; those that follow are of the ban alone.
      if (violated.length > 0) this.#events.record('rate_limited', request, { ...details, banned, severity: 'critical' })
      return
    }
    const now = this.#now()
    const run = this.#runOf(`${budget.name} ${budget.plan} ${subject}`, now)
    run.untold += 1
    if (isQuiet(run, now)) return
    this.#events.record('rate_limited', request, { ...details, times: run.untold, ...(run === this.#others && { shared: true }) })
    run.toldAt = now
    run.untold = 0
  }

  #runOf (key: string, now: number): Run {
    const known = this.#runs.get(key)
    if (known !== undefined) return known
    this.#collect(now)
    if (this.#runs.size >= MAX_RUNS) return this.#others
    const run = newRun()
    this.#runs.set(key, run)
    return run
  }

  #collect (now: number): void {
    for (let i = 0; i < PLACES_PER_RUN; i++) {
      let place = this.#hand.next()
      if (place.done === true) {
        this.#hand = this.#runs.entries()
        place = this.#hand.next()
        if (place.done === true) return
      }
      const [key, run] = place.value
      if (!isQuiet(run, now)) this.#runs.delete(key)
    }
  }
}

function newRun (): Run {
  return { toldAt: -Infinity, untold: 0 }
}

/** A clock that was set back makes nobody quiet. */
function isQuiet ({ toldAt }: Run, now: number): boolean {
  return now >= toldAt && now - toldAt < QUIET_MS
}
