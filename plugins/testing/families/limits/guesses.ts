/**
 * Locks: where what is counted are failed attempts, they are made. One after another are refused after a while; those that are sent at once must be, too, and those of which
 * each is about somebody else.
 */
import { budgetOf, type Limit } from '../../budgets.js'
import type { Campaign, Exchange } from '../../campaign.js'
import { isSafe } from '../../callers.js'
import type { Route } from '../../surface.js'
import { meter, tellsWhen } from './attack.js'

const SECRET = /pass|secret|code|token/i
/** Beyond the budget. */
const MORE = 4

/** Well formed, and wrong: only what is in a handler counts them. */
export async function tryGuesses (campaign: Campaign, route: Route, limit: Limit): Promise<void> {
  const budget = budgetOf(limit, null)
  if (isSafe(route.method) || route.body === null || budget === null || budget.allowed > (campaign.options.largestBudget ?? 400) || campaign.isOff(route, 'limits.race')) return
  if (campaign.judge.verdictOn(route, null).passes !== true) return
  let address = campaign.freshAddress()
  const guess = async (about: string) => {
    const shot = await campaign.valid(route, null, 'any', body => Object.fromEntries(Object.entries(body as object).map(([name, value]) => [name, typeof value !== 'string' ? value : SECRET.test(name) ? 'Not-the-right-1-of-this' : about])))
    return typeof shot === 'string' ? null : campaign.ask({ ...shot, address }, true)
  }
  const one = campaign.random.text(10)
  for (let n = 0; ; n++) {
    const exchange = await guess(one)
    // What does not count them at all is told of already.
    if (exchange === null || n > budget.allowed) return
    if (exchange.status !== 429) continue
    campaign.check('limits.retry', exchange, tellsWhen(exchange), 'Retry-After in whole seconds', `Retry-After: ${String(exchange.headers['retry-after'])}`, 'lock')
    break
  }
  const other = campaign.random.text(10)
  const { most } = meter({ budget, limit })
  const passed = (await Promise.all(Array.from({ length: budget.allowed + MORE }, () => guess(other)))).filter(exchange => exchange !== null && exchange.status !== 429)
  if (passed.length > 0) campaign.check('limits.race', passed.at(-1)!, passed.length <= most(), `at most ${budget.allowed} (${budget.windows.join(', ')}), as one after another`, `${passed.length} passed at once`)

  // One password on many names, as those do who know the names.
  address = campaign.freshAddress()
  const spread = meter({ budget, limit })
  let last: Exchange | null = null
  for (let n = 0; n <= spread.most() && last?.status !== 429; n++) {
    last = await guess(campaign.random.text(10))
    // What was spent before says nothing.
    if (last === null || spread.isTooSlow() || (n === 0 && last.status === 429)) return
  }
  campaign.check('limits.exceeded', last!, last!.status === 429, `429 after ${budget.allowed} requests (${budget.windows.join(', ')}), each about another name`, `${last!.status}: each name is counted by itself`, 'names')
}
