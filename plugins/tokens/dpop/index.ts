/**
 * DPoP (RFC 9449): tokens that are good only in the hands of who holds a key.
 *
 * Threat: an access or refresh token that leaks from a log, a proxy or a page, and is used by whoever has it (CWE-294).
 * Defence: with each request the client signs a proof, of the method, the URL, the time and the token; the token names the
 * key that has to sign it. A proof is good once, in all processes that share state, within seconds of its time, and by
 * option only with a nonce of ours. A bound token is never taken as a bearer token.
 * Not covered: a key that is stolen, or used by code that runs where the key is; what stands in query and body of a request.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { FastifyError } from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import type { State } from '../../state/index.js'
import { TokenInvalid, TokensMisconfigured } from '../errors.js'
import { NonceWanted, ProofInvalid, TokenUnbound } from './errors.js'
import { PROOF_ALGORITHMS } from './jwk.js'
import { makeNonces } from './nonces.js'
import { proofReader, type ProofFault } from './proof.js'
import { shownProofs } from './shown.js'
import { originOf } from './target.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * `true`: none but access tokens that are bound to a key are taken here, no session and no API key; on a public route the request must
     * carry a proof. `false`: unbound ones are taken, and issued, even where `tokens.dpop.required` is set.
     */
    dpop?: boolean
  }
}

export const DpopOptions = Type.Object({
  required: Type.Optional(Type.Boolean({
    description: 'None but bound tokens are issued and taken; without it a client that shows a proof gets bound tokens, and others do not', default: false,
  })),
  nonce: Type.Optional(Type.Boolean({ description: 'Proofs must hold a nonce of ours, which the header DPoP-Nonce tells', default: false })),
  algorithms: Type.Optional(Type.Array(Type.Union(PROOF_ALGORITHMS.map(name => Type.Literal(name))), {
    minItems: 1, uniqueItems: true, description: 'Signatures that are accepted', default: PROOF_ALGORITHMS,
  })),
  maxAge: Type.Optional(Type.Integer({
    minimum: 1, maximum: 600, description: 'Seconds for which a proof is good; ahead of our time it may be by `clockTolerance`', default: 60,
  })),
  origin: Type.Optional(Type.String({
    minLength: 1, description: 'Scheme and host that proofs must name; default: those of the request, so that hosts must be trusted ones (`transport.hosts`)',
  })),
}, { additionalProperties: false, description: 'Tokens bound to a key of the client (RFC 9449); left out: none are' })
export type DpopOptions = Static<typeof DpopOptions>

interface DpopParts {
  options: DpopOptions
  state: State
  /** For nonces; the first makes them, all are accepted; other ones after a rotation. */
  secrets: () => readonly Buffer[]
  /** Seconds. */
  clockTolerance: number
  /** Seconds since the epoch. */
  seconds: () => number
}

export interface Dpop {
  /** What a 401 offers to who showed nothing. */
  challenge: string
  /** What is wrong with the proof that comes with an access token which is bound to that key; null where nothing is known to be. */
  faultOf: (request: FastifyRequest, accessToken: string, jkt: string) => FastifyError | null
  /** Spends that proof, in shared state: the failure, or null, of which there is one for all requests that show it. */
  spend: (request: FastifyRequest) => Promise<FastifyError | null>
  /** A refusal of the access token that came with the scheme DPoP. */
  refusal: () => FastifyError
  /**
   * Thumbprint of the key that tokens for this request are bound to; undefined where it shows none and need not.
   * @throws ProofInvalid, NonceWanted
   */
  keyFor: (request: FastifyRequest | null | undefined) => Promise<string | undefined>
}

const SCHEME = /^dpop(?:\s|$)/i

/** The access token of the scheme DPoP; null for another scheme, empty where none follows. */
export function offeredDpop ({ headers: { authorization = '' } }: FastifyRequest): string | null {
  if (!SCHEME.test(authorization)) return null
  return authorization[4] === ' ' ? authorization.slice(5) : ''
}

/** Without `tokens.dpop` nothing is bound: a route that relies on it does not boot. */
export function refuseDpop (app: FastifyInstance): void {
  app.plan.contribute({
    concern: 'dpop',
    compile (route) {
      const { dpop = false } = (route.options.config ?? {}) as { dpop?: unknown }
      if (dpop !== false) route.object('dpop: no token is bound to a key: switch it on with tokens: { dpop: {} }')
      return undefined
    },
  })
}

