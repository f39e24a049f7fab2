/**
 * Credentials that are none, are somebody else's in part, or were good once; and cookies that another site makes a browser send.
 * What is no credential is tried on every guarded route, everything else on a few routes of each kind of policy.
 */
import type { Campaign, Exchange, Family, Shot } from '../campaign.js'
import { headersOf, isOfSuite, isSafe, type Caller } from '../callers.js'
import type { FindingId } from '../catalogue.js'
import type { RefusedPrincipal } from '../contract.js'
import { isLead } from '../exchange.js'
import type { Route } from '../surface.js'
import { tryCsrf, tryFixation } from './credentials/browsers.js'
import { carriedBy, changedTexts, changedTokens, forgedCookies, forgedTokens, keysOfAttacker, secretsOf, signedTokens, type AttackersKeys, type ForgedToken, type Forgery } from './credentials/forgeries.js'

const GARBAGE: readonly Record<string, string>[] = [
  { authorization: 'Bearer garbage' }, { authorization: 'Bearer a.b.c' }, { authorization: 'Bearer ' }, { authorization: 'Bearer null' }, { authorization: 'Bearer undefined' }, { authorization: 'Basic YWRtaW46YWRtaW4=' },
  { 'x-api-key': 'garbage' }, { cookie: 'session=garbage; __Host-session=garbage' }, { 'x-user-id': '1', 'x-forwarded-user': 'admin', 'x-authenticated-user': 'admin' },
]
/** Of a kind: the routes on which everything is tried. */
const EACH = 2

export const credentials: Family = {
  name: 'credentials',
  async lead (campaign) {
    for (const route of campaign.routes) await tryFixation(campaign, route)
    campaign.notApplicable('credentials.fixation', 'no public route answers with a cookie')
    const guarded = campaign.routes.filter(route => campaign.judge.verdictOn(route, null).passes === false && !route.isGone)
    if (guarded.length === 0) {
      campaign.notApplicable(['credentials.garbage', 'credentials.forged', 'credentials.algorithm', 'credentials.expired', 'credentials.audience', 'credentials.kind', 'credentials.revoked', 'credentials.several', 'credentials.session', 'credentials.csrf'], 'no route asks who calls')
      return
    }
    const closed: Route[] = []
    for (const route of guarded) {
      // A refusal of what is wrong says something where what is right is let in.
      await campaign.actor(route)
      if (!await campaign.isOpen(route)) closed.push(route)
    }
    for (const route of closed) await tryGarbage(campaign, route)
    for (const [fault, given] of Object.entries(campaign.options.refused ?? {})) {
      for (const principal of [given].flat() as RefusedPrincipal[]) {
        const { what = fault } = principal
        for (const route of closed) await tryForgery(campaign, route, null, { id: `credentials.${fault}` as FindingId, what, way: what, headers: headersOf(principal, route.method) })
      }
    }
    await tryUnsigned(campaign, closed)
    const ownKeys = await keysOfAttacker()
    try {
      await tryCallers(campaign, closed, ownKeys)
    } finally {
      await ownKeys.close()
    }
    if (campaign.options.sign === undefined) campaign.notApplicable(['credentials.expired', 'credentials.audience'], 'neither sign nor refused was given')
    if (!campaign.callers.names.length) campaign.notApplicable('credentials.forged', 'no principal was given')
    for (const route of campaign.routes) await tryCsrf(campaign, route)
    campaign.notApplicable('credentials.csrf', 'no principal comes with a cookie, or no route changes anything for whom it is known by')
    campaign.notApplicable('credentials.session', 'no principal comes with a cookie')
  },
}

async function tryCallers (campaign: Campaign, closed: readonly Route[], keys: AttackersKeys): Promise<void> {
  for (const caller of await campaign.callers.all()) {
    for (const route of sampleOf(campaign, closed, caller)) await tryAll(campaign, route, caller, keys)
  }
}

/** A few routes that the caller may call, of each kind of policy: of those that change something where there is nothing else. */
function sampleOf (campaign: Campaign, guarded: readonly Route[], caller: Caller): Route[] {
  const kinds = new Map<string, Route[]>()
  const open = guarded.filter(route => campaign.judge.verdictOn(route, caller).passes === true)
  const reading = open.filter(({ method }) => isSafe(method))
  // Where they were let in before, a refusal of what is wrong says something.
  const known = reading.filter(route => campaign.hasSucceeded(route, caller.name))
  for (const route of [known, reading, open].find(routes => routes.length > 0) ?? []) {
    const key = JSON.stringify(route.access)
    kinds.set(key, [...kinds.get(key) ?? [], route])
  }
  return campaign.random.some([...kinds.values()].flatMap(routes => campaign.random.some(routes, 1)), EACH)
}

