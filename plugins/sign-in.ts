/**
 * Sign-in: the check of a name and a password, the same for every name.
 *
 * Threat: guessing (CWE-307), stuffing, and answers or times that tell which names exist (CWE-204, CWE-208).
 * Defence: one answer and one cost for known and unknown names; attempts are reserved before the hash is computed,
 * so that parallel guesses count; a locked name costs no hash.
 * Not covered: a right password in the wrong hands; that is what a second factor is for.
 */
import { createHash } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { createError } from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { addressKey } from './address.js'
import { checkOptions } from './options.js'

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
   * @throws SignInRefused (401), SignInLocked (429), AccountInactive (403, only after the right password)
   */
  withPassword: (login: string, password: string, request: FastifyRequest) => Promise<Account>
  /**
   * Checks the password of somebody who is signed in already (step-up, change); failures count towards the lock of `login`.
   * @throws SignInRefused, SignInLocked
   */
  confirmPassword: (accountId: string, login: string, password: string, request: FastifyRequest) => Promise<Account>
  /** Lifts the locks of a name, everywhere. */
  unlock: (login: string) => Promise<void>
}

/** Name or password are wrong; which of them is told to nobody. */
export const SignInRefused = createError('FST_BASTION_SIGN_IN_REFUSED', 'The name or the password is wrong', 401)
/** Too many failures; Retry-After says when the lock ends. */
export const SignInLocked = createError('FST_BASTION_SIGN_IN_LOCKED', 'Too many failed attempts, try again later', 429)
/** The password was right and the account is switched off. */
export const AccountInactive = createError('FST_BASTION_SIGN_IN_INACTIVE', 'This account is not active', 403)
/** An option of the sign-in concern is wrong. */
export const SignInMisconfigured = createError<[string]>('FST_BASTION_SIGN_IN_MISCONFIGURED', '%s', 500, TypeError)

const Count = (fallback: number, description: string) => Type.Optional(Type.Integer({ minimum: 1, default: fallback, description }))
export const SignInOptions = Type.Object({
  windowMs: Count(900_000, 'Milliseconds from the first failure until all is forgotten'),
  perNameAndAddress: Count(5, 'Failures that lock a name for one address'),
  perName: Count(20, 'Failures from anywhere that lock a name'),
  perAddress: Count(30, 'Failures that lock an address, if they were over `namesPerAddress` names'),
  namesPerAddress: Count(10, 'Different names that make failures of an address an attack'),
}, { additionalProperties: false })
export type SignInOptions = Static<typeof SignInOptions> & {
  /** The service's own accounts. */
  accounts: Accounts
}

interface Attempt { keys: { name: string, pair: string, address: string, names: string } }

async function signIn (app: FastifyInstance, options: SignInOptions): Promise<void> {
  const { accounts, ...plain } = options
  checkOptions(SignInOptions, plain, 'sign-in', SignInMisconfigured)
  if (typeof accounts?.findByLogin !== 'function') throw new SignInMisconfigured('sign-in: accounts: must be an object with findByLogin, findById and savePassword')
  const { windowMs = 900_000, perNameAndAddress = 5, perName = 20, perAddress = 30, namesPerAddress = 10 } = plain

  app.decorate('signIn', {
    withPassword: (login, password, request) => attempt(login, request, () => accounts.findByLogin(login), password),
    confirmPassword: (accountId, login, password, request) => attempt(login, request, () => accounts.findById(accountId), password),
    async unlock (login) {
      // A new epoch leaves every counter of the name behind, whatever addresses they are for.
      await app.state.raise(epochKey(login), 1, windowMs * 2)
    },
  })

  async function attempt (login: string, request: FastifyRequest, find: () => Promise<Account | null>, password: string): Promise<Account> {
    const reserved = await reserve(login, request)
    let account, outcome
    try {
      account = await find()
      outcome = account === null || account.passwordHash === null
        ? await app.passwords.verifyNothing(password)
        : await app.passwords.verify(password, account.passwordHash)
    } catch (error) {
      await refund(reserved) // nothing was learnt: an overloaded or broken service locks nobody out
      throw error
    }
    if (account === null || outcome === undefined || !outcome.valid) {
      app.events.record('login_failure', request, { login: fingerprint(login) })
      throw new SignInRefused()
    }
    await succeed(reserved)
    if (!account.isActive) {
      app.events.record('login_failure', request, { user: account.id, reason: 'inactive' })
      throw new AccountInactive()
    }
    app.events.record('login_success', request, { user: account.id })
    if (outcome.newHash === undefined) return account
    await accounts.savePassword(account.id, outcome.newHash, account.passwordHash)
    return { ...account, passwordHash: outcome.newHash }
  }

  /** Counts the attempt as if it had failed, before anything is computed. */
  async function reserve (login: string, request: FastifyRequest): Promise<Attempt> {
    const name = fingerprint(login)
    const epoch = await app.state.get(epochKey(login)) ?? '0'
    const address = addressKey(request.ip)
    const keys = {
      name: `sign-in:name:${name}:${epoch}`,
      pair: `sign-in:pair:${name}:${epoch}:${address}`,
      address: `sign-in:address:${address}`,
      names: `sign-in:names:${address}`,
    }
    const [pair, byName, byAddress, names] = await Promise.all([
      app.state.add(keys.pair, 1, windowMs), app.state.add(keys.name, 1, windowMs), app.state.add(keys.address, 1, windowMs),
      app.state.join(keys.names, name, namesPerAddress, windowMs),
    ])
    const locks = [
      ...pair.count > perNameAndAddress ? [{ of: 'name for address', ttlMs: pair.ttlMs }] : [],
      ...byName.count > perName ? [{ of: 'name', ttlMs: byName.ttlMs }] : [],
      ...byAddress.count > perAddress && names >= namesPerAddress ? [{ of: 'address', ttlMs: byAddress.ttlMs }] : [],
    ]
    if (locks.length === 0) return { keys }
    await refund({ keys })
    app.events.record('login_locked', request, { login: name, locks: locks.map(({ of }) => of), severity: locks.some(({ of }) => of === 'address') ? 'critical' : 'warning' })
    const retryAfter = Math.max(1, ...locks.map(({ ttlMs }) => Math.ceil(ttlMs / 1000)))
    throw Object.assign(new SignInLocked(), { headers: { 'retry-after': String(retryAfter) } })
  }

  async function refund ({ keys }: Attempt): Promise<void> {
    await Promise.all([app.state.add(keys.pair, -1, windowMs), app.state.add(keys.name, -1, windowMs), app.state.add(keys.address, -1, windowMs)])
  }

  /** A success resets the name for everybody, never the address: who owns one account could otherwise go on guessing others. */
  async function succeed ({ keys }: Attempt): Promise<void> {
    await Promise.all([app.state.delete(keys.pair), app.state.delete(keys.name), app.state.add(keys.address, -1, windowMs)])
  }
}

/** People type passwords into the field of the name: what is kept of it is a fingerprint. */
function fingerprint (login: string): string {
  return createHash('sha256').update(login.normalize('NFKC').toLowerCase()).digest('base64url').slice(0, 22)
}

function epochKey (login: string): string {
  return `sign-in:epoch:${fingerprint(login)}`
}

export default fp(signIn, { fastify: '5.x', name: 'bastion-sign-in', dependencies: ['bastion-events', 'bastion-state', 'bastion-passwords'] })
