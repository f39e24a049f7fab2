/** A token is verified with the key that stands in it (CWE-347, CWE-345; API2). `tokens` refuses what brings a key of its own. */
import { createPublicKey, verify } from 'node:crypto'
import { bearerIn } from '../bearer.js'
import type { Twin } from '../app.js'

export default function tokenBringsKey ({ readers, userById }: Twin): void {
  readers.push(request => {
    const token = bearerIn(request)
    if (token?.header.jwk === undefined) return null
    const key = createPublicKey({ key: token.header.jwk, format: 'jwk' })
    return verify('sha256', Buffer.from(token.text), { key, dsaEncoding: 'ieee-p1363' }, token.signature) ? userById(token.claims.sub) : null
  })
}
