/** Exemptions: who is not counted. The flood guard counts them all the same. */
import type { FastifyRequest } from 'fastify'
import { addressRanges } from '../address.js'
import { answerOf, refuseAsync } from './callback.js'
import { LimitsMisconfigured } from './errors.js'

/**
 * Who is not counted: addresses and CIDR blocks, or a function whose answer must be `true`. It is asked before
 * authorization: what `request.principal` says then is only what the credential claims, revoked ones too.
 */
export type Exempt = readonly string[] | ((request: FastifyRequest) => boolean)

/**
 * Whether a request is exempt; null where none is.
 *
 * @throws LimitsMisconfigured
 */
export function exemptionOf (exempt: Exempt | undefined): ((request: FastifyRequest) => boolean) | null {
  if (exempt === undefined) return null
  if (typeof exempt === 'function') {
    refuseAsync('exempt', exempt)
    return request => asked(exempt, request)
  }
  if (exempt.length === 0) return null
  try {
    const isListed = addressRanges(exempt)
    return ({ ip }) => isListed(ip)
  } catch (error) {
    throw new LimitsMisconfigured(`limits: exempt: ${(error as Error).message}`)
  }
}

/** Only `true` is an exemption: what throws, waits or answers anything else is counted. */
function asked (exempt: (request: FastifyRequest) => boolean, request: FastifyRequest): boolean {
  try {
    return answerOf(exempt(request)) === true
  } catch (error) {
    request.log.error({ err: error }, 'whether a request is exempt from limits could not be decided: it is counted')
    return false
  }
}
