/** Limiters in memory as their packages have them: one decision for a client. */
import rateLimit from '@fastify/rate-limit'
import Fastify from 'fastify'
import { RateLimiterMemory } from 'rate-limiter-flexible'
import { memoryState } from '../../plugins/state/memory.js'
import type { Decision } from '../../plugins/state/index.js'

export interface Limiter {
  decide: (client: string) => unknown
  size?: () => number
  /** Moves the clock, where the package has one to move. */
  elapse?: (ms: number) => void
}

export const WINDOWS = [{ limit: 100, ms: 1000 }, { limit: 1000, ms: 60_000 }, { limit: 10_000, ms: 3_600_000 }]
const WIDEST_MS = WINDOWS.at(-1)!.ms

export const LIMITERS: Record<string, (maxClients: number) => Promise<Limiter & { take?: (client: string) => Decision }>> = {
  async 'suite, 3 sliding windows' (maxClients) {
    let now = Date.now()
    const state = memoryState({ maxEntries: 100, maxSubjects: maxClients, now: () => now, forgot () {}, refuse () { throw new Error('full') } })
    const counter = state.counter({ name: 'scale', windows: WINDOWS })
    const take = (client: string) => counter.take(client) as Decision
    return { decide: take, take, size: () => (state.size() as { counters: number }).counters, elapse: ms => { now += ms } }
  },
  async '@fastify/rate-limit, 1 window' (maxClients) {
    const app = Fastify()
    await app.register(rateLimit, { global: false, max: 10_000, timeWindow: WIDEST_MS, cache: maxClients })
    const limit = app.createRateLimit()
    await app.ready()
    const request = { ip: '', routeOptions: { config: {} } }
    return {
      decide (client) {
        request.ip = client
        return limit(request as never)
      },
    }
  },
  async 'rate-limiter-flexible, 1 window' () {
    const limiter = new RateLimiterMemory({ points: 10_000, duration: WIDEST_MS / 1000 })
    return { decide: client => limiter.consume(client) }
  },
}

/** An address, as a text of its own like that of each request. */
export function client (i: number): string {
  return `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`
}
