/** What every answer has, whatever it answers: its security headers, the form of refusals, nothing of who made it. Looks at every answer of every attack. */
import type { Campaign, Exchange, Family } from '../campaign.js'
import { cookiesOf } from '../cookies.js'
import { UNREADABLE } from '../exchange.js'
import { matches } from '../paths.js'
import { propertiesOf, typesOf } from '../schemas.js'
import type { Route } from '../surface.js'
import { CLOSED } from '../target.js'

/** Over plain HTTP browsers ignore them, and routes set them for their own content. */
const BY_ANSWER: ReadonlySet<string> = new Set(['cache-control', 'strict-transport-security', 'clear-site-data', 'reporting-endpoints'])
const NONCE = '{nonce}'
const PROBLEM = ['type', 'title', 'status', 'detail', 'code', 'requestId', 'errors', 'mfaToken', 'factors', 'violated-policies', 'instance']
const NAMED = /^(?:server|x-powered-by|x-aspnet-version|x-generator|via)$/
const HOST = 'attacker.example'
const ORIGIN = `https://${HOST}`
/** Routes on which origins are tried that begin or end as the service's own. */
const ALIKE = 3
const MARKUP = '<b/id=attack>'

export const answers: Family = {
  name: 'answers',
  async lead (campaign) {
    for (const [method, path, body] of [['GET', '/nowhere-that-anybody-declared'], ['POST', '/nowhere-that-anybody-declared', UNREADABLE], ['GET', '/%zz'], ['GET', `/${'x'.repeat(400)}`], ['DELETE', '/'], ['GET', '/../../etc/passwd']] as const) {
      if (campaign.surface.routes.some(route => route.method === method && matches(route.url, path))) continue
      await campaign.ask({ route: null, method, path, ...body !== undefined && { body, type: 'application/json' } })
    }
    await tryReflection(campaign)
    if (!campaign.surface.cors) campaign.notApplicable('answers.cors', 'any origin may read, by policy')
    const [host] = (campaign.surface.host ?? campaign.target.host).split(/:\d+$/)
    for (const [i, route] of campaign.surface.cors ? campaign.routes.entries() : []) {
      if (route.isGone || campaign.isOff(route, 'answers.cors')) continue
      const path = await campaign.anyPath(route, null)
      for (const origin of [ORIGIN, 'null', ...i < ALIKE ? [`https://${host}.${HOST}`, `https://x${host}`] : []]) {
        const preflight = await campaign.ask({ route, method: 'OPTIONS', path, headers: { origin, 'access-control-request-method': route.method, 'access-control-request-headers': 'authorization' } })
        checkOrigin(campaign, preflight, origin)
        if (route.method === 'GET') checkOrigin(campaign, await campaign.ask({ route, path, headers: { origin } }), origin)
      }
    }
  },
  observe (campaign, exchange) {
    if (exchange.status === CLOSED) return
    checkHeaders(campaign, exchange)
    checkForm(campaign, exchange)
    checkCookies(campaign, exchange)
    checkEcho(campaign, exchange)
    campaign.notApplicable('answers.cookie', 'no answer sets a cookie of a sign-in')
  },
}

function checkOrigin (campaign: Campaign, exchange: Exchange, origin: string): void {
  const told = exchange.headers['access-control-allow-origin']
  // What is public may be read by anybody; without cookies, which go with no star.
  const isStar = told === '*' && exchange.shot.route?.access !== 'public'
  campaign.check('answers.cors', exchange, told !== origin && !isStar, `no leave for ${origin}`, `${exchange.status}, access-control-allow-origin: ${String(told)}`)
}

function checkHeaders (campaign: Campaign, exchange: Exchange): void {
  const { shot: { route }, headers, status, caller, sent } = exchange
  // What no route takes is answered as what all of them have in common.
  // Only the suite has a say in what the router refuses by itself.
  if (!campaign.surface.isSuite && status !== 404 && (route === null || !matches(route.url, sent.path))) return
  const isOther = route === null || (route.headers !== null && (status === 404 || (sent.method !== route.method && sent.method !== 'HEAD')))
  const promised = isOther ? commonOf(campaign) : route.headers
  for (const [name, value] of Object.entries(promised ?? {})) {
    if (BY_ANSWER.has(name)) continue
    const got = name === 'framing' ? framing(headers) : headers[name]
    const isHeld = got !== undefined && got !== '' && (value === true || isSame(String(got), value))
    campaign.check('answers.headers', exchange, isHeld, value === true ? `${name}` : `${name}: ${value}`, `${status}, ${name}: ${String(got)}`)
  }
  const named = Object.keys(headers).find(name => NAMED.test(name))
  campaign.check('answers.names', exchange, named === undefined, 'no header that names the software', `${status}, ${named}: ${String(headers[named ?? ''])}`)
  if (promised === null) return
  const isPrivate = caller !== null && route !== null && route.access !== 'public'
  if (status >= 400 && campaign.surface.isSuite ? true : isPrivate && status < 400) {
    const kept = String(headers['cache-control'] ?? '')
    campaign.check('answers.cache', exchange, /no-store|private/.test(kept), 'Cache-Control: no-store', `${status}, cache-control: ${kept}`)
  }
}

function checkCookies (campaign: Campaign, exchange: Exchange): void {
  for (const { name, value, attributes } of cookiesOf(exchange)) {
    if (!campaign.isOfSession(name) || value === '') continue
    const wantsSecure = isSecure(campaign) || /^__(?:host|secure)-/i.test(name)
    const isKept = attributes.has('httponly') && /^(?:lax|strict)$/i.test(attributes.get('samesite') ?? '') && (!wantsSecure || attributes.has('secure'))
    campaign.check('answers.cookie', exchange, isKept, `${name} with HttpOnly${wantsSecure ? ', Secure' : ''} and SameSite`, `${exchange.status}, ${name} with ${[...attributes.keys()].join(', ') || 'no attributes'}`)
  }
}

