/** What the concerns ask of shared state. Memory and Redis answer alike; one suite of tests holds both to it. */

/** A promise only where the store is elsewhere; the store in memory answers at once. */
export type MaybePromise<T> = T | Promise<T>

/** A window of a counter: `limit` requests in `ms` milliseconds; what that means at its seams is said of each algorithm. */
export interface Window { limit: number, ms: number }

/**
 * How a window counts.
 *
 * - `fixed`: a window begins with its first hit and ends as a whole; across the seam, twice `limit` may pass at once.
 * - `sliding` (default): the count of the window before fades as the current one goes by, as if it had come evenly. A steady
 *   stream gets `limit` in every `ms`. What came all at once at a window's end counts too little later: x × `ms`
 *   after the seam at most `limit` × (1 + x) have passed since then, so always fewer than twice `limit` in any `ms`.
 * - `log`: exact: never more than `limit` in any `ms`. Keeps the time of each request, so `limit` is at most 10,000.
 * - `bucket`: a token bucket that holds `limit` and fills evenly, from empty to full in `ms`: a burst of `limit`, then `limit` in every `ms`.
 */
export type Algorithm = 'fixed' | 'sliding' | 'log' | 'bucket'

/** Who is refused `after` times within `ms` milliseconds of the first of them is refused everything for `ms` from the last. Refusals during a ban do not prolong it. */
export interface Ban { after: number, ms: number }

export interface CounterOptions {
  /** Names the counter: a constant, never made of what a client sends. The same name gives the same counter, and wants the same windows. */
  name: string
  /** Decided together: what one of them refuses is counted in none. At most eight. */
  windows: readonly Window[]
  algorithm?: Algorithm
  ban?: Ban
}

/** What a counter decided, for the window that is nearest to its limit (or that refuses for the longest). */
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
  /** Indices of all windows that refuse; empty where it passed, and where only a ban refuses. */
  violated: readonly number[]
  /** A ban refuses. */
  banned: boolean
}

export interface Counter {
  readonly windows: readonly Window[]
  /**
   * Counts `cost` (a whole number, default 1) for the subject, or refuses and counts nothing but the refusal.
   * @throws StateFull for a new subject, where all that are held are near their limits
   * @throws StateUnavailable
   */
  take: (subject: string, cost?: number) => MaybePromise<Decision>
  /** The decision that a request would get, without counting. */
  peek: (subject: string) => MaybePromise<Decision>
  /** Forgets the subject, its ban too. */
  reset: (subject: string) => MaybePromise<void>
}

/**
 * Values (`get`, `set`, `claim`, `swap`, `raise`) and tallies (`add`, `join`) are kept apart: `get` does not see a tally.
 * What is pinned is never forgotten before its time; where there is no room for more, its operations throw {@link StateFull}.
 * A key is `<concern>:<what>`; what stands before its first colon is a constant. All operations are atomic, and throw
 * StateUnavailable where the store does not answer within the deadline; what became of the operation is then unknown.
 */
export interface State {
  /** `memory` or `redis`. */
  readonly kind: string
  /** The same state with another deadline in milliseconds. */
  within: (deadlineMs: number) => State
  /** Of this process alone, never away: what a concern falls back to that may. */
  readonly local: State
  /** Whether the store answers right now. Never rejects; asks it. */
  answers: () => MaybePromise<boolean>
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
  /** Numbers for operators; of a shared store, the keys of its whole database. */
  size: () => MaybePromise<{ entries: number, counters: number }>
  close: () => MaybePromise<void>
}
