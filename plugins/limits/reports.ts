/**
 * Reports of refusals, which must not be a flood themselves: of a run of refusals the first is recorded, then at most
 * one in ten seconds, with how many there were. A ban is recorded once, when this process meets it.
 */
import type { FastifyRequest } from 'fastify'
import type { SecurityEvents } from '../events.js'
import type { Decision } from '../state/index.js'

/** Milliseconds in which a run is recorded once. */
const QUIET_MS = 10_000
/** Of a ban, at most: runs that are quiet for long keep others from being told. */
const MAX_QUIET_MS = 600_000
/** Runs that are held; what there is no room for shares one. */
const MAX_RUNS = 10_000
/** Runs looked at, at each new one, to drop those that are over. */
const PLACES_PER_RUN = 2

type Refused = Pick<Decision, 'limit' | 'retryMs' | 'banned'>
type Named = { name: string, plan: string | null }

interface Run {
  toldAt: number
  /** Milliseconds for which no other is recorded. */
  quietMs: number
  /** What was recorded last is the start of a ban. */
  isBan: boolean
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

  refused (budget: Named, subject: string, { limit, retryMs, banned }: Refused, request: FastifyRequest | null): void {
    const now = this.#now()
    const run = this.#runOf(keyOf(budget, subject), now)
    const isShared = run === this.#others
    run.untold += 1
    const startsBan = banned && !run.isBan && !isShared
    if (!startsBan && isQuiet(run, now)) return
    this.#events.record('rate_limited', request, {
      budget: budget.name,
      ...(budget.plan !== null && { plan: budget.plan }),
      limit,
      retryMs,
      times: run.untold,
      ...(isShared && { shared: true }),
      ...(banned && { banned, severity: 'critical' }),
    })
    run.toldAt = now
    run.quietMs = banned && !isShared ? Math.min(MAX_QUIET_MS, Math.max(QUIET_MS, retryMs)) : QUIET_MS
    run.isBan = banned
    run.untold = 0
  }

  /** The next refusal is the first of a run. */
  forget (budget: Named, subject: string): void {
    this.#runs.delete(keyOf(budget, subject))
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

function keyOf ({ name, plan }: Named, subject: string): string {
  return `${name} ${plan} ${subject}`
}

function newRun (): Run {
  return { toldAt: -Infinity, quietMs: QUIET_MS, isBan: false, untold: 0 }
}

/** A clock that was set back makes nobody quiet. */
function isQuiet ({ toldAt, quietMs }: Run, now: number): boolean {
  return now >= toldAt && now - toldAt < quietMs
}
