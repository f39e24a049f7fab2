/** The algorithm is the token's to choose, and the key is the same for all: the public one is a secret then (CWE-327, CWE-347; API2). In `tokens` a key has one algorithm. */
import { createHmac, generateKeyPairSync, verify } from 'node:crypto'
import { bearerIn } from '../bearer.js'
import type { Twin } from '../app.js'

export default function tokenKeyConfusion ({ app, readers, userById }: Twin): void {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const key = publicKey.export({ type: 'spki', format: 'pem' }).toString()
  const verifiers: Record<string, (text: string, signature: Buffer) => boolean> = {
    ES256: (text, signature) => verify('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' }, signature),
    HS256: (text, signature) => createHmac('sha256', key).update(text).digest().equals(signature),
  }

  app.get('/.well-known/jwks.json', async () => ({ keys: [{ ...publicKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig' }] }))

  readers.push(request => {
    const token = bearerIn(request)
    return token !== null && verifiers[token.header.alg ?? '']?.(token.text, token.signature) === true ? userById(token.claims.sub) : null
  })
}
