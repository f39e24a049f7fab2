/**
 * Limits: how often a caller may ask, by address, principal, key, plan, route or method, several windows at once.
 *
 * Threat: guessing, scraping and exhaustion (CWE-307, CWE-770, OWASP API4:2023).
 * Defence: budgets that are decided after identification and before anything expensive, for routes, unknown
 * routes, malformed URLs and failed credentials alike; a HEAD shares the budget of its GET, an IPv6 network its /64.
 * Where the shared counters are away, the process's own go on. Who does not stop may be banned for a time.
 * Before identification stands the flood guard: coarse, by address, in the process's own memory, on the store of
 * @fastify/rate-limit, whose `config.rateLimit` goes on working.
 * Not covered: floods that fill the line before they reach the process.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { checkOptions } from '../options.js'
import type { Step } from '../plan/index.js'
import type { Decision } from '../state/index.js'
import type { Budget } from './budget.js'
import { limitsByHand, type Limits } from './by-hand.js'
import { refuseAsync } from './callback.js'
import { LimitsMisconfigured } from './errors.js'
import { exemptionOf, type Exempt } from './exempt.js'
import { Flood, floodGuard } from './flood.js'
import { tellBudget } from './headers.js'
import { Ledger } from './ledger.js'
import { exceeded, refusedBy, type Refuse } from './refusal.js'
import { Reports } from './reports.js'
import { checkAlgorithm, compileRule, defaultRule, type LimitRule, type Rule } from './rule.js'
import { Algorithm, BanRule, Plans, Windows } from './terms.js'

export { addressKey } from '../address.js'
export { BudgetUnknown, LimitExceeded, LimitsMisconfigured } from './errors.js'
export { subjects } from './subject.js'
export type { CheckRule, Limits } from './by-hand.js'
export type { Exempt } from './exempt.js'
export type { Refuse } from './refusal.js'
export type { LimitRule } from './rule.js'
export type { By, SubjectPart } from './subject.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The budget of this route instead of the default one: windows (`['5/second', '100/minute']`), a detailed rule, or `false` for none. */
    limits?: readonly string[] | LimitRule | false
  }
  interface FastifyInstance {
    /** Limits by hand, in handlers and sockets, and for operators. */
    limits: Limits
  }
}

export const LimitsOptions = Type.Object({
  address: Type.Optional(Type.Union([Windows, Type.Literal(false)], { description: 'Default budget of an anonymous address; `false`: none', default: ['300/minute'] })),
  principal: Type.Optional(Type.Union([Windows, Type.Literal(false)], { description: 'Default budget of a principal; `false`: none', default: ['1000/minute'] })),
  plans: Type.Optional(Type.Unsafe<Readonly<Record<string, readonly string[]>>>({
    ...Plans, description: "Default budgets of principals by their commercial plan: `{ free: ['60/minute', '1000/day'] }`; a plan that is not listed has that of `principal`", default: {},
  })),
  algorithm: Type.Optional(Type.Unsafe<Static<typeof Algorithm>>({
    ...Algorithm, description: 'How windows count where a rule does not say: `sliding`, `fixed`, `log` (exact, at most 10,000) or `bucket`', default: 'sliding',
  })),
  ban: Type.Optional(Type.Unsafe<BanRule>({ ...BanRule, description: "Of the default budgets: `{ after: 20, for: '15m' }` refuses everything for a time after so many refusals; none by default" })),
  exempt: Type.Optional(Type.Unsafe<Exempt>(Type.Union([Type.Array(Type.String()), Type.Function([Type.Any()], Type.Boolean())], {
    description: 'Who is not counted: addresses and CIDR blocks, or a function of the request whose answer must be `true`. The flood guard counts them all the same', default: [],
  }))),
  refuse: Type.Optional(Type.Unsafe<Refuse>(Type.Function([Type.Any(), Type.Any()], Type.Any(), {
    description: 'An error of your own (4xx or 5xx) instead of the 429, made of request and decision; Retry-After and the headers of the budget stay',
  }))),
  deadline: Type.Optional(Type.Integer({ minimum: 1, description: 'Milliseconds that shared state has to answer', default: 100 })),
  whenAway: Type.Optional(Type.Union([Type.Literal('local'), Type.Literal('refuse'), Type.Literal('allow')], {
    description: 'When shared state does not answer: `local`: each process counts for itself; `refuse`: 503; `allow`: only the flood guard counts', default: 'local',
  })),
  flood: Type.Optional(Type.Union([Flood, Type.Literal(false)], {
    description: 'The flood guard: requests of an address in a window (ms), whatever they are, before anything else is done; `false`: none', default: { max: 60_000, timeWindow: 60_000 },
  })),
}, { additionalProperties: false })
export type LimitsOptions = Static<typeof LimitsOptions> & {
  /** Milliseconds since the epoch, for reports of refusals; for tests. Windows go by the clock of state. */
  now?: () => number
}

