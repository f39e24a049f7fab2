/** Grants: a new family, the next pair of one, and a fresh access token for who has just proven themselves. */
import type { FastifyRequest } from 'fastify'
import type { FastifyError } from '@fastify/error'
import type { SecurityEvents } from '../events.js'
import type { Principal } from '../identity.js'
import { Remembered } from '../remembered.js'
import type { State } from '../state/index.js'
import { scopesOf, type Claims, type ClaimsReader } from './claims.js'
import type { AccessGrant, SubjectLoader, TokenPair, Tokens, TokenSubject } from './contract.js'
import type { Dpop } from './dpop/index.js'
import { ScopeRefused, TokenInvalid } from './errors.js'
import { deniedKey, familyKey, familyRecord, generationKey, generationOf, isAlive, standingKeys, tokenOf } from './family.js'
import { randomId, type Mint } from './minting.js'

interface GrantParts {
  state: State
  events: SecurityEvents
  mint: Mint
  read: ClaimsReader
  /** The claims behind a principal that was read from an access token of ours. */
  presented: (principal: Principal) => Claims | undefined
  /** Null where no token is bound to a key. */
  dpop: Dpop | null
  revokeFamily: Tokens['revokeFamily']
  /** Seconds. */
  accessTtl: number
  refreshTtl: number
  familyTtl: number
  clockTolerance: number
  /** Milliseconds since the epoch. */
  now: () => number
  /** Seconds since the epoch. */
  seconds: () => number
}

/** Milliseconds in which a refresh token may come again whose exchange nobody knows the outcome of, and how many of them are held. */
const UNCERTAIN_MS = 60_000
const MAX_UNCERTAIN = 10_000
/** How often a family's record that changed meanwhile is read again. */
const TRIES = 5

export function makeGrants (parts: GrantParts): Pick<Tokens, 'issue' | 'refresh' | 'stepUp'> {
  const { state, events, mint, read, presented, dpop, revokeFamily, accessTtl, refreshTtl, familyTtl, clockTolerance, now, seconds } = parts
  const uncertain = new Remembered<{ next: string, until: number }>(MAX_UNCERTAIN)

  return { issue, refresh, stepUp }

  async function issue (known: TokenSubject, load?: SubjectLoader, request?: FastifyRequest): Promise<TokenPair> {
    const jkt = await dpop?.keyFor(request)
    const id = randomId()
    const gen = Number(await state.get(generationKey(known.id)) ?? 0)
    const subject = load === undefined ? known : await load(known.id)
    if (subject === null) throw new TokenInvalid()
    const jti = randomId()
    const family = { id, gen, end: seconds() + familyTtl, jkt }
    await state.set(familyKey(id), familyRecord(jti, gen), Math.min(refreshTtl, familyTtl) * 1000)
    return mint.pair({ ...subject, id: known.id, authTime: known.authTime, amr: known.amr, scopes: known.scopes }, family, jti)
  }

  async function refresh (token: string, load: SubjectLoader, request: FastifyRequest | null = null, fewer?: readonly string[]): Promise<TokenPair> {
    const claims = read('refresh', token)
    if (claims === null) throw refused(request, 'refresh token is malformed, foreign or expired')
    const scopes = scopesOf(claims)
    if (fewer !== undefined && scopes !== undefined && !fewer.every(scope => scopes.includes(scope))) throw new ScopeRefused()
    const jkt = await dpop?.keyFor(request)
    // Before anything is asked of the family: who stole it without its key must not be able to end it by showing it.
    if (claims.cnf !== undefined && claims.cnf.jkt !== jkt) throw refused(request, 'the key that the refresh token is bound to was not shown')
    let subject: TokenSubject | null | undefined
    // Where the family's record changes while the subject is looked up, it is read again: its token was spent by
    // another call, which is reuse, or its generation was lifted, which is none.
    for (let tries = 0; tries < TRIES; tries++) {
      const [family, generation] = await state.getMany([familyKey(claims.fam), generationKey(claims.sub)])
      if (family === null || family === undefined) throw refused(request, 'family is dead')
      if (tokenOf(family) !== claims.jti && !wasUncertain(claims.jti, tokenOf(family))) {
        await revokeFamily(claims.fam)
        events.record('token_reused', request, { user: claims.sub, family: claims.fam, severity: 'critical' })
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
      if (outcome !== 'swapped') continue
      events.record('token_issued', request, { user: claims.sub, family: claims.fam })
      const kept = { scopes, id: claims.sub, authTime: claims.auth_time, amr: claims.amr }
      return mint.pair({ ...subject, ...kept }, { id: claims.fam, gen, end: claims.fam_exp, jkt }, next, fewer)
    }
    throw refused(request, 'family changes too fast')
  }

  /** The exchange was given up without an answer, and took place: what it put into the family's record nobody has ever seen. */
  function wasUncertain (jti: string, current: string): boolean {
    const known = uncertain.get(jti)
    return known !== undefined && known.next === current && known.until > now()
  }

  async function stepUp (principal: Principal, load?: SubjectLoader, amr?: readonly string[]): Promise<AccessGrant> {
    const claims = presented(principal)
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
    const family = { id: fam, gen, end: claims.fam_exp, jkt: claims.cnf?.jkt }
    // What was shown before was not shown now: that is for the caller to say.
    const proven = { ...subject, scopes: scopesOf(claims), id: sub, authTime: seconds(), amr }
    return mint.access(proven, family, load === undefined ? claims.exp : undefined)
  }
}

function refused (request: FastifyRequest | null, reason: string): FastifyError {
  request?.log.info({ reason }, 'token refused')
  return new TokenInvalid()
}
