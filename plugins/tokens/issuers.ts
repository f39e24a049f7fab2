/**
 * Tokens of other issuers: access tokens that somebody else signs, and this service takes (RFC 9068, 4).
 *
 * Threat: tokens that are for somebody else, of another kind, or of nobody (CWE-345, CWE-347); keys and rules that a token
 * brings along; ids of strangers that are those of users here.
 * Defence: an issuer is taken for what the service says of it: its name, its keys, its algorithms (never a symmetric one),
 * the audience and the type. All that costs nothing is looked at before any key is, and no header but `alg`, `kid` and `typ`.
 * Not covered: whether the issuer has ended the token meanwhile. Who it is here, and with which roles, is for the service's `principal` to say.
 */
import type { FastifyBaseLogger } from 'fastify'
import { Type, type Static } from '@sinclair/typebox'
import type { Principal } from '../identity.js'
import { checkOptions } from '../options.js'
import { isProduction } from '../production.js'
import { Remembered } from '../remembered.js'
import { isSignedBy, SIGNATURE_ALGORITHMS, type SignatureAlgorithm } from './algorithms.js'
import { isWellFormed } from './bearer.js'
import { isTexts } from './claims.js'
import { TokensMisconfigured } from './errors.js'
import type { Jwk } from './jwk.js'
import { fetchedKeys, knownKeys, type KeySource } from './jwks.js'
import { parseJws, type Jws } from './jws.js'

export const IssuerOptions = Type.Object({
  issuer: Type.String({ minLength: 1, description: '`iss` of its tokens, to the letter' }),
  audience: Type.String({ minLength: 1, description: 'What must stand in `aud` of its tokens, alone or among others' }),
  jwks: Type.Union([Type.String({ minLength: 1 }), Type.Object({ keys: Type.Array(Type.Unsafe<Jwk>(Type.Object({ kty: Type.String() })), { minItems: 1 }) })], {
    description: 'URL of its JWK Set (HTTPS; in development also HTTP on a loopback address), or the set itself',
  }),
  algorithms: Type.Optional(Type.Array(Type.Union(SIGNATURE_ALGORITHMS.map(name => Type.Literal(name))), {
    minItems: 1, uniqueItems: true, description: 'Signatures that are accepted; symmetric ones never are', default: ['RS256', 'ES256', 'EdDSA'],
  })),
  typ: Type.Optional(Type.Union([Type.Literal('at+jwt'), Type.Literal('JWT'), Type.Literal('any')], {
    description: 'Type of its access tokens (RFC 9068). `JWT` takes that too, `any` none at all as well: then nothing but `aud` tells them from ID tokens', default: 'at+jwt',
  })),
  timeout: Type.Optional(Type.Integer({ minimum: 1, description: 'Milliseconds that a fetch of its keys may take', default: 3000 })),
  cooldown: Type.Optional(Type.Integer({ minimum: 1, description: 'Seconds in which its keys are fetched once at most, whatever tokens name', default: 30 })),
  staleFor: Type.Optional(Type.Integer({ minimum: 0, description: 'Seconds for which known keys go on when they should have been fetched anew, and could not be; after that its tokens get a 503', default: 86_400 })),
  maxBytes: Type.Optional(Type.Integer({ minimum: 1, description: 'Bytes of its JWK Set', default: 131_072 })),
  maxKeys: Type.Optional(Type.Integer({ minimum: 1, description: 'Keys in its JWK Set', default: 50 })),
}, { additionalProperties: false })
export type IssuerOptions = Static<typeof IssuerOptions> & {
  /**
   * Who this is here, at once and from the claims alone; null refuses. The id must not be one that a user here could have: put
   * something in front of it, such as the issuer's name. Scopes that it does not hand over do not cut the principal down.
   */
  principal: (claims: Readonly<Record<string, unknown>>) => IssuedSubject | null
}

/** What a service makes of somebody else's token. */
export interface IssuedSubject {
  id: string
  roles: readonly string[]
  plan?: string
  scopes?: readonly string[]
}

