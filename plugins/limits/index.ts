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
import { createHash } from 'node:crypto'
import { createRequire } from 'node:module'
import { isIPv6 } from 'node:net'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { createError } from '@fastify/error'
import rateLimit from '@fastify/rate-limit'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { checkOptions } from '../options.js'
import type { PlannedRoute, Step } from '../plan/index.js'
import type { Counter, Decision, MaybePromise, Window } from '../state/index.js'
import { addressKey } from '../address.js'
import { parseWindow } from './windows.js'

export { addressKey } from '../address.js'

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
  /**
   * Who shares a budget. `caller` (default) and `principal`: the principal where there is one, else the address. A function's answer
   * that is an address counts by its network; where an address is only a part of it, use {@link addressKey} (an IPv6
   * customer holds 2⁶⁴ addresses). An answer that is empty or no text counts with the caller's address.
   */
  by?: 'caller' | 'address' | 'principal' | ((request: FastifyRequest) => string)
  /** `sliding` (default) or `fixed`. */
  algorithm?: 'fixed' | 'sliding'
  /** What a request costs, a whole number; a search may cost 5 (default 1). */
  cost?: number
  /** Routes that name the same group share one budget, and so must have the same windows. */
  group?: string
}

export interface Limits {
  /**
   * Counts and throws {@link LimitExceeded} where the budget is spent.
   *
   * @param name a constant: each name is a budget of its own, and always has the same windows
   * @param subject who spends it; what is an address counts by its network
   * @throws TypeError where the name is known with other windows, or the cost is no whole number
   */
  check: (name: string, windows: readonly string[], subject: string, cost?: number) => MaybePromise<Decision>
}

/** An option or a route's budget is wrong. */
export const LimitsMisconfigured = createError<[string]>('FST_BASTION_LIMITS_MISCONFIGURED', '%s', 500, TypeError)
/** The budget is spent; Retry-After says when to come back (RFC 6585, 4). */
export const LimitExceeded = createError('FST_BASTION_LIMITS_EXCEEDED', 'Too many requests', 429)

