/** Password policies: what they miss in a password. */

type Policy = (password: string, ownWords?: readonly string[]) => string[]

/** NIST SP 800-63B-4, 3.1.1.2 asks for 15 characters where the password is the only factor. */
const NIST_LENGTH = 15
const COMPOSITION_LENGTH = 8

/** Length only: no rule about kinds of characters (ASVS 6.2.5). */
const nist: Policy = (password, ownWords) => [
  ...[...password].length < NIST_LENGTH ? [`must have at least ${NIST_LENGTH} characters`] : [],
  ...ownWordFaults(password, ownWords),
]

/** For those whose rules demand kinds of characters. */
const composition: Policy = (password, ownWords) => [
  ...[...password].length < COMPOSITION_LENGTH ? [`must have at least ${COMPOSITION_LENGTH} characters`] : [],
  .../\p{Lu}/u.test(password) ? [] : ['must have an upper-case letter'],
  .../\p{Ll}/u.test(password) ? [] : ['must have a lower-case letter'],
  .../\p{Nd}/u.test(password) ? [] : ['must have a digit'],
  .../[^\p{L}\p{Nd}\s]/u.test(password) ? [] : ['must have a special character'],
  ...ownWordFaults(password, ownWords),
]

/** A password that holds the account's own name or address is among the first to be guessed. */
function ownWordFaults (password: string, ownWords: readonly string[] = []): string[] {
  const lower = password.toLowerCase()
  return ownWords.some(word => word.length >= 4 && lower.includes(word.toLowerCase())) ? ['must not hold your own name or address'] : []
}

export const POLICIES: Record<'nist' | 'composition', Policy> = { nist, composition }