interface IssuerParts {
  issuers: readonly IssuerOptions[]
  /** Our own. */
  issuer: string
  /** Whether tokens that are bound to a key can be taken (RFC 9449). */
  takesBound: boolean
  /** Tokens of all of them together. */
  remembered: number
  /** Seconds. */
  clockTolerance: number
  /** Milliseconds since the epoch. */
  now: () => number
  /** Seconds since the epoch. */
  seconds: () => number
  /** Called for each signature that is looked at. */
  signature: () => void
  log: FastifyBaseLogger
  closing: AbortSignal
}

export interface Issuers {
  /**
   * Who a token of one of these issuers is; null for every other text. `forged` is called where its signature was wrong.
   * @throws IssuerAway where its keys are not known
   */
  read: (token: string, forged: () => void) => Principal | null
  /** Fetches the keys for a token that says it is of one of these issuers, where that is due. A promise where it must be waited for. */
  prepare: (token: string) => Promise<void> | undefined
  /** It was read before, and costs no signature while the keys are the same. */
  isKnown: (token: string) => boolean
}

interface Terms extends IssuerOptions { algorithms: SignatureAlgorithm[], types: readonly unknown[], source: KeySource }
interface Examined { terms: Terms, algorithm: SignatureAlgorithm, kid: string | undefined, claims: StrangersClaims, jws: Jws }
interface StrangersClaims { sub: string, exp: number, iat: number, jti?: string, auth_time?: number, amr?: string[], cnf?: { jkt: string } }
interface Verified { principal: Principal, exp: number, source: KeySource, edition: number | null, algorithm: SignatureAlgorithm, kid: string | undefined }

/** Header parameters that bring keys or rules along (RFC 8725, 3.10; RFC 7515, 4.1.11; RFC 7797). */
const FOREIGN = ['jku', 'jwk', 'x5u', 'x5c', 'crit', 'zip', 'b64', 'enc']
const TYPES = { 'at+jwt': ['at+jwt'], JWT: ['at+jwt', 'jwt'], any: ['at+jwt', 'jwt', undefined] }
const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/

