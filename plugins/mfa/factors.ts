/** Second factors that other concerns bring: they meet this one here, and none of them knows another. */
import { createHash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'

export interface OtherFactor {
  /** As clients are told it: `passkey`. */
  name: string
  /** What showing it is called (RFC 8176). */
  amr: string
  /** A text that is another one whenever what is enrolled changes; null where nothing is. */
  enrolment: (userId: string) => Promise<string | null>
  /**
   * Takes what a response answers, once; null where nothing of this user waits for it, bound to this. The function that is answered tells
   * whether the response is right: it is called once the attempt is counted.
   */
  take: (userId: string, response: unknown, boundTo: string, request: FastifyRequest | null) => Promise<(() => Promise<boolean>) | null>
}

/** What is shown of a factor that is no code. */
export interface OtherProof {
  factor: string
  response: unknown
  /** What its challenge was made for. In {@link Mfa.redeem} that is the token of the sign-in, whatever stands here. */
  boundTo?: string
}

/** One fingerprint of all that an account has enrolled, by the names of the factors; null where there is nothing. */
export function fingerprintOf (enrolments: readonly (readonly [name: string, enrolment: string | null])[]): string | null {
  const some = enrolments.filter(([, enrolment]) => enrolment !== null)
  return some.length === 0 ? null : createHash('sha256').update(JSON.stringify(some)).digest('base64url')
}
