/**
 * Sign-in: the check of a name and a password, the same for every name.
 *
 * Threat: guessing (CWE-307), stuffing, and answers or times that tell which names exist (CWE-204, CWE-208).
 * Defence: one answer and one cost for known and unknown names; attempts are reserved before the hash is computed,
 * so that parallel guesses count; a locked name costs no hash, and an attempt on it changes no count. Where no more hashes can
 * be computed nothing is asked of anybody, and whoever is refused for that waits a moment for the answer.
 * Not covered: a right password in the wrong hands; that is what a second factor is for. Who knows a name can have it
 * locked, for others from twenty addresses or more; that is the price of a lock.
 */
import { createHash, randomBytes } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { createError } from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { addressKey } from './address.js'
import { makeHold, makeHoldOfMany } from './hold.js'
import { checkOptions } from './options.js'
import { createRefusal } from './refusal.js'

declare module 'fastify' {
  interface FastifyInstance {
    signIn: SignIn
  }
}

/** An account, as sign-in needs it. */
export interface Account {
  id: string
  /** PHC string; null where the account has no password. */
  passwordHash: string | null
  roles: readonly string[]
  plan?: string
  isActive: boolean
}

/** The service's own table of accounts. */
export interface Accounts<A extends Account = Account> {
  /** By the name that people type; null where there is none. */
  findByLogin: (login: string) => Promise<A | null>
  findById: (id: string) => Promise<A | null>
  /** `replaces`: save only while this is the hash that is stored, so that a password that was changed meanwhile stays. */
  savePassword: (id: string, passwordHash: string, replaces?: string | null) => Promise<void>
}

export interface SignIn {
  /**
   * The account of this name, if the password is right.
   * @throws SignInRefused (401), SignInLocked (429), AccountInactive (403, only after the right password), PasswordsBusy (503)
   */
  withPassword: (login: string, password: string, request: FastifyRequest) => Promise<Account>
  /**
   * Checks the password of somebody who is signed in already (step-up, change); failures count towards the lock of `login`.
   * @throws SignInRefused, SignInLocked
   */
  confirmPassword: (accountId: string, login: string, password: string, request: FastifyRequest) => Promise<Account>
  /** Lifts the locks of a name, from wherever; never that of an address. */
  unlock: (login: string) => Promise<void>
}

/** Name or password are wrong; which of them is told to nobody. */
export const SignInRefused = createRefusal('FST_BASTION_SIGN_IN_REFUSED', 'The name or the password is wrong', 401)
/** Too many failures; Retry-After says when the lock ends. */
export const SignInLocked = createRefusal('FST_BASTION_SIGN_IN_LOCKED', 'Too many failed attempts, try again later', 429)
/** The password was right and the account is switched off. */
export const AccountInactive = createRefusal('FST_BASTION_SIGN_IN_INACTIVE', 'This account is not active', 403)
/** An option of the sign-in concern is wrong. */
export const SignInMisconfigured = createError<[string]>('FST_BASTION_SIGN_IN_MISCONFIGURED', '%s', 500, TypeError)

const Count = (fallback: number, description: string) => Type.Optional(Type.Integer({ minimum: 1, default: fallback, description }))
export const SignInOptions = Type.Object({
  windowMs: Count(900_000, 'Milliseconds from the first failure until all is forgotten'),
  perNameAndAddress: Count(5, 'Failures that lock a name for one address'),
  perName: Count(20, 'Failures from anywhere that lock a name'),
  perAddress: Count(30, 'Failures that lock an address, if they were over `namesPerAddress` names'),
  namesPerAddress: Count(10, 'Different names that make failures of an address an attack'),
  deadline: Type.Optional(Type.Integer({ minimum: 1, description: 'Milliseconds that shared state may take to answer, else 503: nobody signs in uncounted; default: that of state' })),
}, { additionalProperties: false })
export type SignInOptions = Static<typeof SignInOptions> & {
  /** The service's own accounts. */
  accounts: Accounts
}

