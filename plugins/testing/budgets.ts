/** Budgets, as they are promised: how much there is, and who shares it. */
import type { Principal, RoutePolicy } from './contract.js'

export interface Limit {
  /** Routes with the same share a budget. */
  key: string
  /** Of nobody, and of callers who have no others; null: none. */
  windows: readonly string[] | null
  /** Of callers. */
  principal: readonly string[] | null
  /** Of callers by their plan. */
  plans: Readonly<Record<string, readonly string[]>>
  /** What must be the same of those who share a budget. */
  by: readonly string[]
  algorithm: string
  cost: number
}

/** Who asks, and from where; null is nobody. */
export interface Spender { as: string | null, principal: Principal | null, address: string }

/** Of several windows the smallest, and the larger ones that go on longer. */
export interface Budget { windows: readonly string[], allowed: number, ms: number, later: readonly { text: string, allowed: number, ms: number }[] }

const KNOWN: ReadonlySet<string> = new Set(['caller', 'principal', 'address', 'key', 'plan', 'route', 'method'])
/** By which callers have budgets of their own. */
const OF_CALLERS: ReadonlySet<string> = new Set(['caller', 'principal', 'key', 'plan'])
const UNITS: Readonly<Record<string, number>> = { s: 1000, second: 1000, m: 60_000, minute: 60_000, h: 3_600_000, hour: 3_600_000, d: 86_400_000, day: 86_400_000 }

/** What the plan of the suite says of a route; null: nothing. */
export function limitOfPlan (promise: unknown, name: string): Limit | null {
  if (promise === undefined || promise === false) return null
  const { shared, address, principal, windows, plans = {}, by, algorithm, cost = 1, group } = promise as Pick<Limit, 'plans' | 'algorithm' | 'cost'> & Record<'address' | 'principal' | 'windows' | 'by', unknown> & { shared?: boolean, group?: string }
  return read({ key: shared === true ? 'default' : group ?? name, windows: shared === true ? address : windows, principal: shared === true ? principal : windows, plans, by, algorithm, cost })
}

/** What a policy file says of it. */
export function limitOfPolicy (promise: RoutePolicy['limits'], name: string): Limit | null {
  if (promise === undefined || promise === false) return null
  const { windows, plans = {}, by = 'address' } = Array.isArray(promise) ? { windows: promise } : promise as Exclude<typeof promise, readonly string[]>
  return read({ key: name, windows, principal: windows, plans, by, algorithm: 'fixed', cost: 1 })
}

function read ({ windows, principal, by, ...rest }: Record<'windows' | 'principal' | 'by', unknown> & Pick<Limit, 'key' | 'plans' | 'algorithm' | 'cost'>): Limit {
  const listed = (list: unknown) => Array.isArray(list) ? list as string[] : null
  return { ...rest, windows: listed(windows), principal: listed(principal), by: [by].flat() as string[] }
}

export function isOfCallers ({ by, plans }: Limit): boolean {
  return by.some(part => OF_CALLERS.has(part)) || Object.keys(plans).length > 0
}

/** Null where it has none, or whose it is cannot be known. */
export function budgetOf ({ windows, principal, plans, cost }: Limit, who: Principal | null): Budget | null {
  const own = who === null ? windows : plans[who.plan ?? ''] ?? principal
  const [smallest, ...larger] = (own ?? []).map(readWindow).filter(one => one !== null).map(one => ({ ...one, allowed: Math.floor(one.limit / cost) })).sort((a, b) => a.limit - b.limit)
  // What is larger and shorter is never spent.
  return smallest === undefined ? null : { windows: own!, allowed: smallest.allowed, ms: smallest.ms, later: larger.filter(({ ms }) => ms > smallest.ms) }
}

/** The same text for those who share; null where a function of the service says who they are. */
export function subjectOf ({ by, plans }: Limit, { as, principal, address }: Spender): string | null {
  if (by.some(part => !KNOWN.has(part))) return null
  const caller = principal === null ? address : `${principal.via === 'key' ? 'key' : 'user'} ${principal.id ?? as}`
  const of: Record<string, string> = { caller, principal: caller, address, key: principal?.via === 'key' ? `credential ${as}` : caller, plan: principal?.plan ?? caller }
  const plan = principal?.plan !== undefined && Object.hasOwn(plans, principal.plan) ? principal.plan : ''
  return [plan, ...by.map(part => of[part] ?? part)].join('|')
}

function readWindow (text: string): { text: string, limit: number, ms: number } | null {
  const [, limit = '', times = '', unit = ''] = /^(\d+)\/(\d*) ?([a-z]+?)s?$/.exec(text) ?? /^(\d+)\/(\d*) ?(s)$/.exec(text) ?? []
  const ms = UNITS[unit]
  return ms === undefined ? null : { text, limit: Number(limit), ms: ms * Number(times || 1) }
}
