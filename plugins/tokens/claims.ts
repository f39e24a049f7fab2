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
  /** Called for each signature that is looked at. */
  signature: () => void
}

interface Trust {
  /** We have made it just now: its signature need not be looked at. */
  isMinted?: boolean
  /** Called where all was good but the signature. */
  forged?: () => void
}

/** The claims of a token of that kind that was signed by us and is in its time; null for every other text. Never throws. */
export type ClaimsReader = (kind: Kind, token: string, trust?: Trust) => Claims | null

export function readerOf ({ rings, issuer, audiences, seconds, clockTolerance, signature }: Expectations): ClaimsReader {
  /** The signature comes last: it costs more than all the rest. */
  return function readClaims (kind, token, { isMinted = false, forged } = {}) {
    const claims = rings[kind].read(token) as unknown as Claims | null
    if (claims === null || !areGood(kind, claims)) return null
    if (isMinted) return claims
    signature()
    if (rings[kind].isSigned(token)) return claims
    forged?.()
    return null
  }

  function areGood (kind: Kind, claims: Claims): boolean {
    const { iss, aud, sub, jti, fam, iat, exp, gen, auth_time: authTime, fam_exp: famExp, nbf = iat, roles, amr = [], scope = '', cnf } = claims
    if (iss !== issuer || aud !== audiences[kind]) return false
    if (![iat, exp, gen, authTime, famExp, nbf].every(Number.isSafeInteger)) return false
    if (![sub, jti, fam].every(text => typeof text === 'string' && text !== '')) return false
    if (kind === 'access' && !isTexts(roles)) return false
    if (!isTexts(amr) || typeof scope !== 'string') return false
    // Bound in another way than ours is bound to what nobody checks here.
    if (cnf !== undefined && !(typeof cnf?.jkt === 'string' && cnf.jkt !== '')) return false
    const time = seconds()
    return exp + clockTolerance > time && Math.max(iat, nbf) - clockTolerance <= time
  }
}

export function isTexts (value: unknown): value is string[] {
  return Array.isArray(value) && value.every(item => typeof item === 'string')
}

/** RFC 9068, 2.2.3: one text, with blanks between. No scopes at all are the empty text, which is not the same as none being said. */
export const scopeClaim = (scopes: readonly string[] | undefined) => scopes === undefined ? {} : { scope: scopes.join(' ') }
export const scopesOf = ({ scope }: Claims) => scope === undefined ? undefined : scope.split(' ').filter(name => name !== '')
