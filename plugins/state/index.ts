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

declare module 'fastify' {
  interface FastifyInstance {
    /** Shared short-lived state. */
    state: State
  }
}

/** A promise only where the store is elsewhere; the store in memory answers at once. */
export type MaybePromise<T> = T | Promise<T>

/** A window of a counter: `limit` requests in `ms` milliseconds; what that means at its seams is said of each algorithm. */
export interface Window { limit: number, ms: number }

export interface CounterOptions {
  /** Names the counter: a constant, never made of what a client sends. The same name gives the same counter, and wants the same windows. */
  name: string
  /** Decided together: what one of them refuses is counted in none. At most eight. */
  windows: readonly Window[]
  /**
   * `fixed`: a window begins with its first hit and ends as a whole; across the seam, twice `limit` may pass at once.
   * `sliding` (default): the count of the window before fades as the current one goes by, as if it had come evenly. A steady
   * stream gets `limit` in every `ms`. What came all at once at a window's end counts too little later: x × `ms`
   * after the seam at most `limit` × (1 + x) have passed since then, so always fewer than twice `limit` in any `ms`.
   */
  algorithm?: 'fixed' | 'sliding'
}

/** What a counter decided, for the window that is nearest to its limit (or that refused). */
export interface Decision {
  allowed: boolean
  /** Index of that window in the counter's list. */
  window: number
  limit: number
  remaining: number
  /** Milliseconds until that window has its whole budget again. */
  resetMs: number
  /** Milliseconds after which the same request would pass, and not one earlier; 0 where it passed. A cost above the limit never does. */
  retryMs: number
}

export interface Counter {
  readonly windows: readonly Window[]
  /**
   * Counts `cost` (a whole number, default 1) for the subject, or refuses and counts nothing.
   * @throws StateFull for a new subject, where all that are held are near their limits
   */
  take: (subject: string, cost?: number) => MaybePromise<Decision>
  /** The decision that a request would get, without counting. */
  peek: (subject: string) => MaybePromise<Decision>
  /** Forgets the subject. */
  reset: (subject: string) => MaybePromise<void>
}

/**
 * Values (`get`, `set`, `claim`, `swap`, `raise`) and tallies (`add`, `join`) are kept apart: `get` does not see a tally.
 * What is pinned is never forgotten before its time; where there is no room for more, its operations throw {@link StateFull}.
 */
export interface State {
  readonly kind: string
  /** A counter with one or more windows. */
  counter: (options: CounterOptions) => Counter
  get: (key: string) => MaybePromise<string | null>
  /** The values of several keys in one go, in their order. */
  getMany: (keys: readonly string[]) => MaybePromise<(string | null)[]>
  /** @param pinned Must not be forgotten before its time, because forgetting would let somebody in (default false). */
  set: (key: string, value: string, ttlMs: number, pinned?: boolean) => MaybePromise<void>
  /** Sets the key if it is absent; true for the one caller who did. Pinned. */
  claim: (key: string, value: string, ttlMs: number) => MaybePromise<boolean>
  /** Replaces `expected` by `next`; `mismatch` where another value stands there, `missing` where none does. */
  swap: (key: string, expected: string, next: string, ttlMs: number) => MaybePromise<'swapped' | 'mismatch' | 'missing'>
  delete: (key: string) => MaybePromise<void>
  /** Raises a number to `floor`, or by one where it is there already; answers the new number. Pinned. */
  raise: (key: string, floor: number, ttlMs: number) => MaybePromise<number>
  /** Adds `by` to a number that lives `ttlMs` from its first change on; never below 0, and forgotten at 0. Pinned. */
  add: (key: string, by: number, ttlMs: number) => MaybePromise<{ count: number, ttlMs: number }>
  /** Adds a member to a set of at most `max` members that lives `ttlMs` from its first; answers how many there are. Pinned. */
  join: (key: string, member: string, max: number, ttlMs: number) => MaybePromise<number>
  /** Takes a member out of such a set. */
  leave: (key: string, member: string) => MaybePromise<void>
  /** Numbers for operators. */
  size: () => MaybePromise<{ entries: number, counters: number }>
  close: () => MaybePromise<void>
}

/** The bound is reached and everything in it must be remembered. */
export const StateFull = createError('FST_BASTION_STATE_FULL', 'The service is overloaded, try again later', 503)
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
