/**
 * The flood guard: one coarse counter an address in the store that @fastify/rate-limit makes for itself. Its own
 * hook is asynchronous and runs after a route's hooks; here the same store answers before anything else, at once. A refusal is
 * held a moment: a flood that waits for its answers is then none.
 */
import { createRequire } from 'node:module'
import type { FastifyInstance } from 'fastify'
import rateLimit from '@fastify/rate-limit'
import { Type, type Static } from '@sinclair/typebox'
import { addressKey } from '../address.js'
import { makeHold } from '../hold.js'
import type { Step } from '../plan/index.js'
import { exceeded, violationsOf } from './refusal.js'
import type { Reports } from './reports.js'
import { subjects } from './subject.js'

export const Flood = Type.Object({
  max: Type.Integer({ minimum: 1, description: 'Requests an address may make in the window, whatever they are' }),
  timeWindow: Type.Integer({ minimum: 1, description: 'Milliseconds' }),
  cache: Type.Optional(Type.Integer({ minimum: 100, description: 'Addresses held', default: 50_000 })),
}, { additionalProperties: false })
export type Flood = Static<typeof Flood>

/** The part of @fastify/rate-limit's store that the flood guard stands on. */
interface FloodStore {
  incr: (key: string, done: (error: Error | null, result: { current: number, ttl: number }) => void, timeWindow: number, max: number) => void
  child: (options: unknown) => FloodStore
}

const BUDGET = { name: 'flood', plan: null }
const VIOLATIONS = violationsOf([BUDGET.name])

export async function floodGuard (app: FastifyInstance, { max, timeWindow, cache = 50_000 }: Flood, reports: Reports): Promise<Step> {
  let store: FloodStore | undefined
  const LocalStore = createRequire(import.meta.url)('@fastify/rate-limit/store/LocalStore.js') as
    new (continueExceeding: boolean, exponentialBackoff: boolean, cache: number) => FloodStore
  await app.register(rateLimit, {
    global: false,
    store: class extends LocalStore {
      constructor () {
        super(false, false, cache)
        store = this
      }
    } as never,
    max,
    timeWindow,
    keyGenerator: request => addressKey(request.ip),
  })
  const hold = makeHold()
  let result = { current: 0, ttl: 0 }
  const keep = (_error: Error | null, counted: { current: number, ttl: number }) => { result = counted }
  return function refuseFlood (request) {
    const subject = subjects.address(request.ip)
    store!.incr(subject, keep, timeWindow, max)
    if (result.current <= max) return
    const decision = { limit: max, retryMs: result.ttl, violated: [0], banned: false }
    reports.refused(BUDGET, subject, decision, request)
    return hold(exceeded(decision, VIOLATIONS))
  }
}
