/** What browsers do with cookies: they bring those that somebody planted, and send them along for pages of other sites. */
import type { Campaign, Shot } from '../../campaign.js'
import { isOfSuite, isSafe, type Caller } from '../../callers.js'
import { cookiesOf } from '../../cookies.js'
import type { Route } from '../../surface.js'

const ATTACKER = 'https://attacker.example'
const MADE_UP = 'planted-by-an-attacker'
/** Pages that are looked at for a cookie of nobody. */
const PAGES = 5

/** A sign-in in a browser that brings a cookie, as somebody else may have planted it there: one that was issued to nobody, one of a session, and one that was made up. */
export async function tryFixation (campaign: Campaign, route: Route): Promise<void> {
  const id = 'credentials.fixation'
  if (isSafe(route.method) || route.access !== 'public' || route.isGone || campaign.isOff(route, id)) return
  const signIn = async (cookie?: string) => {
    const shot = await campaign.valid(route, null)
    return typeof shot === 'string' ? null : campaign.ask({ ...shot, ...cookie !== undefined && { headers: { cookie, 'sec-fetch-site': 'same-origin' } } })
  }
  const first = await signIn()
  if (first === null || first.status >= 400) return
  await campaign.callers.all()
  const cookies = cookiesOf(first).filter(({ name, value }) => campaign.isOfSession(name) && value !== '')
  for (const { name, value } of cookies) {
    campaign.mask.add(`planted ${name}`, value)
    const ofNobody = await cookieOfNobody(campaign, name)
    for (const planted of [value, MADE_UP, ...ofNobody === null ? [] : [ofNobody]]) {
      const exchange = await signIn(`${name}=${planted}`)
      if (exchange === null) continue
      const set = cookiesOf(exchange).filter(one => one.name === name && one.value !== '')
      // Who is signed in already may go on with what they have. Anybody else has a session now: with no cookie but the one that was brought.
      const isKept = set.some(one => one.value === planted) || (set.length === 0 && planted !== value)
      campaign.check(id, exchange, exchange.status >= 400 || !isKept, `a fresh ${name}`, `${exchange.status}, with the ${name} that was sent`)
    }
  }
}

/** What a service sets before anybody has signed in; null where it does not. */
async function cookieOfNobody (campaign: Campaign, name: string): Promise<string | null> {
  for (const route of campaign.routes.filter(({ method, access, isGone }) => method === 'GET' && access === 'public' && !isGone).slice(0, PAGES)) {
    const shot = await campaign.valid(route, null)
    const set = typeof shot === 'string' ? undefined : cookiesOf(await campaign.ask({ ...shot, isAllowed: true })).find(one => one.name === name && one.value !== '')
    if (set !== undefined) return set.value
  }
  return null
}

/** What rides on a cookie, as a page of another site would send it: in the suite with a body that nobody can read, so that nothing is done. */
export async function tryCsrf (campaign: Campaign, route: Route): Promise<void> {
  if (isSafe(route.method) || route.isGone || campaign.isOff(route, 'credentials.csrf')) return
  const isSuite = isOfSuite(route)
  for (const caller of await campaign.callers.all()) {
    const { cookie, csrf } = caller.principal
    if (cookie === undefined || campaign.judge.verdictOn(route, caller).passes !== true) continue
    // What is public does nothing in the name of who is signed in, or says so.
    if (isSuite ? route.csrf === null || (route.csrf === 'off' && route.access === 'public') : route.access === 'public') continue
    if (isSuite && csrf === undefined && route.csrf !== 'origin') continue
    const path = await campaign.path(route, caller.name, 'own') ?? await campaign.path(route, caller.name, 'any')
    if (path === null) continue
    // Of a type in which no token could stand: without a header there is none.
    const filled: Partial<Shot> = { ...await campaign.anyBody(route), ...isSuite && { type: 'text/plain' } }
    const control = await campaign.ask({ route, as: caller.name, path, ...filled, isAllowed: true })
    if (control.status === 403 || control.status === 401) return campaign.unproven(route, 'credentials.csrf', `${caller.name} is not let in with the right token either (${control.status})`)
    return csrf === undefined && !isSuite ? tryUntold(campaign, route, caller, { path, ...filled }) : tryToken(campaign, route, caller, { path, ...filled })
  }
}

async function tryToken (campaign: Campaign, route: Route, { principal: { cookie = '', csrf, headers } }: Caller, shot: Partial<Shot>): Promise<void> {
  const made = { ...headers, cookie }
  const token: Record<string, string> = csrf === undefined ? {} : { 'x-csrf-token': csrf }
  const forged: [what: string, headers: Record<string, string>][] = [
    ...route.csrf === 'origin' ? [] : [['no token', { ...made, 'sec-fetch-site': 'same-origin' }], ['a token of nobody', { ...made, 'x-csrf-token': 'garbage', 'sec-fetch-site': 'same-origin' }]] as [string, Record<string, string>][],
    ['it comes from another site', { ...made, ...token, 'sec-fetch-site': 'cross-site', origin: ATTACKER }],
    ['it comes from another origin', { ...made, ...token, origin: ATTACKER }],
  ]
  for (const [what, sent] of forged) {
    const exchange = await campaign.ask({ route, headers: sent, ...shot })
    campaign.check('credentials.csrf', exchange, exchange.status === 403 || exchange.status === 401, `403: ${what}`)
  }
}

/** Nobody says how the service tells other sites apart. Of their pages a browser sends forms and texts, and asks before it sends anything else. */
async function tryUntold (campaign: Campaign, route: Route, { name, principal: { cookie = '', headers } }: Caller, shot: Partial<Shot>): Promise<void> {
  const sent = { ...headers, cookie, 'sec-fetch-site': 'cross-site', origin: ATTACKER }
  if (route.method !== 'POST') {
    const asked = await campaign.ask({ route, method: 'OPTIONS', path: shot.path!, headers: { origin: ATTACKER, 'access-control-request-method': route.method, 'access-control-request-headers': 'content-type' } })
    const { 'access-control-allow-origin': origin, 'access-control-allow-credentials': withCookies } = asked.headers
    if (asked.status >= 400 || origin !== ATTACKER || withCookies !== 'true') {
      campaign.check('credentials.csrf', asked, true, '')
      return
    }
  }
  const isForm = shot.type === undefined || /^(?:application\/x-www-form-urlencoded|multipart\/form-data|text\/plain)/.test(shot.type)
  const exchange = await campaign.ask({ route, headers: sent, ...shot, ...route.method === 'POST' && !isForm && { type: 'text/plain' } })
  if (exchange.status >= 400 && exchange.status !== 401 && exchange.status !== 403 && !campaign.hasSucceeded(route)) return campaign.unproven(route, 'credentials.csrf', `no valid request of ${name} has succeeded: give its body, values or objects`)
  campaign.check('credentials.csrf', exchange, exchange.status >= 400, '403: it comes from another site')
}
