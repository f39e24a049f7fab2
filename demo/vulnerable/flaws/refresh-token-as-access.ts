/** A refresh token opens what an access token does (CWE-287, CWE-613; API2). In `tokens` each kind has keys, type and audience of its own. */
import { claimsIn } from './weak-token-secret.js'
import type { Twin } from '../app.js'

export default function refreshTokenAsAccess ({ readers, userById }: Twin): void {
  readers.push(async request => {
    const claims = await claimsIn(request)
    return claims?.use === 'refresh' ? userById(claims.sub) : null
  })
}