export function makeDpop (app: FastifyInstance, { options, state, secrets, clockTolerance, seconds }: DpopParts): Dpop {
  const { required = false, nonce = false, algorithms = PROOF_ALGORITHMS, maxAge = 60 } = options
  const ownOrigin = options.origin === undefined ? null : originOf(options.origin)
  if (options.origin !== undefined && ownOrigin !== options.origin) {
    throw new TokensMisconfigured('tokens: dpop.origin: must be a scheme and a host, such as https://api.example')
  }
  const nonces = nonce ? makeNonces(secrets, seconds) : null
  const shown = shownProofs({
    read: proofReader({ algorithms, maxAge, clockTolerance, seconds }),
    state,
    nonces,
    origin: ownOrigin,
    // A process whose clock is behind takes a proof for longer than ours does.
    spentMs: (maxAge + 2 * clockTolerance + 1) * 1000,
  })
  const algs = `algs="${algorithms.join(' ')}"`
  const challenge = `DPoP ${algs}`

  app.plan.contribute({
    concern: 'dpop',
    stage: 'authorize',
    compile (route) {
      const { dpop, access } = (route.options.config ?? {}) as { dpop?: unknown, access?: unknown }
      if (dpop !== undefined && typeof dpop !== 'boolean') route.object(`dpop: ${JSON.stringify(dpop)} has no meaning: write true or false`)
      if (access === 'public') return dpop === true ? { step: demandProof, promise: { required: true, nonce, algorithms } } : undefined
      const isStrict = dpop === true
      const isRequired = isStrict || (required && dpop !== false)
      return {
        ...isRequired && { step: isStrict ? demandBoundToken : demandBoundOrOther },
        promise: { required: isRequired, nonce, algorithms },
      }
    },
  })
  if (nonces !== null) app.plan.contribute({ concern: 'dpop-nonce', stage: 'expose', compile: () => ({ step: tellNonce }) })

  return { challenge, faultOf, spend, refusal, keyFor }

  function faultOf (request: FastifyRequest, accessToken: string, jkt: string): FastifyError | null {
    const found = shown.of(request, accessToken, jkt)
    if ('fault' in found) return atResource(faulted(request, found))
    return shown.isSpent(found) ? atResource(replayed(request)) : null
  }

  async function spend (request: FastifyRequest): Promise<FastifyError | null> {
    return await shown.spend(shown.known(request)!) ? null : atResource(replayed(request))
  }

  async function keyFor (request: FastifyRequest | null | undefined): Promise<string | undefined> {
    if (request === null || request === undefined) {
      if (required) throw new TokensMisconfigured('tokens: dpop.required: hand the request over, which shows the key that these tokens are bound to')
      return undefined
    }
    const { dpop: demanded = required } = request.routeOptions.config as { dpop?: boolean }
    if (!demanded && request.headers.dpop === undefined) return undefined
    const found = shown.of(request)
    if ('fault' in found) throw faulted(request, found)
    if (!await shown.spend(found)) throw replayed(request)
    return found.proof.jkt
  }

  function faulted (request: FastifyRequest, { fault, wantsNonce }: ProofFault): FastifyError {
    request.log.info({ reason: `the DPoP proof ${fault}` }, 'proof refused')
    return wantsNonce === true ? Object.assign(new NonceWanted(), { headers: { 'dpop-nonce': nonces!.current() } }) : new ProofInvalid()
  }

  function replayed (request: FastifyRequest): FastifyError {
    app.events.record('proof_replayed', request)
    return new ProofInvalid()
  }

  /** At a resource it is the credential that is not good (RFC 9449, 7.1 and 9). */
  function atResource (error: FastifyError & { headers?: Record<string, string> }): FastifyError {
    const reason = error.headers === undefined ? 'invalid_dpop_proof' : 'use_dpop_nonce'
    return Object.assign(error, { statusCode: 401, headers: { ...error.headers, ...challenged(reason) } })
  }

  function refusal (): FastifyError {
    return Object.assign(new TokenInvalid(), { headers: challenged('invalid_token') })
  }

  function challenged (error: string): Record<string, string> {
    return { 'www-authenticate': `DPoP error="${error}", ${algs}` }
  }

  function demandBoundToken (request: FastifyRequest): void {
    if (request.principal?.jkt !== undefined) return
    app.events.record('access_denied', request, { reason: 'the credential is not bound to a key' })
    throw Object.assign(new TokenUnbound(), { headers: challenged('invalid_token') })
  }

  /** Sessions and API keys are no access tokens: which routes take them is said by `access.via`. */
  function demandBoundOrOther (request: FastifyRequest): void {
    if (request.principal === null || request.principal.via === 'bearer') demandBoundToken(request)
  }

  async function demandProof (request: FastifyRequest): Promise<void> {
    await keyFor(request)
  }

  /** In time, so that nobody has to be refused for one that has run out. */
  function tellNonce (request: FastifyRequest, reply: FastifyReply): void {
    const used = shown.known(request)?.proof.nonce
    if (used === undefined || reply.hasHeader('dpop-nonce')) return
    const current = nonces!.current()
    if (used !== current) reply.header('dpop-nonce', current)
  }
}
