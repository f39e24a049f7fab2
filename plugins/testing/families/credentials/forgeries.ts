/** What is sent in the place of a credential: parts of the right one put together otherwise, and what somebody else signed. */
import { createHmac, createPublicKey, generateKeyPairSync, sign as signWith, type JsonWebKey, type KeyObject } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Campaign, Shot } from '../../campaign.js'
import { claimsOf } from '../../callers.js'
import type { FindingId } from '../../catalogue.js'
import type { Principal } from '../../contract.js'

/** `way`: findings of the same kind that stand for a flaw each. */
export interface Forgery { id: FindingId, what: string, headers: Record<string, string>, way?: string }
export interface ForgedToken { id: FindingId, what: string, text: string, way: string }
/** A token, and what is sent with another in its place. */
export interface Carried { token: string, headers: (text: string) => Record<string, string> }

const WEAK = ['', 'secret', 'changeme', 'password', 'key', 'jwt', 'your-256-bit-secret', 'supersecret']
/** Headers of services' own that hold credentials. */
const OWN = /auth|token|key|secret|session/i

const base64url = (value: unknown) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')

const forgery = (id: FindingId, what: string, text: string, way = what): ForgedToken => ({ id, what, way, text })

/** Parts of the right one, put together otherwise. */
export function changedTokens (token: string): ForgedToken[] {
  const [head = '', body = '', signature = ''] = token.split('.')
  const other = signature.startsWith('A') ? `B${signature.slice(1)}` : `A${signature.slice(1)}`
  return [
    forgery('credentials.forged', 'its signature was changed', `${head}.${body}.${other}`, ''),
    forgery('credentials.forged', 'it has no signature', `${head}.${body}.`, ''),
    ...['none', 'None', 'nOnE', ''].flatMap(alg => ['', signature].map(end => forgery('credentials.algorithm', `alg is ${JSON.stringify(alg)}`, `${base64url({ ...headerOf(token), alg })}.${body}.${end}`, 'alg'))),
  ]
}

export async function forgedTokens (campaign: Campaign, principal: Principal, token: string, keys: AttackersKeys): Promise<ForgedToken[]> {
  const claims = claimsOf(token)!
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
export interface AttackersKeys { tokens: (header: object, claims: object) => [what: string, token: string][], close: () => Promise<void> }

/** Its server is on this machine alone, and open while credentials are attacked. */
export async function keysOfAttacker (): Promise<AttackersKeys> {
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
export async function signedTokens (campaign: Campaign, { token, headers }: Carried, shot: Shot): Promise<ForgedToken[]> {
  const { sign } = campaign.options
  if (sign === undefined) return []
  const claims = claimsOf(token)!
  const header = headerOf(token)
  const right = await sign(claims, header)
  campaign.mask.add('signed', right)
  const control = await campaign.ask({ ...shot, headers: headers(right) })
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
  const found: ForgedToken[] = []
  for (const [id, what, changed] of changes) if (claims.aud !== undefined || id !== 'credentials.audience') found.push(forgery(id, what, await sign(changed, header), ''))
  return found
}

/** Tokens of the suite's own that are good for something else, or for nothing any more. */
async function ofTheSuite (app: FastifyInstance | null, { id, roles }: Principal): Promise<ForgedToken[]> {
  const { tokens } = (app ?? {}) as Partial<FastifyInstance>
  if (tokens === undefined || id === undefined || roles === undefined) return []
  const [kept, ended] = [await tokens.issue({ id, roles }), await tokens.issue({ id, roles })]
  const { fam } = claimsOf(ended.access_token) as { fam: string }
  await tokens.revokeFamily(fam)
  const link = tokens.links.issue({ purpose: 'reset', subject: id, lifetime: 60, bound: id })
  return [
    forgery('credentials.kind', 'it is a refresh token', kept.refresh_token, ''),
    forgery('credentials.kind', 'it is a link of a mail', link, ''),
    forgery('credentials.revoked', 'it was ended', ended.access_token, ''),
  ]
}

/** Credentials that say nothing, each but for a part of it. */
export function changedTexts ({ key, token, headers = {} }: Principal): Forgery[] {
  const changed = (name: string, scheme: string, text: string, changes: readonly string[]) => changes.filter(one => one !== text)
    .map((one): Forgery => ({ id: 'credentials.forged', what: `the ${name === 'x-api-key' ? 'key' : name} was changed`, headers: { ...headers, [name]: `${scheme}${one}` } }))
  const parts = (text: string) => [`${text.slice(0, -1)}${text.endsWith('A') ? 'B' : 'A'}`, text.slice(0, -8), `${text}x`, text.slice(0, 8)]
  return [
    ...key === undefined ? [] : changed('x-api-key', '', key, [...parts(key), key.toUpperCase()]),
    ...token === undefined || claimsOf(token) !== null ? [] : changed('authorization', 'Bearer ', token, parts(token)),
    ...secretsOf(headers).filter(({ text }) => claimsOf(text) === null).flatMap(({ name, scheme, text }) => changed(name, scheme, text, /^basic /i.test(scheme) ? [base64(`${plain(text)}x`), base64(plain(text).slice(0, -1))] : parts(text))),
  ]
}

const base64 = (text: string) => Buffer.from(text).toString('base64')
const plain = (text: string) => Buffer.from(text, 'base64').toString()

/** Headers of a principal by which it is known, as far as their names say so. */
export function secretsOf (headers: Readonly<Record<string, string>>): { name: string, scheme: string, text: string }[] {
  return Object.entries(headers).filter(([name]) => OWN.test(name) && !/csrf|xsrf/i.test(name)).map(([name, value]) => {
    const [, scheme = '', text = ''] = /^(\w+ )?(.*)$/s.exec(value)!
    return { name, scheme, text }
  })
}

/** The token by which a principal is known, wherever it stands; null where there is none that can be read. */
export function carriedBy ({ token, cookie = '', headers = {} }: Principal): Carried | null {
  if (token !== undefined) return claimsOf(token) === null ? null : { token, headers: text => ({ ...headers, authorization: `Bearer ${text}` }) }
  const own = secretsOf(headers).find(({ text }) => claimsOf(text) !== null)
  if (own !== undefined) return { token: own.text, headers: text => ({ ...headers, [own.name]: `${own.scheme}${text}` }) }
  const inCookie = cookie.split('; ').map(pair => pair.slice(pair.indexOf('=') + 1)).find(value => claimsOf(value) !== null)
  return inCookie === undefined ? null : { token: inCookie, headers: text => ({ ...headers, cookie: cookie.replace(inCookie, text) }) }
}

export function forgedCookies ({ cookie }: Principal): Forgery[] {
  if (cookie === undefined) return []
  const pairs = cookie.split('; ')
  const changes = [(text: string) => `${text.slice(0, 5)}${text[5] === 'A' ? 'B' : 'A'}${text.slice(6)}`, (text: string) => text.split('.')[0]!, (text: string) => `${text.slice(0, -1)}${text.endsWith('A') ? 'B' : 'A'}`, (text: string) => `${text}x`]
  // Each cookie is changed; of a request whose other cookies are whole.
  const changed = changes.map(change => pairs.map(pair => { const [name = '', ...value] = pair.split('='); return `${name}=${change(value.join('='))}` }).join('; ')).filter(text => text !== cookie)
  return changed.map(text => ({ id: 'credentials.session', what: 'its cookie was changed', headers: { cookie: text } }))
}
