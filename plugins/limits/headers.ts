/** What an answer tells of its budget: `X-RateLimit-*`, and `RateLimit` with its policy (draft-ietf-httpapi-ratelimit-headers-10). */
import type { FastifyReply } from 'fastify'
import type { Decision } from '../state/index.js'
import type { Budget } from './budget.js'

export function tellBudget (reply: FastifyReply, { policy, said }: Budget, decision: Decision): void {
  const { limit, rest } = said[decision.window]!
  const remaining = String(decision.remaining)
  const reset = String(Math.ceil(decision.resetMs / 1000))
  reply.header('x-ratelimit-limit', limit)
  reply.header('x-ratelimit-remaining', remaining)
  reply.header('x-ratelimit-reset', reset)
  reply.header('ratelimit-policy', policy)
  reply.header('ratelimit', `${rest}${remaining};t=${reset}`)
}

/** Whole seconds, never too early. */
export function retryAfter (ms: number): string {
  return String(Math.max(1, Math.ceil(ms / 1000)))
}
