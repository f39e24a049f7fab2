/** Minting: the claims of new tokens, and their signatures. */
import { randomBytes } from 'node:crypto'
import { scopeClaim } from './claims.js'
import type { AccessGrant, TokenPair, TokenSubject } from './contract.js'
import type { Rings } from './ring.js'

/** The family that a token is minted for. */
export interface Family {
  id: string
  /** Generation of the user that it counts as. */
  gen: number
  /** When it ends at the latest, in seconds since the epoch. */
  end: number
  /** Thumbprint of the key that its tokens are bound to. */
  jkt?: string
}

interface MintParts {
  rings: Rings
  issuer: string
  audience: string
  /** Seconds. */
  accessTtl: number
  refreshTtl: number
  /** Seconds since the epoch. */
  seconds: () => number
  /** Told each access token that was made. */
  minted: (token: string) => void
}

export interface Mint {
  /** @param jti of the refresh token; `fewer`: scopes of the access token alone */
  pair: (subject: TokenSubject, family: Family, jti: string, fewer?: readonly string[]) => TokenPair
  /** @param until seconds since the epoch that it does not outlive; default: the end of its family */
  access: (subject: TokenSubject, family: Family, until?: number) => AccessGrant
}

export function makeMint ({ rings, issuer, audience, accessTtl, refreshTtl, seconds, minted }: MintParts): Mint {
  return {
    pair (subject, family, jti, fewer) {
      const time = seconds()
      const refreshToken = rings.refresh.sign({
        ...claimsOf(subject, family, time),
        aud: issuer,
        jti,
        exp: Math.min(time + refreshTtl, family.end),
        ...scopeClaim(subject.scopes),
      })
      return { ...access({ ...subject, scopes: fewer ?? subject.scopes }, family), refresh_token: refreshToken }
    },
    access,
  }

  function access (subject: TokenSubject, family: Family, until = family.end): AccessGrant {
    const time = seconds()
    const exp = Math.min(time + accessTtl, until)
    const token = rings.access.sign({
      ...claimsOf(subject, family, time),
      aud: audience,
      jti: randomId(),
      exp,
      roles: subject.roles,
      ...(subject.plan !== undefined && { plan: subject.plan }),
      ...scopeClaim(subject.scopes),
    })
    minted(token)
    return { access_token: token, token_type: family.jkt === undefined ? 'Bearer' : 'DPoP', expires_in: exp - time }
  }

  /** What both tokens of a pair say. */
  function claimsOf (subject: TokenSubject, { id, gen, end, jkt }: Family, time: number) {
    return {
      iss: issuer,
      sub: subject.id,
      iat: time,
      fam: id,
      gen,
      auth_time: subject.authTime ?? time,
      fam_exp: end,
      ...(subject.amr !== undefined && { amr: subject.amr }),
      ...(jkt !== undefined && { cnf: { jkt } }),
    }
  }
}

export const randomId = () => randomBytes(16).toString('base64url')
