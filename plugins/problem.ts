/** What an error of this suite may say in its problem beyond status, code and detail (RFC 9457, 3.1.1 and 3.2). */

/** The service does less than it usually can, for a while: a refusal that is nobody's fault (draft-ietf-httpapi-ratelimit-headers-10). */
export const REDUCED_CAPACITY = 'https://iana.org/assignments/http-problem-types#temporary-reduced-capacity'

const members = Symbol('bastion.error.problem')

export interface ProblemMembers {
  /** URI of the kind of problem (default `about:blank`). */
  type?: string
  /** Names of the quota policies that refuse (draft-ietf-httpapi-ratelimit-headers-10). */
  violatedPolicies?: readonly string[]
  /** What a code of the second factor completes. */
  mfaToken?: string
  /** The second factors that complete it (`totp`, `passkey`); of a step-up what must be shown (RFC 8176). */
  factors?: readonly string[]
}

/** Gives an error these members. Only by this function: what errors of others hold is never shown. */
export function tellInProblem<Fault extends Error> (error: Fault, told: ProblemMembers): Fault {
  (error as Fault & { [members]?: ProblemMembers })[members] = told
  return error
}

export function toldInProblem (error: object): ProblemMembers | undefined {
  return (error as { [members]?: ProblemMembers })[members]
}
