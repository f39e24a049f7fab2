/** Secrets: strength, purpose, and keeping them out of sight. */
import { hkdfSync } from 'node:crypto'

const MIN_BYTES = 32
/** Values that stand in documentation, examples and lists of defaults. */
const KNOWN = /^(?:secret|changeme|change-me|password|default|example|test|dev|development|supersecret|your[-_]?secret|keyboard ?cat|s3cr3t)+[\d!._-]*$/i

/**
 * The bytes of a secret written in base64url, base64 or hex.
 *
 * @returns null where the text is none of these
 */
export function decodeSecret (text: string): Buffer | null {
  if (/^(?:[0-9a-f]{2})+$/i.test(text)) return Buffer.from(text, 'hex')
  return /^[\w-]+={0,2}$|^[A-Za-z0-9+/]+={0,2}$/.test(text) ? Buffer.from(text, 'base64url') : null
}

/**
 * What is wrong with a secret; null where nothing is. The value is never part of the answer.
 */
export function weaknessOf (text: string): string | null {
  if (KNOWN.test(text)) return 'is a well-known default'
  const bytes = decodeSecret(text)
  if (bytes === null) return 'must be base64url or hex'
  if (bytes.length < MIN_BYTES) return `must have at least ${MIN_BYTES} bytes`
  // Thirty-two random bytes have about thirty distinct values; a repeated word has few.
  if (new Set(bytes).size < 16 || new Set(text).size < 10) return 'has too little entropy'
  return null
}

/** A key for one purpose from the master secret (HKDF-SHA-256, RFC 5869); `purpose` separates the keys from each other. */
export function deriveKey (master: Buffer, purpose: string, bytes = 32): Buffer {
  return Buffer.from(hkdfSync('sha256', master, 'fastify-bastion', purpose, bytes))
}
