/**
 * Passkeys (WebAuthn, by @simplewebauthn/server): a key pair in an authenticator signs a challenge, for this origin alone.
 *
 * Threat: false pages that ask for password and code (CWE-1390), responses that are replayed, in parallel too (CWE-294), that were
 * made for another purpose, another user or in a frame of another site, and authenticators that were copied.
 * Defence: each challenge is random, good once by an atomic exchange, for minutes, and for one purpose of one user; origin,
 * relying party, presence, verification, signature, user handle and counter are checked; a counter that goes back refuses and raises
 * a critical event. With user verification a passkey is two factors in one: who has it, and who unlocks it.
 * Not covered: an authenticator in the hands of who can unlock it; copies by those who keep its backup; which make it is (attestation is
 * not asked for). How often somebody tries is for the route's limits, and for `mfa` where it is the second factor.
 * Sources: WebAuthn Level 3 (7.1, 7.2), NIST SP 800-63B-4 (3.2.5), OWASP ASVS 5.0 (6.3.3, 6.7.2).
 */
import { createHash, randomBytes } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import type { PasskeyAssertion, PasskeyCreationOptions, PasskeyRegistration, PasskeyRequestOptions } from '../../schemas/passkeys.js'
import { checkOptions } from '../options.js'
import { isExactOrigin } from '../origin.js'
import { isProduction } from '../production.js'
import type { Account, Accounts } from '../sign-in.js'
import { ALGORITHMS, challengeOf, loadCeremonies, type Fault } from './ceremonies.js'
import { challengesOf } from './challenges.js'
import { PasskeyAccountInactive, PasskeyNotRegistered, PasskeyRefused, PasskeysFull, PasskeysMisconfigured } from './errors.js'
import type { PasskeyFacts, PasskeyStore, StoredPasskey } from './store.js'

export * from './errors.js'
export { PASSKEYS_TABLE, sqlPasskeys } from './store.js'
export type { PasskeyFacts, PasskeyStore, PasskeyUse, StoredPasskey } from './store.js'

declare module 'fastify' {
  interface FastifyInstance {
    passkeys: Passkeys
  }
}

/** A passkey as its user sees it. */
export type Passkey = PasskeyFacts

export interface Passkeys {
  /**
   * What the browser needs to make a passkey for this user; ask for a step-up before.
   * @param user `name` is what the authenticator shows beside the service's
   * @throws PasskeysFull (409)
   */
  registerOptions: (user: { id: string, name: string, displayName?: string }) => Promise<PasskeyCreationOptions>
  /**
   * Keeps what the authenticator made.
   * @throws PasskeyNotRegistered (400), PasskeysFull (409)
   */
  register: (userId: string, response: PasskeyRegistration, more: { name: string, request?: FastifyRequest | null }) => Promise<Passkey>
  /** What the browser needs to sign somebody in; who it is, the passkey says. The same for everybody. */
  loginOptions: () => Promise<PasskeyRequestOptions>
  /**
   * The account of a passkey, and what was shown (RFC 8176): `['pop', 'mfa']` where its user was verified, else `['pop']`.
   * @throws PasskeyRefused (401), PasskeyAccountInactive (403, only for the right passkey)
   */
  login: (response: PasskeyAssertion, request?: FastifyRequest | null) => Promise<Account & { amr: readonly string[] }>
  /**
   * What the browser needs to show a passkey of this user, beside a password or again.
   * @param boundTo what it is shown for: the `mfaToken` of a sign-in, the credential of a step-up. No response to these options is good for anything else
   */
  secondOptions: (userId: string, boundTo: string) => Promise<PasskeyRequestOptions>
  /**
   * Checks a passkey that this user shows beside a password or again. Counts nothing: `app.mfa` does.
   * @throws PasskeyRefused (401)
   */
  verifySecond: (userId: string, response: PasskeyAssertion, boundTo: string, request?: FastifyRequest | null) => Promise<void>
  /** Those of a user, the oldest first. */
  list: (userId: string) => Promise<Passkey[]>
  /** True where this user had it. */
  remove: (userId: string, id: string, request?: FastifyRequest | null) => Promise<boolean>
}

export const PasskeysOptions = Type.Object({
  rpId: Type.String({
    pattern: '^(?=.{1,253}$)(?:localhost|(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?)$',
    description: 'Domain for which passkeys are made: that of the origins, or one above it. It cannot be changed later: passkeys stay with it',
  }),
  rpName: Type.String({ minLength: 1, maxLength: 64, description: 'Name of the service, as authenticators show it' }),
  origins: Type.Array(Type.String(), {
    minItems: 1, uniqueItems: true, description: 'Exact origins of the pages that use them: https; outside of production http://localhost too',
  }),
  userVerification: Type.Optional(Type.Union([Type.Literal('required'), Type.Literal('preferred'), Type.Literal('discouraged')], {
    default: 'required', description: 'Whether the authenticator must verify its user (PIN, finger, face): without, a passkey is one factor',
  })),
  secondFactor: Type.Optional(Type.Boolean({
    default: false, description: 'Passkeys are a second factor of `mfa` too: the password alone does not sign in an account that has one',
  })),
  timeoutMs: Type.Optional(Type.Integer({ minimum: 10_000, maximum: 600_000, default: 300_000, description: 'Milliseconds in which a passkey must be made or shown' })),
  maxPerUser: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: 20, description: 'Passkeys that a user may have' })),
  deadline: Type.Optional(Type.Integer({ minimum: 1, description: 'Milliseconds that shared state may take to answer, else 503; default: that of state' })),
}, { additionalProperties: false })
export type PasskeysOptions = Static<typeof PasskeysOptions> & {
  /** Where they are kept: `sqlPasskeys(sql)`, or your own. */
  store: PasskeyStore
  /** The service's own accounts: those of sign-in. */
  accounts: Pick<Accounts, 'findById'>
  /** Milliseconds since the epoch; for tests. */
  now?: () => number
}

