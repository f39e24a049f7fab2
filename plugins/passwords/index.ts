/**
 * Passwords: slow, peppered hashes with bounded concurrency.
 *
 * Threat: stolen tables that are cracked (CWE-916), and logins that are used to exhaust the machine (CWE-400).
 * Defence: argon2id at OWASP's parameters or stronger, an optional pepper that is not in the database, hashes
 * that grow at login, at most N computed at once, a bounded queue behind them, then 503 with Retry-After.
 * Not covered: who may try how often; that is sign-in.
 */
import { availableParallelism } from 'node:os'
import argon2 from 'argon2'
import type { FastifyInstance } from 'fastify'
import { createError } from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { checkOptions } from '../options.js'
import { POLICIES } from './policy.js'

declare module 'fastify' {
  interface FastifyInstance {
    passwords: Passwords
  }
}

/** An option of the passwords concern is wrong. */
export const PasswordsMisconfigured = createError<[string]>('FST_BASTION_PASSWORDS_MISCONFIGURED', '%s', 500, TypeError)
/** More hashes are asked for than the machine can compute in time. */
export const PasswordsBusy = createError('FST_BASTION_PASSWORDS_BUSY', 'The service is overloaded, try again shortly', 503)
/** The new password does not meet the policy; the message says what is missing. */
export const PasswordWeak = createError<[string]>('FST_BASTION_PASSWORDS_WEAK', '%s', 400)

/** The engine that computes hashes; the built-in one is argon2id. PHC strings in and out. */
export interface HashEngine {
  hash: (password: string) => Promise<string>
  verify: (hash: string, password: string) => Promise<boolean>
  /** True where the hash was made with weaker parameters than those in force. */
  isOutdated: (hash: string) => boolean
}

export interface Passwords {
  hash: (password: string) => Promise<string>
  /** `newHash` is there where the parameters grew since the hash was made: save it. A malformed hash verifies nothing. */
  verify: (password: string, hash: string) => Promise<{ valid: boolean, newHash?: string }>
  /** Takes as long as {@link verify} and is always wrong: for names that do not exist. */
  verifyNothing: (password: string) => Promise<void>
  /** What the policy in force misses in this password; empty where it is good. */
  faults: (password: string, ownWords?: readonly string[]) => string[]
  /** @throws PasswordWeak with all faults */
  check: (password: string, ownWords?: readonly string[]) => void
}

/** OWASP Password Storage Cheat Sheet: argon2id with 19 MiB, two passes, one lane. */
const OWASP_MINIMUM = { memoryCost: 19_456, timeCost: 2, parallelism: 1 }

export const PasswordsOptions = Type.Object({
  memoryCost: Type.Optional(Type.Integer({ minimum: OWASP_MINIMUM.memoryCost, description: 'KiB', default: OWASP_MINIMUM.memoryCost })),
  timeCost: Type.Optional(Type.Integer({ minimum: OWASP_MINIMUM.timeCost, default: OWASP_MINIMUM.timeCost })),
  parallelism: Type.Optional(Type.Integer({ minimum: 1, maximum: 16, default: OWASP_MINIMUM.parallelism })),
  concurrency: Type.Optional(Type.Integer({ minimum: 1, maximum: 128, description: 'Hashes computed at once; by default one a core' })),
  queue: Type.Optional(Type.Integer({ minimum: 0, description: 'Hashes that wait at most', default: 64 })),
  policy: Type.Optional(Type.Union([Type.Literal('nist'), Type.Literal('composition')], { default: 'nist' })),
}, { additionalProperties: false })
export type PasswordsOptions = Static<typeof PasswordsOptions> & {
  /** A key that goes into every hash and is kept outside the database; at least 32 bytes. */
  pepper?: Buffer
  /** Another engine, such as a faster argon2id. */
  engine?: HashEngine
}

/** More than any policy asks for, and little enough that hashing it costs nothing extra (bytes). */
const MAX_PASSWORD_BYTES = 1024

async function passwords (app: FastifyInstance, options: PasswordsOptions): Promise<void> {
  const { pepper, engine = argon2id(options, pepper), ...plain } = options
  checkOptions(PasswordsOptions, plain, 'passwords', PasswordsMisconfigured)
  if (pepper !== undefined && pepper.length < 32) throw new PasswordsMisconfigured('passwords: pepper: must have at least 32 bytes')
  const { concurrency = Math.max(1, availableParallelism()), queue = 64, policy = 'nist' } = plain
  const run = boundedRunner(concurrency, queue)
  // A hash of nothing anybody knows, made with the parameters in force, so that it costs what a real one costs.
  const decoy = await engine.hash(`decoy:${process.hrtime.bigint()}`)
  const faultsOf = POLICIES[policy]

  app.decorate('passwords', {
    hash: password => run(() => engine.hash(bounded(password))),
    verify: (password, hash) => run(async () => {
      const valid = await verifySafely(engine, hash, password)
      return valid && engine.isOutdated(hash) ? { valid, newHash: await engine.hash(password) } : { valid }
    }),
    verifyNothing: password => run(async () => { await verifySafely(engine, decoy, password) }),
    faults: faultsOf,
    check (password, ownWords) {
      const faults = faultsOf(password, ownWords)
      if (faults.length > 0) throw new PasswordWeak(`The password ${faults.join(', ')}`)
    },
  })
}

function bounded (password: string): string {
  if (Buffer.byteLength(password) > MAX_PASSWORD_BYTES) throw new PasswordWeak('The password is too long')
  return password
}

async function verifySafely (engine: HashEngine, hash: string, password: string): Promise<boolean> {
  if (Buffer.byteLength(password) > MAX_PASSWORD_BYTES) return false
  try {
    return await engine.verify(hash, password)
  } catch {
    return false // not a hash of ours: nothing can match it
  }
}

function argon2id (options: PasswordsOptions, secret: Buffer | undefined): HashEngine {
  const parameters = {
    memoryCost: options.memoryCost ?? OWASP_MINIMUM.memoryCost,
    timeCost: options.timeCost ?? OWASP_MINIMUM.timeCost,
    parallelism: options.parallelism ?? OWASP_MINIMUM.parallelism,
  }
  const peppered = secret === undefined ? {} : { secret }
  return {
    hash: password => argon2.hash(password, { type: argon2.argon2id, ...parameters, ...peppered }),
    verify: (hash, password) => argon2.verify(hash, password, peppered),
    isOutdated: hash => argon2.needsRehash(hash, parameters),
  }
}

/** Runs at most `concurrency` tasks at once; more wait, and beyond `queue` waiting ones are refused. */
function boundedRunner (concurrency: number, queue: number): <T>(task: () => Promise<T>) => Promise<T> {
  let running = 0
  const waiting: (() => void)[] = []
  return async function run (task) {
    if (running >= concurrency) {
      if (waiting.length >= queue) throw Object.assign(new PasswordsBusy(), { expose: true, headers: { 'retry-after': '2' } })
      // The one who ends hands over its place, so `running` stays as it is.
      await new Promise<void>(resolve => { waiting.push(resolve) })
    } else running += 1
    try {
      return await task()
    } finally {
      const next = waiting.shift()
      if (next === undefined) running -= 1
      else next()
    }
  }
}

export default fp(passwords, { fastify: '5.x', name: 'bastion-passwords' })
