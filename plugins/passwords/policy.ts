/** Password policies: what they miss in a password. */
import { COMMON } from './blocklist.js'

export type Policy = (password: string, ownWords?: readonly string[]) => string[]

/** More than any person types, and little enough that hashing it costs nothing extra (bytes). */
export const MAX_PASSWORD_BYTES = 1024

/** NIST SP 800-63B-4, 3.1.1.2 asks for 15 characters where the password is the only factor. */
const NIST_LENGTH = 15
const COMPOSITION_LENGTH = 8
/** Shorter words stand in too many good passwords. */
const MIN_WORD = 4
/** Repeating what is shorter than this makes nothing that is longer. */
const MIN_UNIT = 8
/** Signs that people write for letters. */
const LETTERS: Readonly<Record<string, string>> = { 0: 'o', 1: 'i', 3: 'e', 4: 'a', 5: 's', 7: 't', '@': 'a', $: 's', '!': 'i' }

/** Length only: no rule about kinds of characters (ASVS 6.2.5). */
const nist: Policy = password => [...password].length < NIST_LENGTH ? [`must have at least ${NIST_LENGTH} characters`] : []

/** For those whose rules demand kinds of characters. */
const composition: Policy = password => [
  ...[...password].length < COMPOSITION_LENGTH ? [`must have at least ${COMPOSITION_LENGTH} characters`] : [],
  .../\p{Lu}/u.test(password) ? [] : ['must have an upper-case letter'],
  .../\p{Ll}/u.test(password) ? [] : ['must have a lower-case letter'],
  .../\p{Nd}/u.test(password) ? [] : ['must have a digit'],
  .../[^\p{L}\p{Nd}\s]/u.test(password) ? [] : ['must have a special character'],
]

const POLICIES: Readonly<Record<'nist' | 'composition', Policy>> = { nist, composition }

/**
 * The policy of that name, together with what holds for each: a bound, no common password, no word of one's own.
 *
 * @param words that no password of this service may hold (ASVS 6.2.11)
 */
export function policyOf (name: keyof typeof POLICIES, words: readonly string[]): Policy {
  return (password, ownWords = []) => {
    const plain = fold(password)
    const isOwn = [...words, ...ownWords].map(fold).some(word => word.length >= MIN_WORD && plain.includes(word))
    return [
      ...POLICIES[name](password),
      ...Buffer.byteLength(password) > MAX_PASSWORD_BYTES ? [`must have at most ${MAX_PASSWORD_BYTES} bytes`] : [],
      ...isCommon(plain) ? ['must not be one that is common'] : [],
      ...isOwn ? ['must not hold your own name or address, nor the name of this service'] : [],
    ]
  }
}

/** As it is compared, never as it is hashed (ASVS 6.2.8). */
function fold (text: string): string {
  return text.normalize('NFKC').toLowerCase()
}

/** Common passwords, also with digits and signs around them or for their letters; runs and repetitions. */
function isCommon (password: string): boolean {
  if (password.length > MAX_PASSWORD_BYTES) return false
  const core = password.replace(/^\P{L}+/u, '').replace(/\P{L}+$/u, '')
  const forms = [password, asLetters(password), ...core.length * 2 >= password.length ? [core, asLetters(core)] : []]
  return forms.some(form => COMMON.has(form)) || isRun(password) || isRepetition(password)
}

function asLetters (text: string): string {
  return [...text].map(sign => LETTERS[sign] ?? sign).join('')
}

/** `aaaaaaaa`, `abcdefgh`, `87654321`, `90123456`. */
function isRun (text: string): boolean {
  if (text.length < 2) return true
  const codes = [...text].map(sign => sign.codePointAt(0)!)
  return [0, 1, -1].some(step => codes.every((code, i) => i === 0 || code - codes[i - 1]! === step || (isDigit(code) && code - codes[i - 1]! === step * -9)))
}

function isDigit (code: number): boolean {
  return code >= 48 && code <= 57
}

/** `abcabcabc`, `passwordpassword`. */
function isRepetition (text: string): boolean {
  const unit = `${text}${text}`.indexOf(text, 1)
  return unit < text.length && (unit < MIN_UNIT || COMMON.has(text.slice(0, unit)))
}
