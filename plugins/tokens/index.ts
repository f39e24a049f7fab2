/**
 * Tokens: short access tokens, refresh tokens that rotate, families that die together.
 *
 * Threat: tokens that pass for each other (CWE-863), confused algorithms (CWE-347), stolen refresh tokens that are
 * used twice, tokens that outlive logout (CWE-613).
 * Defence: a key per purpose; `typ` and required claims checked; rotation by atomic compare-and-swap, and reuse kills
 * the family with its access tokens. An access token is good only while its family is known to be alive, so that
 * lost state means signing in again, never a revoked token that works.
 * Not covered: a token that is stolen and used before it expires or its family is ended.
 * Sources: RFC 7519, RFC 8725, RFC 9068, RFC 9700 (4.14).
 */
import { randomBytes } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import createError, { type FastifyError } from '@fastify/error'
import jwt from '@fastify/jwt'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import type { Principal, Reading } from '../identity.js'
import { checkOptions } from '../options.js'
import type { MaybePromise } from '../state/index.js'
import { Remembered } from './remembered.js'

declare module 'fastify' {
  interface FastifyInstance {
    tokens: Tokens
  }
}

/** An option of the tokens concern is wrong; weak keys are among them. */
export const TokensMisconfigured = createError<[string]>('FST_BASTION_TOKENS_MISCONFIGURED', '%s', 500, TypeError)
/** The token is not one of ours, is spent, or is no longer good. The log knows which. */
export const TokenInvalid = createError('FST_BASTION_TOKENS_INVALID', 'The token is invalid or no longer good', 401)

/** What a service says of the one who signed in. */
export interface TokenSubject {
  id: string
  roles: readonly string[]
  plan?: string
  /** When the person proved themselves, in seconds since the epoch; default: now. */
  authTime?: number
}

export interface TokenPair {
  access_token: string
  refresh_token: string
  token_type: 'Bearer'
  /** Seconds until the access token expires. */
  expires_in: number
}

/** Looks the user up again at each refresh, so that changed roles and closed accounts count; null refuses. */
export type SubjectLoader = (userId: string) => Promise<TokenSubject | null>

export interface Tokens {
  /**
   * A new family: its first pair. With `load` the subject is looked up once more, after the moment from which the family
   * counts: a role that changed or an account that was closed while the password was checked ends these tokens too.
   * @throws TokenInvalid where `load` finds nobody
   */
  issue: (subject: TokenSubject, load?: SubjectLoader) => Promise<TokenPair>
  /**
   * Spends a refresh token for a new pair. Two parallel calls: one succeeds; the other is reuse, which kills the family.
   * @throws TokenInvalid
   */
  refresh: (refreshToken: string, load: SubjectLoader, request?: FastifyRequest) => Promise<TokenPair>
  /**
   * A new access token in the principal's family whose `auth_time` is now; the presented one is dead.
   * @throws TokenInvalid where it is dead already
   */
  stepUp: (principal: Principal) => Promise<Pick<TokenPair, 'access_token' | 'token_type' | 'expires_in'>>
  /** Ends a family: its refresh token and all its access tokens. */
  revokeFamily: (familyId: string) => Promise<void>
  /** Ends everything of a user that was issued before this call; `except` is a family that stays (the one that asked). */
  revokeUser: (userId: string, options?: { except?: string }) => Promise<void>
}

const KeyPair = Type.Object({ private: Type.String(), public: Type.String() }, { additionalProperties: false })
export const TokensOptions = Type.Object({
  issuer: Type.String({ minLength: 1, description: '`iss` of every token: the origin of this service' }),
  audience: Type.String({ minLength: 1, description: '`aud` of access tokens: the API they are for' }),
  algorithm: Type.Optional(Type.Union([Type.Literal('HS256'), Type.Literal('RS256'), Type.Literal('ES256'), Type.Literal('EdDSA')], {
    description: 'HS256 where this service alone verifies; the others where others verify too', default: 'HS256',
  })),
  accessTtl: Type.Optional(Type.Integer({ minimum: 1, description: 'Seconds', default: 900 })),
  refreshTtl: Type.Optional(Type.Integer({ minimum: 1, description: 'Seconds', default: 604_800 })),
  familyTtl: Type.Optional(Type.Integer({ minimum: 1, description: 'Seconds that a family lives at most, however often it is refreshed', default: 2_592_000 })),
  clockTolerance: Type.Optional(Type.Integer({ minimum: 0, maximum: 300, description: 'Seconds', default: 5 })),
  remembered: Type.Optional(Type.Integer({ minimum: 0, description: 'Verified tokens remembered', default: 10_000 })),
}, { additionalProperties: false })
export type TokensOptions = Static<typeof TokensOptions> & {
  /** One key per purpose: HMAC secrets of at least 32 bytes; for asymmetric algorithms the access key is a PEM pair. */
  keys: { access: Buffer | Static<typeof KeyPair>, refresh: Buffer }
  /** Milliseconds since the epoch; for tests. */
  now?: () => number
}

