/**
 * The second factor: a code of an authenticator app (TOTP, RFC 6238), or a recovery code where that is lost; or one that another
 * concern brings, such as a passkey.
 *
 * Threat: a password in the wrong hands; codes that are guessed (CWE-307) or used twice (CWE-294), in parallel too; secrets
 * that are read in the database (CWE-312); a half-finished sign-in that passes for a whole one (CWE-287).
 * Defence: each code is good once, by an atomic claim; wrong ones are counted by account before they are told to be wrong,
 * whatever the factor; secrets are encrypted and bound to their account, recovery codes are keyed hashes; a factor counts only
 * once a code of it has confirmed it; the password alone gives an opaque token that nothing but `redeem` takes. A device that is
 * remembered (an option) passes for a sign-in, and for no step-up.
 * Not covered: who is made to type a code into a false page; only a passkey withstands that. Who knows the password can lock
 * the second factor for a while; that is the price of a lock. Recovery codes belong to the authenticator app: who has a passkey
 * alone and loses it needs another passkey, or a person who believes them.
 */
import { createHash } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { checkOptions } from '../options.js'
import { tellInProblem } from '../problem.js'
import type { Account, Accounts } from '../sign-in.js'
import { attemptsOf, STREAK_MS } from './attempts.js'
import { devicesOf } from './devices.js'
import { MfaAccountInactive, MfaLocked, MfaMisconfigured, MfaNotEnrolling, MfaRefused, MfaRequired } from './errors.js'
import { fingerprintOf, type OtherFactor, type OtherProof } from './factors.js'
import { fingerprint, pendingSignIns, type PendingSignIn } from './pending.js'
import { isRecoveryCode, newRecoveryCodes, plainCode } from './recovery.js'
import { MIN_KEY_BYTES, sealOf } from './seal.js'
import type { MfaEnrolment, MfaStore } from './store.js'
import { describeTotp, isTotpCode, newSecret, STEP_MS, stepOf } from './totp.js'

export * from './errors.js'
export type { OtherFactor, OtherProof } from './factors.js'
export { MFA_TABLES, sqlMfaStore } from './store.js'
export type { MfaEnrolment, MfaStore } from './store.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** The second factor. */
    mfa: Mfa
  }
}

export interface Mfa {
  /**
   * Begins an enrolment; it counts for nothing until it is confirmed. Who has a factor keeps it until then, so that a new
   * telephone leaves no time without one; ask for a step-up before.
   * @param user `name` is what the authenticator app shows
   */
  enroll: (user: { id: string, name: string }) => Promise<NewFactor>
  /**
   * Makes the factor good by a code of it; answers ten recovery codes, which are told this once.
   * @throws MfaNotEnrolling, MfaRefused, MfaLocked
   */
  confirm: (userId: string, code: string, request?: FastifyRequest | null) => Promise<string[]>
  /**
   * Spends a proof: a code of the authenticator, a recovery code, or what another factor answers. Tells which of them it was.
   * @throws MfaRefused (401), also where the account has no second factor; MfaLocked (429)
   */
  verify: (userId: string, proof: string | OtherProof, request?: FastifyRequest | null) => Promise<Factor>
  /** Whether there is a second factor of any kind. */
  isEnrolled: (userId: string) => Promise<boolean>
  /** The names of the second factors that the account has: `totp`, and those of others. */
  factors: (userId: string) => Promise<string[]>
  /** Adds a kind of factor, at boot: for the concern that brings it. */
  factor: (factor: OtherFactor) => void
  /** Ends the authenticator, its recovery codes and an enrolment that was begun, and forgets devices; true where there was one. Other factors stay. */
  disable: (userId: string, request?: FastifyRequest | null) => Promise<boolean>
  /** Lifts the lock. */
  unlock: (userId: string) => Promise<void>
  /**
   * For right after the right password: lets pass who has no second factor, and a device that is remembered. Answers what to issue
   * tokens with: `{ ...account, ...await app.mfa.demand(account) }`. Of a remembered device that is no time of authentication, so that
   * a step-up is never taken for done.
   * @param options `device`: the token of {@link Mfa.trust}, from the cookie
   * @throws MfaRequired (401), whose problem carries an `mfaToken`, and the names of the `factors` that complete it
   */
  demand: (account: Pick<Account, 'id' | 'passwordHash'>, options?: { device?: string, request?: FastifyRequest | null }) => Promise<{ amr: readonly string[], authTime?: 0 }>
  /** A token for a sign-in whose second factor is still to come. No access token, and good for {@link Mfa.redeem} alone. */
  challenge: (account: Pick<Account, 'id' | 'passwordHash'>) => Promise<string>
  /**
   * The user whose sign-in this token stands for: to ask a factor that needs a question.
   * @throws MfaRefused (401)
   */
  pending: (mfaToken: string, request?: FastifyRequest | null) => Promise<string>
  /**
   * Completes a sign-in with a code or another factor, once. The account is looked up anew: one whose password changed meanwhile is refused.
   * `amr` is what was shown (RFC 8176).
   * @throws MfaRefused (401), MfaLocked (429), MfaAccountInactive (403, only after the right code)
   */
  redeem: (mfaToken: string, proof: string | OtherProof, request?: FastifyRequest | null) => Promise<Account & { amr: readonly string[] }>
  /**
   * A token for a cookie of this device (HttpOnly, Secure, SameSite=Strict): with it, {@link Mfa.demand} lets the account's password pass alone
   * for `rememberDevice.days`, until the password or what is enrolled changes, or {@link Mfa.forgetDevices}. Ask the user first.
   * @param account what {@link Mfa.redeem} has just answered: no other will do
   * @throws TypeError for another account, and where the option is off
   */
  trust: (account: Account, request?: FastifyRequest | null) => Promise<string>
  /** Forgets all devices of a user: for who ends all sign-ins. */
  forgetDevices: (userId: string) => Promise<void>
}

