/**
 * Credentials that are none, are somebody else's in part, or were good once; and cookies that another site makes a browser send.
 * What is no credential is tried on every guarded route, everything else on a few routes of each kind of policy.
 */
import { createHmac, createPublicKey, generateKeyPairSync, sign as signWith, type JsonWebKey, type KeyObject } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Campaign, Exchange, Family, Shot } from '../campaign.js'
import { claimsOf, headersOf, isOfSuite, isSafe, type Caller } from '../callers.js'
import type { FindingId } from '../catalogue.js'
import type { Principal, RefusedPrincipal } from '../contract.js'
import { isLead } from '../exchange.js'
import { cookiesOf, isOfSession } from '../cookies.js'
import type { Route } from '../surface.js'

/** `way`: findings of the same kind that stand for a flaw each. */
interface Forgery { id: FindingId, what: string, headers: Record<string, string>, way?: string }

const GARBAGE: readonly Record<string, string>[] = [
  { authorization: 'Bearer garbage' }, { authorization: 'Bearer a.b.c' }, { authorization: 'Bearer ' }, { authorization: 'Bearer null' }, { authorization: 'Bearer undefined' }, { authorization: 'Basic YWRtaW46YWRtaW4=' },
  { 'x-api-key': 'garbage' }, { cookie: 'session=garbage; __Host-session=garbage' }, { 'x-user-id': '1', 'x-forwarded-user': 'admin', 'x-authenticated-user': 'admin' },
]
/** Of a kind: the routes on which everything is tried. */
const EACH = 2
const WEAK = ['', 'secret', 'changeme', 'password', 'key', 'jwt', 'your-256-bit-secret', 'supersecret']
const BROKEN = '{"'

export const credentials: Family = {
  name: 'credentials',
  async lead (campaign) {
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
    for (const route of campaign.routes) await tryFixation(campaign, route)
    campaign.notApplicable('credentials.csrf', 'no principal comes with a cookie and a csrf token, or no route checks them')
    campaign.notApplicable('credentials.session', 'no principal comes with a cookie')
    campaign.notApplicable('credentials.fixation', 'no public route answers with a cookie')
  },
}

async function tryCallers (campaign: Campaign, closed: readonly Route[], keys: AttackersKeys): Promise<void> {
  for (const caller of await campaign.callers.all()) {
    for (const route of sampleOf(campaign, closed, caller)) await tryAll(campaign, route, caller, keys)
  }
}
/** A few routes that the caller may call, of each kind of policy. */
function sampleOf (campaign: Campaign, guarded: readonly Route[], caller: Caller): Route[] {
  const kinds = new Map<string, Route[]>()
  for (const route of guarded) {
    if (!isSafe(route.method) || campaign.judge.verdictOn(route, caller).passes !== true) continue
    const key = JSON.stringify(route.access)
    kinds.set(key, [...kinds.get(key) ?? [], route])
  }
  return campaign.random.some([...kinds.values()].flatMap(routes => campaign.random.some(routes, 1)), EACH)
}

async function tryGarbage (campaign: Campaign, route: Route): Promise<void> {
  for (const headers of GARBAGE) await tryForgery(campaign, route, null, { id: 'credentials.garbage', what: 'what is no credential', headers })
}

