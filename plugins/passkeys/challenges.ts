/** Challenges: random, good once, for a few minutes, and for one purpose of one user. */
import { createHash, randomBytes } from 'node:crypto'
import type { State } from '../state/index.js'

const BYTES = 32
const CHALLENGE = /^[\w-]{43}$/
/** Taken by a response. */
const SPENT = 'spent'

/** What a challenge is for. No part of it stands in state as it is: what a purpose is bound to may be a credential. */
export type Purpose = readonly ['register', user: string] | readonly ['login'] | readonly ['second', user: string, boundTo: string]

export interface Challenges {
  /** A new one; `note` comes back when it is taken. */
  begin: (purpose: Purpose, note?: string) => Promise<string>
  /** The note, for the one caller who takes it; null for all others, and for another purpose, which leaves it as it is. */
  take: (challenge: string, purpose: Purpose) => Promise<string | null>
}

export function challengesOf (state: State, ttlMs: number): Challenges {
  return {
    async begin (purpose, note = '') {
      const challenge = randomBytes(BYTES).toString('base64url')
      await state.set(keyOf(challenge), `${fingerprint(purpose)}.${note}`, ttlMs)
      return challenge
    },
    async take (challenge, purpose) {
      const kept = CHALLENGE.test(challenge) ? await state.get(keyOf(challenge)) : null
      const wanted = `${fingerprint(purpose)}.`
      if (kept === null || !kept.startsWith(wanted)) return null
      // Whoever swaps first has it, in whichever process.
      return await state.swap(keyOf(challenge), kept, SPENT, ttlMs) === 'swapped' ? kept.slice(wanted.length) : null
    },
  }
}

function fingerprint (purpose: Purpose): string {
  return createHash('sha256').update(JSON.stringify(purpose)).digest('base64url')
}

function keyOf (challenge: string): string {
  return `passkeys:challenge:${createHash('sha256').update(challenge).digest('base64url')}`
}