async function tryGarbage (campaign: Campaign, route: Route): Promise<void> {
  const own = (await campaign.callers.all()).flatMap(({ principal: { headers = {} } }) => secretsOf(headers).map(({ name }) => name))
  for (const headers of [...GARBAGE, ...[...new Set(own)].map(name => ({ [name]: 'garbage' }))]) await tryForgery(campaign, route, null, { id: 'credentials.garbage', what: 'what is no credential', headers })
}

/** @param path of an object that may be reached, where there is one */
async function tryForgery (campaign: Campaign, route: Route, path: string | null, { id, what, headers, way = '' }: Forgery): Promise<void> {
  if (campaign.isOff(route, id)) return
  const exchange = await campaign.ask({ route, path: path ?? await campaign.anyPath(route, null), headers, ...await campaign.anyBody(route) })
  await campaign.confirm(id, exchange)
  campaign.check(id, exchange, isRefused(campaign, exchange), `401: ${what}`, undefined, way)
}

function isRefused ({ surface }: Campaign, { status, json, shot: { route } }: Exchange): boolean {
  if (status === 401 || status === 403 || status === 410) return true
  // Two credentials are a 400 of their own.
  if (surface.isSuite && isOfSuite(route!)) return status === 400 && (json as { code?: string } | undefined)?.code === 'FST_BASTION_IDENTITY_TWO_CREDENTIALS'
  // What fails has let nobody in, as far as can be seen.
  return status >= 400 || isLead(status)
}

async function tryAll (campaign: Campaign, route: Route, caller: Caller, keys: AttackersKeys): Promise<void> {
  const own = await campaign.valid(route, caller.name, campaign.objects.ownedParam(route, campaign.hints(route).objects) === null ? 'any' : 'own')
  const shot = typeof own === 'string' ? await campaign.valid(route, caller.name) : own
  if (typeof shot === 'string') return
  const control = await campaign.ask({ ...shot, isAllowed: true })
  if (control.status === 401 || control.status === 403) return campaign.unproven(route, 'credentials.forged', `${caller.name} is not let in with the right credential`)
  const { principal } = await campaign.callers.get(caller.name)
  const carried = carriedBy(principal)
  const signed = carried === null ? [] : [...await forgedTokens(campaign, principal, carried.token, keys), ...await signedTokens(campaign, carried, shot)]
  // Where one passes it is a credential.
  for (const { what, text } of signed) campaign.mask.add(`forged ${what}`, text)
  const tokens = carried === null ? [] : [...changedTokens(carried.token), ...signed].map(({ text, ...forged }: ForgedToken): Forgery => ({ ...forged, headers: carried.headers(text) }))
  for (const forgery of [...tokens, ...changedTexts(principal), ...forgedCookies(principal), ...await several(campaign, route, caller, shot)]) {
    await tryForgery(campaign, route, shot.path!, forgery)
  }
}

/** With a second credential, of somebody else. Where a service may read one and leave the other, what counts is whether the other changes the answer. */
async function several (campaign: Campaign, route: Route, caller: Caller, shot: Shot): Promise<Forgery[]> {
  const others = (await campaign.callers.all()).filter(({ name, principal: { via } }) => name !== caller.name && via !== caller.principal.via)
  const forgeries = others.slice(0, 2).map((other): Forgery => ({ id: 'credentials.several', what: 'it holds two credentials', headers: { ...other.headers('GET'), ...caller.headers('GET') } }))
  if (campaign.surface.isSuite) return forgeries
  const [first, second] = [await campaign.ask(shot), await campaign.ask(shot)]
  if (first.text !== second.text || first.status >= 300) return []
  for (const { id, headers } of forgeries) {
    const both = await campaign.ask({ route, path: shot.path!, headers })
    campaign.check(id, both, both.status >= 400 || both.text === first.text, 'the answer of one credential, or none')
  }
  return []
}

/** Each route verifies what it is sent, and not only those that share a guard. */
async function tryUnsigned (campaign: Campaign, closed: readonly Route[]): Promise<void> {
  const callers = (await campaign.callers.all()).map(caller => ({ caller, carried: carriedBy(caller.principal) }))
  for (const route of closed) {
    const found = callers.find(({ caller, carried }) => carried !== null && campaign.judge.verdictOn(route, caller).passes === true)
    if (found === undefined) continue
    const { caller: { name }, carried } = found
    const [head, body, signature = ''] = carried!.token.split('.')
    const path = await campaign.path(route, name, 'own') ?? await campaign.path(route, name, 'any')
    const changed = `${signature.startsWith('A') ? 'B' : 'A'}${signature.slice(1)}`
    if (path !== null) await tryForgery(campaign, route, path, { id: 'credentials.forged', what: 'its signature was changed', headers: carried!.headers(`${head}.${body}.${changed}`) })
  }
}
