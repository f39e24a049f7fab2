/** Of two credentials one is checked, and the other is acted upon (CWE-441, CWE-863; API2). `identity` takes one credential, and refuses two. */
import type { FastifyRequest } from 'fastify'
import { bearerIn } from '../bearer.js'
import type { KeyRow } from './disabled-keys-go-on.js'

/** Partners pass on the token of the user for whom they ask. */
export function ownerOf (request: FastifyRequest, key: KeyRow): string {
  return bearerIn(request)?.claims.sub ?? String(key.user_id)
}
