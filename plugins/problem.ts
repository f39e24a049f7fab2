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
  return Object.assign(error, { [members]: told })
}

export function toldInProblem (error: object): ProblemMembers | undefined {
  return (error as { [members]?: ProblemMembers })[members]
}

const formed = new WeakMap<object, string>()

/** Remembers the text that a reply's problem became in a form of its route's own. */
export function formedBy (reply: object, text: string): string {
  formed.set(reply, text)
  return text
}

/** Whether a reply's body is that text. */
export function isFormedBy (reply: object, payload: unknown): boolean {
  return typeof payload === 'string' && formed.get(reply) === payload
}
