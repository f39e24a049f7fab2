/** The audit trail: what a route promises to record, what is changed by right of a role, and refusals where each of them is an event. */
import type { Campaign, Exchange, Shot } from '../../campaign.js'
import { isSafe } from '../../callers.js'
import type { RecordedEvent } from '../../contract.js'
import { describe } from '../../exchange.js'
import type { Route } from '../../surface.js'
import { addedTo, eventsOf, seenBy } from '../../witnesses.js'

const ID = 'traces.unrecorded'

export async function tryTrail (campaign: Campaign): Promise<void> {
  const witnesses = campaign.options.witnesses!
  for (const route of campaign.routes) {
    if (route.isGone || campaign.isOff(route, ID)) continue
    const type = promisedOf(route)
    if (type !== false) await trySuccess(route, type)
    if (campaign.surface.recordsRefusals) await tryRefusal(route)
  }

  async function trySuccess (route: Route, type: string | true): Promise<void> {
    const as = (await campaign.passing(route)).find(name => name !== null) ?? null
    const shot = as === null && route.access !== 'public' ? 'nobody is known who may call it' : await campaign.ofOwn(route, as)
    if (typeof shot === 'string') return campaign.unproven(route, ID, shot)
    const { exchange, events } = await askAndSee({ ...shot, isAllowed: true }, type)
    if (exchange.status >= 400) return campaign.unproven(route, ID, `a valid request was answered ${exchange.status}: give its body or values`)
    campaign.check(ID, exchange, events.length > 0, type === true ? 'an event of what was changed' : `an event ${type}`, `${describe(exchange)}, and none`, 'success')
  }

  async function tryRefusal (route: Route): Promise<void> {
    const refused = (await campaign.callers.all()).find(caller => campaign.judge.verdictOn(route, caller).passes === false)
    const as = refused?.name ?? null
    if (refused === undefined && campaign.judge.verdictOn(route, null).passes !== false) return
    const { exchange, events } = await askAndSee({ route, as, path: await campaign.anyPath(route, as) }, true)
    if (exchange.status === 401 || exchange.status === 403) campaign.check(ID, exchange, events.length > 0, 'an event of the refusal', `${describe(exchange)}, and none`, 'refusal')
  }

  /** What was recorded of a request that is asked alone. */
  async function askAndSee (shot: Shot, type: string | true): Promise<{ exchange: Exchange, events: RecordedEvent[] }> {
    const before = await eventsOf(witnesses)
    const exchange = await campaign.ask(shot)
    const look = async () => addedTo(before, await eventsOf(witnesses)).filter(event => type === true || event.type === type)
    const isPromised = type !== true || exchange.status < 400 || exchange.status === 401 || exchange.status === 403
    return { exchange, events: isPromised ? await seenBy(look, events => events.length > 0) : [] }
  }
}

/** What is said of it; else what changes an object of anybody by right of a role or permission is recorded. */
function promisedOf ({ audit, access, method, params }: Route): string | boolean {
  if (audit !== null) return audit
  const { roles = [], permissions = [] } = typeof access === 'object' && access !== null ? access : {}
  return !isSafe(method) && params.length > 0 && [roles, permissions].flat().length > 0
}
