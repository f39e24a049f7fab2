/**
 * What stands in the database: secrets encrypted, codes hashed, both bound to their account.
 *
 * Each key is two: one for AES-256-GCM, one for HMAC-SHA-256, both by HKDF. Of several keys the first seals and all open.
 */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto'

const NONCE_BYTES = 12
const TAG_BYTES = 16
/** Version of the form. */
const FORM = 'v1.'

export interface Seal {
  /** Encrypts the secret of an account. */
  seal: (userId: string, secret: Buffer) => string
  /** The secret again; null for what was sealed with another key or for another account, and for every other text. */
  open: (userId: string, sealed: string) => Buffer | null
  /** Keyed hash of a recovery code. */
  hash: (userId: string, code: string) => string
  /** The one of these that is the hash of the code; all are compared, in constant time. */
  find: <Kept extends { hash: string }>(userId: string, code: string, kept: readonly Kept[]) => Kept | null
}

export function sealOf (keys: readonly (string | Buffer)[]): Seal {
  const encryption = keys.map(key => derive(key, 'mfa:secrets'))
  const hashing = keys.map(key => derive(key, 'mfa:recovery-codes'))

  function hashWith (key: Buffer, userId: string, code: string): string {
    // The length first: no id and code are another id and code.
    return createHmac('sha256', key).update(`${userId.length}:${userId}:${code}`).digest('base64url')
  }

  return {
    seal (userId, secret) {
      const nonce = randomBytes(NONCE_BYTES)
      const cipher = createCipheriv('aes-256-gcm', encryption[0]!, nonce, { authTagLength: TAG_BYTES }).setAAD(boundTo(userId))
      const text = Buffer.concat([cipher.update(secret), cipher.final()])
      return FORM + Buffer.concat([nonce, text, cipher.getAuthTag()]).toString('base64url')
    },
    open (userId, sealed) {
      const bytes = Buffer.from(sealed.slice(FORM.length), 'base64url')
      if (!sealed.startsWith(FORM) || bytes.length <= NONCE_BYTES + TAG_BYTES) return null
      for (const key of encryption) {
        const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES })
          .setAAD(boundTo(userId)).setAuthTag(bytes.subarray(-TAG_BYTES))
        try {
          return Buffer.concat([decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES)), decipher.final()])
        } catch {
          // Another key, perhaps.
        }
      }
      return null
    },
    hash: (userId, code) => hashWith(hashing[0]!, userId, code),
    find (userId, code, kept) {
      const offered = hashing.map(key => Buffer.from(hashWith(key, userId, code)))
      let found = null
      for (const one of kept) {
        const hash = Buffer.from(one.hash)
        for (const other of offered) if (hash.length === other.length && timingSafeEqual(hash, other)) found = one
      }
      return found
    },
  }
}

function derive (key: string | Buffer, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', key, 'fastify-bastion', purpose, 32))
}

function boundTo (userId: string): Buffer {
  return Buffer.from(`mfa:totp:${userId}`)
}
