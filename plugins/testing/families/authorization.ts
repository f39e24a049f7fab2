/**
 * The authorization matrix: every route, called by everybody, with their own objects, those of others and those that do not exist; HEAD and
 * overridden methods too. Who may not call a route is refused before its body is read, so that attacks on what changes something change nothing.
 */
import type { Campaign, Exchange, Family } from '../campaign.js'
import { isOfSuite, isSafe, kindOf, type Caller, type Verdict } from '../callers.js'
import { tryGrants } from './grants.js'
import { matches } from '../paths.js'
import type { Route } from '../surface.js'

const UNDECIDED = new Set([400, 409, 413, 415, 422])
const MAX_TRIES = 2
/** Whose objects each caller asks for. */
const MAX_OWNERS = 4
const REFUSED = [401, 403, 404, 405]
const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'] as const

export const authorization: Family = {
  name: 'authorization',
  async lead (campaign) {
    for (const name of campaign.surface.unlisted) {
      if (campaign.options.only?.includes(name) !== false) campaign.find('authorization.unlisted', name, 'a line in the policy', 'none')
    }
    if (campaign.options.policy === undefined) campaign.notApplicable('authorization.unlisted', 'no policy was given')
    campaign.notApplicable('authorization.grant', 'no body takes words that are rights, of which some caller lacks one')
    const callers = await campaign.callers.all()
    for (const route of campaign.routes) {
      // What changes something is tried until it succeeds once, and not by everybody.
      let tries = isSafe(route.method) ? Infinity : MAX_TRIES
      const judged = [null, ...callers].map(caller => ({ caller, verdict: campaign.judge.verdictOn(route, caller) }))
      const passing: Caller[] = []
      // Those first who are let in: without them no refusal means anything.
      for (const { caller } of judged.filter(({ verdict }) => verdict.passes === true)) {
        if (tries > 0) tries = await tryAllowed(campaign, route, caller) && !isSafe(route.method) ? 0 : tries - 1
        if (caller === null) continue
        passing.push(caller)
        await tryForeign(campaign, route, caller)
      }
      for (const { caller, verdict } of judged) {
        if (verdict.passes === null) campaign.unproven(route, 'authorization.role', verdict.reason)
        else if (!verdict.passes) await tryRefused(campaign, route, caller, verdict)
      }
      await tryGrants(campaign, route, passing)
      await tryMethods(campaign, route)
    }
  },
}

/** Whoever may not call the route at all. */
async function tryRefused (campaign: Campaign, route: Route, caller: Caller | null, { id, statuses, expected }: Verdict & { passes: false }): Promise<void> {
  if (campaign.isOff(route, id)) return
  const as = caller?.name ?? null
  const isGuarded = isOfSuite(route)
  const path = await campaign.anyPath(route, as)
  const exchange = await campaign.ask({ route, as, path, ...await campaign.anyBody(route) })
  if (!isGuarded && (UNDECIDED.has(exchange.status) || exchange.status >= 500)) {
    campaign.unproven(route, id, exchange.status >= 500 ? `it fails (${exchange.status})` : `the request was refused for its form (${exchange.status}) before anybody asked who sent it: give a valid body in routes`)
    return
  }
  await campaign.confirm(id, exchange)
  const isHeld = campaign.check(id, exchange, statuses.includes(exchange.status), expected)
  if (isHeld) await tryHead(campaign, route, exchange, statuses, expected)
}

/** What was refused, by HEAD. */
async function tryHead (campaign: Campaign, route: Route, { shot, sentStatus }: Exchange, statuses: readonly number[], expected: string): Promise<void> {
  if (!route.hasHead) return
  if (sentStatus !== undefined) return campaign.unproven(route, 'authorization.head', 'the service says inside of an answer that it is a refusal, and HEAD has no inside')
  const { body: _body, type: _type, ...same } = shot
  const head = await campaign.ask({ ...same, method: 'HEAD' })
  campaign.check('authorization.head', head, statuses.includes(head.status), `${expected}, to HEAD too`)
}

/** Whoever may: without this no refusal proves anything. Answers whether it succeeded. */
async function tryAllowed (campaign: Campaign, route: Route, caller: Caller | null): Promise<boolean> {
  const as = caller?.name ?? null
  if (campaign.isOff(route, 'authorization.denied')) return true
  const reaches = caller === null || campaign.judge.reachesForeign(route, caller, campaign.hints(route).foreign) === true
  const shot = await campaign.valid(route, as, reaches ? 'any' : campaign.objects.ownedParam(route, campaign.hints(route).objects) === null ? 'any' : 'own')
  if (typeof shot === 'string') {
    if (!campaign.hasSucceeded(route)) campaign.unproven(route, 'authorization.denied', shot)
    return false
  }
  const exchange = await campaign.ask({ ...shot, isAllowed: true })
  const { status } = exchange
  // What a public route answers who signs in wrongly is no matter of its policy.
  if (route.access !== 'public') campaign.check('authorization.denied', exchange, status !== 401 && status !== 403, `an answer to ${as}, whom the policy lets in`)
  if (status >= 400 && !campaign.hasSucceeded(route)) campaign.unproven(route, 'exposure.undeclared', `a valid request was answered ${status}: give its body, values or objects`)
  return status < 400
}

