/**
 * Tokens: short access tokens, refresh tokens that rotate, families that die together.
 *
 * Threat: tokens that pass for each other (CWE-863), confused algorithms (CWE-347), stolen refresh tokens that are
 * used twice, tokens that outlive logout (CWE-613).
 * Defence: a key ring per purpose, and no header but those that its keys write; `typ` and required claims checked;
 * rotation by atomic compare-and-swap, and reuse kills the family with its access tokens. An access token is good
 * only while its family is known to be alive, so that lost state means signing in again, never a revoked token that works.
 * Not covered: a token that is stolen and used before it expires or its family is ended.
 * Sources: RFC 7519, RFC 8725, RFC 9068, RFC 9700 (4.14).
 */
import { randomBytes } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { createError, type FastifyError } from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import type { Principal, Reading } from '../identity.js'
import { checkOptions } from '../options.js'
import type { MaybePromise } from '../state/index.js'
import { isWellFormed, offeredBearer } from './bearer.js'
import { readerOf, type Claims } from './claims.js'
import { deniedKey, familyKey, familyRecord, generationKey, generationOf, isAlive, standingKeys, tokenOf, type StandingKeys } from './family.js'
import { faultOf, makeRings, publicKeys, type TokenKeys } from './keys.js'
import { makeLinks, type Links } from './links.js'
import { Remembered } from '../remembered.js'

export { bearerOf } from './bearer.js'
export { LinkInvalid } from './links.js'
export type { BoundOf, Links, LinkTerms } from './links.js'
export type { Key, KeyPair, TokenKeys } from './keys.js'

declare module 'fastify' {
  interface FastifyInstance {
    tokens: Tokens
  }
}

/** An option of the tokens concern is wrong; weak keys are among them. */
export const TokensMisconfigured = createError<[string]>('FST_BASTION_TOKENS_MISCONFIGURED', '%s', 500, TypeError)
/** The token is not one of ours, is spent, or is no longer good. The log knows which. */
export const TokenInvalid = createError('FST_BASTION_TOKENS_INVALID', 'The token is invalid or no longer good', 401)

/** More was asked for than the family was issued with. */
export const ScopeRefused = createError('FST_BASTION_TOKENS_SCOPE', 'These scopes go beyond what was granted', 400)

/** What a service says of the one who signed in. */
export interface TokenSubject {
  id: string
  roles: readonly string[]
  plan?: string
  /** When the person proved themselves, in seconds since the epoch; default: now. */
  authTime?: number
  /** Cuts the tokens down to these permissions (RFC 6749, 3.3); without it they carry all that the roles give. */
  scopes?: readonly string[]
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
   *
   * @param scopes fewer than the family has, for the access token alone (RFC 6749, 6)
   * @throws TokenInvalid, ScopeRefused where the family does not have them; that does not spend the token
   */
  refresh: (refreshToken: string, load: SubjectLoader, request?: FastifyRequest, scopes?: readonly string[]) => Promise<TokenPair>
  /**
   * A new access token in the principal's family whose `auth_time` is now; the presented one is dead. With `load` its roles
   * are looked up anew; without, they are those of the presented one, and the new one lives no longer than that.
   * @throws TokenInvalid where the presented one is dead already, or `load` finds nobody
   */
  stepUp: (principal: Principal, load?: SubjectLoader) => Promise<Pick<TokenPair, 'access_token' | 'token_type' | 'expires_in'>>
  /** Ends a family: its refresh token and all its access tokens. */
  revokeFamily: (familyId: string) => Promise<void>
  /** Ends everything of a user that was issued before this call; `except` is a family that stays (the one that asked). */
  revokeUser: (userId: string, options?: { except?: string }) => Promise<void>
  /** What a token of ours says, while it is good; null for every other text (RFC 7009, RFC 7662). */
  inspect: (token: string) => Promise<Inspection | null>
  /** Signed, timed texts for links in mails, each good for one purpose and once. */
  links: Links
  /** The public keys as a JWK Set, for those who verify access tokens; empty for HS256 (RFC 7517). */
  jwks: () => { keys: Record<string, string>[] }
}

