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
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { checkKeys, checkOptions } from '../options.js'
import { tellInProblem } from '../problem.js'
import type { Account, Accounts } from '../sign-in.js'
import { attemptsOf, STREAK_MS } from './attempts.js'
import { codesOf } from './codes.js'
import type { Factor, Mfa } from './contract.js'
import { devicesOf } from './devices.js'
import { MfaAccountInactive, MfaLocked, MfaMisconfigured, MfaRefused, MfaRequired } from './errors.js'
import { fingerprintOf, type OtherFactor, type OtherProof } from './factors.js'
import { fingerprint, pendingSignIns, type PendingSignIn } from './pending.js'
import { sealOf } from './seal.js'
import type { MfaStore } from './store.js'

export * from './errors.js'
export type { Factor, Mfa, NewFactor } from './contract.js'
export type { OtherFactor, OtherProof } from './factors.js'
export { MFA_TABLES, sqlMfaStore } from './store.js'
export type { MfaEnrolment, MfaStore } from './store.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** The second factor. */
    mfa: Mfa
  }
}

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

const DAY_MS = 86_400_000
const STORE = ['find', 'save', 'spend', 'remove'] as const

async function mfa (app: FastifyInstance, options: MfaOptions): Promise<void> {
  const { store, accounts, key, now = Date.now, ...plain } = options
  checkOptions(MfaOptions, plain, 'mfa', MfaMisconfigured)
  if (!STORE.every(name => typeof store?.[name] === 'function')) throw new MfaMisconfigured(`mfa: store: must be an object with ${STORE.join(', ')}`)
  if (typeof accounts?.findById !== 'function') throw new MfaMisconfigured('mfa: accounts: must be an object with findById')
  const keys = checkKeys(key, 'mfa: key', MfaMisconfigured)
  const { issuer, drift = 1, attempts: limit = 5, windowMs = 900_000, streak = 100, enrolmentMs = 900_000, challengeMs = 300_000, rememberDevice } = plain
  if (windowMs > STREAK_MS) throw new MfaMisconfigured(`mfa: windowMs: must not be longer than ${STREAK_MS}`)
  const state = plain.deadline === undefined ? app.state : app.state.within(plain.deadline)
  const attempts = attemptsOf(app, state, { attempts: limit, windowMs, streak })
  const codes = codesOf({ app, state, store, sealing: sealOf(keys), attempts, issuer, drift, enrolmentMs, now, refused })
  const pendings = pendingSignIns(state, challengeMs)
  const devices = devicesOf(state, (rememberDevice?.days ?? 1) * DAY_MS)
  const others = new Map<string, OtherFactor>()
  /** Accounts that have just shown their second factor. */
  const completed = new WeakSet<object>()

  app.decorate('mfa', {
    enroll: codes.enroll,
    confirm: codes.confirm,
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

  async function verify (userId: string, proof: string | OtherProof, request: FastifyRequest | null = null): Promise<Factor> {
    return typeof proof === 'string' ? codes.verify(userId, proof, request) : verifyOther(userId, proof, request)
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

  async function disable (userId: string, request: FastifyRequest | null = null): Promise<boolean> {
    await codes.abandon(userId)
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

export default fp(mfa, { fastify: '5.x', name: 'bastion-mfa', dependencies: ['bastion-events', 'bastion-state'] })