type Kind = 'access' | 'refresh'
const TYPES: Record<Kind, string> = { access: 'at+jwt', refresh: 'rt+jwt' }
/** Header parameters that would let a token bring its own key (RFC 8725, 3.10). */
const KEY_BEARING = ['jku', 'jwk', 'x5u', 'x5c', 'x5t', 'x5t#S256', 'crit']
const WEAK_BYTES = 32

interface Claims {
  iss: string
  aud: string
  sub: string
  jti: string
  iat: number
  exp: number
  /** Family, and the generation of the user at the time of issue. */
  fam: string
  gen: number
  auth_time: number
  roles?: string[]
  plan?: string
  /** When the family ends at the latest. */
  fam_exp: number
}

interface Signer { sign: (claims: object) => string, verify: (token: string) => { header: Record<string, unknown>, payload: Claims } }
interface Verified { principal: Principal, claims: Claims, keys: readonly [string, string, string] }

async function tokens (app: FastifyInstance, options: TokensOptions): Promise<void> {
  const { keys, now = Date.now, ...plain } = options
  checkOptions(TokensOptions, plain, 'tokens', TokensMisconfigured)
  const {
    issuer, audience, algorithm = 'HS256', accessTtl = 900, refreshTtl = 604_800, familyTtl = 2_592_000, clockTolerance = 5, remembered = 10_000,
  } = plain
  checkKeys(keys, algorithm)
  const signers = await makeSigners(app, options)
  const verified = new Remembered<Verified>(Math.max(1, remembered))
  /** The claims behind each principal, for what it asks of its own token. */
  const presented = new WeakMap<Principal, Claims>()

  app.decorate('tokens', { issue, refresh, stepUp, revokeFamily, revokeUser })
  app.identity.reader({ name: 'bearer', read: readBearer })

  const seconds = () => Math.floor(now() / 1000)

  async function issue (known: TokenSubject, load?: SubjectLoader): Promise<TokenPair> {
    const fam = randomId()
    const gen = Number(await app.state.get(generationKey(known.id)) ?? 0)
    const subject = load === undefined ? known : await load(known.id)
    if (subject === null) throw new TokenInvalid()
    const famExp = seconds() + familyTtl
    const jti = randomId()
    await app.state.set(familyKey(fam), familyRecord(jti, gen), Math.min(refreshTtl, familyTtl) * 1000)
    return pairOf(subject, fam, gen, famExp, jti)
  }

  async function refresh (token: string, load: SubjectLoader, request: FastifyRequest | null = null): Promise<TokenPair> {
    const claims = check('refresh', token)
    if (claims === null) throw refused(request, 'refresh token is malformed, foreign or expired')
    const [family, generation] = await app.state.getMany([familyKey(claims.fam), generationKey(claims.sub)])
    if (family === null || family === undefined) throw refused(request, 'family is dead')
    const gen = Math.max(claims.gen, generationOf(family))
    if (Number(generation ?? 0) > gen) throw refused(request, 'all tokens of the user were ended')
    const next = randomId()
    const left = Math.min(refreshTtl, claims.fam_exp - seconds())
    if (left <= 0) throw refused(request, 'family has reached its last day')
    const subject = await load(claims.sub)
    if (subject === null) {
      await revokeFamily(claims.fam)
      throw refused(request, 'user is gone or inactive')
    }
    const outcome = await app.state.swap(familyKey(claims.fam), familyRecord(claims.jti, generationOf(family)), familyRecord(next, gen), left * 1000)
    if (outcome !== 'swapped') {
      await revokeFamily(claims.fam)
      app.events.record('token_reused', request, { user: claims.sub, family: claims.fam })
      throw new TokenInvalid()
    }
    return pairOf({ ...subject, authTime: claims.auth_time }, claims.fam, gen, claims.fam_exp, next)
  }

  async function stepUp (principal: Principal): Promise<Pick<TokenPair, 'access_token' | 'token_type' | 'expires_in'>> {
    const claims = presented.get(principal)
    if (claims === undefined) throw new TokenInvalid()
    const { fam, jti, sub } = claims
    // What ended the token while the person was proving themselves must not be undone by a new one.
    const [family, denied, generation] = await app.state.getMany([familyKey(fam), deniedKey(jti), generationKey(sub)])
    const ended = judge([family ?? null, denied ?? null, generation ?? null], claims)
    if (ended !== null) throw ended
    if (!await app.state.claim(deniedKey(jti), '1', (accessTtl + clockTolerance) * 1000)) throw new TokenInvalid()
    const subject = { id: sub, roles: principal.roles, plan: principal.plan }
    const gen = Math.max(claims.gen, generationOf(family!))
    return { access_token: access(subject, fam, gen, claims.fam_exp), token_type: 'Bearer', expires_in: accessTtl }
  }

  async function revokeFamily (familyId: string): Promise<void> {
    await app.state.delete(familyKey(familyId))
  }

  async function revokeUser (userId: string, { except }: { except?: string } = {}): Promise<void> {
    // Milliseconds as the floor: the number never falls back, even after the key has expired.
    const gen = await app.state.raise(generationKey(userId), now(), (familyTtl + clockTolerance) * 1000)
    if (except === undefined) return
    const family = await app.state.get(familyKey(except))
    if (family === null) return
    // A refresh that comes between loses the family: refusing is the safe side.
    await app.state.swap(familyKey(except), family, familyRecord(family.split(' ')[0]!, gen), refreshTtl * 1000)
  }

  function pairOf (subject: TokenSubject, fam: string, gen: number, famExp: number, jti: string): TokenPair {
    const time = seconds()
    const refreshToken = signers.refresh.sign({
      iss: issuer, aud: issuer, sub: subject.id, jti, iat: time, exp: Math.min(time + refreshTtl, famExp), fam, gen, auth_time: subject.authTime ?? time, fam_exp: famExp,
    })
    return { access_token: access(subject, fam, gen, famExp), refresh_token: refreshToken, token_type: 'Bearer', expires_in: accessTtl }
  }

  function access (subject: TokenSubject, fam: string, gen: number, famExp: number): string {
    const time = seconds()
    return signers.access.sign({
      iss: issuer,
      aud: audience,
      sub: subject.id,
      jti: randomId(),
      iat: time,
      exp: Math.min(time + accessTtl, famExp),
      fam,
      gen,
      auth_time: subject.authTime ?? time,
      fam_exp: famExp,
      roles: subject.roles,
      ...(subject.plan !== undefined && { plan: subject.plan }),
    })
  }

  /** The claims of a token of that kind that was signed by us and is in its time; null for every other. */
  function check (kind: Kind, token: string): Claims | null {
    try {
      const { header, payload } = signers[kind].verify(token)
      if (header.typ !== TYPES[kind] || KEY_BEARING.some(name => name in header)) return null
      const expected = kind === 'access' ? audience : issuer
      const { iat, exp, sub, jti, fam, gen } = payload
      if (payload.iss !== issuer || payload.aud !== expected) return null
      if (!Number.isSafeInteger(iat) || !Number.isSafeInteger(exp) || !Number.isSafeInteger(gen)) return null
      if (typeof sub !== 'string' || typeof jti !== 'string' || typeof fam !== 'string' || sub === '') return null
      if (kind === 'access' && !Array.isArray(payload.roles)) return null
      const time = seconds()
      return exp + clockTolerance > time && iat - clockTolerance <= time ? payload : null
    } catch {
      return null
    }
  }

  function readBearer (request: FastifyRequest): Reading {
    const token = bearerOf(request)
    if (token === null) return null
    if (token === '') return { failure: new TokenInvalid() }
    let known = verified.get(token)
    if (known === undefined) {
      const claims = check('access', token)
      if (claims === null) return { failure: new TokenInvalid() }
      known = { principal: principalFrom(claims), claims, keys: [familyKey(claims.fam), deniedKey(claims.jti), generationKey(claims.sub)] }
      presented.set(known.principal, claims)
      if (remembered > 0) verified.set(token, known)
    } else if (known.claims.exp + clockTolerance <= seconds()) {
      verified.delete(token)
      return { failure: new TokenInvalid() }
    }
    const { claims } = known
    const values = app.state.getMany(known.keys)
    const standing: MaybePromise<FastifyError | null> = values instanceof Promise ? values.then(found => judge(found, claims)) : judge(values, claims)
    return { principal: known.principal, standing }
  }

  function refused (request: FastifyRequest | null, reason: string): FastifyError {
    request?.log.info({ reason }, 'token refused')
    return new TokenInvalid()
  }
}

