/** Revocation: ends a family, or everything of a user. */
import type { State } from '../state/index.js'
import type { Tokens } from './contract.js'
import { familyKey, familyRecord, generationKey, tokenOf } from './family.js'

interface RevocationParts {
  state: State
  /** Seconds. */
  refreshTtl: number
  familyTtl: number
  clockTolerance: number
  /** Milliseconds since the epoch. */
  now: () => number
}

/** How often a family's record that changed meanwhile is read again. */
const TRIES = 5

export function makeRevocation ({ state, refreshTtl, familyTtl, clockTolerance, now }: RevocationParts): Pick<Tokens, 'revokeFamily' | 'revokeUser'> {
  return { revokeFamily, revokeUser }

  async function revokeFamily (familyId: string): Promise<void> {
    await state.delete(familyKey(familyId))
  }

  async function revokeUser (userId: string, { except }: { except?: string } = {}): Promise<void> {
    // Milliseconds as the floor: the number never falls back, even after the key has expired.
    const floor = Math.max(Number(await state.get(generationKey(userId)) ?? 0) + 1, now())
    // The family that stays is lifted first: at no moment does it count as ended. Where somebody else ends the user's tokens at the same
    // time, the number is a higher one, and it ends with the others.
    if (except !== undefined) await lift(except, floor)
    await state.raise(generationKey(userId), floor, (familyTtl + clockTolerance) * 1000)
  }

  async function lift (familyId: string, generation: number): Promise<void> {
    for (let tries = 0; tries < TRIES; tries++) {
      const family = await state.get(familyKey(familyId))
      if (family === null) return
      const outcome = await state.swap(familyKey(familyId), family, familyRecord(tokenOf(family), generation), refreshTtl * 1000)
      if (outcome === 'swapped') return
    }
    // It is refreshed faster than it can be lifted: it ends with the others, which is the safe side.
  }
}
