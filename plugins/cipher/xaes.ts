/**
 * XAES-256-GCM: AES-256-GCM with nonces of 192 bits (https://c2sp.org/XAES-256-GCM).
 *
 * With one key and random nonces of 96 bits, GCM is good for 2^32 messages (NIST SP 800-38D, 8.3), all processes and restarts together, which nobody counts. So each message has a key of its own, derived from
 * the first half of its nonce by CMAC in counter mode (NIST SP 800-108r1, 4.1); the second half is the nonce of GCM. For 2^80 messages the risk that a nonce comes twice is 2^-32. It costs two blocks of AES
 * a message, where HKDF would cost more than the encryption.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto'

export const KEY_BYTES = 32
export const NONCE_BYTES = 24
export const TAG_BYTES = 16

const BLOCK = 16
const HALF = 12
const GCM = 'aes-256-gcm'
const TAGGED = { authTagLength: TAG_BYTES }

export interface Xaes {
  /** Ciphertext and tag. The nonce must never come twice. */
  seal: (nonce: Buffer, text: string | Buffer, additional: Buffer) => Buffer
  /** @throws Error where ciphertext, tag, nonce or additional data are not those of `seal` */
  open: (nonce: Buffer, sealed: Buffer, additional: Buffer) => Buffer
}

/** @param key 32 bytes */
export function xaes (key: Buffer): Xaes {
  // Blocks that have nothing to do with each other: the one place where ECB is right. It stays open, because a key schedule costs more than the blocks.
  const blocks = createCipheriv('aes-256-ecb', key, null).setAutoPadding(false)
  const subkey = doubled(blocks.update(Buffer.alloc(BLOCK)))
  const template = Buffer.concat([subkey, subkey])
  for (const counter of [1, 2]) {
    const at = (counter - 1) * BLOCK
    template[at + 1]! ^= counter
    template[at + 2]! ^= 0x58 // the letter X
  }

  function keyFor (nonce: Buffer): Buffer {
    const input = Buffer.from(template)
    for (let i = 0; i < HALF; i++) {
      input[i + 4]! ^= nonce[i]!
      input[i + 4 + BLOCK]! ^= nonce[i]!
    }
    return blocks.update(input)
  }

  return {
    seal (nonce, text, additional) {
      const cipher = createCipheriv(GCM, keyFor(nonce), nonce.subarray(HALF), TAGGED).setAAD(additional)
      const encrypted = typeof text === 'string' ? cipher.update(text, 'utf8') : cipher.update(text)
      return Buffer.concat([encrypted, cipher.final(), cipher.getAuthTag()])
    },
    open (nonce, sealed, additional) {
      const decipher = createDecipheriv(GCM, keyFor(nonce), nonce.subarray(HALF), TAGGED).setAAD(additional).setAuthTag(sealed.subarray(-TAG_BYTES))
      return Buffer.concat([decipher.update(sealed.subarray(0, -TAG_BYTES)), decipher.final()])
    },
  }
}

/** Doubling in the field of CMAC (NIST SP 800-38B, 6.1). */
function doubled (block: Buffer): Buffer {
  const result = Buffer.alloc(BLOCK)
  for (let i = 0; i < BLOCK; i++) result[i] = (block[i]! << 1) | ((block[i + 1] ?? 0) >> 7)
  if ((block[0]! & 0x80) !== 0) result[BLOCK - 1]! ^= 0x87
  return result
}
