/**
 * Limits: how often a caller may ask, by address and by principal, several windows at once.
 *
 * Threat: guessing, scraping and exhaustion (CWE-307, CWE-770, OWASP API4:2023).
 * Defence: budgets that are decided after identification and before anything expensive, for routes, unknown
 * routes, malformed URLs and failed credentials alike; a HEAD shares the budget of its GET, an IPv6 network its /64.
 * Before identification stands the flood guard: coarse, by address, in the process's own memory, on the store of
 * @fastify/rate-limit, whose `config.rateLimit` goes on working.
 * Not covered: floods that fill the line before they reach the process.
 */
import { createRequire } from 'node:module'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import createError from '@fastify/error'
import rateLimit from '@fastify/rate-limit'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { checkOptions } from '../options.js'
import type { PlannedRoute, Step } from '../plan.js'
import type { Counter, Decision, MaybePromise, Window } from '../state/index.js'
import { addressKey } from '../address.js'
import { parseWindow } from './windows.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The budget of this route instead of the default one: windows (`['5/second', '100/minute']`), a detailed rule, or `false` for none. */
    limits?: readonly string[] | LimitRule | false
  }
  interface FastifyInstance {
    /** Limits by hand, in handlers and sockets. */
    limits: Limits
  }
}

export interface LimitRule {
  /** Decided together: what one refuses is counted in none. */
  windows: readonly string[]
  /** Who shares a budget. `caller` (default): the principal where there is one, else the address. */
  by?: 'caller' | 'address' | 'principal' | ((request: FastifyRequest) => string)
  /** `sliding` (default) or `fixed`. */
  algorithm?: 'fixed' | 'sliding'
  /** What a request costs; a search may cost 5 (default 1). */
  cost?: number
  /** Routes that name the same group share one budget. */
  group?: string
}

export interface Limits {
  /** Counts and throws {@link LimitExceeded} where the budget is spent. */
  check: (name: string, windows: readonly string[], subject: string, cost?: number) => MaybePromise<Decision>
}

/** An option or a route's budget is wrong. */
export const LimitsMisconfigured = createError<[string]>('FST_BASTION_LIMITS_MISCONFIGURED', '%s', 500, TypeError)
/** The budget is spent; Retry-After says when to come back (RFC 6585, 4). */
export const LimitExceeded = createError('FST_BASTION_LIMITS_EXCEEDED', 'Too many requests', 429)

const Windows = Type.Array(Type.String(), { minItems: 1, maxItems: 8 })
export const LimitsOptions = Type.Object({
  address: Type.Optional(Type.Union([Windows, Type.Literal(false)], { description: 'Default budget of an anonymous address', default: ['300/minute'] })),
  principal: Type.Optional(Type.Union([Windows, Type.Literal(false)], { description: 'Default budget of a principal', default: ['1000/minute'] })),
  algorithm: Type.Optional(Type.Union([Type.Literal('sliding'), Type.Literal('fixed')], { default: 'sliding' })),
  flood: Type.Optional(Type.Union([Type.Object({
    max: Type.Integer({ minimum: 1, description: 'Requests an address may make in the window, whatever they are' }),
    timeWindow: Type.Integer({ minimum: 1, description: 'Milliseconds' }),
    cache: Type.Optional(Type.Integer({ minimum: 100, description: 'Addresses held', default: 50_000 })),
  }, { additionalProperties: false }), Type.Literal(false)], { default: { max: 60_000, timeWindow: 60_000 } })),
}, { additionalProperties: false })
export type LimitsOptions = Static<typeof LimitsOptions>

/** The part of @fastify/rate-limit's store that the flood guard stands on. */
interface FloodStore {
  incr: (key: string, done: (error: Error | null, result: { current: number, ttl: number }) => void, timeWindow: number, max: number) => void
  child: (options: unknown) => FloodStore
}

interface Budget { counter: Counter, policy: string }