const STORE = ['find', 'list', 'add', 'used', 'remove'] as const
const HANDLE_BYTES = 32

async function passkeys (app: FastifyInstance, options: PasskeysOptions): Promise<void> {
  const { store, accounts, now = Date.now, ...plain } = options
  checkOptions(PasskeysOptions, plain, 'passkeys', PasskeysMisconfigured)
  if (!STORE.every(name => typeof store?.[name] === 'function')) throw new PasskeysMisconfigured(`passkeys: store: must be an object with ${STORE.join(', ')}: sqlPasskeys(sql) makes one`)
  if (typeof accounts?.findById !== 'function') throw new PasskeysMisconfigured('passkeys: accounts: must be an object with findById')
  const { rpId, rpName, origins, userVerification = 'required', secondFactor = false, timeoutMs = 300_000, maxPerUser = 20 } = plain
  for (const origin of origins) if (!isOriginOf(origin, rpId)) throw new PasskeysMisconfigured(`passkeys: origins: ${origin} must be an https origin on ${rpId} or below it`)
  if (secondFactor && !app.hasDecorator('mfa')) throw new PasskeysMisconfigured('passkeys: secondFactor: needs mfa')
  const ceremonies = await loadCeremonies({ rpId, origins, userVerification }).catch(cause => {
    throw Object.assign(new PasskeysMisconfigured('passkeys: the package @simplewebauthn/server is needed: npm i @simplewebauthn/server'), { cause })
  })
  const challenges = challengesOf(plain.deadline === undefined ? app.state : app.state.within(plain.deadline), timeoutMs)

  app.decorate('passkeys', {
    registerOptions,
    register,
    loginOptions: async () => requestOptions(await challenges.begin(['login']), []),
    login,
    secondOptions: async (userId, boundTo) => requestOptions(await challenges.begin(['second', userId, boundTo]), await store.list(userId)),
    async verifySecond (userId, response, boundTo, request = null) {
      const check = await takeSecond(userId, response, boundTo, request)
      if (check === null || !await check()) throw new PasskeyRefused()
    },
    list: async userId => (await store.list(userId)).map(shown),
    async remove (userId, id, request = null) {
      const wasThere = await store.remove(userId, id)
      if (wasThere) app.events.record('passkey_removed', request, { user: userId, passkey: id })
      return wasThere
    },
  })
  if (secondFactor) {
    app.mfa.factor({
      name: 'passkey',
      amr: 'pop',
      async enrolment (userId) {
        const ids = (await store.list(userId)).map(({ id }) => id)
        return ids.length === 0 ? null : createHash('sha256').update(ids.join()).digest('base64url')
      },
      take: (userId, response, boundTo, request) => takeSecond(userId, response as PasskeyAssertion, boundTo, request),
    })
  }

  async function registerOptions ({ id, name, displayName = name }: { id: string, name: string, displayName?: string }): Promise<PasskeyCreationOptions> {
    const known = await store.list(id)
    if (known.length >= maxPerUser) throw new PasskeysFull()
    // One for all passkeys of a user, so that an authenticator keeps one of them; random, because whoever holds the authenticator can read it.
    const userHandle = known[0]?.userHandle ?? randomBytes(HANDLE_BYTES).toString('base64url')
    return {
      challenge: await challenges.begin(['register', id], userHandle),
      rp: { id: rpId, name: rpName },
      user: { id: userHandle, name, displayName },
      pubKeyCredParams: ALGORITHMS.map(alg => ({ type: 'public-key', alg })),
      timeout: timeoutMs,
      attestation: 'none',
      excludeCredentials: known.map(descriptor),
      authenticatorSelection: { residentKey: 'required', requireResidentKey: true, userVerification },
      extensions: { credProps: true },
    }
  }

  function requestOptions (challenge: string, allowed: readonly StoredPasskey[]): PasskeyRequestOptions {
    return { challenge, rpId, timeout: timeoutMs, userVerification, allowCredentials: allowed.map(descriptor) }
  }

  async function register (userId: string, response: PasskeyRegistration, { name, request = null }: { name: string, request?: FastifyRequest | null }): Promise<Passkey> {
    const challenge = challengeOf(response.response.clientDataJSON)
    const userHandle = challenge === null ? null : await challenges.take(challenge, ['register', userId])
    if (challenge === null || userHandle === null) throw new PasskeyNotRegistered()
    const made = await ceremonies.made(response, challenge)
    if ('fault' in made) throw Object.assign(new PasskeyNotRegistered(), { cause: reasonOf(made, request) })
    const passkey: StoredPasskey = {
      ...made, id: randomBytes(12).toString('base64url'), userId, name, userHandle, transports: response.response.transports ?? [], createdAt: new Date(now()), lastUsedAt: null,
    }
    if (!await store.add(passkey, maxPerUser)) throw (await store.list(userId)).length >= maxPerUser ? new PasskeysFull() : new PasskeyNotRegistered()
    app.events.record('passkey_added', request, { user: userId, passkey: passkey.id })
    return shown(passkey)
  }

  async function login (response: PasskeyAssertion, request: FastifyRequest | null = null): Promise<Account & { amr: readonly string[] }> {
    const refused = (reason: string, user?: string) => {
      app.events.record('login_failure', request, { ...user !== undefined && { user }, reason: `passkey: ${reason}` })
      return new PasskeyRefused()
    }
    const challenge = challengeOf(response.response.clientDataJSON)
    if (challenge === null || await challenges.take(challenge, ['login']) === null) throw refused('no sign-in waits for this response')
    const passkey = await store.find(response.id)
    if (passkey === null) throw refused('unknown')
    // Nobody said who signs in: the user handle must (WebAuthn, 7.2, step 6).
    if (response.response.userHandle === undefined) throw refused('without a user handle', passkey.userId)
    const outcome = await use(passkey, response, challenge, request)
    if (typeof outcome === 'string') throw refused(outcome, passkey.userId)
    const account = await accounts.findById(passkey.userId)
    if (account === null) throw refused('the account is gone', passkey.userId)
    if (!account.isActive) {
      app.events.record('login_failure', request, { user: account.id, reason: 'inactive' })
      throw new PasskeyAccountInactive()
    }
    app.events.record('login_success', request, { user: account.id, passkey: passkey.id })
    return { ...account, amr: outcome.isVerified ? ['pop', 'mfa'] : ['pop'] }
  }

  /**
   * Takes the challenge of a response; answers what checks the rest, or null where none of this purpose waits: then nobody guessed anything.
   */
  async function takeSecond (userId: string, response: PasskeyAssertion, boundTo: string, request: FastifyRequest | null): Promise<(() => Promise<boolean>) | null> {
    const challenge = challengeOf(response.response.clientDataJSON)
    if (challenge === null || await challenges.take(challenge, ['second', userId, boundTo]) === null) return null
    return async () => {
      const passkey = await store.find(response.id)
      return passkey !== null && passkey.userId === userId && typeof await use(passkey, response, challenge, request) !== 'string'
    }
  }

  /** Verifies a response and notes the use; a text says why not. */
  async function use (passkey: StoredPasskey, response: PasskeyAssertion, challenge: string, request: FastifyRequest | null): Promise<{ isVerified: boolean } | string> {
    const outcome = await ceremonies.shown(response, challenge, passkey)
    if ('fault' in outcome) return reasonOf(outcome, request)
    const { counter, isBackedUp, isVerified } = outcome
    if (await store.used(passkey.credentialId, { counter, isBackedUp, at: new Date(now()) })) return { isVerified }
    const known = await store.find(passkey.credentialId)
    if (known === null) return 'removed meanwhile'
    app.events.record('passkey_cloned', request, { user: passkey.userId, passkey: passkey.id, counter, known: known.counter, severity: 'critical' })
    return 'the counter went back: there may be a copy'
  }

  /** The library names what was wrong: for who operates, on whose side the mistake may be. */
  function reasonOf ({ fault, cause }: Fault, request: FastifyRequest | null): string {
    const log = request?.log ?? app.log
    log.debug({ err: cause }, `a passkey was refused: ${fault}`)
    return fault
  }
}

/** https, or http on this very machine outside of production; the relying party's domain or one below it (WebAuthn, 5.1.3, step 8). */
function isOriginOf (origin: string, rpId: string): boolean {
  if (!isExactOrigin(origin)) return false
  const url = new URL(origin)
  const isLocal = url.protocol === 'http:' && /(?:^|\.)localhost$/.test(url.hostname) && !isProduction()
  return (url.protocol === 'https:' || isLocal) && (url.hostname === rpId || url.hostname.endsWith(`.${rpId}`))
}

function descriptor ({ credentialId, transports }: StoredPasskey): PasskeyRequestOptions['allowCredentials'][number] {
  return { id: credentialId, type: 'public-key', ...transports.length > 0 && { transports: [...transports] } }
}

function shown ({ id, userId, name, createdAt, lastUsedAt, isBackedUp }: StoredPasskey): Passkey {
  return { id, userId, name, createdAt, lastUsedAt, isBackedUp }
}

export default fp(passkeys, { fastify: '5.x', name: 'bastion-passkeys', dependencies: ['bastion-events', 'bastion-state'] })
