/**
 * Shared short-lived state: counters, claims, compare-and-swap, each with a time to live.
 *
 * Threat: checks that read, then write, are passed twice by parallel requests (CWE-367); memory that grows with
 * attackers (CWE-770), or that is bounded by forgetting the very ones who are over their limit.
 * Defence: every operation that decides is atomic, and the bound is held by forgetting what is harmless first;
 * when only what must be remembered is left, operations refuse with 503 and a `state_full` event.
 * Not covered: durability. What must outlive a restart belongs in a database.
 */
import type { FastifyInstance } from 'fastify'
import { createError } from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { checkOptions } from '../options.js'
import { memoryState } from './memory.js'
import type { State } from './port.js'

export type { Algorithm, Ban, Counter, CounterOptions, Decision, MaybePromise, State, Window } from './port.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** Shared short-lived state. */
    state: State
  }
}

/** The bound is reached and everything in it must be remembered. */
export const StateFull = createError('FST_BASTION_STATE_FULL', 'The service is overloaded, try again later', 503)
/** The store does not answer, or not in time; what became of the operation is unknown. */
export const StateUnavailable = createError('FST_BASTION_STATE_UNAVAILABLE', 'This cannot be checked at the moment, try again shortly', 503)
/** An option of the state concern is wrong. */
export const StateMisconfigured = createError<[string]>('FST_BASTION_STATE_MISCONFIGURED', '%s', 500, TypeError)

export const StateOptions = Type.Object({
  maxEntries: Type.Optional(Type.Integer({
    minimum: 100, description: 'Keys held at most: half for what may be forgotten, a quarter each for pinned values and for tallies', default: 1_000_000,
  })),
  maxSubjects: Type.Optional(Type.Integer({ minimum: 100, description: 'Subjects that one counter holds at most', default: 1_000_000 })),
}, { additionalProperties: false })
export type StateOptions = Static<typeof StateOptions> & {
  /** Milliseconds since the epoch; for tests. */
  now?: () => number
}

/** Seconds after which a request that found the state full may come again. */
const RETRY_AFTER = '10'
/** Milliseconds between two events that say the same. */
const QUIET_MS = 10_000

async function state (app: FastifyInstance, options: StateOptions): Promise<void> {
  const { now = Date.now, ...plain } = options
  checkOptions(StateOptions, plain, 'state', StateMisconfigured)
  const { maxEntries = 1_000_000, maxSubjects = 1_000_000 } = plain
  const tellRefused = teller('refused', 'a request was refused: everything that is held must be remembered')
  const tellForgotten = teller('forgotten', 'a value was forgotten before its time: somebody may have to sign in again')
  const store = memoryState({
    maxEntries,
    maxSubjects,
    now,
    forgot: tellForgotten,
    refuse () {
      tellRefused()
      throw Object.assign(new StateFull(), { expose: true, headers: { 'retry-after': RETRY_AFTER } })
    },
  })
  app.decorate('state', store)
  app.addHook('onClose', async () => { await store.close() })

  /** A flood makes many of these: one event now and then says how many. */
  function teller (effect: string, reason: string): () => void {
    let times = 0
    let told = -Infinity
    return () => {
      times += 1
      const quiet = now() - told
      if (quiet >= 0 && quiet < QUIET_MS) return
      app.events.record('state_full', null, { effect, reason, times, maxEntries, maxSubjects })
      told = now()
      times = 0
    }
  }
}

export default fp(state, { fastify: '5.x', name: 'bastion-state', dependencies: ['bastion-plan', 'bastion-events'] })
