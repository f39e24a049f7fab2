/** The codes of the second factor: enrolled, confirmed and spent, each of them once. */
import { createHash } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { State } from '../state/index.js'
import type { Attempts } from './attempts.js'
import type { Mfa, NewFactor } from './contract.js'
import { MfaNotEnrolling } from './errors.js'
import { isRecoveryCode, newRecoveryCodes, plainCode } from './recovery.js'
import type { Seal } from './seal.js'
import type { MfaEnrolment, MfaStore } from './store.js'
import { describeTotp, isTotpCode, newSecret, STEP_MS, stepOf } from './totp.js'

/**
 * Milliseconds for which a used code is remembered beyond the time in which it is good: for processes whose clocks differ.
 */
const REMEMBERED_MS = 600_000

/** What the codes stand on. */
export interface CodeParts {
  app: FastifyInstance
  state: State
  store: MfaStore
  sealing: Seal
  attempts: Attempts
  issuer: string
  drift: number
  enrolmentMs: number
  now: () => number
  /** The error of a refusal whose reason is for the log alone. */
  refused: (request: FastifyRequest | null, user: string | null, reason: string) => Error
}

export interface Codes extends Pick<Mfa, 'enroll' | 'confirm'> {
  /** Spends a code; answers which kind it was. */
  verify: (userId: string, code: string, request: FastifyRequest | null) => Promise<'totp' | 'recovery'>
  /** Forgets an enrolment that was begun. */
  abandon: (userId: string) => Promise<void>
}

/** What a code is before it is used: of which step, or which of the recovery codes. */
type Use = { factor: 'totp', key: string, isUsed: false } | { factor: 'recovery', key: string, hash: string, isUsed: boolean, left: number }

export function codesOf ({ app, state, store, sealing, attempts, issuer, drift, enrolmentMs, now, refused }: CodeParts): Codes {
  const { events } = app
  const { seal, open, hash, find } = sealing
  const usedMs = (2 * drift + 1) * STEP_MS + REMEMBERED_MS

  return { enroll, confirm, verify, abandon: async userId => { await state.delete(enrolmentKey(userId)) } }

  async function enroll ({ id, name }: { id: string, name: string }): Promise<NewFactor> {
    const secret = newSecret()
    await state.set(enrolmentKey(id), seal(id, secret), enrolmentMs)
    return describeTotp(secret, issuer, name)
  }

  async function confirm (userId: string, code: string, request: FastifyRequest | null = null): Promise<string[]> {
    await attempts.refuseLocked(userId, request)
    const sealed = await state.get(enrolmentKey(userId))
    const secret = sealed === null ? null : open(userId, sealed)
    if (sealed === null || secret === null) throw new MfaNotEnrolling()
    const step = stepOf(secret, plainCode(code), now(), drift)
    if (step === null) {
      await attempts.reserve(userId, request)
      throw refused(request, userId, 'wrong code for an enrolment')
    }
    // Claimed too: the code that confirmed is not good for signing in as well.
    if (!await state.claim(usedKey(userId, sealed, step), '1', usedMs)) throw refused(request, userId, 'used before')
    const recoveryCodes = newRecoveryCodes()
    // Of two that confirm at once one gets the codes: those of the other would be good for nothing.
    if (await state.swap(enrolmentKey(userId), sealed, '', enrolmentMs) !== 'swapped') throw new MfaNotEnrolling()
    const replaced = await keep(userId, sealed, recoveryCodes)
    events.record('mfa_enrolled', request, { user: userId, replaced })
    return recoveryCodes
  }

  async function keep (userId: string, sealed: string, recoveryCodes: readonly string[]): Promise<boolean> {
    try {
      return await store.save(userId, sealed, recoveryCodes.map(code => hash(userId, plainCode(code))))
    } catch (error) {
      // Kept or not, nobody was told the codes: it can be confirmed once more.
      await state.swap(enrolmentKey(userId), '', sealed, enrolmentMs)
      throw error
    }
  }

  async function verify (userId: string, code: string, request: FastifyRequest | null): Promise<'totp' | 'recovery'> {
    await attempts.refuseLocked(userId, request)
    const enrolment = await store.find(userId)
    if (enrolment === null) throw refused(request, userId, 'no second factor')
    const use = useOf(userId, enrolment, plainCode(code))
    if (use === null) {
      await attempts.reserve(userId, request)
      throw refused(request, userId, 'wrong')
    }
    await spend(userId, use, request)
    await attempts.forget(userId)
    events.record('mfa_success', request, { user: userId, factor: use.factor })
    if (use.factor === 'recovery') events.record('recovery_code_used', request, { user: userId, left: use.left })
    return use.factor
  }

  /**
   * Uses a code that is right. The claim comes before the count: whoever repeats a code, in parallel too, has guessed
   * nothing and locks nobody. A right code is counted like a wrong one all the same before it passes, so that of parallel
   * guesses no more are answered than the lock allows.
   */
  async function spend (userId: string, use: Use, request: FastifyRequest | null): Promise<void> {
    if (use.isUsed || !await state.claim(use.key, '1', usedMs)) throw refused(request, userId, 'used before')
    let refund = async () => {}
    try {
      refund = await attempts.reserve(userId, request)
      if (use.factor === 'totp' || await store.spend(userId, use.hash)) return
    } catch (error) {
      // It passed nowhere, so it is still good.
      await refund()
      await state.delete(use.key)
      throw error
    }
    await refund()
    throw refused(request, userId, 'used before')
  }

  /** Null for a code that is none of the account's. */
  function useOf (userId: string, enrolment: MfaEnrolment, code: string): Use | null {
    if (isRecoveryCode(code)) {
      const kept = find(userId, code, enrolment.recoveryCodes)
      if (kept === null) return null
      const left = enrolment.recoveryCodes.filter(({ isUsed }) => !isUsed).length - 1
      return { factor: 'recovery', key: `mfa:used:${userId}:${kept.hash}`, hash: kept.hash, isUsed: kept.isUsed, left }
    }
    if (!isTotpCode(code)) return null
    const secret = open(userId, enrolment.secret)
    if (secret === null) {
      app.log.error({ user: userId }, 'the second factor of an account cannot be read: another key, or the row of somebody else')
      return null
    }
    const step = stepOf(secret, code, now(), drift)
    return step === null ? null : { factor: 'totp', key: usedKey(userId, enrolment.secret, step), isUsed: false }
  }
}

function enrolmentKey (userId: string): string {
  return `mfa:enrolment:${userId}`
}

/** A step of one secret: the same step of the next one has another code. */
function usedKey (userId: string, sealed: string, step: number): string {
  return `mfa:used:${userId}:${createHash('sha256').update(sealed).digest('base64url').slice(0, 22)}:${step}`
}
