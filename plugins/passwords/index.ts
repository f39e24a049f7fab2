/**
 * Passwords: slow, peppered hashes with bounded concurrency.
 *
 * Threat: stolen tables that are cracked (CWE-916), and logins that are used to exhaust the machine (CWE-400).
 * Defence: argon2id at OWASP's parameters or stronger, an optional pepper that is not in the database, hashes
 * that grow at login, at most N computed at once, a bounded queue behind them, then 503 with Retry-After. A password is
 * hashed exactly as it was typed; what everybody tries first is refused when it is set.
 * Not covered: who may try how often, which is sign-in; hashes older than the parameters in force, which take the time
 * of their own parameters until their owner signs in.
 * Sources: OWASP Password Storage Cheat Sheet, NIST SP 800-63B-4, ASVS 6.2.
 */
import { randomBytes } from 'node:crypto'
import { availableParallelism } from 'node:os'
import argon2 from 'argon2'
import type { FastifyInstance } from 'fastify'
import { createError } from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { measured } from '../measured.js'
import { checkOptions } from '../options.js'
import { REDUCED_CAPACITY, tellInProblem } from '../problem.js'
import { createRefusal } from '../refusal.js'
import { isInBreach, type BreachRange } from './breached.js'
import type { LegacyHashes } from './legacy.js'
import { MAX_PASSWORD_BYTES, policyOf } from './policy.js'

export { pwnedPasswords } from './breached.js'
export { bcryptHashes, scryptHashes } from './legacy.js'
export type { BreachRange } from './breached.js'
export type { LegacyHashes } from './legacy.js'

declare module 'fastify' {
  interface FastifyInstance {
    passwords: Passwords
  }
}

/** An option of the passwords concern is wrong. */
export const PasswordsMisconfigured = createError<[string]>('FST_BASTION_PASSWORDS_MISCONFIGURED', '%s', 500, TypeError)
/** More hashes are asked for than the machine can compute in time. */
export const PasswordsBusy = createRefusal('FST_BASTION_PASSWORDS_BUSY', 'The service is overloaded, try again shortly', 503)
/** The new password does not meet the policy; the message says what is missing. */
export const PasswordWeak = createRefusal<[string]>('FST_BASTION_PASSWORDS_WEAK', '%s', 400)

/** The engine that computes hashes; the built-in one is argon2id. PHC strings in and out. */
export interface HashEngine {
  hash: (password: string) => Promise<string>
  /** Throws, and does not answer false, for what is no hash of its own: a decoy is computed then. */
  verify: (hash: string, password: string) => Promise<boolean>
  /** True where the hash was made with weaker parameters than those in force. */
  isOutdated: (hash: string) => boolean
}

export interface Passwords {
  /** @throws PasswordsBusy, PasswordWeak where the password is longer than 1,024 bytes */
  hash: (password: string) => Promise<string>
  /**
   * `newHash` is there where the parameters grew since the hash was made: save it. A malformed hash verifies nothing, and
   * takes as long as a good one.
   * @throws PasswordsBusy
   */
  verify: (password: string, hash: string) => Promise<{ valid: boolean, newHash?: string }>
  /**
   * Takes as long as {@link verify} and is always wrong: for names that do not exist.
   * @throws PasswordsBusy
   */
  verifyNothing: (password: string) => Promise<void>
  /** Why a hash that is asked for now is refused, before anything else is done for it; null where it is computed, or waits for its turn. */
  refusal: () => Error | null
  /** What the policy in force misses in this password; empty where it is good. */
  faults: (password: string, ownWords?: readonly string[]) => string[]
  /** @throws PasswordWeak with all faults */
  check: (password: string, ownWords?: readonly string[]) => void
  /**
   * The same, and asks whether the password was in a breach, where the option `breached` says whom. What cannot be found out blocks nobody.
   * @throws PasswordWeak
   */
  checkNew: (password: string, ownWords?: readonly string[]) => Promise<void>
}

/** OWASP Password Storage Cheat Sheet: argon2id with 19 MiB, two passes, one lane. */
const OWASP_MINIMUM = { memoryCost: 19_456, timeCost: 2, parallelism: 1 }
const ARGON2_VERSION = 0x13
const PEPPER_BYTES = 32
/** Hashes are computed by libuv's threads, of which files and names need one too, as everybody else needs a core: a flood of sign-ins must not be theirs. */
const POOL_THREADS = Number(process.env.UV_THREADPOOL_SIZE) || 4

