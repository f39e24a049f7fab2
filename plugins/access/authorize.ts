/** What needs only the principal, decided before the body is parsed. */
import type { FastifyError, FastifyRequest } from 'fastify'
import type { Principal } from '../identity.js'
import type { Step } from '../plan/index.js'
import type { MaybePromise } from '../state/index.js'
import type { Refusals } from './refusals.js'
import type { CompiledRule } from './rule.js'

interface Judges {
  refusals: Refusals
  hasPermission: (principal: Principal, permission: string) => boolean
  /** Milliseconds since the epoch. */
  now: () => number
}

export function authorizeBy (rule: CompiledRule, { refusals: { unauthenticated, forbidden, stepUpRequired }, hasPermission, now }: Judges): Step {
  const { roles, permissions, via, takesScoped, maxAge, factors, text } = rule
  if (maxAge !== null || factors.length > 0 || roles !== null) return authorizeRule
  const only = permissions.length === 1 ? permissions[0]! : null

  /** The common case in few steps: one permission, and a credential that needs nothing else. */
  return function authorizePermission (request) {
    const { principal } = request
    if (principal !== null && only !== null && via.includes(principal.via) && hasPermission(principal, only)) return
    return authorizeRule(request)
  }

  function authorizeRule (request: FastifyRequest): MaybePromise<FastifyError> | undefined {
    const { principal } = request
    if (principal === null) return unauthenticated(request)
    if (!via.includes(principal.via)) return forbidden(request, `credential ${principal.via} is not accepted`)
    if (!takesScoped && principal.scopes !== undefined) return forbidden(request, 'the credential is cut down to scopes, and no permission is asked for')
    if (roles !== null && !principal.roles.some(role => roles.has(role))) return forbidden(request, `lacks role ${text}`)
    for (const permission of permissions) {
      if (!hasPermission(principal, permission)) return forbidden(request, `lacks permission ${permission}`)
    }
    // Written so that a time that is no number, or lies far ahead, is refused too.
    if (maxAge !== null && !(Math.abs(now() / 1000 - principal.authTime) <= maxAge)) return stepUpRequired(request, rule, `was not confirmed within ${maxAge} seconds`)
    // A credential that does not say what was shown has shown nothing.
    const missing = factors.filter(factor => !Array.isArray(principal.amr) || !principal.amr.includes(factor))
    if (missing.length > 0) return stepUpRequired(request, rule, `has not shown ${missing.join(', ')}`)
  }
}
