/**
 * Remembered devices: where the second factor was shown lately, it is not asked for again.
 *
 * A token is random, and kept as its hash with all that it depends on: user, password, what is enrolled, and the generation of the
 * user's devices. Lost state means that the factor is asked for, never that a forgotten device passes.
 */
import { createHash, randomBytes } from 'node:crypto'
import type { Account } from '../sign-in.js'
import type { State } from '../state/index.js'
import { fingerprint } from './pending.js'

const TOKEN = /^[\w-]{43}$/

type Who = Pick<Account, 'id' | 'passwordHash'>

export interface Devices {
  /** A new token; only its hash is kept. */
  trust: (account: Who, enrolment: string) => Promise<string>
  isTrusted: (account: Who, enrolment: string, token: string) => Promise<boolean>
  forget: (userId: string) => Promise<void>
}

export function devicesOf (state: State, ttlMs: number): Devices {
  return {
    async trust (account, enrolment) {
      const token = randomBytes(32).toString('base64url')
      await state.set(keyOf(token), record(account, enrolment, await generationOf(account.id)), ttlMs)
      return token
    },
    async isTrusted (account, enrolment, token) {
      if (!TOKEN.test(token)) return false
      const [kept, generation] = await Promise.all([state.get(keyOf(token)), state.get(generationKey(account.id))])
      return kept !== null && generation !== null && kept === record(account, enrolment, generation)
    },
    async forget (userId) { await state.delete(generationKey(userId)) },
  }

  /** It lives at least as long as the device that begins now; a new one, once it was deleted, is no earlier one. */
  async function generationOf (userId: string): Promise<string> {
    const key = generationKey(userId)
    const next = randomBytes(12).toString('base64url')
    for (;;) {
      if (await state.claim(key, next, ttlMs)) return next
      const current = await state.get(key)
      if (current !== null && await state.swap(key, current, current, ttlMs) === 'swapped') return current
    }
  }
}

function record ({ id, passwordHash }: Who, enrolment: string, generation: string): string {
  return createHash('sha256').update(JSON.stringify([id, fingerprint(passwordHash), enrolment, generation])).digest('base64url')
}

function keyOf (token: string): string {
  return `mfa:device:${createHash('sha256').update(token).digest('base64url')}`
}

function generationKey (userId: string): string {
  return `mfa:devices:${userId}`
}
