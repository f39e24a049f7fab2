/**
 * Identity: who is asking, from whatever credential the request offers.
 *
 * Threat: several schemes that disagree (CWE-287); a failed credential that is refused before it is counted.
 * Defence: every scheme registers a reader; all end in one `request.principal`. Reading never refuses: a
 * bad credential is remembered, counted by the limits and refused by access, which also tells why in the log. Whether a
 * credential still stands may have to be asked elsewhere: the answer is awaited on every route, public ones too, after
 * the limits and before authorization. What cannot be found out is nobody.
 * Not covered: what the principal may do; that is access.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { createError, type FastifyError } from '@fastify/error'
import fp from 'fastify-plugin'
import { REDUCED_CAPACITY, tellInProblem } from './problem.js'
import { createRefusal } from './refusal.js'
import type { MaybePromise } from './state/index.js'

declare module 'fastify' {
  interface FastifyInstance {
    identity: Identity
  }
  interface FastifyRequest {
    /**
     * Who asks; null where nobody was identified. On a route whose access is not `public` it is never null:
     * there {@link principalOf} gives it without the null. Until authorization it is only what the credential claims
     * to be: good for counting, for nothing else.
     */
    principal: Principal | null
    /** @internal */
    [failure]: FastifyError | null
    /** @internal */
    [standing]: Promise<FastifyError | null> | Asked | null
  }
}

/** What a service adds to its principals: augment this interface. */
export interface PrincipalExtras {}

/** The one form in which every credential ends. */
export interface Principal extends PrincipalExtras {
  kind: 'user' | 'key'
  /** Id of the user, or of the key. */
  id: string
  /** The user on whose behalf it acts: the same as `id` for users. */
  userId: string
  roles: readonly string[]
  /** Where the credential was cut down to some permissions. */
  scopes?: readonly string[]
  /** Commercial plan, for budgets. */
  plan?: string
  /** How it was proven. */
  via: 'bearer' | 'session' | 'key' | 'certificate'
  /** When the person was last seen proving themselves, in seconds since the epoch. */
  authTime: number
  /** What they showed (RFC 8176): `pwd` a password, `otp` a code, `pop` a passkey, `mfa` where that was more than one factor. */
  amr?: readonly string[]
  /** The credential's own id and the family it belongs to. */
  credentialId: string
  familyId?: string
  /** Thumbprint of the key that the credential is bound to, and that the request was shown to hold (RFC 7638, RFC 9449). */
  jkt?: string
}

/** What a reader made of a request. */
export type Reading =
  | null
  /** Different credentials of its kind: as if two readers had found one each. */
  | 'several'
  | { failure: FastifyError }
  /**
   * `standing`: is the credential still good? Null is yes. It may be a promise of shared state; nothing is refused before. A function is
   * asked once the limits have let the request pass: for what writes, so that nobody fills the state beyond their budget.
   */
  | { principal: Principal, standing?: MaybePromise<FastifyError | null> | Asked }

type Asked = () => MaybePromise<FastifyError | null>

export interface CredentialReader {
  name: string
  /** Reads its kind of credential, at once; null where the request offers none. What it throws is logged, and the request has no principal. */
  read: (request: FastifyRequest) => Reading
  /** Bearer credentials of this form are its own: the reader of tokens leaves them to it. */
  takesBearer?: (credential: string) => boolean
  /** It rides on the connection, and is read only where the request itself offers nothing: a client certificate beside a token. */
  isAmbient?: boolean
  /** What a 401 offers beside the bearer scheme (RFC 9110, 11.6.1), such as `DPoP algs="ES256"`. */
  challenge?: string
}

export interface Identity {
  /** Adds a kind of credential. */
  reader: (reader: CredentialReader) => void
  /** A bearer credential has the form that a reader takes for its own. */
  isTaken: (bearer: string) => boolean
  /** The challenges of a 401: that of the bearer scheme, which says what was wrong with a credential only by a code (RFC 6750, 3), and those of the readers. */
  challenge: (error?: string) => string
  /** Waits for what is still unknown of the credential and answers the failure, or null. Never rejects. */
  settle: (request: FastifyRequest) => MaybePromise<FastifyError | null>
}

/** Two different credentials in one request: which one is meant is not for us to guess. */
export const TwoCredentials = createRefusal('FST_BASTION_IDENTITY_TWO_CREDENTIALS', 'Send one credential, not two', 400)
/** It could not be found out whether the credential is good; the log knows why. */
export const CredentialUnchecked = createError('FST_BASTION_IDENTITY_UNCHECKED', 'The credential cannot be checked at the moment, try again shortly', 503)
/** The handler asked for a principal on a request that has none. */
export const NoPrincipal = createRefusal('FST_BASTION_IDENTITY_NO_PRINCIPAL', 'Authentication is required', 401)

