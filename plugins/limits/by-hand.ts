/** `app.limits`: budgets in handlers and sockets, and what operators look at and reset. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Type } from '@sinclair/typebox'
import { checkOptions } from '../options.js'
import type { Decision, MaybePromise } from '../state/index.js'
import type { Budget } from './budget.js'
import { LimitsMisconfigured } from './errors.js'
import type { Ledger } from './ledger.js'
import { exceeded } from './refusal.js'
import type { Reports } from './reports.js'
import { checkAlgorithm, refuseCostAbove, type LimitRule, type RuleDefaults } from './rule.js'
import { subjects, subjectWritten } from './subject.js'
import { Algorithm, BanRule, isSameList, Windows, type DescribedTerms } from './terms.js'

export type CheckRule = Pick<LimitRule, 'windows' | 'algorithm' | 'ban' | 'cost'>

export interface Limits {
  /**
   * Counts and throws {@link LimitExceeded} where the budget is spent.
   *
   * @param name a constant: each name is a budget of its own (`check:<name>` for operators), and always has the same terms
   * @param rule windows, or with algorithm, ban and cost
   * @param subject who spends it, any text; what is an address counts by its network
   * @param cost default: that of the rule, or 1
   * @throws LimitsMisconfigured, a TypeError, where the name is known with other terms; TypeError where the cost is no whole number or the subject no text
   */
  check: (name: string, rule: readonly string[] | CheckRule, subject: string, cost?: number) => MaybePromise<Decision>
  /** Every budget, by its name: those of routes after `ready()`, those of `check` once they were asked. */
  budgets: () => (DescribedTerms & { name: string })[]
  /**
   * What the subject has left, without counting: of the budget that everybody has (`plan` null), and of each plan's.
   *
   * @param subject written with {@link subjects}: `subjects.address('203.0.113.9')`, `subjects.custom(…)` of what `check` was given
   * @throws BudgetUnknown
   */
  inspect: (name: string, subject: string) => Promise<(Decision & { plan: string | null })[]>
  /**
   * Forgets what the subject has spent, in every plan, and its ban; recorded as `limit_reset`.
   *
   * @param request of the operator, so that the event says who it was
   * @throws BudgetUnknown
   */
  reset: (name: string, subject: string, request?: FastifyRequest) => Promise<void>
}

const CheckForm = Type.Object({
  windows: Windows,
  algorithm: Type.Optional(Algorithm),
  ban: Type.Optional(BanRule),
  cost: Type.Optional(Type.Integer({ minimum: 1 })),
}, { additionalProperties: false })

export function limitsByHand ({ events }: FastifyInstance, ledger: Ledger, reports: Reports, defaults: RuleDefaults): Limits {
  /** What was asked last under each name: the same rule is not read again. */
  const known = new Map<string, { given: unknown, budget: Budget, cost: number }>()

  function read (name: string, given: readonly string[] | CheckRule) {
    const last = known.get(name)
    if (last !== undefined && isSameList(last.given, given)) return last
    const rule = (Array.isArray(given) ? { windows: given } : given) as CheckRule
    checkAlgorithm(rule?.algorithm)
    checkOptions(CheckForm, rule, `limits: check ${name}`, LimitsMisconfigured)
    const { windows, algorithm = defaults.algorithm, ban, cost = 1 } = rule
    const budgets = ledger.open(`check:${name}`, { windows, algorithm, ban, by: whomItNames }, `app.limits.check(${JSON.stringify(name)})`)
    refuseCostAbove(cost, budgets)
    const read = { given, budget: budgets.standard!, cost }
    known.set(name, read)
    return read
  }

  function settle (budget: Budget, subject: string, decision: Decision): Decision {
    if (decision.allowed) return decision
    reports.refused(budget, subject, decision, null)
    throw exceeded(decision, budget.violations)
  }

  return {
    check (name, given, who, cost) {
      const { budget, cost: usual } = read(name, given)
      if (typeof who !== 'string' || who === '') throw new TypeError(`app.limits.check(${JSON.stringify(name)}): the subject must be a text that is not empty`)
      const subject = subjects.custom(who)
      const decision = budget.take(subject, cost ?? usual)
      return decision instanceof Promise ? decision.then(decided => settle(budget, subject, decided)) : settle(budget, subject, decision)
    },
    budgets: () => ledger.list().map(({ name, budgets }) => ({ name, ...budgets.describe() })),
    async inspect (name, subject) {
      const who = subjectWritten(subject)
      return Promise.all(ledger.find(name).all.map(async budget => ({ plan: budget.plan, ...await budget.peek(who) })))
    },
    async reset (name, subject, request) {
      const who = subjectWritten(subject)
      await Promise.all(ledger.find(name).all.map(async budget => {
        await budget.reset(who)
        reports.forget(budget, who)
      }))
      events.record('limit_reset', request ?? null, { budget: name, subject: who })
    },
  }
}

/** Stands for the subjects of a check, which are what its caller says. */
function whomItNames (): string {
  return ''
}