/** Objects of others, and such as nobody has. */
async function tryForeign (campaign: Campaign, route: Route, caller: Caller): Promise<void> {
  const { objects, foreign } = campaign.hints(route)
  const owned = campaign.objects.owned(route, objects)
  const isOwned = route.resource !== null || foreign === 'deny'
  if (campaign.isOff(route, 'authorization.object') || (owned.length === 0 && route.params.length === 0 && !isOwned)) return
  const reaches = campaign.judge.reachesForeign({ ...route, params: owned }, caller, foreign)
  if (reaches === true) {
    // What is let through is looked at: not all of it need be visible to others.
    const shot = owned.length > 0 && isSafe(route.method) ? await campaign.valid(route, caller.name, 'foreign') : ''
    if (typeof shot !== 'string') await campaign.ask({ ...shot, isAllowed: true })
    return
  }
  if (owned.length === 0) {
    if (isOwned && route.params.length === 0 && isSafe(route.method)) return tryCollection(campaign, route, caller)
    if (isOwned) campaign.unproven(route, 'authorization.object', `objects says of no ${route.params.join(', ') || 'field'} whose it is`)
    return
  }
  if (reaches === null) {
    campaign.unproven(route, 'authorization.object', 'a rule of its own decides whose objects are reached: say foreign in routes')
    return
  }
  const owners = await ownersOf(campaign, route, caller)
  if (owners.length === 0) campaign.unproven(route, 'authorization.object', `objects names none of anybody else than ${caller.name}`)
  for (const owner of owners) await tryObject(campaign, route, caller, owner)
  for (const only of owned.length > 1 ? owned : []) await tryBeside(campaign, route, caller, only)
}

/** Whose objects are asked for: those first who are of another kind than those before; undefined where nobody has all of them. */
async function ownersOf (campaign: Campaign, route: Route, caller: Caller): Promise<(string | undefined)[]> {
  const named = campaign.objects.others(route, caller.name, campaign.hints(route).objects)
  if (named.length === 0) return [undefined]
  const kinds = new Set<string>()
  const [first, again]: [string[], string[]] = [[], []]
  for (const owner of await strangersIn(campaign, caller, named)) {
    const kind = kindOf(owner)
    if (kinds.has(kind)) again.push(owner.name)
    else first.push(owner.name)
    kinds.add(kind)
  }
  // Nobody says for whom a key acts: it may be one of the others.
  return [...first, ...again].slice(0, caller.principal.via === 'key' ? 1 : MAX_OWNERS)
}

/** The same person may come by several ways. */
async function strangersIn (campaign: Campaign, { principal: { id } }: Caller, names: readonly string[]): Promise<Caller[]> {
  const callers = await Promise.all(names.map(name => campaign.callers.get(name)))
  return callers.filter(({ principal }) => id === undefined || principal.id !== id)
}

/** Everything that belongs to somebody is somebody else's. */
async function tryObject (campaign: Campaign, route: Route, caller: Caller, owner?: string): Promise<void> {
  const shot = await campaign.valid(route, caller.name, 'foreign', undefined, { owner })
  if (typeof shot === 'string') return campaign.unproven(route, 'authorization.object', shot)
  const exchange = await campaign.ask({ ...shot, isAllowed: true })
  await campaign.confirm('authorization.object', exchange)
  if (!campaign.surface.isSuite && exchange.status >= 500) return campaign.unproven(route, 'authorization.object', `it fails (${exchange.status})`)
  if (UNDECIDED.has(exchange.status)) return campaign.unproven(route, 'authorization.object', `the request was refused for its form (${exchange.status}): give a valid body in routes`)
  const hidden = route.resource?.hidden ?? null
  const isRefused = REFUSED.includes(exchange.status)
  const expected = `${hidden === true ? '404' : hidden === false ? '403' : '403 or 404'}: it is somebody else's`
  campaign.check('authorization.object', exchange, isRefused || await isBlind(campaign, route, exchange), expected)
  if (!isRefused) return
  await tryHead(campaign, route, exchange, REFUSED, expected)
  if (hidden === true) await tryHidden(campaign, route, caller, exchange)
}