/** Alive: the family is known, the token is not denied, and the user's tokens were not all ended since. */
function judge ([family, denied, generation]: readonly (string | null)[], claims: Claims): FastifyError | null {
  const isAlive = typeof family === 'string' && denied === null &&
    (generation === null || Number(generation) <= Math.max(claims.gen, generationOf(family)))
  return isAlive ? null : new TokenInvalid()
}

function principalFrom (claims: Claims): Principal {
  return {
    kind: 'user',
    id: claims.sub,
    userId: claims.sub,
    roles: claims.roles!,
    ...(claims.plan !== undefined && { plan: claims.plan }),
    via: 'bearer',
    authTime: claims.auth_time,
    credentialId: claims.jti,
    familyId: claims.fam,
  }
}

/** The bearer credential of a request; null where there is none, empty where it is malformed (RFC 6750, 2.1). */
export function bearerOf (request: FastifyRequest): string | null {
  const { authorization } = request.headers
  if (authorization === undefined) return null
  if (authorization.length > 7 && authorization.slice(0, 7).toLowerCase() === 'bearer ') {
    const token = authorization.slice(7)
    return token.length <= 4096 && /^[\w~+/.-]+=*$/.test(token) ? token : ''
  }
  return /^bearer$/i.test(authorization) ? '' : null
}

