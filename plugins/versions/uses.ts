/**
 * Uses: who still calls what is deprecated. What is held is bounded: callers beyond the bound are counted together. Of each caller
 * the first use is an event, then at most one in an hour, with how many there were.
 */
import type { FastifyRequest } from 'fastify'
import type { EventRuns, SecurityEvents } from '../events.js'
import type { Principal } from '../identity.js'

/** Calls of one caller to one deprecated route, in this process. */
export interface DeprecatedUse {
  method: string
  /** The route's pattern. */
  route: string
  /** Id of the principal (a user, or an API key); null where nobody was identified, and for those for whom there was no room. */
  caller: string | null
  kind: Principal['kind'] | 'anonymous' | 'others'
  uses: number
  /** UTC, ISO 8601. */
  first: string
  last: string
}

interface Entry {
  use: Omit<DeprecatedUse, 'first' | 'last'>
  first: number
  last: number
}

/** Milliseconds in which a caller's uses of one route are one event. */
const QUIET_MS = 3_600_000

export class Uses {
  readonly #held = new Map<string, Entry>()
  readonly #max: number
  readonly #runs: EventRuns
  readonly #now: () => number

  constructor (max: number, events: SecurityEvents, now: () => number) {
    this.#max = max
    this.#runs = events.runs('deprecated_use', { quietMs: QUIET_MS, max: Infinity, now }) // bounded by what is held here
    this.#now = now
  }

  count (method: string, route: string, request: FastifyRequest, details: Record<string, unknown>): void {
    const now = this.#now()
    const [key, entry] = this.#entryOf(method, route, (request as { principal?: Principal | null }).principal ?? null, now)
    entry.use.uses += 1
    entry.last = now
    this.#runs.record(key, request, { ...details, ...entry.use.kind === 'others' && { shared: true } })
  }

  list (): DeprecatedUse[] {
    return Array.from(this.#held.values(), ({ use, first, last }) => ({ ...use, first: new Date(first).toISOString(), last: new Date(last).toISOString() }))
  }

  #entryOf (method: string, route: string, principal: Principal | null, now: number): [key: string, entry: Entry] {
    const { kind = 'anonymous', id: caller = null } = principal ?? {}
    const place = `${method} ${route}`
    const key = `${place} ${kind} ${caller}`
    // Routes are few, and so there is always room for those without a name.
    const isOneOfMany = caller !== null && !this.#held.has(key) && this.#held.size >= this.#max
    if (isOneOfMany) return this.#hold(`${place} others`, { method, route, caller: null, kind: 'others', uses: 0 }, now)
    return this.#hold(key, { method, route, caller, kind, uses: 0 }, now)
  }

  #hold (key: string, use: Entry['use'], now: number): [key: string, entry: Entry] {
    let entry = this.#held.get(key)
    if (entry === undefined) this.#held.set(key, entry = { use, first: now, last: now })
    return [key, entry]
  }
}