async function limits (app: FastifyInstance, { now = Date.now, ...options }: LimitsOptions): Promise<void> {
  checkAlgorithm(options.algorithm)
  checkOptions(LimitsOptions, options, 'limits', LimitsMisconfigured)
  const { address = ['300/minute'], principal = ['1000/minute'], plans, algorithm = 'sliding', ban, exempt, refuse = null, deadline, whenAway = 'local' } = options
  const { flood = { max: 60_000, timeWindow: 60_000 } } = options
  if (refuse !== null) refuseAsync('refuse', refuse)
  const isExempt = exemptionOf(exempt)
  const ledger = new Ledger(deadline === undefined ? app.state : app.state.within(deadline), whenAway)
  const reports = new Reports(app.events, now)
  const standard = defaultRule({ windows: address, algorithm, ban }, { windows: principal, plans, algorithm, ban }, ledger, refuse)
  const promised = { by: 'caller', shared: true, address, principal, algorithm, ...(plans !== undefined && { plans }), ...(ban !== undefined && { ban }) }
  const everywhere = { whenAway, ...(exempt !== undefined && { exempt: typeof exempt === 'function' ? 'custom' : exempt }) }

  app.decorate('limits', limitsByHand(app, ledger, reports, { algorithm, refuse }))
  if (flood !== false) {
    const step = await floodGuard(app, flood, reports)
    app.plan.contribute({ concern: 'flood', stage: 'flood', compile: () => ({ step, promise: flood }) })
  }
  app.plan.contribute({
    concern: 'limits',
    stage: 'limit',
    compile (route) {
      const given = (route.options.config as { limits?: unknown } | undefined)?.limits
      if (given === false) return { promise: false }
      if (given === undefined) return { step: limitBy(standard), promise: { ...promised, ...everywhere } }
      const { rule, promise } = compileRule(route, given, ledger, { algorithm, refuse })
      return { step: limitBy(rule), promise: { ...promise, ...everywhere } }
    },
  })

  /** The way of a decision: who asks, of which budget, what the counter says, what is told, what is refused. */
  function limitBy (rule: Rule): Step {
    return function limit (request, reply) {
      if (isExempt?.(request) === true) return
      const budget = rule.budgetOf(request)
      if (budget === null) return
      const subject = rule.subjectOf(request)
      const decision = budget.take(subject, rule.cost)
      if (decision instanceof Promise) return decision.then(decided => settle(rule, budget, subject, decided, request, reply))
      return settle(rule, budget, subject, decision, request, reply)
    }
  }

  function settle ({ refuse }: Rule, budget: Budget, subject: string, decision: Decision, request: FastifyRequest, reply: FastifyReply): Error | undefined {
    if (decision === budget.uncounted) return
    tellBudget(reply, budget, decision)
    if (decision.allowed) return
    reports.refused(budget, subject, decision, request)
    return (refuse === null ? null : refusedBy(refuse, request, reply, decision)) ?? exceeded(decision, budget.violations)
  }
}

export default fp(limits, { fastify: '5.x', name: 'bastion-limits', dependencies: ['bastion-plan', 'bastion-events', 'bastion-state', 'bastion-identity'] })
