/**
 * Shared short-lived state: counters, claims, compare-and-swap, each with a time to live.
 *
 * Threat: checks that read, then write, are passed twice by parallel requests (CWE-367); memory that grows with
 * attackers (CWE-770), or that is bounded by forgetting the very ones who are over their limit.
 * Defence: every operation that decides is atomic, and the bound is held by forgetting what is harmless first;
 * when only what must be remembered is left, operations refuse with 503.
 * Not covered: durability. What must outlive a restart belongs in a database.
 */
import type { FastifyInstance } from 'fastify'
import createError from '@fastify/error'
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

/** A window of a counter: at most `limit` in any `ms` milliseconds. */
export interface Window { limit: number, ms: number }

export interface CounterOptions {
  /** Names the counter; the same name gives the same counter. */
  name: string
  /** Decided together: what one of them refuses is counted in none. At most eight. */
  windows: readonly Window[]
  /** `fixed`: from the first hit on; `sliding` (default): two neighbouring windows, weighted by time. */
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
  /** Milliseconds after which the same request would pass; 0 where it passed. */
  retryMs: number
}

export interface Counter {
  readonly windows: readonly Window[]
  /** Counts `cost` (default 1) for the subject, or refuses and counts nothing. */
  take: (subject: string, cost?: number) => MaybePromise<Decision>
  /** The decision that a request would get, without counting. */
  peek: (subject: string) => MaybePromise<Decision>
  /** Forgets the subject. */
  reset: (subject: string) => MaybePromise<void>
}

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
  /** Adds `by` to a number that lives `ttlMs` from its first change on; never below 0. Pinned. */
  add: (key: string, by: number, ttlMs: number) => MaybePromise<{ count: number, ttlMs: number }>
  /** Adds a member to a set of at most `max` members that lives `ttlMs` from its first; answers how many there are. */
  join: (key: string, member: string, max: number, ttlMs: number) => MaybePromise<number>
  /** Numbers for operators. */
  size: () => MaybePromise<{ entries: number, counters: number }>
  close: () => MaybePromise<void>
}

/** The bound is reached and everything in it must be remembered. */
export const StateFull = createError('FST_BASTION_STATE_FULL', 'The service is overloaded, try again later', 503)
/** An option of the state concern is wrong. */
export const StateMisconfigured = createError<[string]>('FST_BASTION_STATE_MISCONFIGURED', '%s', 500, TypeError)

export const StateOptions = Type.Object({
  maxEntries: Type.Optional(Type.Integer({ minimum: 100, description: 'Keys held at most', default: 1_000_000 })),
  maxSubjects: Type.Optional(Type.Integer({ minimum: 100, description: 'Subjects that one counter holds at most', default: 1_000_000 })),
}, { additionalProperties: false })
export type StateOptions = Static<typeof StateOptions> & {
  /** Milliseconds since the epoch; for tests. */
  now?: () => number
}

async function state (app: FastifyInstance, options: StateOptions): Promise<void> {
  const { now = Date.now, ...plain } = options
  checkOptions(StateOptions, plain, 'state', StateMisconfigured)
  const { maxEntries = 1_000_000, maxSubjects = 1_000_000 } = plain
  const store = memoryState({
    maxEntries,
    maxSubjects,
    now,
    refuse () {
      app.events.record('state_full', null, { maxEntries, maxSubjects })
      throw Object.assign(new StateFull(), { expose: true, headers: { 'retry-after': '10' } })
    },
  })
  app.decorate('state', store)
  app.addHook('onClose', async () => { await store.close() })
}

export default fp(state, { fastify: '5.x', name: 'bastion-state', dependencies: ['bastion-plan', 'bastion-events'] })
