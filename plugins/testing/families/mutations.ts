/** Other spellings of paths and media types, bodies that are malformed, hosts that are not ours: what parsers read differently. */
import type { Campaign, Family, Shot } from '../campaign.js'
import { isSafe } from '../callers.js'
import { isLead } from '../exchange.js'
import { matches, spellings } from '../paths.js'
import { branchesOf, objectOf, propertiesOf, takesAny, typesOf, wrongValues } from '../schemas.js'
import type { Route } from '../surface.js'

const MEDIA_TYPES = [
  'text/plain', 'text/json', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'application/json\t', ' application/json', 'APPLICATION/JSON ', 'application/json,text/plain', 'application/json;', 'application/jsonx',
  'application/vnd.api+json', 'application/json ; charset=utf-7', 'x', '',
]
/** In which no JSON is declared, however they are spelled. */
const OTHER_TYPES = ['text/plain', 'text/json', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'x']
const DEEP = 5000
/** Values of which one is refused. */
const CHECKS = 6

export const mutations: Family = {
  name: 'mutations',
  async lead (campaign) {
    for (const route of campaign.routes) {
      await tryPaths(campaign, route)
      if (route.body !== null) await tryBodies(campaign, route, route.body.type)
    }
    await tryHosts(campaign)
    campaign.notApplicable('mutations.path', 'no route asks who calls')
    campaign.notApplicable(['mutations.media-type', 'mutations.malformed'], 'no route says what bodies it takes')
  },
}

/** As nobody, and as somebody who may not: what answers is behind no guard, or behind less of it. */
async function tryPaths (campaign: Campaign, route: Route): Promise<void> {
  if (campaign.judge.verdictOn(route, null).passes !== false || route.isGone || campaign.isOff(route, 'mutations.path') || await campaign.isOpen(route)) return
  const refused = (await campaign.callers.all()).find(caller => campaign.judge.verdictOn(route, caller).passes === false)
  for (const caller of refused === undefined ? [null] : [null, refused]) {
    const as = caller?.name ?? null
    const path = await campaign.anyPath(route, as)
    const content = isSafe(route.method) ? {} : { body: '{}', type: 'application/json', ...await campaign.validBody(route) }
    // Somebody who may not, and is let in nevertheless, is a finding of its own.
    if (caller !== null && (await campaign.ask({ route, as, path, ...content })).status < 400) continue
    for (const spelling of spellings(path)) {
      // Some are paths of other routes, and rightly answered there.
      if (campaign.surface.routes.some(other => other.method === route.method && campaign.judge.verdictOn(other, caller).passes !== false && matches(other.url, spelling))) continue
      const exchange = await campaign.ask({ route, as, path: spelling, ...content })
      const isToSignIn = !campaign.surface.isSuite && isLead(exchange.status)
      campaign.check('mutations.path', exchange, exchange.status >= 400 || isToSignIn || await campaign.isOfNowhere(exchange), `${as === null ? '401' : '403'} or 404, as of the path in its own spelling`)
    }
  }
}

/** A body that no schema takes, so that whoever answers it has not looked. */
async function tryBodies (campaign: Campaign, route: Route, type: string): Promise<void> {
  // Where anything is taken nothing is wrong.
  if (type !== 'application/json' || takesAny(route.body!.schema)) return
  const as = await campaign.actor(route, ['mutations.media-type', 'mutations.malformed'])
  if (as === undefined) return
  const base = await campaign.ofOwn(route, as, body => spoilt(route, body))
  if (typeof base === 'string') return campaign.unproven(route, 'mutations.media-type', base)
  const send = (more: Partial<Shot>) => campaign.ask({ ...base, ...more, isAllowed: true })
  if (!campaign.isOff(route, 'mutations.media-type')) {
    for (const mediaType of MEDIA_TYPES) {
      const exchange = await send({ type: mediaType })
      campaign.check('mutations.media-type', exchange, exchange.status >= 400, `400 or 415: the body is not of the declared form, whatever ${JSON.stringify(mediaType)} is taken for`)
    }
  }
  await tryTypes(campaign, route, as)
  await tryChecks(campaign, route, as)
  if (campaign.isOff(route, 'mutations.malformed')) return
  const text = String(base.body)
  const twice = text.replace(/^\{("[^"]+":)/, '{$1null,$1')
  for (const [what, body] of [
    ['half of it', text.slice(0, -1)], ['a comma too many', `${text.slice(0, -1)},}`], ['a list', `[${text}]`], ['something after it', `${text}x`], ['a field twice', twice], ['nothing', ''], ['very deep', `${'{"a":'.repeat(DEEP)}1${'}'.repeat(DEEP)}`],
    ['U+0000', '{"\\u0000":"\\u0000"}'], ['half of a character', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])],
  ] as const) {
    if (what === 'nothing' && takesNothing(route)) continue
    const exchange = await send({ body })
    campaign.check('mutations.malformed', exchange, exchange.status >= 400 && exchange.status < 500, `400: ${what}`)
  }
  if (campaign.surface.isSuite && campaign.surface.strict) await tryForms(campaign, route, as)
}

