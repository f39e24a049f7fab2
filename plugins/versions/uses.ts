/**
 * Uses: who still calls what is deprecated. What is held is bounded: callers beyond the bound are counted together. Of each caller
 * the first use is an event, then at most one in an hour, with how many there were.
 */
import type { FastifyRequest } from 'fastify'
import type { SecurityEvents } from '../events.js'
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
  toldAt: number
  untold: number
}

/** Milliseconds in which a caller's uses of one route are one event. */
const QUIET_MS = 3_600_000

export class Uses {
  readonly #held = new Map<string, Entry>()
  readonly #max: number
  readonly #events: SecurityEvents

  constructor (max: number, events: SecurityEvents) {
    this.#max = max
    this.#events = events
  }

  count (method: string, route: string, request: FastifyRequest, now: number, details: Record<string, unknown>): void {
    const entry = this.#entryOf(method, route, (request as { principal?: Principal | null }).principal ?? null, now)
    entry.use.uses += 1
    entry.last = now
    entry.untold += 1
    // A clock that was set back makes nobody quiet.
    if (now >= entry.toldAt && now - entry.toldAt < QUIET_MS) return
    this.#events.record('deprecated_use', request, { ...details, times: entry.untold, ...entry.use.kind === 'others' && { shared: true } })
    entry.toldAt = now
    entry.untold = 0
  }

  list (): DeprecatedUse[] {
    return Array.from(this.#held.values(), ({ use, first, last }) => ({ ...use, first: new Date(first).toISOString(), last: new Date(last).toISOString() }))
  }

  #entryOf (method: string, route: string, principal: Principal | null, now: number): Entry {
    const { kind = 'anonymous', id: caller = null } = principal ?? {}
    const place = `${method} ${route}`
    const key = `${place} ${kind} ${caller}`
    const known = this.#held.get(key)
    if (known !== undefined) return known
    // Routes are few, and so there is always room for those without a name.
    if (caller !== null && this.#held.size >= this.#max) return this.#held.get(`${place} others`) ?? this.#add(`${place} others`, { method, route, caller: null, kind: 'others', uses: 0 }, now)
    return this.#add(key, { method, route, caller, kind, uses: 0 }, now)
  }

  #add (key: string, use: Entry['use'], now: number): Entry {
    const entry = { use, first: now, last: now, toldAt: -Infinity, untold: 0 }
    this.#held.set(key, entry)
    return entry
  }
}
