/** What others see of tokens: the decorator `app.tokens`, what goes in and what comes out. */
import type { FastifyRequest } from 'fastify'
import type { Principal } from '../identity.js'
import type { TokenKeys } from './keys.js'
import type { Links } from './links.js'

/** What a service says of the one who signed in. */
export interface TokenSubject {
  id: string
  roles: readonly string[]
  plan?: string
  /** When the person proved themselves, in seconds since the epoch; default: now. */
  authTime?: number
  /** What they showed (RFC 8176), such as `['pwd', 'otp', 'mfa']`: claim `amr` of the tokens (RFC 9068, 2.2.1). A refresh keeps it. */
  amr?: readonly string[]
  /** Cuts the tokens down to these permissions (RFC 6749, 3.3); without it they carry all that the roles give. */
  scopes?: readonly string[]
}

export interface TokenPair {
  access_token: string
  refresh_token: string
  /** `DPoP`: bound to the key that was shown (RFC 9449, 5). */
  token_type: 'Bearer' | 'DPoP'
  /** Seconds until the access token expires. */
  expires_in: number
}

/** An access token alone. */
export type AccessGrant = Omit<TokenPair, 'refresh_token'>

/** Looks the user up again at each refresh, so that changed roles and closed accounts count; null refuses. */
export type SubjectLoader = (userId: string) => Promise<TokenSubject | null>

export interface Tokens {
  /**
   * A new family: its first pair. With `load` the subject is looked up once more, after the moment from which the family
   * counts: a role that changed or an account that was closed while the password was checked ends these tokens too.
   *
   * @param request with `dpop`: both tokens are bound to the key of which its proof is
   * @throws TokenInvalid where `load` finds nobody; ProofInvalid, NonceWanted
   */
  issue: (subject: TokenSubject, load?: SubjectLoader, request?: FastifyRequest) => Promise<TokenPair>
  /**
   * Spends a refresh token for a new pair. Two parallel calls: one succeeds; the other is reuse, which kills the family. A token that is
   * bound to a key wants it shown again: who cannot is refused, and has spent nothing.
   *
   * @param request with `dpop`: its proof shows the key that the pair is bound to
   * @param scopes fewer than the family has, for the access token alone (RFC 6749, 6)
   * @throws TokenInvalid, ProofInvalid, NonceWanted, ScopeRefused where the family does not have them; that does not spend the token
   */
  refresh: (refreshToken: string, load: SubjectLoader, request?: FastifyRequest, scopes?: readonly string[]) => Promise<TokenPair>
  /**
   * A new access token in the principal's family whose `auth_time` is now; the presented one is dead. With `load` its roles
   * are looked up anew; without, they are those of the presented one, and the new one lives no longer than that.
   *
   * @param amr what was shown now; default: nothing is said
   * @throws TokenInvalid where the presented one is dead already, or `load` finds nobody
   */
  stepUp: (principal: Principal, load?: SubjectLoader, amr?: readonly string[]) => Promise<AccessGrant>
  /**
   * The key that new tokens for this request will be bound to; null where it shows none (RFC 9449). `issue` and `refresh` ask by
   * themselves: this is for whoever wants to know before something that costs, such as the check of a password.
   * @throws ProofInvalid, NonceWanted
   */
  proofOf: (request: FastifyRequest) => Promise<{ jkt: string } | null>
  /** Ends a family: its refresh token and all its access tokens. */
  revokeFamily: (familyId: string) => Promise<void>
  /** Ends everything of a user that was issued before this call; `except` is a family that stays (the one that asked). */
  revokeUser: (userId: string, options?: { except?: string }) => Promise<void>
  /** What a token of ours says, while it is good; null for every other text (RFC 7009, RFC 7662). */
  inspect: (token: string) => Promise<Inspection | null>
  /** Signed, timed texts for links in mails, each good for one purpose and once. */
  links: Links
  /**
   * Puts other keys into the rings, of the same algorithm, without a restart: they are checked as at boot, and take over all at once.
   * Tokens and links of a key that stays go on, those of a key that left are dead. Where several processes verify, rotate in
   * three steps: the new key as second one everywhere, then as first one, and the old one away when its last token has expired
   * (`accessTtl` and whoever remembers the JWK Set; for the refresh ring `refreshTtl` and the longest link).
   *
   * @throws TokensMisconfigured where they are not good; nothing is changed then
   */
  rotate: (keys: TokenKeys) => Promise<void>
  /** The public keys as a JWK Set, for those who verify access tokens; empty for HS256 (RFC 7517). */
  jwks: () => { keys: Record<string, string>[] }
}

export interface Inspection {
  kind: 'access' | 'refresh'
  userId: string
  familyId: string
  /** `jti` of the token. */
  id: string
  /** Seconds since the epoch. */
  issuedAt: number
  expiresAt: number
  authTime: number
  /** What was shown, where it is said (RFC 8176). */
  amr?: readonly string[]
  /** Of access tokens. */
  roles?: readonly string[]
  /** Of tokens that were cut down to some. */
  scopes?: readonly string[]
  /** Thumbprint of the key that it is bound to. */
  jkt?: string
}