export const PasswordsOptions = Type.Object({
  memoryCost: Type.Optional(Type.Integer({ minimum: OWASP_MINIMUM.memoryCost, maximum: 4_194_304, description: 'KiB', default: OWASP_MINIMUM.memoryCost })),
  timeCost: Type.Optional(Type.Integer({ minimum: OWASP_MINIMUM.timeCost, maximum: 100, description: 'Passes', default: OWASP_MINIMUM.timeCost })),
  parallelism: Type.Optional(Type.Integer({ minimum: 1, maximum: 16, description: 'Lanes', default: OWASP_MINIMUM.parallelism })),
  concurrency: Type.Optional(Type.Integer({ minimum: 1, maximum: 128, description: 'Hashes computed at once; by default one less than there are cores, and than libuv has threads, but one at least' })),
  queue: Type.Optional(Type.Integer({ minimum: 0, description: 'Hashes that wait at most', default: 64 })),
  policy: Type.Optional(Type.Union([Type.Literal('nist'), Type.Literal('composition')], {
    description: '`nist`: 15 characters; `composition`: 8, with upper and lower case, digit and sign. Both refuse common passwords', default: 'nist',
  })),
  breachedTimeout: Type.Optional(Type.Integer({ minimum: 1, description: 'Milliseconds that the range service of breached passwords may take; a late answer blocks nobody', default: 1000 })),
  words: Type.Optional(Type.Array(Type.String({ minLength: 4 }), { description: 'Words that no password may hold: the name of the service, of the company', default: [] })),
}, { additionalProperties: false })
export type PasswordsOptions = Static<typeof PasswordsOptions> & {
  /** A key that goes into every hash and is kept outside the database; at least 32 bytes. */
  pepper?: Buffer
  /** Another engine, such as a faster argon2id. */
  engine?: HashEngine
  /** Hashes of a service that migrates (`scryptHashes`, `bcryptHashes(bcrypt)`): verified as they are, and replaced at the next sign-in. */
  legacy?: readonly LegacyHashes[]
  /** Asks whether a new password was in a breach: `pwnedPasswords`, or a range service of your own. Off by default. */
  breached?: BreachRange
}

async function passwords (app: FastifyInstance, options: PasswordsOptions): Promise<void> {
  const { pepper, engine: ownEngine, legacy = [], breached, ...plain } = options
  checkOptions(PasswordsOptions, plain, 'passwords', PasswordsMisconfigured)
  const { concurrency = Math.max(1, Math.min(availableParallelism(), POOL_THREADS) - 1), queue = 64, policy = 'nist', words = [], breachedTimeout = 1000 } = plain
  if (pepper !== undefined && !(Buffer.isBuffer(pepper) && pepper.length >= PEPPER_BYTES)) {
    throw new PasswordsMisconfigured(`passwords: pepper: must be a Buffer of at least ${PEPPER_BYTES} bytes`)
  }
  if (!legacy.every(kind => typeof kind?.isOwn === 'function' && typeof kind.verify === 'function')) {
    throw new PasswordsMisconfigured('passwords: legacy: must be a list of objects with isOwn and verify, such as scryptHashes')
  }
  if (breached !== undefined && typeof breached !== 'function') throw new PasswordsMisconfigured('passwords: breached: must be a function, such as pwnedPasswords')
  const ignored = ownEngine === undefined ? [] : (['pepper', 'memoryCost', 'timeCost', 'parallelism'] as const).filter(name => options[name] !== undefined)
  if (ignored.length > 0) throw new PasswordsMisconfigured(`passwords: ${ignored.join(', ')}: are of the built-in engine, give them to your own`)
  const engine = ownEngine ?? argon2id(plain, pepper)
  const runner = boundedRunner(concurrency, queue, measured(app).histogram('bastion_hash_seconds', 'Computing a password hash, without the wait before it'))
  const { run } = runner
  const decoy = ownEngine === undefined ? await engine.hash(unguessable()) : await soundDecoy(ownEngine)
  const faultsOf = policyOf(policy, words)

  measured(app).gauge('bastion_hashes_running', 'Password hashes that are computed now', () => runner.running)
  measured(app).gauge('bastion_hashes_waiting', 'Password hashes that wait for their turn', () => runner.waiting)
  app.decorate('passwords', {
    hash: async password => {
      refuseTooLong(password)
      return run(() => engine.hash(password))
    },
    verify: (password, hash) => run(async () => {
      const valid = await matches(hash, password)
      return valid && (legacyOf(hash) !== undefined || engine.isOutdated(hash)) ? { valid, newHash: await engine.hash(password) } : { valid }
    }),
    verifyNothing: password => run(async () => { await matches(decoy, password) }),
    refusal: () => runner.isFull ? busy() : null,
    faults: faultsOf,
    check,
    async checkNew (password, ownWords) {
      check(password, ownWords)
      if (await wasBreached(password)) throw new PasswordWeak('The password was in a breach of another service: choose one that you use nowhere else')
    },
  })

  function check (password: string, ownWords?: readonly string[]): void {
    const faults = faultsOf(password, ownWords)
    if (faults.length > 0) throw new PasswordWeak(`The password ${faults.join(', ')}`)
  }

  async function wasBreached (password: string): Promise<boolean> {
    try {
      return breached !== undefined && await isInBreach(password, breached, breachedTimeout)
    } catch (error) {
      app.log.warn({ err: error }, 'whether a password was in a breach could not be found out')
      return false
    }
  }

  function legacyOf (hash: string): LegacyHashes | undefined {
    return legacy.find(kind => kind.isOwn(hash))
  }

  async function matches (hash: string, password: string): Promise<boolean> {
    if (Buffer.byteLength(password) > MAX_PASSWORD_BYTES) return false
    try {
      return await (legacyOf(hash) ?? engine).verify(hash, password)
    } catch {
      // Not a hash of ours: nothing can match it. It must not be known by its speed.
      await engine.verify(decoy, password)
      return false
    }
  }
}

