/** The bearer credential of a request (RFC 6750, 2.1). */
import type { FastifyRequest } from 'fastify'

/** Longer than any token of ours; what is longer costs no hash, no look-up and no signature. */
const MAX_LENGTH = 4096
const TOKEN = /^[\w~+/.-]+=*$/

/** The bearer credential of a request; null where there is none, empty where it is malformed. */
export function bearerOf (request: FastifyRequest): string | null {
  const offered = offeredBearer(request)
  return offered === null || isWellFormed(offered) ? offered : ''
}

/** The same before its form is looked at, which what is remembered needs no more. */
export function offeredBearer (request: FastifyRequest): string | null {
  const { authorization } = request.headers
  if (authorization === undefined) return null
  if (authorization.length > 7 && authorization.slice(0, 7).toLowerCase() === 'bearer ') return authorization.slice(7)
  return /^bearer(?:\s|$)/i.test(authorization) ? '' : null
}

export function isWellFormed (token: string): boolean {
  return token.length <= MAX_LENGTH && TOKEN.test(token)
}
