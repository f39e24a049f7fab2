/** Sign-ins whose password was right and whose second factor is still to come: one opaque token each, good for nothing else. */
import { createHash, randomBytes } from 'node:crypto'
import type { State } from '../state/index.js'

const TOKEN = /^[\w-]{43}$/
/** Spent by a success. */
const SPENT = 'spent'

/** What a token stands for. */
export interface PendingSignIn {
  userId: string
  /** Fingerprint of the password that was right. */
  password: string
  /** Too many codes were wrong: no code completes it any more. */
  isDead: boolean
}

export interface PendingSignIns {
  /** A new token; only its hash is kept. */
  begin: (userId: string, passwordHash: string | null | undefined) => Promise<string>
  find: (token: string) => Promise<PendingSignIn | null>
  /** True for the one caller whose sign-in it becomes. */
  spend: (token: string, pending: PendingSignIn) => Promise<boolean>
  kill: (token: string, pending: PendingSignIn) => Promise<void>
}

export function pendingSignIns (state: State, ttlMs: number): PendingSignIns {
  return {
    async begin (userId, passwordHash) {
      const token = randomBytes(32).toString('base64url')
      await state.set(keyOf(token), record({ userId, password: fingerprint(passwordHash), isDead: false }), ttlMs)
      return token
    },
    async find (token) {
      const kept = TOKEN.test(token) ? await state.get(keyOf(token)) : null
      return kept === null || kept === SPENT ? null : JSON.parse(kept) as PendingSignIn
    },
    async spend (token, pending) {
      return await state.swap(keyOf(token), record(pending), SPENT, ttlMs) === 'swapped'
    },
    async kill (token, pending) {
      await state.swap(keyOf(token), record(pending), record({ ...pending, isDead: true }), ttlMs)
    },
  }
}

/** Tells whether the password is still the one that was right, without keeping its hash in a second place. */
export function fingerprint (passwordHash: string | null | undefined): string {
  return createHash('sha256').update(`mfa:${passwordHash ?? ''}`).digest('base64url')
}

/** One text for one record: it is compared when it is swapped. */
function record ({ userId, password, isDead }: PendingSignIn): string {
  return JSON.stringify({ userId, password, isDead })
}

function keyOf (token: string): string {
  return `mfa:pending:${createHash('sha256').update(token).digest('base64url')}`
}
