/** Rules: what a route says of its limits, compiled to what a request asks. */
import type { FastifyRequest } from 'fastify'
import { Type } from '@sinclair/typebox'
import { checkOptions } from '../options.js'
import type { PlannedRoute } from '../plan/index.js'
import type { Algorithm as CounterAlgorithm } from '../state/index.js'
import type { Budget } from './budget.js'
import { refuseAsync } from './callback.js'
import { LimitsMisconfigured } from './errors.js'
import type { Budgets, Ledger } from './ledger.js'
import type { Refuse } from './refusal.js'
import { callerOf, subjectOf, type By, type SubjectOf } from './subject.js'
import { Algorithm, BanRule, Plans, Windows, type DescribedTerms, type Terms } from './terms.js'

export interface LimitRule {
  /** Decided together: what one refuses is counted in none. With `plans`: of callers without a plan, and of plans that are not listed. */
  windows: readonly string[]
  /** Windows of each commercial plan, by what the principal's `plan` says. Each plan has counters of its own. */
  plans?: Readonly<Record<string, readonly string[]>>
  /**
   * Who shares a budget.
   *
   * - `caller` (default) and `principal`: the principal where there is one, else the address.
   * - `address`: an IPv6 customer holds 2⁶⁴ of them, so IPv6 counts by /64.
   * - `key`: an API key, each credential for itself; all others as callers.
   * - `plan`: all callers of one plan together; who has none, as a caller.
   * - `route`: everybody on this route together, so that one caller can spend it for all.
   * - `method`: everybody who uses the method; mostly combined, where a route or a group has several.
   * - A function's answer that is an address counts by its network; where an address is only a part of it, use {@link addressKey}. An
   *   answer that is empty or no text counts with the caller's address. What it throws is an error of the request.
   * - A list of these: all of them must be the same (`['address', 'method']`).
   */
  by?: By
  /** What each means at its seams: {@link Algorithm} of state. `bucket` with `'10/10s'` holds ten and gains one a second. Default: the option `algorithm`. */
  algorithm?: CounterAlgorithm
  /** What a request costs, a whole number; a search may cost 5 (default 1). */
  cost?: number
  /** Routes that name the same group share one budget, and so must have the same windows, plans, by, algorithm and ban; the cost may differ. */
  group?: string
  /** Who is refused `after` times is refused everything here `for` a time (`'15m'`); whoever shares the budget shares the ban. */
  ban?: { after: number, for: string }
  /** The error of your own instead of {@link LimitExceeded}; Retry-After and the headers of the budget stay (default: the option `refuse`). */
  refuse?: Refuse
}

/** A rule, as a request asks it. */
export interface Rule {
  /** Null: this request has no limit. */
  budgetOf: (request: FastifyRequest) => Budget | null
  subjectOf: SubjectOf
  cost: number
  refuse: Refuse | null
}

/** What holds where a rule says nothing. */
export interface RuleDefaults {
  algorithm: CounterAlgorithm
  refuse: Refuse | null
}

const ALGORITHMS = ['sliding', 'fixed', 'log', 'bucket']
const RuleForm = Type.Object({
  windows: Windows,
  plans: Type.Optional(Plans),
  by: Type.Optional(Type.Any()),
  algorithm: Type.Optional(Algorithm),
  cost: Type.Optional(Type.Integer({ minimum: 1 })),
  group: Type.Optional(Type.String({ minLength: 1 })),
  ban: Type.Optional(BanRule),
  refuse: Type.Optional(Type.Function([], Type.Any())),
}, { additionalProperties: false })

/** @throws LimitsMisconfigured */
export function compileRule (route: PlannedRoute, given: unknown, ledger: Ledger, defaults: RuleDefaults): { rule: Rule, promise: DescribedTerms & { cost: number, group?: string } } {
  const form = Array.isArray(given) ? { windows: given } : given
  checkAlgorithm((form as { algorithm?: unknown } | null)?.algorithm)
  checkOptions(RuleForm, form, "limits: write windows (['5/second']), a rule ({ windows, plans, by, algorithm, cost, group, ban, refuse }) or false", LimitsMisconfigured)
  const { windows, plans, by = 'caller', algorithm = defaults.algorithm, cost = 1, group, ban, refuse = defaults.refuse } = form as LimitRule
  if (refuse !== null) refuseAsync('refuse', refuse)
  const place = placeOf(route)
  const subject = subjectOf(by, place)
  const budgets = ledger.open(group === undefined ? `route:${place}` : `group:${group}`, { windows, plans, by, algorithm, ban }, `${route.method} ${route.url}`)
  refuseCostAbove(cost, budgets)
  return {
    rule: { budgetOf: budgetOf(budgets), subjectOf: subject, cost, refuse },
    promise: { ...budgets.describe(), cost, ...(group !== undefined && { group }) },
  }
}

/** Of routes that say nothing: an anonymous address has one budget, a principal another. */
export function defaultRule (ofAddress: Omit<Terms, 'by'>, ofPrincipal: Omit<Terms, 'by'>, ledger: Ledger, refuse: Refuse | null): Rule {
  const open = (name: string, terms: Omit<Terms, 'by'>) =>
    terms.windows === false && terms.plans === undefined ? null : ledger.open(name, { ...terms, by: 'caller' }, 'the options')
  const byAddress = open('default-address', ofAddress)?.standard ?? null
  const byPrincipal = open('default-principal', ofPrincipal)
  return {
    budgetOf: ({ principal }) => principal === null ? byAddress : byPrincipal === null ? null : byPrincipal.of(principal),
    subjectOf: callerOf,
    cost: 1,
    refuse,
  }
}

/** @throws LimitsMisconfigured with what could be written instead */
export function checkAlgorithm (algorithm: unknown): void {
  if (algorithm === undefined || ALGORITHMS.includes(algorithm as string)) return
  throw new LimitsMisconfigured(`limits: algorithm: ${JSON.stringify(algorithm)} is unknown: write ${ALGORITHMS.join(', ')}`)
}

/** @throws LimitsMisconfigured where some window would never let a request pass */
export function refuseCostAbove (cost: number, { all }: Budgets): void {
  for (const { limits, windows } of all) {
    const tooSmall = limits.findIndex(limit => limit < cost)
    if (tooSmall !== -1) throw new LimitsMisconfigured(`limits: a cost of ${cost} never fits into ${JSON.stringify(windows[tooSmall])}`)
  }
}

function budgetOf (budgets: Budgets): Rule['budgetOf'] {
  const { standard, terms } = budgets
  return terms.plans === undefined ? () => standard : ({ principal }) => budgets.of(principal)
}

/** A HEAD asks for what its GET answers and a URL with a slash at its end for what the one without answers: one budget. */
function placeOf (route: PlannedRoute): string {
  const { method, url, options } = route.twinOf ?? route
  const constraints = options.constraints === undefined ? '' : ` ${JSON.stringify(options.constraints)}`
  return `${method === 'HEAD' ? 'GET' : method} ${url.replace(/(?<=.)\/$/, '')}${constraints}`
}
