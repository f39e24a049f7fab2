/**
 * Limits: as many requests as the smallest window says, and one more. GET and HEAD share the budget; other spellings of the path and of the sender do not have
 * one of their own. They are asked as nobody, because limits come before authorization: so failed credentials are counted, and nothing is done.
 */
import type { Campaign, Exchange, Family, Shot } from '../campaign.js'
import { isSafe } from '../callers.js'
import type { Limit, Route } from '../surface.js'

const UNITS: Readonly<Record<string, number>> = { s: 1000, second: 1000, m: 60_000, minute: 60_000, h: 3_600_000, hour: 3_600_000, d: 86_400_000, day: 86_400_000 }
/** Requests that show a budget of its own. */
const SEVERAL = 4
/** Windows that may go by while one is spent. */
const TOO_SLOW = 3

export const limits: Family = {
  name: 'limits',
  async lead (campaign) {
    const seen = new Set<string>()
    for (const route of campaign.routes) {
      if (route.limits === null || route.isGone || seen.has(route.limits.key) || campaign.isOff(route, 'limits.exceeded')) continue
      seen.add(route.limits.key)
      // Which clock goes by the boundary of a window is luck: of two tries one is inside.
      if (!await tryLimit(campaign, route, route.limits, false)) await tryLimit(campaign, route, route.limits, true)
    }
    campaign.notApplicable(['limits.exceeded', 'limits.variant', 'limits.retry'], 'no route has a limit')
  },
}

/** @returns false where more passed, so that it is tried again before it is told */
async function tryLimit (campaign: Campaign, route: Route, { windows, by, cost, algorithm }: Limit, isLast: boolean): Promise<boolean> {
  const [window] = windows.map(readWindow).filter(one => one !== null).sort((a, b) => a.limit - b.limit)
  if (window === undefined) return true
  const allowed = Math.floor(window.limit / cost)
  if (allowed > (campaign.options.largestBudget ?? 400)) {
    campaign.unproven(route, 'limits.exceeded', `${allowed} requests are more than largestBudget`)
    return true
  }
  if (!['caller', 'address', 'principal', 'key'].includes(by)) {
    campaign.unproven(route, 'limits.exceeded', `who shares the budget cannot be known (${by})`)
    return true
  }
  const address = campaign.freshAddress()
  const path = await campaign.path(route, null, 'any') ?? await campaign.path(route, null, 'missing')
  const content: Partial<Shot> = isSafe(route.method) ? {} : { body: '{"', type: route.body?.type ?? 'application/json' }
  const ask = (more: Partial<Shot> = {}) => campaign.ask({ route, path: path!, address, ...content, ...more }, true)
  const started = performance.now()
  const most = () => allowed + Math.ceil(allowed * (performance.now() - started) / window.ms) + (algorithm === 'bucket' ? 1 : 0)
  let passed = 0
  let refused: Exchange | null = null
  let last: Exchange | null = null
  while (refused === null && passed <= most()) {
    // Who asks more slowly than the budget fills is never refused.
    if (performance.now() - started > TOO_SLOW * window.ms) {
      campaign.unproven(route, 'limits.exceeded', 'requests take so long here that the budget is never spent')
      return true
    }
    last = await ask(route.hasHead && passed % 2 === 1 ? { method: 'HEAD' } : {})
    if (last.status === 429) refused = last
    else passed += 1
  }
  if (refused === null) {
    if (isLast) campaign.check('limits.exceeded', last!, false, `429 after ${allowed} requests (${windows.join(', ')})`, `${passed} passed`)
    return false
  }
  campaign.check('limits.exceeded', refused, true, '')
  campaign.check('limits.retry', refused, /^[1-9]\d*$/.test(String(refused.headers['retry-after'])), 'Retry-After in whole seconds', `Retry-After: ${String(refused.headers['retry-after'])}`)
  await tryVariants(campaign, route, ask, path!, { allowed, ms: window.ms })
  return true
}

/** The budget is spent: nobody who is the same gets another one. */
async function tryVariants (campaign: Campaign, route: Route, ask: (more: Partial<Shot>) => Promise<Exchange>, path: string, { allowed, ms }: { allowed: number, ms: number }): Promise<void> {
  if (campaign.isOff(route, 'limits.variant')) return
  const [plain = '', query] = path.split('?')
  const search = query === undefined ? '' : `?${query}`
  const letter = plain.search(/[a-z]/)
  const encoded = letter === -1 ? plain : `${plain.slice(0, letter)}%${plain.charCodeAt(letter).toString(16)}${plain.slice(letter + 1)}`
  const variants: [what: string, shot: Partial<Shot>][] = [
    ...route.hasHead ? [['HEAD', { method: 'HEAD' }] as [string, Partial<Shot>]] : [],
    ['another case', { path: `${plain.toUpperCase()}${search}` }],
    ['a slash at its end', { path: `${plain}/${search}` }],
    ['an encoded letter', { path: `${encoded}${search}` }],
    ['another query', { path: `${plain}?${query === undefined ? '' : `${query}&`}x=1` }],
    ['a forwarded address', { headers: { 'x-forwarded-for': '203.0.113.77', 'x-real-ip': '203.0.113.77', forwarded: 'for=203.0.113.77', 'cf-connecting-ip': '203.0.113.77', 'true-client-ip': '203.0.113.77' } }],
    ['a credential that is none', { headers: { authorization: 'Bearer garbage' } }],
    ['another agent', { headers: { 'user-agent': 'another/1' } }],
  ]
  for (const [what, shot] of variants) {
    const started = performance.now()
    let exchange = await ask(shot)
    // What fills up meanwhile lets one through, and a budget of its own several.
    for (let i = 1; i < Math.min(SEVERAL, allowed) && passes(exchange); i++) exchange = await ask(shot)
    const filled = allowed * (performance.now() - started) / ms
    if (passes(exchange) && filled > 1) campaign.unproven(route, 'limits.variant', 'requests take so long here that the budget fills meanwhile')
    else campaign.check('limits.variant', exchange, !passes(exchange), `429, as without ${what}`, undefined, what)
  }
}

/** What no route takes has a budget of its own, and rightly. */
function passes ({ status }: Exchange): boolean {
  return status !== 429 && status !== 404 && status !== 405
}

export function readWindow (text: string): { limit: number, ms: number } | null {
  const [, limit = '', times = '', unit = ''] = /^(\d+)\/(\d*) ?([a-z]+?)s?$/.exec(text) ?? /^(\d+)\/(\d*) ?(s)$/.exec(text) ?? []
  const ms = UNITS[unit]
  return ms === undefined ? null : { limit: Number(limit), ms: ms * Number(times || 1) }
}
