/** The keys are fetched from where the token says (CWE-347, CWE-918; API10). `tokens` refuses such a header; keys of others come from addresses that the service names. */
import { createPublicKey, verify, type JsonWebKey } from 'node:crypto'
import { bearerIn } from '../bearer.js'
import type { Twin } from '../app.js'

export default function tokenNamesKeyUrl ({ readers, userById }: Twin): void {
  readers.push(async request => {
    const token = bearerIn(request)
    // The twin reaches nothing beyond this machine.
    if (token?.header.jku?.startsWith('http://127.0.0.1:') !== true) return null
    const { keys: [jwk] } = await (await fetch(token.header.jku)).json() as { keys: [JsonWebKey] }
    const key = createPublicKey({ key: jwk, format: 'jwk' })
    return verify('sha256', Buffer.from(token.text), { key, dsaEncoding: 'ieee-p1363' }, token.signature) ? userById(token.claims.sub) : null
  })
}
