/** What others see of the second factor: the decorator `app.mfa`, and what it answers. */
import type { FastifyRequest } from 'fastify'
import type { Account } from '../sign-in.js'
import type { OtherFactor, OtherProof } from './factors.js'

export interface Mfa {
  /**
   * Begins an enrolment; it counts for nothing until it is confirmed. Who has a factor keeps it until then, so that a new
   * telephone leaves no time without one; ask for a step-up before.
   * @param user `name` is what the authenticator app shows
   */
  enroll: (user: { id: string, name: string }) => Promise<NewFactor>
  /**
   * Makes the factor good by a code of it; answers ten recovery codes, which are told this once.
   * @throws MfaNotEnrolling, MfaRefused, MfaLocked
   */
  confirm: (userId: string, code: string, request?: FastifyRequest | null) => Promise<string[]>
  /**
   * Spends a proof: a code of the authenticator, a recovery code, or what another factor answers. Tells which of them it was.
   * @throws MfaRefused (401), also where the account has no second factor; MfaLocked (429)
   */
  verify: (userId: string, proof: string | OtherProof, request?: FastifyRequest | null) => Promise<Factor>
  /** Whether there is a second factor of any kind. */
  isEnrolled: (userId: string) => Promise<boolean>
  /** The names of the second factors that the account has: `totp`, and those of others. */
  factors: (userId: string) => Promise<string[]>
  /** Adds a kind of factor, at boot: for the concern that brings it. */
  factor: (factor: OtherFactor) => void
  /** Ends the authenticator, its recovery codes and an enrolment that was begun, and forgets devices; true where there was one. Other factors stay. */
  disable: (userId: string, request?: FastifyRequest | null) => Promise<boolean>
  /** Lifts the lock. */
  unlock: (userId: string) => Promise<void>
  /**
   * For right after the right password: lets pass who has no second factor, and a device that is remembered. Answers what to issue
   * tokens with: `{ ...account, ...await app.mfa.demand(account) }`. Of a remembered device that is no time of authentication, so that
   * a step-up is never taken for done.
   * @param options `device`: the token of {@link Mfa.trust}, from the cookie
   * @throws MfaRequired (401), whose problem carries an `mfaToken`, and the names of the `factors` that complete it
   */
  demand: (account: Pick<Account, 'id' | 'passwordHash'>, options?: { device?: string, request?: FastifyRequest | null }) => Promise<{ amr: readonly string[], authTime?: 0 }>
  /** A token for a sign-in whose second factor is still to come. No access token, and good for {@link Mfa.redeem} alone. */
  challenge: (account: Pick<Account, 'id' | 'passwordHash'>) => Promise<string>
  /**
   * The user whose sign-in this token stands for: to ask a factor that needs a question.
   * @throws MfaRefused (401)
   */
  pending: (mfaToken: string, request?: FastifyRequest | null) => Promise<string>
  /**
   * Completes a sign-in with a code or another factor, once. The account is looked up anew: one whose password changed meanwhile is refused.
   * `amr` is what was shown (RFC 8176).
   * @throws MfaRefused (401), MfaLocked (429), MfaAccountInactive (403, only after the right code)
   */
  redeem: (mfaToken: string, proof: string | OtherProof, request?: FastifyRequest | null) => Promise<Account & { amr: readonly string[] }>
  /**
   * A token for a cookie of this device (HttpOnly, Secure, SameSite=Strict): with it, {@link Mfa.demand} lets the account's password pass alone
   * for `rememberDevice.days`, until the password or what is enrolled changes, or {@link Mfa.forgetDevices}. Ask the user first.
   * @param account what {@link Mfa.redeem} has just answered: no other will do
   * @throws TypeError for another account, and where the option is off
   */
  trust: (account: Account, request?: FastifyRequest | null) => Promise<string>
  /** Forgets all devices of a user: for who ends all sign-ins. */
  forgetDevices: (userId: string) => Promise<void>
}

/** What is shown of a new factor. */
export interface NewFactor {
  /** Base32, to type. */
  secret: string
  /** To open on the same device (Key URI format). */
  otpauthUrl: string
  /** The same to scan: SVG text. */
  qr: string
}

/** `totp`, `recovery`, or the name of another. */
export type Factor = string