/** What is shown of a new factor. */
export interface NewFactor {
  /** Base32, to type. */
  secret: string
  /** To open on the same device (Key URI format). */
  otpauthUrl: string
  /** The same to scan: SVG text. */
  qr: string
}

/** `totp`, `recovery`, or the name of another. */
export type Factor = string

const Milliseconds = (fallback: number, description: string) => Type.Optional(Type.Integer({ minimum: 1000, default: fallback, description }))
export const MfaOptions = Type.Object({
  issuer: Type.String({ minLength: 1, maxLength: 64, pattern: '^[^:]+$', description: 'Name of the service, as authenticator apps show it' }),
  drift: Type.Optional(Type.Integer({
    minimum: 0, maximum: 10, default: 1, description: 'Steps of 30 seconds by which the clock of an authenticator may be off; 0: a code is good in its own 30 seconds only',
  })),
  attempts: Type.Optional(Type.Integer({ minimum: 1, default: 5, description: 'Wrong codes that lock the second factor of an account' })),
  windowMs: Milliseconds(900_000, 'Milliseconds from the first wrong code until all are forgotten'),
  streak: Type.Optional(Type.Integer({
    minimum: 1, default: 100, description: 'Wrong codes in 30 days, without a right one between them, that lock it for the rest of them, or until `app.mfa.unlock` (NIST SP 800-63B-4: at most 100)',
  })),
  enrolmentMs: Milliseconds(900_000, 'Milliseconds in which an enrolment must be confirmed'),
  challengeMs: Milliseconds(300_000, 'Milliseconds between the password and the code'),
  rememberDevice: Type.Optional(Type.Object({ days: Type.Integer({ minimum: 1, maximum: 90 }) }, {
    additionalProperties: false, description: 'Days for which a device may be remembered where the second factor was shown: `{ days: 30 }`; off by default. Never for a step-up',
  })),
  deadline: Type.Optional(Type.Integer({ minimum: 1, description: 'Milliseconds that shared state may take to answer, else 503: no code passes uncounted; default: that of state' })),
}, { additionalProperties: false })
export type MfaOptions = Static<typeof MfaOptions> & {
  /** Where enrolments are kept: `sqlMfaStore(sql)`, or your own. */
  store: MfaStore
  /** The service's own accounts: those of sign-in. */
  accounts: Pick<Accounts, 'findById'>
  /** Encrypts secrets and hashes recovery codes: 32 bytes or more. Of several the first encrypts and all decrypt. */
  key: Buffer | readonly Buffer[]
  /** Milliseconds since the epoch; for tests. */
  now?: () => number
}