/** One thing of somebody else's, beside the caller's own: nobody has both, so that only an answer says something. */
async function tryBeside (campaign: Campaign, route: Route, caller: Caller, only: string): Promise<void> {
  const [owner] = await strangersIn(campaign, caller, campaign.objects.others(route, caller.name, campaign.hints(route).objects, only))
  const shot = owner === undefined ? '' : await campaign.valid(route, caller.name, 'foreign', undefined, { only, owner: owner.name })
  if (typeof shot === 'string') return
  const exchange = await campaign.ask({ ...shot, isAllowed: true })
  if (exchange.status < 400 && !await isBlind(campaign, route, exchange)) campaign.check('authorization.object', exchange, false, `403 or 404: ${only} is somebody else's`, undefined, only)
}

/** What only searches answers nothing of what it does not find: as of what nobody has. In a path that is an answer like any other. */
async function isBlind (campaign: Campaign, route: Route, foreign: Exchange): Promise<boolean> {
  if (route.params.length > 0 || !isSafe(route.method) || foreign.status >= 400) return false
  const shot = await campaign.valid(route, foreign.caller!.name, 'missing')
  if (typeof shot === 'string') return false
  const missing = await campaign.ask({ ...shot, isAllowed: true })
  return missing.status === foreign.status && shape(missing) === shape(foreign)
}

/** A list of what belongs to somebody: the caller's own are in it, and nobody else's. */
async function tryCollection (campaign: Campaign, route: Route, caller: Caller): Promise<void> {
  await campaign.objects.all()
  const shot = await campaign.valid(route, caller.name)
  if (typeof shot === 'string') return campaign.unproven(route, 'authorization.object', shot)
  const exchange = await campaign.ask({ ...shot, isAllowed: true })
  const owners = campaign.objects.ownersIn(exchange.json)
  const others = (await strangersIn(campaign, caller, [...owners])).filter(({ name }) => name !== caller.name).map(({ name }) => name)
  if (others.length === 0 && !owners.has(caller.name)) return campaign.unproven(route, 'authorization.object', 'its answer shows none of the objects that are known')
  campaign.check('authorization.object', exchange, others.length === 0, `what belongs to ${caller.name}`, `${exchange.status}, with what belongs to ${others.join(', ')}`)
}

async function tryHidden (campaign: Campaign, route: Route, caller: Caller, foreign: Exchange): Promise<void> {
  const shot = await campaign.valid(route, caller.name, 'missing')
  if (typeof shot === 'string') return
  const missing = await campaign.ask({ ...shot, isAllowed: true })
  campaign.check('authorization.hidden', foreign, foreign.status === missing.status && shape(foreign) === shape(missing), `${missing.status}, as of one that does not exist`)
}

/** An answer without what is different each time. */
function shape ({ json, text }: Exchange): string {
  if (typeof json !== 'object' || json === null) return text
  const { requestId, instance, ...rest } = json as Record<string, unknown>
  return JSON.stringify(rest)
}

/** Methods that a header or a parameter claims, and those that nobody declared. */
async function tryMethods (campaign: Campaign, route: Route): Promise<void> {
  if (campaign.isOff(route, 'authorization.method')) return
  const { method, url } = route
  const isGuarded = campaign.judge.verdictOn(route, null).passes === false
  const [path = ''] = (await campaign.anyPath(route, null)).split('?')
  if (isGuarded && !isSafe(method)) {
    // Nobody, and who is signed in and may not: what hides behind another method may ask less, and not nothing.
    const refused = (await campaign.callers.all()).find(caller => campaign.judge.verdictOn(route, caller).passes === false)
    for (const [carrier, as] of ['GET', 'POST'].filter(one => one !== method).flatMap(one => [[one, null], ...refused === undefined ? [] : [[one, refused.name]]] as [string, string | null][])) {
      const plain = { route, method: carrier, path, as, ...carrier === 'POST' && { body: '{}', type: 'application/json' } }
      const overridden = await campaign.ask({ ...plain, path: `${path}?_method=${method}`, headers: { 'x-http-method-override': method, 'x-http-method': method, 'x-method-override': method } })
      if (overridden.status < 400) {
        const without = await campaign.ask(plain)
        campaign.check('authorization.method', overridden, without.status === overridden.status, `${without.status}, as without the header that claims ${method}`)
      } else campaign.check('authorization.method', overridden, true, '')
    }
  }
  const here = campaign.surface.routes.filter(one => one.url === url)
  if (here[0]?.name !== route.name) return
  const undeclared = METHODS.filter(one => !campaign.surface.routes.some(other => other.method === one && matches(other.url, path)))
  for (const one of undeclared) {
    const exchange = await campaign.ask({ route, method: one, path, ...!isSafe(one) && one !== 'DELETE' && { body: '{}', type: 'application/json' } })
    campaign.check('authorization.method', exchange, exchange.status >= 400 || await campaign.isOfNowhere(exchange), `404 or 405: nobody declared ${one}`)
  }
}
