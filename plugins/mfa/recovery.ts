/** Recovery codes: for whom the authenticator is lost. Read from paper, so their letters cannot be mistaken for each other. */
import { randomBytes } from 'node:crypto'

/** Codes of one enrolment. */
const COUNT = 10
/** 120 bits: from 112 on a fast hash is enough (ASVS 6.5.2), and each code is 24 letters. */
const BYTES = 15
/** Crockford's base 32: no I, L, O and U. */
const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
const CODE = /^[0-9A-HJKMNP-TV-Z]{24}$/

/** Ten codes such as `7K3M-…-Q9TZ`, in groups of four. */
export function newRecoveryCodes (): string[] {
  return Array.from({ length: COUNT }, () => lettersOf(randomBytes(BYTES)).match(/.{4}/g)!.join('-'))
}

/** A code as it was typed, without what people add or mistake: blanks and hyphens, small letters, O for 0, I and L for 1. */
export function plainCode (code: string): string {
  return code.replace(/[\s-]/g, '').toUpperCase().replaceAll('O', '0').replace(/[IL]/g, '1')
}

export function isRecoveryCode (plain: string): boolean {
  return CODE.test(plain)
}

function lettersOf (bytes: Buffer): string {
  const bits = [...bytes].map(byte => byte.toString(2).padStart(8, '0')).join('')
  return bits.match(/.{5}/g)!.map(five => ALPHABET[parseInt(five, 2)]).join('')
}
