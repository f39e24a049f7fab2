/** What a token says, and when it may be believed. */
import type { Kind } from './keys.js'
import type { Rings } from './ring.js'

export interface Claims {
  iss: string
  aud: string
  sub: string
  jti: string
  iat: number
  exp: number
  /** Family, and the generation of the user at the time of issue. */
  fam: string
  gen: number
  auth_time: number
  /** RFC 8176. */
  amr?: string[]
  nbf?: number
  roles?: string[]
  plan?: string
  /** Permissions that the token is cut down to. */
  scope?: string
  /** When the family ends at the latest. */
  fam_exp: number
  /** Thumbprint of the key that has to be shown with it (RFC 9449, 6.1). */
  cnf?: { jkt: string }
}

interface Expectations {
  rings: Rings
  issuer: string
  /** `aud` of each kind. */
  audiences: Record<Kind, string>
  /** Seconds since the epoch. */
  seconds: () => number
  clockTolerance: number
}

/** The claims of a token of that kind that was signed by us and is in its time; null for every other text. Never throws. */
export type ClaimsReader = (kind: Kind, token: string) => Claims | null

export function readerOf ({ rings, issuer, audiences, seconds, clockTolerance }: Expectations): ClaimsReader {
  return function readClaims (kind, token) {
    let claims
    try {
      claims = rings[kind].verify(token) as unknown as Claims
    } catch {
      return null
    }
    const { iss, aud, sub, jti, fam, iat, exp, gen, auth_time: authTime, fam_exp: famExp, nbf = iat, roles, amr = [], scope = '', cnf } = claims
    if (iss !== issuer || aud !== audiences[kind]) return null
    if (![iat, exp, gen, authTime, famExp, nbf].every(Number.isSafeInteger)) return null
    if (![sub, jti, fam].every(text => typeof text === 'string' && text !== '')) return null
    if (kind === 'access' && !isTexts(roles)) return null
    if (!isTexts(amr) || typeof scope !== 'string') return null
    // Bound in another way than ours is bound to what nobody checks here.
    if (cnf !== undefined && !(typeof cnf?.jkt === 'string' && cnf.jkt !== '')) return null
    const time = seconds()
    return exp + clockTolerance > time && Math.max(iat, nbf) - clockTolerance <= time ? claims : null
  }
}

export function isTexts (value: unknown): value is string[] {
  return Array.isArray(value) && value.every(item => typeof item === 'string')
}

/** RFC 9068, 2.2.3: one text, with blanks between. No scopes at all are the empty text, which is not the same as none being said. */
export const scopeClaim = (scopes: readonly string[] | undefined) => scopes === undefined ? {} : { scope: scopes.join(' ') }
export const scopesOf = ({ scope }: Claims) => scope === undefined ? undefined : scope.split(' ').filter(name => name !== '')