/** Over TLS, or as behind a proxy that speaks it. */
function isSecure ({ target, options }: Campaign): boolean {
  return target.origin.startsWith('https:') || Object.entries(options.headers ?? {}).some(([name, value]) => name.toLowerCase() === 'x-forwarded-proto' && value === 'https')
}

/** Markup in a path that no route has, and paths that name another host. */
async function tryReflection (campaign: Campaign): Promise<void> {
  for (const path of [`/${encodeURIComponent(MARKUP)}`, `/nowhere?q=${encodeURIComponent(MARKUP)}`, `/${MARKUP}`, `//${HOST}/`, `/\\${HOST}/`, `/%5c${HOST}/`, `/nowhere/..//${HOST}/`]) {
    await campaign.ask({ route: null, method: 'GET', path })
  }
  for (const route of campaign.routes.filter(({ method, isGone }) => method === 'GET' && !isGone)) await tryQueries(campaign, route)
}

/** The same where a route declares a text in its query. */
async function tryQueries (campaign: Campaign, route: Route): Promise<void> {
  const texts = Object.entries(propertiesOf(route.querySchema)).filter(([, part]) => typesOf(part).includes('string') && part.enum === undefined && part.const === undefined)
  if (texts.length === 0 || (campaign.isOff(route, 'answers.markup') && campaign.isOff(route, 'answers.redirect'))) return
  const as = await campaign.actor(route)
  const shot = as === undefined ? '' : await campaign.ofOwn(route, as)
  if (typeof shot === 'string') return
  const [path = '', search] = shot.path!.split('?')
  for (const [name] of texts) {
    for (const value of [MARKUP, `${ORIGIN}/`, `//${HOST}/`, `/\\${HOST}/`]) {
      const query = new URLSearchParams(search)
      query.set(name, value)
      await campaign.ask({ ...shot, path: `${path}?${query.toString()}` })
    }
  }
}

function checkEcho (campaign: Campaign, exchange: Exchange): void {
  const { headers, text, sent, status } = exchange
  const search = sent.path
  if (search.includes('attack')) campaign.check('answers.markup', exchange, !/html|xml/.test(String(headers['content-type'])) || !text.includes(MARKUP), 'what was asked for, as text or not at all', `${status}, with it as ${String(headers['content-type'])}`)
  if (!search.includes(HOST)) return
  const told = headers.location
  campaign.check('answers.redirect', exchange, typeof told !== 'string' || !leadsTo(told, HOST), 'no Location on another host', `${status}, Location: ${String(told)}`)
}

/** As browsers read it. */
function leadsTo (location: string, host: string): boolean {
  try {
    return new URL(location, 'https://service.example/').hostname === host
  } catch {
    return false
  }
}

const commons = new WeakMap<object, Record<string, string | true>>()

/** What every route has, and so an answer that is of none. */
function commonOf ({ surface }: Campaign): Record<string, string | true> {
  const known = commons.get(surface) ?? sharedBy(surface.routes)
  commons.set(surface, known)
  return known
}

function sharedBy (routes: readonly Route[]): Record<string, string | true> {
  const [first, ...others] = routes.filter(({ headers }) => headers !== null)
  if (first === undefined) return {}
  return Object.fromEntries(Object.entries(first.headers!).filter(([name, value]) => others.every(({ headers }) => headers![name] === value)))
}

/** A nonce is different each time; where browsers report to is said otherwise over plain HTTP. */
function isSame (got: string, promised: string): boolean {
  const plain = (text: string) => text.replace(/;report-(?:to|uri) [^;]*/g, '')
  const [head = '', ...rest] = plain(promised).split(NONCE)
  let at = plain(got).startsWith(head) ? head.length : -1
  for (const part of rest) {
    if (at === -1) return false
    const next = plain(got).indexOf(part, at)
    at = next === -1 ? -1 : next + part.length
  }
  return at === plain(got).length
}

function framing (headers: Exchange['headers']): string | undefined {
  const policy = String(headers['content-security-policy'] ?? '')
  return policy.includes('frame-ancestors') ? policy : headers['x-frame-options'] as string | undefined
}

function checkForm (campaign: Campaign, exchange: Exchange): void {
  const { shot: { route }, status, headers, json, text, sent } = exchange
  if (sent.method === 'HEAD') campaign.check('answers.head', exchange, text === '', 'no body', `${text.length} characters`)
  if (status < 400) return
  if (status === 401 && campaign.surface.problems) campaign.check('answers.challenge', exchange, headers['www-authenticate'] !== undefined, 'WWW-Authenticate', 'none')
  if (!campaign.surface.problems || route?.ownForm === true || sent.method === 'HEAD') {
    if (!campaign.surface.problems) campaign.notApplicable(['answers.form', 'answers.challenge'], 'refusals have no promised form')
    return
  }
  const isProblem = String(headers['content-type']).startsWith('application/problem+json')
  const members = Object.keys((json ?? {}) as object)
  const isWhole = isProblem && (json as { status?: unknown } | undefined)?.status === status && typeof (json as { title?: unknown }).title === 'string' && members.every(name => PROBLEM.includes(name) || !campaign.surface.isSuite)
  campaign.check('answers.form', exchange, isWhole, 'application/problem+json with its members', `${status}, ${String(headers['content-type'])}${isProblem ? ` with ${members.join(', ')}` : ''}`)
}