/**
 * Milliseconds for which a used code is remembered beyond the time in which it is good: for processes whose clocks differ.
 */
const REMEMBERED_MS = 600_000
const DAY_MS = 86_400_000
const STORE = ['find', 'save', 'spend', 'remove'] as const

/** What a code is before it is used: of which step, or which of the recovery codes. */
type Use = { factor: 'totp', key: string, isUsed: false } | { factor: 'recovery', key: string, hash: string, isUsed: boolean, left: number }

async function mfa (app: FastifyInstance, options: MfaOptions): Promise<void> {
  const { store, accounts, key, now = Date.now, ...plain } = options
  checkOptions(MfaOptions, plain, 'mfa', MfaMisconfigured)
  if (!STORE.every(name => typeof store?.[name] === 'function')) throw new MfaMisconfigured(`mfa: store: must be an object with ${STORE.join(', ')}`)
  if (typeof accounts?.findById !== 'function') throw new MfaMisconfigured('mfa: accounts: must be an object with findById')
  const keys = [key].flat()
  if (keys.length === 0 || !keys.every(one => Buffer.isBuffer(one) && one.length >= MIN_KEY_BYTES)) {
    throw new MfaMisconfigured(`mfa: key: must be a Buffer of at least ${MIN_KEY_BYTES} bytes, or a list of them`)
  }
  const { issuer, drift = 1, attempts: limit = 5, windowMs = 900_000, streak = 100, enrolmentMs = 900_000, challengeMs = 300_000, rememberDevice } = plain
  if (windowMs > STREAK_MS) throw new MfaMisconfigured(`mfa: windowMs: must not be longer than ${STREAK_MS}`)
  const state = plain.deadline === undefined ? app.state : app.state.within(plain.deadline)
  const { seal, open, hash, find } = sealOf(keys)
  const attempts = attemptsOf(app, state, { attempts: limit, windowMs, streak })
  const pendings = pendingSignIns(state, challengeMs)
  const devices = devicesOf(state, (rememberDevice?.days ?? 1) * DAY_MS)
  const others = new Map<string, OtherFactor>()
  /** Accounts that have just shown their second factor. */
  const completed = new WeakSet<object>()
  const usedMs = (2 * drift + 1) * STEP_MS + REMEMBERED_MS

  app.decorate('mfa', {
    enroll,
    confirm,
    verify,
    isEnrolled: async userId => (await factors(userId)).length > 0,
    factors,
    factor: other => { others.set(other.name, other) },
    disable,
    unlock: userId => attempts.forget(userId),
    demand,
    challenge,
    pending: async (mfaToken, request = null) => (await pendingOf(mfaToken, request)).userId,
    redeem,
    trust,
    forgetDevices: userId => devices.forget(userId),
  })

  async function enrolments (userId: string): Promise<[string, string | null][]> {
    return Promise.all([
      store.find(userId).then((found): [string, string | null] => ['totp', found?.secret ?? null]),
      ...[...others.values()].map(async ({ name, enrolment }): Promise<[string, string | null]> => [name, await enrolment(userId)]),
    ])
  }

  async function factors (userId: string): Promise<string[]> {
    return (await enrolments(userId)).filter(([, enrolment]) => enrolment !== null).map(([name]) => name)
  }

  async function demand (account: Pick<Account, 'id' | 'passwordHash'>, { device, request = null }: { device?: string, request?: FastifyRequest | null } = {}) {
    const enrolled = await enrolments(account.id)
    const enrolment = fingerprintOf(enrolled)
    if (enrolment === null) return { amr: ['pwd'] }
    if (rememberDevice !== undefined && device !== undefined && await devices.isTrusted(account, enrolment, device)) {
      app.events.record('mfa_success', request, { user: account.id, factor: 'remembered device' })
      return { amr: ['pwd'], authTime: 0 as const }
    }
    const names = enrolled.filter(([, one]) => one !== null).map(([name]) => name)
    throw tellInProblem(new MfaRequired(), { mfaToken: await challenge(account), factors: names })
  }

  async function trust (account: Account, request: FastifyRequest | null = null): Promise<string> {
    if (rememberDevice === undefined) throw new TypeError('mfa: rememberDevice is off: no device is remembered')
    if (!completed.has(account)) throw new TypeError('mfa: trust takes what redeem has just answered')
    const enrolment = fingerprintOf(await enrolments(account.id))
    if (enrolment === null) throw refused(request, account.id, 'no second factor')
    const token = await devices.trust(account, enrolment)
    app.events.record('mfa_device_remembered', request, { user: account.id, days: rememberDevice.days })
    return token
  }

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
    app.events.record('mfa_enrolled', request, { user: userId, replaced })
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

  async function verify (userId: string, proof: string | OtherProof, request: FastifyRequest | null = null): Promise<Factor> {
    if (typeof proof !== 'string') return verifyOther(userId, proof, request)
    const code = proof
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
    app.events.record('mfa_success', request, { user: userId, factor: use.factor })
    if (use.factor === 'recovery') app.events.record('recovery_code_used', request, { user: userId, left: use.left })
    return use.factor
  }

  /** What answers nothing that waits is no attempt, so that a repeated response locks nobody; every other one counts before it is looked at. */
  async function verifyOther (userId: string, { factor, response, boundTo = '' }: OtherProof, request: FastifyRequest | null): Promise<Factor> {
    await attempts.refuseLocked(userId, request)
    const other = others.get(factor)
    const check = other === undefined ? null : await other.take(userId, response, boundTo, request)
    if (check === null) throw refused(request, userId, `no question waits for this ${other === undefined ? 'factor' : factor}`)
    const refund = await attempts.reserve(userId, request)
    const isRight = await check().catch(async error => {
      await refund()
      throw error
    })
    if (!isRight) throw refused(request, userId, `wrong ${factor}`)
    await attempts.forget(userId)
    app.events.record('mfa_success', request, { user: userId, factor })
    return factor
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

  async function disable (userId: string, request: FastifyRequest | null = null): Promise<boolean> {
    await state.delete(enrolmentKey(userId))
    await attempts.forget(userId)
    await devices.forget(userId)
    const wasEnrolled = await store.remove(userId)
    if (wasEnrolled) app.events.record('mfa_disabled', request, { user: userId })
    return wasEnrolled
  }

  async function challenge ({ id, passwordHash }: Pick<Account, 'id' | 'passwordHash'>): Promise<string> {
    return pendings.begin(id, passwordHash)
  }

  async function pendingOf (mfaToken: string, request: FastifyRequest | null): Promise<PendingSignIn> {
    const pending = await pendings.find(mfaToken)
    if (pending === null) throw refused(request, null, 'no sign-in waits for this code')
    return pending
  }

  async function redeem (mfaToken: string, proof: string | OtherProof, request: FastifyRequest | null = null): Promise<Account & { amr: readonly string[] }> {
    const pending = await pendingOf(mfaToken, request)
    const { userId } = pending
    if (pending.isDead) {
      await attempts.refuseLocked(userId, request)
      throw refused(request, userId, 'too many codes were wrong')
    }
    let factor: Factor
    try {
      factor = await verify(userId, typeof proof === 'string' ? proof : { ...proof, boundTo: mfaToken }, request)
    } catch (error) {
      if (error instanceof MfaLocked) await pendings.kill(mfaToken, pending)
      throw error
    }
    if (!await pendings.spend(mfaToken, pending)) throw refused(request, userId, 'the sign-in was completed by another request')
    const account = await accounts.findById(userId)
    if (account === null || fingerprint(account.passwordHash) !== pending.password) throw refused(request, userId, 'the password changed meanwhile')
    if (!account.isActive) throw new MfaAccountInactive()
    const proven = { ...account, amr: ['pwd', others.get(factor)?.amr ?? 'otp', 'mfa'] }
    completed.add(proven)
    return proven
  }

  function refused (request: FastifyRequest | null, user: string | null, reason: string): Error {
    app.events.record('mfa_failure', request, { ...user !== null && { user }, reason })
    return new MfaRefused()
  }
}

function enrolmentKey (userId: string): string {
  return `mfa:enrolment:${userId}`
}

/** A step of one secret: the same step of the next one has another code. */
function usedKey (userId: string, sealed: string, step: number): string {
  return `mfa:used:${userId}:${createHash('sha256').update(sealed).digest('base64url').slice(0, 22)}:${step}`
}

export default fp(mfa, { fastify: '5.x', name: 'bastion-mfa', dependencies: ['bastion-events', 'bastion-state'] })
