/** The token between the password and the code passes for a whole one (CWE-287, CWE-304; API2). That of `mfa` is opaque, and good for the code alone. */
import type { User } from '../data.js'
import type { Twin } from '../app.js'
import { claimsIn } from './weak-token-secret.js'

export function pendingTokenOf ({ app }: Twin, user: User): string {
  return app.jwt.sign({ sub: String(user.id), use: 'mfa' })
}

export default function halfSignInAsWhole ({ readers, userById }: Twin): void {
  // The app greets people by their name while they look for their telephone.
  readers.push(async request => {
    const claims = await claimsIn(request)
    return claims?.use === 'mfa' ? userById(claims.sub) : null
  })
}