/** @param path of an object that may be reached, where there is one */
async function tryForgery (campaign: Campaign, route: Route, path: string | null, { id, what, headers, way = '' }: Forgery): Promise<void> {
  if (campaign.isOff(route, id)) return
  const at = path ?? await campaign.path(route, null, 'any') ?? await campaign.path(route, null, 'missing')
  const content: Partial<Shot> = isSafe(route.method) ? {} : isOfSuite(route) ? { body: BROKEN, type: route.body?.type ?? 'application/json' } : await campaign.body(route).catch(() => ({}))
  const exchange = await campaign.ask({ route, path: at!, headers, ...content })
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
  const signed = [...await forgedTokens(campaign, principal, keys), ...await signedTokens(campaign, principal, shot)]
  // Where one passes it is a credential.
  for (const { what, headers } of signed) campaign.mask.add(`forged ${what}`, headers.authorization!.slice('Bearer '.length))
  for (const forgery of [...changedTokens(principal), ...signed, ...forgedKeys(principal), ...forgedCookies(principal), ...await several(campaign, route, caller, shot)]) {
    await tryForgery(campaign, route, shot.path!, forgery)
  }
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
const base64url = (value: unknown) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')

const forgery = (id: FindingId, what: string, text: string, way = what): Forgery => ({ id, what, way, headers: bearer(text) })

/** Parts of the right one, put together otherwise. */
function changedTokens ({ token }: Principal): Forgery[] {
  if (token === undefined || claimsOf(token) === null) return []
  const [head = '', body = '', signature = ''] = token.split('.')
  const other = signature.startsWith('A') ? `B${signature.slice(1)}` : `A${signature.slice(1)}`
  return [
    forgery('credentials.forged', 'its signature was changed', `${head}.${body}.${other}`, ''),
    forgery('credentials.forged', 'it has no signature', `${head}.${body}.`, ''),
    ...['none', 'None', 'nOnE', ''].flatMap(alg => ['', signature].map(end => forgery('credentials.algorithm', `alg is ${JSON.stringify(alg)}`, `${base64url({ ...headerOf(token), alg })}.${body}.${end}`, 'alg'))),
  ]
}

async function forgedTokens (campaign: Campaign, principal: Principal, keys: AttackersKeys): Promise<Forgery[]> {
  const { token } = principal
  const claims = token === undefined ? null : claimsOf(token)
  if (token === undefined || claims === null) return []
  const [head = '', , signature = ''] = token.split('.')
  const header = headerOf(token)
  const changed = base64url({ ...claims, sub: `${String(claims.sub)}x`, roles: ['admin'], scope: undefined })
  return [
    forgery('credentials.forged', 'its claims were changed', `${head}.${changed}.${signature}`, ''),
    ...WEAK.map(secret => forgery('credentials.forged', `signed with the secret ${JSON.stringify(secret)}`, hmac({ ...header, alg: 'HS256' }, claims, secret), 'secret')),
    ...['/dev/null', `${'../'.repeat(12)}dev/null`, "' or '1'='1", ''].map(kid => forgery('credentials.algorithm', `kid is ${JSON.stringify(kid)}`, hmac({ ...header, alg: 'HS256', kid }, claims, ''), 'kid')),
    ...keys.tokens(header, claims).map(([what, text]) => forgery('credentials.algorithm', what, text)),
    ...await publicKeys(campaign).then(keys => keys.map(key => forgery('credentials.algorithm', 'the public key is the secret', hmac({ ...header, alg: 'HS256' }, claims, key)))),
    ...await ofTheSuite(campaign.app, principal),
  ]
}

function hmac (header: object, claims: object, secret: string | Buffer): string {
  const text = `${base64url(header)}.${base64url(claims)}`
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`
}

/** Keys of the attacker's own: in the token, and where it says that they are. */
interface AttackersKeys { tokens: (header: object, claims: object) => [what: string, token: string][], close: () => Promise<void> }

/** Its server is on this machine alone, and open while credentials are attacked. */
async function keysOfAttacker (): Promise<AttackersKeys> {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const jwk = { ...publicKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig' }
  const server = createServer((_request, response) => { response.setHeader('content-type', 'application/json').end(JSON.stringify({ keys: [jwk] })) })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const jku = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks.json`
  return {
    tokens: (header, claims) => ([['it brings its own key', { jwk }], ['it names where its key is', { jku }], ['it names where its key is', { x5u: jku }], ['it brings its own key', { crit: ['exp'], jwk }]] as const).map(([what, more]) => {
      const text = `${base64url({ ...header, alg: 'ES256', ...more })}.${base64url(claims)}`
      return [what, `${text}.${signWith('sha256', Buffer.from(text), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`]
    }),
    close: () => new Promise(resolve => {
      server.close(() => { resolve() })
      server.closeAllConnections()
    }),
  }
}

/** What everybody can read of the keys, in the forms in which a careless verifier would take it as a secret. */
async function publicKeys (campaign: Campaign): Promise<(string | Buffer)[]> {
  const { tokens } = (campaign.app ?? {}) as Partial<FastifyInstance>
  const told = tokens === undefined ? (await campaign.ask({ route: null, method: 'GET', path: '/.well-known/jwks.json' })).json as { keys?: unknown } | undefined : tokens.jwks()
  const keys = Array.isArray(told?.keys) ? told.keys as JsonWebKey[] : []
  return keys.flatMap(jwk => {
    const key = readKey(jwk)
    if (key === null) return []
    const pem = key.export({ format: 'pem', type: 'spki' }).toString()
    return [pem, pem.trim(), key.export({ format: 'der', type: 'spki' }), JSON.stringify(jwk)]
  })
}

/** Null where Node cannot read it: secrets among public keys, and kinds that it does not know. */
function readKey (jwk: JsonWebKey): KeyObject | null {
  try {
    return createPublicKey({ key: jwk, format: 'jwk' })
  } catch {
    return null
  }
}

/** Of other tokens than JWTs nothing. */
function headerOf (token: string): Record<string, unknown> {
  try {
    return JSON.parse(Buffer.from(token.slice(0, token.indexOf('.')), 'base64url').toString()) as Record<string, unknown>
  } catch {
    return {}
  }
}

/** Wrong in one thing alone: signed by the service's own key. What is right in all of them must pass, or a refusal proves nothing. */
async function signedTokens (campaign: Campaign, { token }: Principal, shot: Shot): Promise<Forgery[]> {
  const { sign } = campaign.options
  const claims = token === undefined ? null : claimsOf(token)
  if (sign === undefined || token === undefined || claims === null) return []
  const header = headerOf(token)
  const right = await sign(claims, header)
  campaign.mask.add('signed', right)
  const control = await campaign.ask({ ...shot, headers: bearer(right) })
  if (control.status === 401 || control.status === 403) {
    for (const id of ['credentials.expired', 'credentials.audience'] as const) campaign.unproven(shot.route!, id, 'a token with the right claims, as sign makes it, is not let in')
    return []
  }
  const time = Math.floor(Date.now() / 1000)
  const { exp, sub, ...lasting } = claims
  const changes: [id: FindingId, what: string, claims: Record<string, unknown>][] = [
    ['credentials.expired', 'it expired an hour ago', { ...claims, iat: time - 7200, exp: time - 3600 }],
    ['credentials.expired', 'it is good from tomorrow on', { ...claims, nbf: time + 86_400 }],
    ['credentials.expired', 'it never expires', { ...lasting, sub }],
    ['credentials.audience', 'it is for another audience', { ...claims, aud: 'https://another.example' }],
    ['credentials.audience', 'another issuer made it', { ...claims, iss: 'https://another.example' }],
    ['credentials.forged', 'it is nobody’s', { ...lasting, exp }],
  ]
  const found: Forgery[] = []
  for (const [id, what, changed] of changes) if (claims.aud !== undefined || id !== 'credentials.audience') found.push({ id, what, headers: bearer(await sign(changed, header)) })
  return found
}

/** Tokens of the suite's own that are good for something else, or for nothing any more. */
async function ofTheSuite (app: FastifyInstance | null, { id, roles }: Principal): Promise<Forgery[]> {
  const { tokens } = (app ?? {}) as Partial<FastifyInstance>
  if (tokens === undefined || id === undefined || roles === undefined) return []
  const [kept, ended] = [await tokens.issue({ id, roles }), await tokens.issue({ id, roles })]
  const { fam } = claimsOf(ended.access_token) as { fam: string }
  await tokens.revokeFamily(fam)
  const link = tokens.links.issue({ purpose: 'reset', subject: id, lifetime: 60, bound: id })
  return [
    { id: 'credentials.kind', what: 'it is a refresh token', headers: bearer(kept.refresh_token) },
    { id: 'credentials.kind', what: 'it is a link of a mail', headers: bearer(link) },
    { id: 'credentials.revoked', what: 'it was ended', headers: bearer(ended.access_token) },
  ]
}

function forgedKeys ({ key }: Principal): Forgery[] {
  if (key === undefined) return []
  const last = key.endsWith('A') ? 'B' : 'A'
  return [`${key.slice(0, -1)}${last}`, key.slice(0, -8), key.toUpperCase(), `${key}x`, key.slice(0, 8)]
    .filter(text => text !== key)
    .map(text => ({ id: 'credentials.forged', what: 'the key was changed', headers: { 'x-api-key': text } }))
}

function forgedCookies ({ cookie }: Principal): Forgery[] {
  if (cookie === undefined) return []
  const pairs = cookie.split('; ')
  const changes = [(text: string) => `${text.slice(0, 5)}${text[5] === 'A' ? 'B' : 'A'}${text.slice(6)}`, (text: string) => text.split('.')[0]!, (text: string) => `${text.slice(0, -1)}${text.endsWith('A') ? 'B' : 'A'}`, (text: string) => `${text}x`]
  // Each cookie is changed; of a request whose other cookies are whole.
  const changed = changes.map(change => pairs.map(pair => { const [name = '', ...value] = pair.split('='); return `${name}=${change(value.join('='))}` }).join('; ')).filter(text => text !== cookie)
  return changed.map(text => ({ id: 'credentials.session', what: 'its cookie was changed', headers: { cookie: text } }))
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
  const callers = (await campaign.callers.all()).filter(({ principal: { token } }) => token !== undefined && claimsOf(token) !== null)
  for (const route of closed) {
    const caller = callers.find(one => campaign.judge.verdictOn(route, one).passes === true)
    if (caller === undefined) continue
    const [head, body, signature = ''] = caller.principal.token!.split('.')
    const path = await campaign.path(route, caller.name, 'own') ?? await campaign.path(route, caller.name, 'any')
    const changed = `${signature.startsWith('A') ? 'B' : 'A'}${signature.slice(1)}`
    if (path !== null) await tryForgery(campaign, route, path, { id: 'credentials.forged', what: 'its signature was changed', headers: bearer(`${head}.${body}.${changed}`) })
  }
}

/** A sign-in in a browser that brings a cookie, as somebody else may have planted it there: one that was issued, and one that was not. */
async function tryFixation (campaign: Campaign, route: Route): Promise<void> {
  const id = 'credentials.fixation'
  if (isSafe(route.method) || route.access !== 'public' || route.isGone || campaign.isOff(route, id)) return
  const signIn = async (cookie?: string) => {
    const shot = await campaign.valid(route, null)
    return typeof shot === 'string' ? null : campaign.ask({ ...shot, ...cookie !== undefined && { headers: { cookie, 'sec-fetch-site': 'same-origin' } } })
  }
  const first = await signIn()
  if (first === null || first.status >= 400) return
  const cookies = cookiesOf(first).filter(({ name, value }) => isOfSession(name) && value !== '')
  for (const { name, value } of cookies) {
    campaign.mask.add(`planted ${name}`, value)
    for (const planted of [value, 'planted-by-an-attacker']) {
      const exchange = await signIn(`${name}=${planted}`)
      if (exchange !== null) campaign.check(id, exchange, exchange.status >= 400 || !cookiesOf(exchange).some(one => one.name === name && one.value === planted), `a fresh ${name}`, `${exchange.status}, with the ${name} that was sent`)
    }
  }
}

/** What rides on a cookie, as a page of another site would send it: with a body that nobody can read, so that nothing is done. */
async function tryCsrf (campaign: Campaign, route: Route): Promise<void> {
  if (isSafe(route.method) || route.isGone || campaign.isOff(route, 'credentials.csrf')) return
  const isSuite = isOfSuite(route)
  for (const caller of await campaign.callers.all()) {
    const { cookie, csrf, headers } = caller.principal
    if (cookie === undefined || csrf === undefined || campaign.judge.verdictOn(route, caller).passes !== true) continue
    // What is public does nothing in the name of who is signed in, or says so.
    if (isSuite ? route.csrf === null || (route.csrf === 'off' && route.access === 'public') : route.access === 'public') continue
    const path = await campaign.path(route, caller.name, 'own') ?? await campaign.path(route, caller.name, 'any')
    if (path === null) continue
    // Of a type in which no token could stand: without a header there is none.
    const filled: Partial<Shot> = isSuite ? { body: BROKEN, type: 'text/plain' } : await campaign.body(route).catch(() => ({}))
    const control = await campaign.ask({ route, as: caller.name, path, ...filled, isAllowed: true })
    if (control.status === 403 || control.status === 401) return campaign.unproven(route, 'credentials.csrf', `${caller.name} is not let in with the right token either (${control.status})`)
    const made = { ...headers, cookie }
    const forged: [what: string, headers: Record<string, string>][] = [
      ...route.csrf === 'origin' ? [] : [['no token', { ...made, 'sec-fetch-site': 'same-origin' }], ['a token of nobody', { ...made, 'x-csrf-token': 'garbage', 'sec-fetch-site': 'same-origin' }]] as [string, Record<string, string>][],
      ['it comes from another site', { ...made, 'x-csrf-token': csrf, 'sec-fetch-site': 'cross-site', origin: 'https://attacker.example' }],
      ['it comes from another origin', { ...made, 'x-csrf-token': csrf, origin: 'https://attacker.example' }],
    ]
    for (const [what, sent] of forged) {
      const exchange = await campaign.ask({ route, path, headers: sent, ...filled })
      campaign.check('credentials.csrf', exchange, exchange.status === 403 || exchange.status === 401, `403: ${what}`)
    }
    return
  }
}