export interface Inspection {
  kind: 'access' | 'refresh'
  userId: string
  familyId: string
  /** `jti` of the token. */
  id: string
  /** Seconds since the epoch. */
  issuedAt: number
  expiresAt: number
  authTime: number
  /** Of access tokens. */
  roles?: readonly string[]
  /** Of tokens that were cut down to some. */
  scopes?: readonly string[]
}

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
  deadline: Type.Optional(Type.Integer({ minimum: 1, description: 'Milliseconds that shared state may take to answer; default: that of state' })),
  whenAway: Type.Optional(Type.Union([Type.Literal('refuse'), Type.Literal('accept')], {
    description: 'Access tokens while shared state is away: 503, or accepted without knowing whether they were ended. Nothing is issued or refreshed then', default: 'refuse',
  })),
}, { additionalProperties: false })
export type TokensOptions = Static<typeof TokensOptions> & {
  /**
   * A ring per purpose: HMAC secrets of at least 32 bytes; for asymmetric algorithms the access keys are PEM pairs. Of
   * several the first signs and all verify.
   */
  keys: TokenKeys
  /** Milliseconds since the epoch; for tests. */
  now?: () => number
}

/** Milliseconds for which a token that was found to have been ended is not asked about again. */
const DEAD_MS = 5000
/** Milliseconds in which a refresh token may come again whose exchange nobody knows the outcome of, and how many of them are held. */
const UNCERTAIN_MS = 60_000
const MAX_UNCERTAIN = 10_000
/** How often a family's record that changed meanwhile is read again. */
const TRIES = 5

/** `deadUntil`: in milliseconds; found to have been ended. */
interface Verified { principal: Principal, claims: Claims, keys: StandingKeys, deadUntil: number }