/**
 * A hash of what nobody knows, made with the parameters in force, so that it costs what a real one costs.
 *
 * @throws PasswordsMisconfigured where the engine does not tell right from wrong
 */
async function soundDecoy (engine: HashEngine): Promise<string> {
  const password = unguessable()
  const decoy = await engine.hash(password)
  const isSound = decoy !== password && await engine.verify(decoy, password) && !await engine.verify(decoy, unguessable()) && !engine.isOutdated(decoy)
  if (!isSound) throw new PasswordsMisconfigured('passwords: engine: does not verify its own hash, verifies a wrong password, or calls its own hash outdated')
  return decoy
}

function unguessable (): string {
  return randomBytes(32).toString('base64url')
}

function refuseTooLong (password: string): void {
  if (Buffer.byteLength(password) > MAX_PASSWORD_BYTES) throw new PasswordWeak(`The password must have at most ${MAX_PASSWORD_BYTES} bytes`)
}

function argon2id (options: Static<typeof PasswordsOptions>, secret: Buffer | undefined): HashEngine {
  const parameters = {
    memoryCost: options.memoryCost ?? OWASP_MINIMUM.memoryCost,
    timeCost: options.timeCost ?? OWASP_MINIMUM.timeCost,
    parallelism: options.parallelism ?? OWASP_MINIMUM.parallelism,
  }
  const peppered = secret === undefined ? {} : { secret }
  return {
    hash: password => argon2.hash(password, { type: argon2.argon2id, ...parameters, ...peppered }),
    async verify (hash, password) {
      // The library answers false for another scheme's hash, at once: it would be known by its speed.
      if (!/^\$argon2(?:id|i|d)\$/.test(hash)) throw new TypeError('not a hash of argon2')
      return argon2.verify(hash, password, peppered)
    },
    // Weaker, not merely different: where the parameters are lowered, better hashes stay.
    isOutdated (hash) {
      const [, version, costs = ''] = /^\$argon2id\$v=(\d+)\$([mtp\d=,]+)\$/.exec(hash) ?? []
      const { m, t, p } = Object.fromEntries(costs.split(',').map(cost => cost.split('=')))
      return !(Number(version) >= ARGON2_VERSION && Number(m) >= parameters.memoryCost && Number(t) >= parameters.timeCost && Number(p) >= parameters.parallelism)
    },
  }
}

interface Runner {
  run: <T>(task: () => Promise<T>) => Promise<T>
  readonly isFull: boolean
  readonly running: number
  readonly waiting: number
}

/** Nobody's failure, and no line of the log for each. */
function busy (): Error {
  return tellInProblem(Object.assign(new PasswordsBusy(), { expose: true, headers: { 'retry-after': '2' } }), { type: REDUCED_CAPACITY })
}

/** Runs at most `concurrency` tasks at once; more wait, and beyond `queue` waiting ones are refused. `took` is told the seconds of each. */
function boundedRunner (concurrency: number, queue: number, took: (seconds: number) => void): Runner {
  let running = 0
  const waiting: (() => void)[] = []
  return {
    get isFull () { return running >= concurrency && waiting.length >= queue },
    get running () { return running },
    get waiting () { return waiting.length },
    async run (task) {
      if (running >= concurrency) {
        if (waiting.length >= queue) throw busy()
        // The one who ends hands over its place, so `running` stays as it is.
        await new Promise<void>(resolve => { waiting.push(resolve) })
      } else running += 1
      const began = performance.now()
      try {
        return await task()
      } finally {
        took((performance.now() - began) / 1000)
        const next = waiting.shift()
        if (next === undefined) running -= 1
        else next()
      }
    },
  }
}

export default fp(passwords, { fastify: '5.x', name: 'bastion-passwords' })
