/** What the shared state holds of a family, of a token that was ended, and of a user. */
import type { Claims } from './claims.js'

export const familyKey = (id: string) => `tokens:family:${id}`
export const deniedKey = (id: string) => `tokens:denied:${id}`
export const generationKey = (id: string) => `tokens:generation:${id}`

/** The keys that decide about a token, in the order in which {@link isAlive} wants their values. */
export type StandingKeys = readonly [family: string, denied: string, generation: string]
export const standingKeys = ({ fam, jti, sub }: Claims): StandingKeys => [familyKey(fam), deniedKey(jti), generationKey(sub)]

/** Of a family: the refresh token that is good now, and the generation that it was lifted to. */
export const familyRecord = (jti: string, gen: number) => `${jti} ${gen}`
export const tokenOf = (family: string) => family.slice(0, family.indexOf(' '))
export const generationOf = (family: string) => Number(family.slice(family.indexOf(' ') + 1))

/** Alive: the family is known, the token is not denied, and the user's tokens were not all ended since. */
export function isAlive ([family, denied, generation]: readonly (string | null)[], claims: Claims): boolean {
  return typeof family === 'string' && denied === null &&
    (generation === null || Number(generation) <= Math.max(claims.gen, generationOf(family)))
}