const failure = Symbol('bastion.identity.failure')
const standing = Symbol('bastion.identity.standing')

async function identity (app: FastifyInstance): Promise<void> {
  const readers: CredentialReader[] = []
  const challenges = new Map<string | undefined, string>()

  app.decorateRequest('principal', null)
  app.decorateRequest(failure as never, null as never)
  app.decorateRequest(standing as never, null as never)
  app.decorate('identity', {
    reader (reader) {
      readers.push(reader)
      challenges.clear()
      readers.sort((a, b) => Number(a.isAmbient === true) - Number(b.isAmbient === true))
    },
    isTaken: bearer => readers.some(({ takesBearer }) => takesBearer?.(bearer) === true),
    challenge (error) {
      let known = challenges.get(error)
      if (known === undefined) {
        known = ['Bearer realm="api"', ...error === undefined ? [] : [`error="${error}"`], ...readers.flatMap(({ challenge }) => challenge ?? [])].join(', ')
        challenges.set(error, known)
      }
      return known
    },
    settle,
  })
  app.plan.contribute({
    concern: 'identity',
    stage: 'identify',
    compile: () => ({ step: identify, promise: { credentials: readers.map(({ name }) => name) } }),
  })

  // For public routes too: there nobody else would wait, and the handler would see who the credential once was.
  app.plan.contribute({ concern: 'identity', stage: 'authorize', compile: () => ({ step: settleStanding }) })

  function identify (request: FastifyRequest): void {
    let offered = 0
    for (const reader of readers) {
      if (offered > 0 && reader.isAmbient === true) break
      const reading = read(reader, request)
      if (reading === null) continue
      offered += reading === 'several' ? 2 : 1
      if (reading === 'several') continue
      if ('failure' in reading) {
        request[failure] = reading.failure
        continue
      }
      request.principal = reading.principal
      const answer = reading.standing ?? null
      if (answer instanceof Promise) {
        answer.catch(() => {}) // awaited in `settle`, where its rejection refuses the credential
        request[standing] = answer
      } else if (typeof answer === 'function') request[standing] = answer
      else if (answer !== null) request[failure] = answer
    }
    // Two Authorization fields, which Node joined into one.
    if (offered > 1 || request.headers.authorization?.includes(', ') === true) request[failure] = new TwoCredentials()
    if (request[failure] !== null) request.principal = null
  }

  function settleStanding (request: FastifyRequest): void | Promise<void> {
    if (request[standing] === null) return
    const pending = settle(request)
    if (pending instanceof Promise) return pending.then(() => {})
  }

  function settle (request: FastifyRequest): MaybePromise<FastifyError | null> {
    const unsettled = request[standing]
    if (request[failure] !== null || unsettled === null) return request[failure]
    const pending = typeof unsettled === 'function' ? (async () => unsettled())() : unsettled
    request[standing] = pending
    return pending.then(answer => answer ?? null, cause => unchecked(request, cause)).then(answer => {
      request[standing] = null
      if (answer !== null) {
        request[failure] = answer
        request.principal = null
      }
      return answer
    })
  }
}

function read (reader: CredentialReader, request: FastifyRequest): Reading {
  try {
    const reading = reader.read(request)
    if (reading === null || reading === 'several' || 'failure' in reading) return reading
    if (reading instanceof Promise) reading.catch(() => {})
    if (typeof reading.principal === 'object' && reading.principal !== null) return reading
    throw new TypeError(`the reader ${reader.name} answered neither a failure nor a principal`)
  } catch (cause) {
    return { failure: unchecked(request, cause) }
  }
}

function unchecked (request: FastifyRequest, cause: unknown): FastifyError {
  const error = Object.assign(new CredentialUnchecked(), { cause, expose: true, headers: { 'retry-after': '2' } })
  // That shared state is away is said once, by its event, and not for each request.
  if ((cause as FastifyError | undefined)?.statusCode === 503) return tellInProblem(error, { type: REDUCED_CAPACITY })
  request.log.error({ err: cause }, 'a credential could not be checked')
  return error
}

/**
 * The principal of a request on a guarded route.
 *
 * @throws NoPrincipal (401) where nobody is identified
 */
export function principalOf (request: FastifyRequest): Principal {
  if (request.principal === null) throw new NoPrincipal()
  return request.principal
}

export default fp(identity, { fastify: '5.x', name: 'bastion-identity', dependencies: ['bastion-plan'] })
