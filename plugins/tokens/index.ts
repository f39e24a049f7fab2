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
import type { FastifyInstance } from 'fastify'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { measured } from '../measured.js'
import { checkOptions } from '../options.js'
import { readerOf } from './claims.js'
import type { Tokens } from './contract.js'
import { DpopOptions, makeDpop, refuseDpop } from './dpop/index.js'
import { TokensMisconfigured } from './errors.js'
import { makeGrants } from './grants.js'
import { makeGuesses } from './guesses.js'
import { inspector } from './inspection.js'
import { makeIssuers, type IssuerOptions } from './issuers.js'
import type { TokenKeys } from './keys.js'
import { makeLinks } from './links.js'
import { makeMint } from './minting.js'
import { bearerReader } from './reader.js'
import { makeRevocation } from './revocation.js'
import { makeRings } from './ring.js'

export { bearerOf } from './bearer.js'
export { IssuerAway, ScopeRefused, TokenInvalid, TokensGuessed, TokensMisconfigured } from './errors.js'
export { NonceWanted, ProofInvalid, TokenUnbound } from './dpop/errors.js'
export { LinkInvalid } from './links.js'
export type { AccessGrant, Inspection, SubjectLoader, TokenPair, Tokens, TokenSubject } from './contract.js'
export type { BoundOf, Links, LinkTerms } from './links.js'
export type { DpopOptions } from './dpop/index.js'
export type { IssuedSubject, IssuerOptions } from './issuers.js'
export type { Jwk, JwkSet } from './jwk.js'
export type { Key, KeyPair, Secret, TokenKeys } from './keys.js'

declare module 'fastify' {
  interface FastifyInstance {
    tokens: Tokens
  }
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
  guesses: Type.Optional(Type.Union([Type.Integer({ minimum: 1 }), Type.Literal(false)], {
    description: 'Wrong signatures of an address in a minute; after them nothing is taken from there that is not known to be good. `false`: any number', default: 100,
  })),
  deadline: Type.Optional(Type.Integer({ minimum: 1, description: 'Milliseconds that shared state may take to answer; default: that of state' })),
  whenAway: Type.Optional(Type.Union([Type.Literal('refuse'), Type.Literal('accept')], {
    description: 'Access tokens while shared state is away: 503, or accepted without knowing whether they were ended. Nothing is issued or refreshed then', default: 'refuse',
  })),
  dpop: Type.Optional(DpopOptions),
}, { additionalProperties: false })
export type TokensOptions = Static<typeof TokensOptions> & {
  /**
   * A ring per purpose: HMAC secrets of at least 32 bytes (Buffer, or `oct` JWK); for asymmetric algorithms the access keys are PEM or
   * private JWKs. Of several, or of a JWK Set, the first signs and all verify; those after it may be public keys alone.
   */
  keys: TokenKeys
  /** Others whose access tokens are taken too, by the keys that they publish. */
  issuers?: readonly IssuerOptions[]
  /** Milliseconds since the epoch; for tests. */
  now?: () => number
}

async function tokens (app: FastifyInstance, options: TokensOptions): Promise<void> {
  const { keys, issuers: others = [], now = Date.now, ...plain } = options
  checkOptions(TokensOptions, plain, 'tokens', TokensMisconfigured)
  const {
    issuer, audience, algorithm = 'HS256', accessTtl = 900, refreshTtl = 604_800, familyTtl = 2_592_000, clockTolerance = 5, remembered = 10_000,
    whenAway = 'refuse',
  } = plain
  if (accessTtl > Math.min(refreshTtl, familyTtl)) throw new TokensMisconfigured('tokens: accessTtl: must not be longer than refreshTtl and familyTtl')

  const state = plain.deadline === undefined ? app.state : app.state.within(plain.deadline)
  const seconds = () => Math.floor(now() / 1000)
  const rings = await makeRings(keys, algorithm)
  const signature = measured(app).counter('bastion_token_signatures_total', 'Signatures of tokens that were looked at: those of tokens that were not known')
  const read = readerOf({ rings, issuer, audiences: { access: audience, refresh: issuer }, seconds, clockTolerance, signature })
  const mint = makeMint({ rings, issuer, audience, accessTtl, refreshTtl, seconds, minted: token => bearer.learn(token) })
  const dpop = plain.dpop === undefined ? null : makeDpop(app, { options: plain.dpop, state, secrets: () => rings.secrets, clockTolerance, seconds })
  if (dpop === null) refuseDpop(app)
  const closing = new AbortController()
  const issuers = others.length === 0
    ? null
    : makeIssuers({ issuers: others, issuer, takesBound: dpop !== null, remembered, clockTolerance, now, seconds, signature, log: app.log, closing: closing.signal })
  const guesses = makeGuesses({ perAddress: plain.guesses ?? 100, state, events: app.events, now })
  const bearer = bearerReader({ read, state, identity: app.identity, remembered, whenAway, dpop, issuers, guesses, clockTolerance, now, seconds })
  const revocation = makeRevocation({ state, refreshTtl, familyTtl, clockTolerance, now })
  const { events } = app
  const grants = makeGrants({
    state, events, mint, read, presented: bearer.presented, dpop, revokeFamily: revocation.revokeFamily, accessTtl, refreshTtl, familyTtl, clockTolerance, now, seconds,
  })

  app.decorate('tokens', {
    ...grants,
    ...revocation,
    async proofOf (request) {
      const jkt = await dpop?.keyFor(request)
      return jkt === undefined ? null : { jkt }
    },
    inspect: inspector(read, state),
    links: makeLinks(() => rings.secrets, state, seconds),
    rotate,
    jwks: () => structuredClone(rings.jwks),
  })
  app.identity.reader({ name: 'bearer', read: bearer.read, ...dpop !== null && { challenge: dpop.challenge } })

  app.plan.contribute({ concern: 'tokens', stage: 'recall', compile: () => ({ step: bearer.recall }) })
  if (issuers !== null) app.addHook('onClose', async () => { closing.abort() })

  /** When the last rotation is over, whatever became of it. */
  let turn: Promise<unknown> = Promise.resolve()

  /** One after the other: the keys that were given last are those that stay. */
  function rotate (next: TokenKeys): Promise<void> {
    const rotated = Promise.all([makeRings(next, algorithm), turn]).then(([made]) => {
      Object.assign(rings, made)
      bearer.forget()
      app.log.info({ kids: made.jwks.keys.map(({ kid }) => kid) }, 'the keys of tokens were rotated')
    })
    turn = Promise.allSettled([turn, rotated])
    return rotated
  }
}

export default fp(tokens, { fastify: '5.x', name: 'bastion-tokens', dependencies: ['bastion-plan', 'bastion-events', 'bastion-state', 'bastion-identity'] })
