/** A token says itself how it is signed, and `none` is taken (CWE-347; API2). `tokens` takes no header but those that its own keys write. */
import { bearerIn } from '../bearer.js'
import type { Twin } from '../app.js'

export default function tokenWithoutAlgorithm ({ readers, userById }: Twin): void {
  readers.push(request => {
    const token = bearerIn(request)
    return token?.header.alg === 'none' ? userById(token.claims.sub) : null
  })
}
