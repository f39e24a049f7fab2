/**
 * Chains: the steps of one phase of a route as one function, which waits only where a step really returned a promise.
 */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { createError } from '@fastify/error'

/** One step of a route: returns nothing, or a promise where it truly waits. It denies by throwing. */
export type Step = (request: FastifyRequest, reply: FastifyReply, payload?: unknown) => void | Promise<void>

/** Calls `done` once: without an error when every step has passed, with one when a step denied. */
export type Chain = (request: FastifyRequest, reply: FastifyReply, payload: unknown, done: (error?: Error) => void) => void

/** A step denied by throwing what is no error. */
export const StepDenied = createError('FST_BASTION_PLAN_STEP_DENIED', 'A step of the route plan threw what is no error', 500)

/** Null where there is nothing to run. */
export function compileChain (steps: readonly Step[]): Chain | null {
  if (steps.length === 0) return null

  function runFrom (first: number, request: FastifyRequest, reply: FastifyReply, payload: unknown, done: (error?: Error) => void): void {
    for (let i = first; i < steps.length; i++) {
      let pending
      try {
        pending = steps[i]!(request, reply, payload)
      } catch (error) {
        done(denial(error))
        return
      }
      if (pending !== undefined) {
        pending.then(() => resume(i + 1, request, reply, payload, done), error => done(denial(error)))
        return
      }
    }
    done()
  }

  function resume (next: number, request: FastifyRequest, reply: FastifyReply, payload: unknown, done: (error?: Error) => void): void {
    try {
      runFrom(next, request, reply, payload, done)
    } catch (error) {
      // Inside a promise nobody else catches what Fastify throws when it goes on (a header that cannot be sent).
      done(denial(error))
    }
  }

  return (request, reply, payload, done) => runFrom(0, request, reply, payload, done)
}

/** Fastify takes a falsy error for none: `throw undefined` must deny too. */
function denial (error: unknown): Error {
  return error instanceof Error ? error : new StepDenied({ cause: error })
}