async function limits (app: FastifyInstance, options: LimitsOptions): Promise<void> {
  checkOptions(LimitsOptions, options, 'limits', LimitsMisconfigured)
  const { algorithm = 'sliding', flood = { max: 60_000, timeWindow: 60_000 } } = options
  const byAddress = budgetOf('default-address', options.address ?? ['300/minute'], algorithm)
  const byPrincipal = budgetOf('default-principal', options.principal ?? ['1000/minute'], algorithm)

  app.decorate('limits', {
    check (name, windows, subject, cost = 1) {
      const budget = budgetOf(`check:${name}`, windows, algorithm)!
      const decision = budget.counter.take(subject, cost)
      return decision instanceof Promise ? decision.then(refuseExceeded) : refuseExceeded(decision)
    },
  })

  const floodStep = flood === false ? null : await floodGuard(app, flood)
  if (flood !== false) {
    app.plan.contribute({ concern: 'flood', stage: 'flood', compile: () => ({ step: floodStep!, promise: flood }) })
  }
  app.plan.contribute({
    concern: 'limits',
    stage: 'limit',
    compile (route) {
      const rule = (route.options.config as { limits?: readonly string[] | LimitRule | false } | undefined)?.limits
      if (rule === false) return { promise: false }
      if (rule === undefined) {
        return {
          step: limitCaller(byAddress, byPrincipal),
          promise: { by: 'caller', address: options.address ?? ['300/minute'], principal: options.principal ?? ['1000/minute'], shared: true },
        }
      }
      return compileRule(route, (Array.isArray(rule) ? { windows: rule } : rule) as LimitRule)
    },
  })

  function compileRule (route: PlannedRoute, rule: LimitRule) {
    // The HEAD twin asks for what its GET answers, so it spends the same budget.
    const method = route.method === 'HEAD' ? 'GET' : route.method
    const name = rule.group === undefined ? `route:${method} ${route.url}` : `group:${rule.group}`
    const faulty = rule.windows.filter(text => parseWindow(text) === null)
    if (faulty.length > 0 || rule.windows.length === 0) {
      route.object(`limits: ${faulty.map(text => JSON.stringify(text)).join(', ') || 'no window'} is not of the form '5/second'`)
      return undefined
    }
    const budget = budgetOf(name, rule.windows, rule.algorithm ?? algorithm)!
    const by = rule.by ?? 'caller'
    const cost = rule.cost ?? 1
    const promise = { by: typeof by === 'function' ? 'custom' : by, windows: rule.windows, algorithm: rule.algorithm ?? algorithm, cost, ...(rule.group !== undefined && { group: rule.group }) }
    if (by === 'caller') return { step: limitCaller(budget, budget, cost), promise }
    const subjectOf = by === 'address' ? (request: FastifyRequest) => addressKey(request.ip)
      : by === 'principal' ? (request: FastifyRequest) => request.principal?.id ?? addressKey(request.ip)
        : (request: FastifyRequest) => by(request)
    return { step: limitSubject(budget, subjectOf, cost), promise }
  }

  function budgetOf (name: string, windows: readonly string[] | false, kind: 'fixed' | 'sliding'): Budget | null {
    if (windows === false) return null
    const parsed = windows.map(parseWindow)
    const faulty = windows.filter((_text, i) => parsed[i] === null)
    if (faulty.length > 0) throw new LimitsMisconfigured(`limits: ${faulty.join(', ')} is not of the form '5/second'`)
    const counter = app.state.counter({ name, windows: parsed as Window[], algorithm: kind })
    return { counter, policy: counter.windows.map(({ limit, ms }, i) => `"w${i}";q=${limit};w=${Math.ceil(ms / 1000)}`).join(', ') }
  }

  function limitCaller (address: Budget | null, principal: Budget | null, cost = 1): Step {
    return function limitByCaller (request, reply) {
      const known = request.principal
      const budget = known === null ? address : principal
      if (budget === null) return
      const subject = known === null ? addressKey(request.ip) : `${known.kind}:${known.id}`
      return settle(budget, budget.counter.take(subject, cost), request, reply)
    }
  }

  function limitSubject (budget: Budget, subjectOf: (request: FastifyRequest) => string, cost: number): Step {
    return (request, reply) => settle(budget, budget.counter.take(subjectOf(request), cost), request, reply)
  }

  function settle (budget: Budget, decision: MaybePromise<Decision>, request: FastifyRequest, reply: FastifyReply): void | Promise<void> {
    if (decision instanceof Promise) return decision.then(settled => tell(budget, settled, request, reply))
    tell(budget, decision, request, reply)
  }

  function tell (budget: Budget, decision: Decision, request: FastifyRequest, reply: FastifyReply): void {
    const reset = String(Math.ceil(decision.resetMs / 1000))
    const remaining = String(decision.remaining)
    reply.header('x-ratelimit-limit', String(decision.limit))
    reply.header('x-ratelimit-remaining', remaining)
    reply.header('x-ratelimit-reset', reset)
    reply.header('ratelimit-policy', budget.policy)
    reply.header('ratelimit', `"w${decision.window}";r=${remaining};t=${reset}`)
    if (decision.allowed) return
    app.events.record('rate_limited', request, { limit: decision.limit, retryMs: decision.retryMs })
    refuseExceeded(decision)
  }
}

function refuseExceeded (decision: Decision): Decision {
  if (decision.allowed) return decision
  throw Object.assign(new LimitExceeded(), { headers: { 'retry-after': String(Math.max(1, Math.ceil(decision.retryMs / 1000))) } })
}

/**
 * The flood guard: one coarse counter an address in the store that @fastify/rate-limit makes for itself. Its own
 * hook is asynchronous and runs after a route's hooks; here the same store answers before anything else, at once.
 */
async function floodGuard (app: FastifyInstance, { max, timeWindow, cache = 50_000 }: { max: number, timeWindow: number, cache?: number }): Promise<Step> {
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
  let result = { current: 0, ttl: 0 }
  const keep = (_error: Error | null, counted: { current: number, ttl: number }) => { result = counted }
  return function refuseFlood (request) {
    store!.incr(addressKey(request.ip), keep, timeWindow, max)
    if (result.current <= max) return
    if (result.current === max + 1) app.events.record('rate_limited', request, { limit: max, flood: true })
    throw Object.assign(new LimitExceeded(), { headers: { 'retry-after': String(Math.max(1, Math.ceil(result.ttl / 1000))) } })
  }
}

export default fp(limits, { fastify: '5.x', name: 'bastion-limits', dependencies: ['bastion-plan', 'bastion-events', 'bastion-state', 'bastion-identity'] })
