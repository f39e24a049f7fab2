/**
 * Limits: as many requests as the smallest window says, the last of them at once, and one more; as nobody, and as callers of each kind and plan who have
 * budgets of their own. What is sent does nothing: limits come before authorization and before bodies are read, so that failed credentials are counted.
 */
import type { Campaign, Family } from '../campaign.js'
import { budgetOf, isOfCallers, subjectOf, type Budget, type Limit, type Spender } from '../budgets.js'
import { isSafe } from '../callers.js'
import { unreadable } from '../exchange.js'
import type { Route } from '../surface.js'
import type { Attack } from './limits/attack.js'
import { tryGuesses } from './limits/guesses.js'
import { trySpending } from './limits/spending.js'

export const limits: Family = {
  name: 'limits',
  async lead (campaign) {
    campaign.notApplicable(['limits.exceeded', 'limits.race', 'limits.variant', 'limits.retry'], 'no route has a limit')
    campaign.notApplicable('limits.shared', 'nobody has a budget of their own beside others')
    const keys = new Map<string, Route[]>()
    for (const route of campaign.routes) {
      if (route.limits === null || route.isGone || campaign.isOff(route, 'limits.exceeded')) continue
      keys.set(route.limits.key, [...keys.get(route.limits.key) ?? [], route])
    }
    for (const routes of keys.values()) await tryLimit(campaign, routes, routes[0]!.limits!)
  },
}

async function tryLimit (campaign: Campaign, routes: readonly Route[], limit: Limit): Promise<void> {
  const [first] = routes as [Route]
  const nobody: Spender = { as: null, principal: null, address: campaign.freshAddress() }
  if (subjectOf(limit, nobody) === null) return campaign.unproven(first, 'limits.exceeded', `who shares the budget cannot be known (${limit.by.join(', ')})`)
  const seen = new Set<string>()
  for (const { route, spender } of [{ route: first, spender: nobody }, ...isOfCallers(limit) ? await spendersOf(campaign, routes) : []]) {
    const budget = budgetOf(limit, spender.principal)
    const kind = `${spender.as === null ? 'nobody' : spender.principal!.via === 'key' ? 'key' : 'user'} ${limit.by.includes('plan') ? spender.principal?.plan : ''} ${budget?.windows.join()}`
    if (budget === null || seen.has(kind)) continue
    seen.add(kind)
    if (budget.allowed > (campaign.options.largestBudget ?? 400)) {
      campaign.unproven(route, 'limits.exceeded', `${budget.allowed} requests${spender.as === null ? '' : ` of ${spender.as}`} are more than largestBudget`)
      continue
    }
    await trySpending(await attackOn(campaign, route, limit, budget, spender))
  }
  if (!campaign.surface.isSuite && limit.by.includes('address')) await tryGuesses(campaign, first, limit)
}

/** Each with a route that they may call; best one that only reads, and has no ids in its path. */
async function spendersOf (campaign: Campaign, routes: readonly Route[]): Promise<{ route: Route, spender: Spender }[]> {
  const ease = ({ method, params, answers }: Route) => (isSafe(method) ? 0 : 4) + (params.length === 0 ? 0 : 2) + (answers === 'raw' ? 1 : 0)
  const found: { route: Route, spender: Spender }[] = []
  for (const { name: as, principal } of await campaign.callers.all()) {
    const open = routes.filter(route => campaign.judge.verdictOn(route, { name: as, principal, headers: () => ({}) }).passes === true)
    const [route] = open.sort((a, b) => ease(a) - ease(b))
    if (route !== undefined) found.push({ route, spender: { as, principal, address: campaign.freshAddress() } })
  }
  return found
}

async function attackOn (campaign: Campaign, route: Route, limit: Limit, budget: Budget, spender: Spender): Promise<Attack> {
  return { campaign, route, limit, budget, spender, path: await campaign.anyPath(route, spender.as), content: unreadable(route) }
}