/** What the state holds of a family: the refresh token that is good now, and the generation that it was lifted to. */
const familyRecord = (jti: string, gen: number) => `${jti} ${gen}`
const generationOf = (family: string) => Number(family.slice(family.indexOf(' ') + 1))
const familyKey = (id: string) => `tokens:family:${id}`
const deniedKey = (id: string) => `tokens:denied:${id}`
const generationKey = (id: string) => `tokens:generation:${id}`
const randomId = () => randomBytes(16).toString('base64url')

function checkKeys ({ access, refresh }: TokensOptions['keys'], algorithm: string): void {
  if (!Buffer.isBuffer(refresh) || refresh.length < WEAK_BYTES) throw new TokensMisconfigured(`tokens: keys.refresh: must be a Buffer of at least ${WEAK_BYTES} bytes`)
  if (algorithm === 'HS256') {
    if (!Buffer.isBuffer(access) || access.length < WEAK_BYTES) throw new TokensMisconfigured(`tokens: keys.access: must be a Buffer of at least ${WEAK_BYTES} bytes for HS256`)
    if (access.equals(refresh)) throw new TokensMisconfigured('tokens: keys: access and refresh must differ, one key a purpose')
  } else if (Buffer.isBuffer(access) || typeof access?.private !== 'string' || typeof access.public !== 'string') {
    throw new TokensMisconfigured(`tokens: keys.access: must be { private, public } in PEM for ${algorithm}`)
  }
}

/** @fastify/jwt in a scope of its own, once a purpose: it adds no decorators to the service. */
async function makeSigners (app: FastifyInstance, { keys, algorithm = 'HS256' }: TokensOptions): Promise<Record<Kind, Signer>> {
  let made: Record<Kind, Signer> | undefined
  await app.register(async function tokenSigners (scope) {
    for (const kind of ['access', 'refresh'] as const) {
      const alg = kind === 'access' ? algorithm : 'HS256'
      await scope.register(jwt, {
        secret: keys[kind] as Buffer,
        namespace: kind,
        sign: { algorithm: alg, header: { typ: TYPES[kind] } } as never,
        // Time is ours to judge (`now`); the cache too, because ours checks expiry and standing every time.
        verify: { algorithms: [alg], complete: true, cache: false, errorCacheTTL: -1, ignoreExpiration: true, ignoreNotBefore: false, checkTyp: TYPES[kind], requiredClaims: ['iss', 'aud', 'exp', 'iat', 'sub', 'jti'] } as never,
      })
    }
    made = scope.jwt as unknown as Record<Kind, Signer>
  })
  return made!
}

export default fp(tokens, { fastify: '5.x', name: 'bastion-tokens', dependencies: ['bastion-plan', 'bastion-events', 'bastion-state', 'bastion-identity'] })