const Windows = Type.Array(Type.String(), { minItems: 1, maxItems: 8 })
const Algorithm = Type.Union([Type.Literal('sliding'), Type.Literal('fixed')], { default: 'sliding' })
const Rule = Type.Object({
  windows: Windows,
  by: Type.Optional(Type.Union([Type.Literal('caller'), Type.Literal('address'), Type.Literal('principal'), Type.Function([Type.Any()], Type.String())])),
  algorithm: Type.Optional(Algorithm),
  cost: Type.Optional(Type.Integer({ minimum: 1 })),
  group: Type.Optional(Type.String({ minLength: 1 })),
}, { additionalProperties: false })
export const LimitsOptions = Type.Object({
  address: Type.Optional(Type.Union([Windows, Type.Literal(false)], { description: 'Default budget of an anonymous address', default: ['300/minute'] })),
  principal: Type.Optional(Type.Union([Windows, Type.Literal(false)], { description: 'Default budget of a principal', default: ['1000/minute'] })),
  algorithm: Type.Optional(Algorithm),
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

/** Longer subjects are kept as their hash: a client that chooses its own must not choose how much is kept of it. */
const MAX_SUBJECT = 128

async function limits (app: FastifyInstance, options: LimitsOptions): Promise<void> {
  checkOptions(LimitsOptions, options, 'limits', LimitsMisconfigured)
  const { algorithm = 'sliding', flood = { max: 60_000, timeWindow: 60_000 } } = options
  const byAddress = budgetOf('default-address', options.address ?? ['300/minute'], algorithm)
  const byPrincipal = budgetOf('default-principal', options.principal ?? ['1000/minute'], algorithm)

  const checks = new Map<string, Budget>()
  app.decorate('limits', {
    check (name, windows, subject, cost = 1) {
      const key = `${name} ${windows.join(' ')}`
      const budget = checks.get(key) ?? budgetOf(`check:${name}`, windows, algorithm)!
      checks.set(key, budget)
      const settled = (decision: Decision) => {
        if (!decision.allowed) app.events.record('rate_limited', null, { name, limit: decision.limit, retryMs: decision.retryMs })
        return refuseExceeded(decision)
      }
      const decision = budget.counter.take(subjectFrom(subject), cost)
      return decision instanceof Promise ? decision.then(settled) : settled(decision)
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
          step: limitCaller,
          promise: { by: 'caller', address: options.address ?? ['300/minute'], principal: options.principal ?? ['1000/minute'], shared: true },
        }
      }
      try {
        return compileRule(route, rule)
      } catch (error) {
        route.object((error as Error).message)
        return undefined
      }
    },
  })

  function compileRule (route: PlannedRoute, given: readonly string[] | LimitRule) {
    const rule = (Array.isArray(given) ? { windows: given } : given) as LimitRule
    checkOptions(Rule, rule, "limits: write windows (['5/second']), a rule ({ windows, by, cost, group }) or false", LimitsMisconfigured)
    const { windows, by = 'caller', cost = 1, group, algorithm: kind = algorithm } = rule
    const budget = budgetOf(group === undefined ? nameOf(route) : `group:${group}`, windows, kind)!
    const tooSmall = budget.counter.windows.findIndex(({ limit }) => limit < cost)
    if (tooSmall !== -1) throw new LimitsMisconfigured(`limits: a cost of ${cost} never fits into ${JSON.stringify(windows[tooSmall])}`)
    const promise = { by: typeof by === 'function' ? 'custom' : by, windows, algorithm: kind, cost, ...(group !== undefined && { group }) }
    if (by === 'caller' || by === 'principal') return { step: limitSubject(budget, callerOf, cost), promise }
    if (by === 'address') return { step: limitSubject(budget, ({ ip }) => addressKey(ip), cost), promise }
    return { step: limitSubject(budget, request => subjectFrom(by(request)) || addressKey(request.ip), cost), promise }
  }

  function budgetOf (name: string, windows: readonly string[] | false, kind: 'fixed' | 'sliding'): Budget | null {
    if (windows === false) return null
    const parsed = windows.map(parseWindow)
    const faulty = windows.filter((_text, i) => parsed[i] === null)
    if (faulty.length > 0) throw new LimitsMisconfigured(`limits: ${faulty.join(', ')} is not of the form '5/second'`)
    const counter = app.state.counter({ name: `limits:${name}`, windows: parsed as Window[], algorithm: kind })
    return { counter, policy: counter.windows.map(({ limit, ms }, i) => `"w${i}";q=${limit};w=${Math.ceil(ms / 1000)}`).join(', ') }
  }

  function limitCaller (request: FastifyRequest, reply: FastifyReply): void | Promise<void> {
    const budget = request.principal === null ? byAddress : byPrincipal
    if (budget === null) return
    return settle(budget, budget.counter.take(callerOf(request), 1), request, reply)
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

/** A HEAD asks for what its GET answers and a URL with a slash at its end for what the one without answers: one budget. */
function nameOf (route: PlannedRoute): string {
  const { method, url, options } = route.twinOf ?? route
  const constraints = options.constraints === undefined ? '' : ` ${JSON.stringify(options.constraints)}`
  return `route:${method === 'HEAD' ? 'GET' : method} ${url.replace(/(?<=.)\/$/, '')}${constraints}`
}

function callerOf ({ principal, ip }: FastifyRequest): string {
  return principal === null ? addressKey(ip) : `${principal.kind}:${principal.id}`
}

/** What a service names as the subject, as it is kept; empty where it is no text. */
function subjectFrom (value: unknown): string {
  if (typeof value !== 'string') return ''
  if (value.length > MAX_SUBJECT) return createHash('sha256').update(value).digest('base64url')
  return isIPv6(value) ? addressKey(value) : value
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