const PORT = ['findByLogin', 'findById', 'savePassword'] as const

/** Where an attempt is counted. */
interface Attempt {
  /** Fingerprint of the name. */
  name: string
  /** Failures of the name from this address, of the name, of the address. */
  pair: string
  total: string
  address: string
  /** The set of names that failed from this address. */
  names: string
}

/** One that was counted. */
interface Reserved extends Attempt {
  /** Of the name, before this one: attempts that failed, or are not decided yet. */
  failures: number
}

interface Tally { count: number, ttlMs: number }
interface Lock { of: 'name for address' | 'name' | 'address', ttlMs: number }

async function signIn (app: FastifyInstance, options: SignInOptions): Promise<void> {
  const { accounts, ...plain } = options
  checkOptions(SignInOptions, plain, 'sign-in', SignInMisconfigured)
  if (!PORT.every(name => typeof accounts?.[name] === 'function')) throw new SignInMisconfigured(`sign-in: accounts: must be an object with ${PORT.join(', ')}`)
  const { windowMs = 900_000, perNameAndAddress = 5, perName = 20, perAddress = 30, namesPerAddress = 10 } = plain
  const state = plain.deadline === undefined ? app.state : app.state.within(plain.deadline)
  const hold = makeHold()
  const holdOfMany = makeHoldOfMany()

  app.decorate('signIn', {
    withPassword: (login, password, request) => attempt(login, request, () => accounts.findByLogin(login), password),
    confirmPassword: (accountId, login, password, request) => attempt(login, request, () => accounts.findById(accountId), password),
    async unlock (login) {
      // A new epoch leaves every counter of the name behind, whatever addresses they are for; none ever comes back.
      await state.set(epochKey(fingerprint(login)), randomBytes(9).toString('base64url'), windowMs * 2, true)
    },
  })

  async function attempt (login: string, request: FastifyRequest, find: () => Promise<Account | null>, password: string): Promise<Account> {
    const busy = app.passwords.refusal()
    if (busy !== null) throw await hold(busy)
    const reserved = await reserve(login, request)
    let account, outcome
    try {
      account = await find()
      outcome = account === null || account.passwordHash === null
        ? await app.passwords.verifyNothing(password)
        : await app.passwords.verify(password, account.passwordHash)
    } catch (error) {
      await refund(reserved, [reserved.pair, reserved.total, reserved.address]) // nothing was learnt: an overloaded or broken service locks nobody out
      throw error
    }
    if (account === null || outcome === undefined || !outcome.valid) {
      app.events.record('login_failure', request, { login: app.events.nameOf(reserved.name) })
      throw new SignInRefused()
    }
    await succeed(reserved)
    if (!account.isActive) {
      app.events.record('login_failure', request, { user: account.id, reason: 'inactive' })
      throw new AccountInactive()
    }
    app.events.record('login_success', request, { user: account.id, ...reserved.failures > 0 && { failures: reserved.failures } })
    return outcome.newHash === undefined ? account : strengthen(account, outcome.newHash, request)
  }

  /** A hash that could not be saved is made again next time: nobody is kept out by it. */
  async function strengthen (account: Account, passwordHash: string, request: FastifyRequest): Promise<Account> {
    try {
      await accounts.savePassword(account.id, passwordHash, account.passwordHash)
      return { ...account, passwordHash }
    } catch (error) {
      request.log.error({ err: error }, 'a stronger hash could not be saved')
      return account
    }
  }

  /**
   * Counts the attempt as if it had failed, before anything is computed.
   *
   * It is looked up first, and counted only where nothing is locked: otherwise a flood of attempts on a name that is
   * locked for one address would, while they are counted and taken back, lock it for everybody.
   */
  async function reserve (login: string, request: FastifyRequest): Promise<Reserved> {
    const name = fingerprint(login)
    const epoch = await state.get(epochKey(name)) ?? '0'
    const address = addressKey(request.ip)
    const attempt = {
      name,
      pair: `sign-in:pair:${name}:${epoch}:${address}`,
      total: `sign-in:name:${name}:${epoch}`,
      address: `sign-in:address:${address}`,
      names: `sign-in:names:${address}`,
    }
    await refuseLocked((await count(attempt, 0)).locks, name, request)
    const { locks, failures } = await count(attempt, 1)
    await refuseLocked(locks, name, request)
    return { ...attempt, failures }
  }

  /** Looks at the counters (`by` 0), or counts (1) unless that meets a lock. */
  async function count (attempt: Attempt, by: 0 | 1): Promise<{ locks: Lock[], failures: number }> {
    const keys = [attempt.pair, attempt.total, attempt.address]
    const tallies = keys.map(async key => {
      const { count, ttlMs } = await state.add(key, by, windowMs)
      return { count: count + 1 - by, ttlMs }
    })
    const outcomes = await Promise.allSettled(tallies)
    const counted = keys.filter((_key, i) => by === 1 && outcomes[i]!.status === 'fulfilled')
    try {
      const [pair, total, address] = await Promise.all(tallies) as [Tally, Tally, Tally]
      // One place more than decides: so it shows how many others there are, whether this name is among them or not.
      const isBusy = address.count > perAddress
      const isNew = pair.count === 1
      const names = isBusy || by === 1 ? await state.join(attempt.names, attempt.name, namesPerAddress + 1, windowMs) : 0
      const locks: Lock[] = [
        ...pair.count > perNameAndAddress ? [{ of: 'name for address' as const, ttlMs: pair.ttlMs }] : [],
        ...total.count > perName ? [{ of: 'name' as const, ttlMs: total.ttlMs }] : [],
        ...isBusy && names - Number(isNew) >= namesPerAddress ? [{ of: 'address' as const, ttlMs: address.ttlMs }] : [],
      ]
      const counts = { locks, failures: total.count - 1 }
      if (locks.length === 0) return counts
      await refund(attempt, counted)
      if (isNew) await state.leave(attempt.names, attempt.name)
      return counts
    } catch (error) {
      await refund(attempt, counted)
      throw error
    }
  }

  async function refuseLocked (locks: readonly Lock[], login: string, request: FastifyRequest): Promise<void> {
    if (locks.length === 0) return
    const of = locks.map(lock => lock.of)
    app.events.record('login_locked', request, { login: app.events.nameOf(login), locks: of, severity: of.includes('address') ? 'critical' : 'warning' })
    const retryAfter = Math.max(1, ...locks.map(({ ttlMs }) => Math.ceil(ttlMs / 1000)))
    throw await holdOfMany(Object.assign(new SignInLocked(), { headers: { 'retry-after': String(retryAfter) } }), request)
  }

  /** Takes back what was counted. A name of which no failure is left is none that failed from this address. */
  async function refund (attempt: Attempt, counted: readonly string[]): Promise<void> {
    const left = await Promise.all(counted.map(async key => state.add(key, -1, windowMs)))
    if (left[counted.indexOf(attempt.pair)]?.count === 0) await state.leave(attempt.names, attempt.name)
  }

  /**
   * A success resets the name, for this address and in all; other addresses at which it is locked stay locked. It never
   * resets the address: who owns one account could otherwise go on guessing others.
   */
  async function succeed (attempt: Attempt): Promise<void> {
    await refund(attempt, [attempt.pair, attempt.address])
    await Promise.all([state.delete(attempt.pair), state.delete(attempt.total)])
  }
}

/** People type passwords into the field of the name: what is kept of it is a fingerprint. Case, width and blanks around it make no other name. */
function fingerprint (login: string): string {
  return createHash('sha256').update(login.normalize('NFKC').toLowerCase().trim()).digest('base64url').slice(0, 22)
}

function epochKey (name: string): string {
  return `sign-in:epoch:${name}`
}

export default fp(signIn, { fastify: '5.x', name: 'bastion-sign-in', dependencies: ['bastion-events', 'bastion-state', 'bastion-passwords'] })