/** Bodies that are right in all but their form, so that nothing else refuses them. */
async function tryForms (campaign: Campaign, route: Route, as: string | null): Promise<void> {
  for (const [what, spoil] of [
    ['a field twice', text => text.replace(/^\{("[^"]+":)/, '{$1null,$1')], ['a comma too many', text => `${text.slice(0, -1)},}`], ['something after it', text => `${text}x`],
  ] as [what: string, spoil: (text: string) => string][]) {
    const shot = await campaign.ofOwn(route, as)
    const text = typeof shot === 'string' ? '' : String(shot.body ?? '')
    if (typeof shot === 'string' || !/^\{".*\}$/s.test(text)) return
    const exchange = await campaign.ask({ ...shot, body: spoil(text), isAllowed: true })
    campaign.check('mutations.malformed', exchange, exchange.status >= 400 && exchange.status < 500, `400: ${what}`)
  }
}

/** A valid body of a type that was not declared: browsers send some of them for any page, without asking. */
async function tryTypes (campaign: Campaign, route: Route, as: string | null): Promise<void> {
  const { mediaTypes = [] } = (route.planned?.controls.validation ?? {}) as { mediaTypes?: readonly string[] }
  if (campaign.isOff(route, 'mutations.media-type') || !campaign.hasSucceeded(route)) return
  for (const type of OTHER_TYPES.filter(one => !mediaTypes.some(declared => one.startsWith(declared)))) {
    const shot = await campaign.ofOwn(route, as)
    if (typeof shot === 'string' || shot.body === undefined) return
    const exchange = await campaign.ask({ ...shot, type, isAllowed: true })
    if (!campaign.check('mutations.media-type', exchange, exchange.status >= 400, `415: ${type} was not declared`)) return
  }
}

/** One value that is beyond its bounds, and refused for it: in every other spelling of the media type too. */
async function tryChecks (campaign: Campaign, route: Route, as: string | null): Promise<void> {
  const { schema } = route.body!
  if (campaign.isOff(route, 'mutations.media-type') || objectOf(schema) !== schema) return
  const wrong = Object.entries(propertiesOf(schema)).flatMap(([name, part]) => wrongValues(part).filter(({ kind }) => kind === 'bounds').map(({ what, value }) => ({ name, what, value })))
  for (const { name, what, value } of wrong.slice(0, CHECKS)) {
    const shot = await campaign.ofOwn(route, as, body => ({ ...body as object, [name]: value }))
    if (typeof shot === 'string') return
    if ((await campaign.ask({ ...shot, isAllowed: true })).status < 400) continue
    for (const mediaType of ['application/json; charset=utf-8', 'Application/JSON', 'application/json;', 'application/merge-patch+json']) {
      const exchange = await campaign.ask({ ...shot, type: mediaType, isAllowed: true })
      campaign.check('mutations.media-type', exchange, exchange.status >= 400, `400 or 415: ${name} is ${what}, whatever the media type is spelled like`)
    }
    return
  }
}

function takesNothing ({ body }: Route): boolean {
  return branchesOf(body?.schema).some(branch => typesOf(branch).includes('null'))
}

/** With a field that is not declared, and one of another type. */
export function spoilt (route: Route, body: unknown): unknown {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return { undeclared_by_anyone: [{ a: 1 }] }
  const properties = propertiesOf(route.body?.schema)
  const first = Object.keys(body).find(name => properties[name] !== undefined && !typesOf(properties[name]!).includes('object'))
  return { ...body, ...first !== undefined && { [first]: { a: { b: 1 } } }, undeclared_by_anyone: [{ a: 1 }] }
}

async function tryHosts (campaign: Campaign): Promise<void> {
  if (campaign.surface.host === null) return campaign.notApplicable('mutations.host', 'no trusted hosts are declared')
  const route = campaign.routes.find(({ method, access, isGone }) => method === 'GET' && access === 'public' && !isGone) ?? campaign.routes.find(({ method }) => method === 'GET')
  if (route === undefined) return
  const path = await campaign.anyPath(route, null)
  const attempts: Record<string, string>[] = [{ host: 'attacker.example' }, { host: `${campaign.surface.host}.attacker.example` }, { host: 'attacker.example', 'x-forwarded-host': campaign.surface.host }]
  for (const headers of attempts) {
    const exchange = await campaign.ask({ route, path, headers })
    campaign.check('mutations.host', exchange, exchange.status >= 400, '421: the host is not one of this service')
  }
}
