/** What is thrown where a budget is spent. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { tellInProblem, type ProblemMembers } from '../problem.js'
import type { Decision } from '../state/index.js'
import { answerOf } from './callback.js'
import { LimitExceeded } from './errors.js'
import { retryAfter } from './headers.js'

/** An answer of the service's own instead of {@link LimitExceeded}: an error whose `statusCode` is a 4xx or 5xx. */
export type Refuse = (request: FastifyRequest, decision: Decision) => Error

/** Kinds of problem (draft-ietf-httpapi-ratelimit-headers-10, 6). */
const QUOTA_EXCEEDED = 'https://iana.org/assignments/http-problem-types#quota-exceeded'
const BANNED: ProblemMembers = Object.freeze({ type: 'https://iana.org/assignments/http-problem-types#abnormal-usage-detected' })

/** What the problem says for the policies that are violated, by their places. */
export type Violations = (violated: readonly number[]) => ProblemMembers

/** @param policies the names of all policies of a budget */
export function violationsOf (policies: readonly string[]): Violations {
  /** By which of them are violated, a bit each: one object for all refusals that say the same. */
  const known = new Map<number, ProblemMembers>()

  return violated => {
    let bits = 0
    for (const i of violated) bits |= 1 << i
    let told = known.get(bits)
    if (told === undefined) known.set(bits, told = Object.freeze({ type: QUOTA_EXCEEDED, violatedPolicies: violated.map(i => policies[i]!) }))
    return told
  }
}

export function exceeded ({ retryMs, violated, banned }: Pick<Decision, 'retryMs' | 'violated' | 'banned'>, violations: Violations): Error {
  const error = Object.assign(new LimitExceeded(), { headers: { 'retry-after': retryAfter(retryMs) } })
  return tellInProblem(error, banned ? BANNED : violations(violated))
}

/** The service's own answer, with Retry-After; null where it gives none, and what it did instead is in the log. */
export function refusedBy (refuse: Refuse, request: FastifyRequest, reply: FastifyReply, decision: Decision): Error | null {
  reply.header('retry-after', retryAfter(decision.retryMs))
  try {
    const error = answerOf(refuse(request, decision))
    if (error instanceof Error && isRefusal((error as { statusCode?: unknown }).statusCode)) return error
    request.log.error('limits: refuse answered what is no error with a statusCode of 4xx or 5xx')
  } catch (error) {
    request.log.error({ err: error }, 'limits: refuse failed')
  }
  return null
}

function isRefusal (status: unknown): boolean {
  return Number.isInteger(status) && (status as number) >= 400 && (status as number) <= 599
}