/** @throws TokensMisconfigured */
export function makeIssuers ({ issuers, issuer, takesBound, remembered, clockTolerance, now, seconds, signature, log, closing }: IssuerParts): Issuers {
  if (!Array.isArray(issuers)) throw new TokensMisconfigured('tokens: issuers: must be a list')
  const byName = new Map<unknown, Terms>()
  for (const options of issuers) {
    const terms = termsOf(options)
    if (byName.has(terms.issuer) || terms.issuer === issuer) throw new TokensMisconfigured(`tokens: issuers: ${JSON.stringify(terms.issuer)} stands here twice, or is our own`)
    byName.set(terms.issuer, terms)
  }
  const verified = new Remembered<Verified>(Math.max(1, remembered))

  return { read, prepare, isKnown: token => verified.get(token) !== undefined }

  function read (token: string, forged: () => void): Principal | null {
    const known = verified.get(token)
    // Keys that are others now may not hold the one that signed it.
    if (known !== undefined && known.exp + clockTolerance > seconds() && known.edition !== null && known.edition === known.source.version()) return known.principal
    if (known !== undefined) verified.delete(token)
    const found = examine(token)
    if (found === null) return null
    const { terms, algorithm, kid, claims, jws } = found
    const key = terms.source.find(algorithm, kid)
    if (key === null) return null
    signature()
    if (!isSignedBy(key, algorithm, jws.input, jws.signature)) {
      forged()
      return null
    }
    const subject = terms.principal(jws.claims)
    if (subject === null) return null
    const principal = principalOf(subject, claims)
    if (remembered > 0) verified.set(token, { principal, exp: claims.exp, source: terms.source, edition: terms.source.version(), algorithm, kid })
    return principal
  }

  function prepare (token: string): Promise<void> | undefined {
    const known = verified.get(token)
    if (known !== undefined) return known.source.prepare(known.algorithm, known.kid)
    const found = examine(token)
    return found?.terms.source.prepare(found.algorithm, found.kid)
  }

  /** What can be seen without its key: it says that it is for us, of one of these issuers, and good now. */
  function examine (token: string): Examined | null {
    const jws = isWellFormed(token) ? parseJws(token) : null
    const terms = jws === null ? undefined : byName.get(jws.claims.iss)
    if (jws === null || terms === undefined) return null
    const { header, claims } = jws
    const { alg, kid, typ } = header as { alg: SignatureAlgorithm, kid: string | undefined, typ: unknown }
    if (FOREIGN.some(name => Object.hasOwn(header, name))) return null
    if (!terms.algorithms.includes(alg) || (kid !== undefined && typeof kid !== 'string')) return null
    if (!terms.types.includes(typeof typ === 'string' ? typ.toLowerCase().replace(/^application\//, '') : typ)) return null
    return [claims.aud].flat().includes(terms.audience) && areGood(claims) ? { terms, algorithm: alg, kid, claims, jws } : null
  }

  function areGood (claims: Record<string, unknown>): claims is Record<string, unknown> & StrangersClaims {
    const { sub, iat, exp, aud, nbf = iat, jti = '', auth_time: authTime = 0, amr = [], cnf } = claims as Partial<Record<string, unknown>>
    if (![iat, exp, nbf, authTime].every(Number.isSafeInteger) || !isTexts(amr) || !isTexts([aud].flat())) return false
    if (typeof sub !== 'string' || sub === '' || typeof jti !== 'string') return false
    // Bound in a way that nobody checks here, it must not be taken as if it were not.
    if (cnf !== undefined && !(takesBound && isThumbprint(cnf))) return false
    const time = seconds()
    return exp as number + clockTolerance > time && Math.max(iat as number, nbf as number) - clockTolerance <= time
  }

  /** Frozen, because it is remembered: what one request wrote into it would be there for the next. */
  function principalOf ({ id, roles, plan, scopes }: IssuedSubject, { jti, auth_time: authTime = 0, amr, cnf }: StrangersClaims): Principal {
    if (typeof id !== 'string' || id === '' || !isTexts(roles) || !(scopes === undefined || isTexts(scopes)) || !(plan === undefined || typeof plan === 'string')) {
      throw new TypeError('tokens: issuers: principal must answer null or { id, roles, plan?, scopes? }, and at once')
    }
    return Object.freeze({
      kind: 'user',
      id,
      userId: id,
      roles: Object.freeze([...roles]),
      ...(plan !== undefined && { plan }),
      ...(scopes !== undefined && { scopes: Object.freeze([...scopes]) }),
      via: 'bearer',
      // Nobody was ever seen here by whom this is not said, or said of a time to come (milliseconds, in whole years' worth).
      authTime: authTime > seconds() + clockTolerance ? 0 : Math.min(authTime, seconds()),
      ...(amr !== undefined && { amr: Object.freeze([...amr]) }),
      credentialId: jti ?? '',
      ...(cnf !== undefined && { jkt: cnf.jkt }),
    })
  }

  function termsOf (options: IssuerOptions): Terms {
    const { principal, ...plain } = options ?? {}
    checkOptions(IssuerOptions, plain, 'tokens: issuers', TokensMisconfigured)
    if (typeof principal !== 'function') throw new TokensMisconfigured('tokens: issuers: principal: must be a function that says who this is here')
    const { jwks, algorithms = ['RS256', 'ES256', 'EdDSA'], typ = 'at+jwt', timeout = 3000, cooldown = 30, staleFor = 86_400, maxBytes = 131_072, maxKeys = 50 } = plain
    const source = typeof jwks === 'string'
      ? fetchedKeys({ url: checkedUrl(jwks), algorithms, timeout, cooldown: cooldown * 1000, staleFor: staleFor * 1000, maxBytes, maxKeys, now, log, closing })
      : knownKeys(jwks, algorithms)
    if (source === null) throw new TokensMisconfigured('tokens: issuers: jwks: holds a key that is not fit: private, symmetric, weak, or for none of its algorithms')
    return { ...plain, principal, algorithms, types: TYPES[typ], source }
  }
}

function isThumbprint (cnf: unknown): cnf is { jkt: string } {
  const { jkt } = Object(cnf) as { jkt?: unknown }
  return typeof jkt === 'string' && jkt !== '' && Object.keys(cnf as object).length === 1
}

function checkedUrl (text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null
  const isLocal = url?.protocol === 'http:' && LOOPBACK.test(url.hostname) && !isProduction()
  if (url === null || url.username !== '' || url.password !== '' || (url.protocol !== 'https:' && !isLocal)) {
    throw new TokensMisconfigured('tokens: issuers: jwks: must be an https URL without credentials; http is for a loopback address in development')
  }
  return url.href
}
