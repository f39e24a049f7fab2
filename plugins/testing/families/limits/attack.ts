/** An attack on one budget: how it is spent, and how much of it there is. */
import type { Budget, Limit, Spender } from '../../budgets.js'
import type { Campaign, Exchange, Shot } from '../../campaign.js'
import type { Route } from '../../surface.js'

/** Windows that may go by while one is spent. */
const TOO_SLOW = 3

export interface Attack { campaign: Campaign, route: Route, limit: Limit, budget: Budget, spender: Spender, path: string, content: Partial<Shot> }

export function askAs ({ campaign, route, path, content }: Attack, { as, address }: Spender, more: Partial<Shot> = {}): Promise<Exchange> {
  return campaign.ask({ route, path, as, address, ...content, ...more }, true)
}

/** How many may have passed since: what fills up meanwhile is spent, too. */
export function meter ({ budget: { allowed, ms }, limit: { algorithm } }: Pick<Attack, 'budget' | 'limit'>) {
  const started = performance.now()
  return {
    most: () => allowed + Math.ceil(allowed * (performance.now() - started) / ms) + (algorithm === 'bucket' ? 1 : 0),
    isTooSlow: () => performance.now() - started > TOO_SLOW * ms,
  }
}

/** Whether a 429 says when to come back. */
export function tellsWhen ({ headers }: Exchange): boolean {
  return /^[1-9]\d*$/.test(String(headers['retry-after']))
}
