/**
 * Chains: the steps of one phase of a route as one function, which waits only where a step really returned a promise.
 */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { createError } from '@fastify/error'

/**
 * One step of a route: returns nothing, or a promise where it truly waits. It denies by throwing, or by returning the error, which is cheaper: what
 * floods of requests are refused with.
 */
export type Step = (request: FastifyRequest, reply: FastifyReply, payload?: unknown) => void | Error | Promise<void | Error>

/** Calls `done` once: without an error when every step has passed, with one when a step denied. */
export type Chain = (request: FastifyRequest, reply: FastifyReply, payload: unknown, done: (error?: Error) => void) => void

/** A step denied by throwing what is no error. */
export const StepDenied = createError('FST_BASTION_PLAN_STEP_DENIED', 'A step of the route plan threw what is no error', 500)

/**
 * Null where there is nothing to run.
 *
 * @param next asked at run time for the chain that goes on after the last step
 */
export function compileChain (steps: readonly Step[], next?: () => Chain | null): Chain | null {
  if (steps.length === 0 && next === undefined) return null

  function runFrom (first: number, request: FastifyRequest, reply: FastifyReply, payload: unknown, done: (error?: Error) => void): void {
    for (let i = first; i < steps.length; i++) {
      let outcome
      try {
        outcome = steps[i]!(request, reply, payload)
      } catch (error) {
        done(denial(error))
        return
      }
      if (outcome === undefined) continue
      if (outcome instanceof Error) done(outcome)
      else outcome.then(denied => denied instanceof Error ? done(denied) : resume(i + 1, request, reply, payload, done), error => done(denial(error)))
      return
    }
    const chain = next === undefined ? null : next()
    if (chain === null) done()
    else chain(request, reply, payload, done)
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