async function tokens (app: FastifyInstance, options: TokensOptions): Promise<void> {
  const { keys, now = Date.now, ...plain } = options
  checkOptions(TokensOptions, plain, 'tokens', TokensMisconfigured)
  const {
    issuer, audience, algorithm = 'HS256', accessTtl = 900, refreshTtl = 604_800, familyTtl = 2_592_000, clockTolerance = 5, remembered = 10_000,
    whenAway = 'refuse',
  } = plain
  const state = plain.deadline === undefined ? app.state : app.state.within(plain.deadline)
  if (accessTtl > Math.min(refreshTtl, familyTtl)) throw new TokensMisconfigured('tokens: accessTtl: must not be longer than refreshTtl and familyTtl')
  const fault = faultOf(keys, algorithm)
  if (fault !== null) throw new TokensMisconfigured(`tokens: ${fault}`)
  const rings = await makeRings(app, keys, algorithm)
  const jwks = publicKeys(keys, algorithm)
  const seconds = () => Math.floor(now() / 1000)
  const read = readerOf({ rings, issuer, audiences: { access: audience, refresh: issuer }, seconds, clockTolerance })
  const verified = new Remembered<Verified>(Math.max(1, remembered))
  const uncertain = new Remembered<{ next: string, until: number }>(MAX_UNCERTAIN)
  /** The claims behind each principal, for what it asks of its own token. */
  const presented = new WeakMap<Principal, Claims>()

  app.decorate('tokens', { issue, refresh, stepUp, revokeFamily, revokeUser, inspect, links: makeLinks([keys.refresh].flat(), state, seconds), jwks: () => structuredClone(jwks) })
  app.identity.reader({ name: 'bearer', read: readBearer })

  async function issue (known: TokenSubject, load?: SubjectLoader): Promise<TokenPair> {
    const fam = randomId()
    const gen = Number(await state.get(generationKey(known.id)) ?? 0)
    const subject = load === undefined ? known : await load(known.id)
    if (subject === null) throw new TokenInvalid()
    const famExp = seconds() + familyTtl
    const jti = randomId()
    await state.set(familyKey(fam), familyRecord(jti, gen), Math.min(refreshTtl, familyTtl) * 1000)
    return pairOf({ ...subject, id: known.id, authTime: known.authTime, scopes: known.scopes }, fam, gen, famExp, jti)
  }

  async function refresh (token: string, load: SubjectLoader, request: FastifyRequest | null = null, fewer?: readonly string[]): Promise<TokenPair> {
    const claims = read('refresh', token)
    if (claims === null) throw refused(request, 'refresh token is malformed, foreign or expired')
    const scopes = scopesOf(claims)
    if (fewer !== undefined && scopes !== undefined && !fewer.every(scope => scopes.includes(scope))) throw new ScopeRefused()
    let subject: TokenSubject | null | undefined
    // Where the family's record changes while the subject is looked up, it is read again: its token was spent by
    // another call, which is reuse, or its generation was lifted, which is none.
    for (let tries = 0; tries < TRIES; tries++) {
      const [family, generation] = await state.getMany([familyKey(claims.fam), generationKey(claims.sub)])
      if (family === null || family === undefined) throw refused(request, 'family is dead')
      if (tokenOf(family) !== claims.jti && !wasUncertain(claims.jti, tokenOf(family))) {
        await revokeFamily(claims.fam)
        app.events.record('token_reused', request, { user: claims.sub, family: claims.fam, severity: 'critical' })
        throw new TokenInvalid()
      }
      const gen = Math.max(claims.gen, generationOf(family))
      if (Number(generation ?? 0) > gen) throw refused(request, 'all tokens of the user were ended')
      subject ??= await load(claims.sub)
      if (subject === null) {
        await revokeFamily(claims.fam)
        throw refused(request, 'user is gone or inactive')
      }
      const left = Math.min(refreshTtl, claims.fam_exp - seconds())
      if (left <= 0) throw refused(request, 'family has reached its last day')
      const next = randomId()
      let outcome
      try {
        outcome = await state.swap(familyKey(claims.fam), family, familyRecord(next, gen), left * 1000)
      } catch (error) {
        uncertain.set(claims.jti, { next, until: now() + UNCERTAIN_MS })
        throw error
      }
      if (outcome === 'swapped') return pairOf({ ...subject, scopes, id: claims.sub, authTime: claims.auth_time }, claims.fam, gen, claims.fam_exp, next, fewer)
    }
    throw refused(request, 'family changes too fast')
  }

  /** The exchange was given up without an answer, and took place: what it put into the family's record nobody has ever seen. */
  function wasUncertain (jti: string, current: string): boolean {
    const known = uncertain.get(jti)
    return known !== undefined && known.next === current && known.until > now()
  }

  async function stepUp (principal: Principal, load?: SubjectLoader): Promise<Pick<TokenPair, 'access_token' | 'token_type' | 'expires_in'>> {
    const claims = presented.get(principal)
    if (claims === undefined) throw new TokenInvalid()
    const { fam, jti, sub } = claims
    // What ended the token while the person was proving themselves must not be undone by a new one.
    const found = await state.getMany(standingKeys(claims))
    if (!isAlive(found, claims)) throw new TokenInvalid()
    const subject = load === undefined ? { roles: principal.roles, plan: principal.plan } : await load(sub)
    if (subject === null) {
      await revokeFamily(fam)
      throw new TokenInvalid()
    }
    if (!await state.claim(deniedKey(jti), '1', (accessTtl + clockTolerance) * 1000)) throw new TokenInvalid()
    const gen = Math.max(claims.gen, generationOf(found[0]!))
    return access({ ...subject, scopes: scopesOf(claims), id: sub, authTime: seconds() }, fam, gen, claims.fam_exp, load === undefined ? claims.exp : claims.fam_exp)
  }

  async function revokeFamily (familyId: string): Promise<void> {
    await state.delete(familyKey(familyId))
  }

  async function revokeUser (userId: string, { except }: { except?: string } = {}): Promise<void> {
    // Milliseconds as the floor: the number never falls back, even after the key has expired.
    const floor = Math.max(Number(await state.get(generationKey(userId)) ?? 0) + 1, now())
    // The family that stays is lifted first: at no moment does it count as ended. Where somebody else ends the user's tokens at the same
    // time, the number is a higher one, and it ends with the others.
    if (except !== undefined) await lift(except, floor)
    await state.raise(generationKey(userId), floor, (familyTtl + clockTolerance) * 1000)
  }

  async function lift (familyId: string, generation: number): Promise<void> {
    for (let tries = 0; tries < TRIES; tries++) {
      const family = await state.get(familyKey(familyId))
      if (family === null) return
      const outcome = await state.swap(familyKey(familyId), family, familyRecord(tokenOf(family), generation), refreshTtl * 1000)
      if (outcome === 'swapped') return
    }
    // It is refreshed faster than it can be lifted: it ends with the others, which is the safe side.
  }

  async function inspect (token: string): Promise<Inspection | null> {
    for (const kind of ['access', 'refresh'] as const) {
      const claims = read(kind, token)
      if (claims === null) continue
      const found = await state.getMany(standingKeys(claims))
      if (!isAlive(found, claims) || (kind === 'refresh' && tokenOf(found[0]!) !== claims.jti)) return null
      const { sub, fam, jti, iat, exp, auth_time: authTime, roles } = claims
      const scopes = scopesOf(claims)
      return { kind, userId: sub, familyId: fam, id: jti, issuedAt: iat, expiresAt: exp, authTime, ...(roles !== undefined && { roles }), ...(scopes !== undefined && { scopes }) }
    }
    return null
  }

  function pairOf (subject: TokenSubject, fam: string, gen: number, famExp: number, jti: string, fewer?: readonly string[]): TokenPair {
    const time = seconds()
    const refreshToken = rings.refresh.sign({
      iss: issuer,
      aud: issuer,
      sub: subject.id,
      jti,
      iat: time,
      exp: Math.min(time + refreshTtl, famExp),
      fam,
      gen,
      auth_time: subject.authTime ?? time,
      fam_exp: famExp,
      ...scopeClaim(subject.scopes),
    })
    return { ...access({ ...subject, scopes: fewer ?? subject.scopes }, fam, gen, famExp, famExp), refresh_token: refreshToken }
  }

  function access (subject: TokenSubject, fam: string, gen: number, famExp: number, until: number) {
    const time = seconds()
    const exp = Math.min(time + accessTtl, until)
    const token = rings.access.sign({
      iss: issuer,
      aud: audience,
      sub: subject.id,
      jti: randomId(),
      iat: time,
      exp,
      fam,
      gen,
      auth_time: subject.authTime ?? time,
      fam_exp: famExp,
      roles: subject.roles,
      ...(subject.plan !== undefined && { plan: subject.plan }),
      ...scopeClaim(subject.scopes),
    })
    return { access_token: token, token_type: 'Bearer' as const, expires_in: exp - time }
  }

  function readBearer (request: FastifyRequest): Reading {
    const token = offeredBearer(request)
    if (token === null) return null
    let known = verified.get(token)
    if (known === undefined) {
      if (app.identity.isTaken(token)) return null
      const claims = isWellFormed(token) ? read('access', token) : null
      if (claims === null) return { failure: new TokenInvalid() }
      known = { principal: principalFrom(claims), claims, keys: standingKeys(claims), deadUntil: 0 }
      presented.set(known.principal, claims)
      if (remembered > 0) verified.set(token, known)
    } else if (known.claims.exp + clockTolerance <= seconds()) {
      verified.delete(token)
      return { failure: new TokenInvalid() }
    }
    // Whoever holds a token that was ended must not spend the budget of its owner: it counts for its address, and is not asked about again.
    if (known.deadUntil > now()) return { failure: new TokenInvalid() }
    const offered = known
    const values = state.getMany(known.keys)
    const standing: MaybePromise<FastifyError | null> = values instanceof Promise ? values.then(found => judge(found, offered), unknown) : judge(values, offered)
    return { principal: known.principal, standing }
  }

  function judge (found: readonly (string | null)[], token: Verified): FastifyError | null {
    if (isAlive(found, token.claims)) return null
    token.deadUntil = now() + DEAD_MS
    return new TokenInvalid()
  }

  /** Whether a token was ended cannot be found out. */
  function unknown (error: FastifyError): null {
    if (whenAway === 'accept' && error.code === 'FST_BASTION_STATE_UNAVAILABLE') return null
    throw error
  }

  function refused (request: FastifyRequest | null, reason: string): FastifyError {
    request?.log.info({ reason }, 'token refused')
    return new TokenInvalid()
  }
}

/** Frozen, because it is remembered: what one request wrote into it would be there for the next. */
function principalFrom (claims: Claims): Principal {
  const scopes = scopesOf(claims)
  return Object.freeze({
    kind: 'user',
    id: claims.sub,
    userId: claims.sub,
    roles: Object.freeze(claims.roles!),
    ...(claims.plan !== undefined && { plan: claims.plan }),
    ...(scopes !== undefined && { scopes: Object.freeze(scopes) }),
    via: 'bearer',
    authTime: claims.auth_time,
    credentialId: claims.jti,
    familyId: claims.fam,
  })
}

/** RFC 9068, 2.2.3: one text, with blanks between. No scopes at all are the empty text, which is not the same as none being said. */
const scopeClaim = (scopes: readonly string[] | undefined) => scopes === undefined ? {} : { scope: scopes.join(' ') }
const scopesOf = ({ scope }: Claims) => scope === undefined ? undefined : scope.split(' ').filter(name => name !== '')

const randomId = () => randomBytes(16).toString('base64url')

export default fp(tokens, { fastify: '5.x', name: 'bastion-tokens', dependencies: ['bastion-plan', 'bastion-events', 'bastion-state', 'bastion-identity'] })
