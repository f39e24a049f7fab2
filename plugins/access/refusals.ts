/** Refusals: each is recorded, and tells who asks no more than they need. */
import type { FastifyError, FastifyInstance, FastifyRequest } from 'fastify'
import { makeHoldOfMany } from '../hold.js'
import { tellInProblem } from '../problem.js'
import { Forbidden, StepUpRequired, Unauthenticated } from './errors.js'
import type { MaybePromise } from '../state/index.js'
import type { CompiledRule } from './rule.js'

/** What a refused request is answered with. */
export interface Refusals {
  /** Held for a moment where a credential was wrong, as many from there were. */
  unauthenticated: (request: FastifyRequest) => MaybePromise<FastifyError>
  forbidden: (request: FastifyRequest, reason: string) => FastifyError
  stepUpRequired: (request: FastifyRequest, rule: CompiledRule, reason: string) => FastifyError
}

export function refusalsOf ({ identity, events }: FastifyInstance): Refusals {
  const hold = makeHoldOfMany()
  return {
    unauthenticated (request) {
      const failed = identity.settle(request)
      const cause = failed instanceof Promise ? null : failed
      // What could not be checked is nobody's attempt: that shared state is away is an event of its own, said once.
      if (cause === null || (cause.statusCode ?? 500) < 500) events.record('access_denied', request, { reason: cause === null ? 'no credential' : cause.code })
      const error: FastifyError & { headers?: Record<string, string> } = cause ?? new Unauthenticated()
      // A credential of another scheme than bearer says itself what was wrong with it.
      if (error.statusCode !== 401) return error
      if (error.headers?.['www-authenticate'] === undefined) {
        Object.assign(error, { headers: { 'www-authenticate': identity.challenge(cause === null ? undefined : 'invalid_token') } })
      }
      return cause === null ? error : hold(error, request)
    },
    forbidden (request, reason) {
      events.record('access_denied', request, { reason })
      return new Forbidden()
    },
    stepUpRequired (request, { maxAge, factors }, reason) {
      events.record('access_denied', request, { reason })
      // RFC 9470, 3: all that is asked for, whichever of it is missing, so that one step-up is enough.
      const asked = [...factors.length > 0 ? [`acr_values="${factors.join(' ')}"`] : [], ...maxAge !== null ? [`max_age="${maxAge}"`] : []]
      const scheme = request.principal?.jkt === undefined ? 'Bearer' : 'DPoP'
      const error = Object.assign(new StepUpRequired(), { headers: { 'www-authenticate': [`${scheme} realm="api", error="insufficient_user_authentication"`, ...asked].join(', ') } })
      return factors.length > 0 ? tellInProblem(error, { factors }) : error
    },
  }
}
