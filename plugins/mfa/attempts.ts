/** How often a code may be wrong: counted by account, whatever the factor and wherever it is asked for. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { State } from '../state/index.js'
import { MfaLocked } from './errors.js'

/** Milliseconds in which wrong codes without a right one between them add up. */
export const STREAK_MS = 30 * 86_400_000

export interface Attempts {
  /**
   * Refuses an account that is locked, without counting.
   * @throws MfaLocked
   */
  refuseLocked: (userId: string, request: FastifyRequest | null) => Promise<void>
  /**
   * Counts a wrong code, or one that is not known to be right yet; answers the function that takes it back.
   * @throws MfaLocked, having counted nothing
   */
  reserve: (userId: string, request: FastifyRequest | null) => Promise<() => Promise<void>>
  /** After a right code, and for who unlocks. */
  forget: (userId: string) => Promise<void>
}

interface Bound { of: 'window' | 'streak', key: (userId: string) => string, limit: number, ms: number }

export function attemptsOf ({ events }: FastifyInstance, state: State, limits: { attempts: number, windowMs: number, streak: number }): Attempts {
  const bounds: readonly Bound[] = [
    { of: 'window', key: userId => `mfa:failures:${userId}`, limit: limits.attempts, ms: limits.windowMs },
    { of: 'streak', key: userId => `mfa:streak:${userId}`, limit: limits.streak, ms: STREAK_MS },
  ]

  /** Looks (`by` 0), or counts (1) unless that meets a lock. */
  async function count (userId: string, by: 0 | 1, request: FastifyRequest | null): Promise<() => Promise<void>> {
    const tallies = await Promise.allSettled(bounds.map(async ({ key, ms }) => state.add(key(userId), by, ms)))
    const refund = async () => {
      const counted = bounds.filter((_bound, i) => by === 1 && tallies[i]!.status === 'fulfilled')
      await Promise.all(counted.map(async ({ key, ms }) => state.add(key(userId), -1, ms)))
    }
    const locks: { of: Bound['of'], ttlMs: number }[] = []
    for (const [i, tally] of tallies.entries()) {
      if (tally.status === 'rejected') {
        await refund().catch(() => {}) // what stays counted is on the safe side
        throw tally.reason
      }
      if (tally.value.count + 1 - by > bounds[i]!.limit) locks.push({ of: bounds[i]!.of, ttlMs: tally.value.ttlMs })
    }
    if (locks.length === 0) return refund
    await refund()
    const of = locks.map(lock => lock.of)
    events.record('mfa_locked', request, { user: userId, locks: of, severity: of.includes('streak') ? 'critical' : 'warning' })
    const retryAfter = Math.max(1, ...locks.map(({ ttlMs }) => Math.ceil(ttlMs / 1000)))
    throw Object.assign(new MfaLocked(), { headers: { 'retry-after': String(retryAfter) } })
  }

  return {
    async refuseLocked (userId, request) { await count(userId, 0, request) },
    reserve: (userId, request) => count(userId, 1, request),
    async forget (userId) { await Promise.all(bounds.map(async ({ key }) => state.delete(key(userId)))) },
  }
}
