/** The reader of access tokens: who it is from the token alone, and whether it still stands from shared state. */
import type { FastifyRequest } from 'fastify'
import type { FastifyError } from '@fastify/error'
import type { Identity, Principal, Reading } from '../identity.js'
import { makeHold } from '../hold.js'
import type { Step } from '../plan/index.js'
import { Remembered } from '../remembered.js'
import type { MaybePromise, State } from '../state/index.js'
import { isWellFormed, offeredBearer } from './bearer.js'
import { scopesOf, type Claims, type ClaimsReader } from './claims.js'
import { offeredDpop, type Dpop } from './dpop/index.js'
import { TokenInvalid } from './errors.js'
import { isAlive, standingKeys, type StandingKeys } from './family.js'
import type { Guesses } from './guesses.js'
import type { Issuers } from './issuers.js'

interface BearerParts {
  read: ClaimsReader
  state: State
  identity: Identity
  /** Verified tokens remembered. */
  remembered: number
  whenAway: 'refuse' | 'accept'
  /** Null where no token is bound to a key. */
  dpop: Dpop | null
  /** Null where nobody else's tokens are taken. */
  issuers: Issuers | null
  guesses: Guesses
  /** Seconds. */
  clockTolerance: number
  /** Milliseconds since the epoch. */
  now: () => number
  /** Seconds since the epoch. */
  seconds: () => number
}

export interface BearerReader {
  read: (request: FastifyRequest) => Reading
  /**
   * Before it is read: answers why what is new is refused from where too much was guessed, and waits for keys that somebody else's token needs, where
   * they are not here yet.
   */
  recall: (request: FastifyRequest) => ReturnType<Step>
  /** What we have just made is known from the start. */
  learn: (token: string) => void
  /** The claims behind a principal of this reader, for what it asks of its own token; undefined for every other. */
  presented: (principal: Principal) => Claims | undefined
  /** Forgets which tokens were verified: a key may have left its ring. */
  forget: () => void
}

/** `deadUntil`: in milliseconds; found to have been ended. */
interface Verified { principal: Principal, claims: Claims, keys: StandingKeys, deadUntil: number }

/** Milliseconds for which a token that was found to have been ended is not asked about again. */
const DEAD_MS = 5000

export function bearerReader ({ read, state, identity, remembered, whenAway, dpop, issuers, guesses, clockTolerance, now, seconds }: BearerParts): BearerReader {
  let verified = new Remembered<Verified>(Math.max(1, remembered))
  const presented = new WeakMap<Principal, Claims>()
  const hold = makeHold()

  return {
    read: readBearer,
    recall,
    learn,
    presented: principal => presented.get(principal),
    forget: () => { verified = new Remembered(Math.max(1, remembered)) },
  }

  function recall (request: FastifyRequest): ReturnType<Step> {
    if (issuers === null && guesses.areNone()) return undefined
    const token = offeredBearer(request) ?? (dpop === null ? null : offeredDpop(request))
    if (token === null || verified.get(token) !== undefined || identity.isTaken(token)) return undefined
    const refusal = issuers?.isKnown(token) === true ? null : guesses.refusalOf(request)
    return refusal === null ? issuers?.prepare(token) : hold(refusal)
  }

  function learn (token: string): void {
    const claims = remembered > 0 ? read('access', token, { isMinted: true }) : null
    if (claims !== null) keep(token, claims)
  }

  function keep (token: string, claims: Claims): Verified {
    const known = { principal: principalFrom(claims), claims, keys: standingKeys(claims), deadUntil: 0 }
    presented.set(known.principal, claims)
    if (remembered > 0) verified.set(token, known)
    return known
  }

  function readBearer (request: FastifyRequest): Reading {
    const bearer = offeredBearer(request)
    const token = bearer ?? (dpop === null ? null : offeredDpop(request))
    if (token === null) return null
    const refusal = bearer === null ? dpop!.refusal : invalid
    let known = verified.get(token)
    if (known === undefined) {
      if (identity.isTaken(token)) return null
      const forged = () => guesses.count(request)
      const stranger = issuers?.read(token, forged) ?? null
      if (stranger !== null) return readStranger(request, token, stranger, bearer !== null, refusal)
      const claims = isWellFormed(token) ? read('access', token, { forged }) : null
      if (claims === null) return { failure: refusal() }
      known = keep(token, claims)
    } else if (known.claims.exp + clockTolerance <= seconds()) {
      verified.delete(token)
      return { failure: refusal() }
    }
    const { jkt } = known.principal
    // A bound token that was taken without its key would be a bearer token, and one without a key has none to show.
    if ((jkt === undefined) !== (bearer !== null)) return { failure: refusal() }
    // Whoever holds a token that was ended must not spend the budget of its owner: it counts for its address, and is not asked about again.
    if (known.deadUntil > now()) return { failure: refusal() }
    const offered = known
    // What shows no key costs no look-up, and spends nobody's budget.
    const fault = jkt === undefined ? null : dpop!.faultOf(request, token, jkt)
    if (fault !== null) return { failure: fault }
    const values = state.getMany(known.keys)
    const alive: MaybePromise<FastifyError | null> = values instanceof Promise ? values.then(found => judge(found, offered, refusal), unknown) : judge(values, offered, refusal)
    return { principal: known.principal, standing: jkt === undefined ? alive : spendingProof(request, alive) }
  }

  /** Of somebody else's token nobody here knows whether it was ended; what it is bound to must be shown all the same. */
  function readStranger (request: FastifyRequest, token: string, principal: Principal, isBearer: boolean, refusal: () => FastifyError): Reading {
    const { jkt } = principal
    if ((jkt === undefined) !== isBearer) return { failure: refusal() }
    const fault = jkt === undefined ? null : dpop!.faultOf(request, token, jkt)
    if (fault !== null) return { failure: fault }
    return { principal, standing: jkt === undefined ? null : spendingProof(request, null) }
  }

  /** A proof is spent once its token is known to stand, and the limits have let the request pass. */
  function spendingProof (request: FastifyRequest, alive: MaybePromise<FastifyError | null>): () => Promise<FastifyError | null> {
    if (alive instanceof Promise) alive.catch(() => {}) // nobody may ask
    return async () => await alive ?? dpop!.spend(request)
  }

  function judge (found: readonly (string | null)[], token: Verified, refusal: () => FastifyError): FastifyError | null {
    if (isAlive(found, token.claims)) return null
    token.deadUntil = now() + DEAD_MS
    return refusal()
  }

  /** Whether a token was ended cannot be found out. */
  function unknown (error: FastifyError): null {
    if (whenAway === 'accept' && error.code === 'FST_BASTION_STATE_UNAVAILABLE') return null
    throw error
  }
}

const invalid = () => new TokenInvalid()

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
    ...(claims.amr !== undefined && { amr: Object.freeze(claims.amr) }),
    credentialId: claims.jti,
    familyId: claims.fam,
    ...(claims.cnf !== undefined && { jkt: claims.cnf.jkt }),
  })
}
