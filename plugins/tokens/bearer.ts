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

/** Asked for twice in a request, a token is the same text and not only an equal one: its hash is computed once. */
let last = { authorization: '', token: '' }

/** The same before its form is looked at, which what is remembered needs no more. */
export function offeredBearer (request: FastifyRequest): string | null {
  const { authorization } = request.headers
  if (authorization === undefined) return null
  if (authorization === last.authorization && authorization !== '') return last.token
  if (authorization.length > 7 && authorization.slice(0, 7).toLowerCase() === 'bearer ') {
    last = { authorization, token: authorization.slice(7) }
    return last.token
  }
  return /^bearer(?:\s|$)/i.test(authorization) ? '' : null
}

export function isWellFormed (token: string): boolean {
  return token.length <= MAX_LENGTH && TOKEN.test(token)
}
