/** Hashes of a service that migrates: verified as they are, and replaced by argon2id at their owner's next sign-in. */
import { scrypt, timingSafeEqual } from 'node:crypto'

export interface LegacyHashes {
  /** Whether this is a hash of this kind, by its form. */
  isOwn: (hash: string) => boolean
  verify: (hash: string, password: string) => Promise<boolean>
}

/** `$scrypt$ln=<log2 of cost>,r=<block size>,p=<parallelism>$<salt>$<hash>`, in base64 without padding. */
const SCRYPT = /^\$scrypt\$ln=([1-9]\d?),r=([1-9]\d?),p=([1-9]\d?)\$([A-Za-z0-9+/]{1,128})={0,2}\$([A-Za-z0-9+/]{22,172})={0,2}$/
const BCRYPT = /^\$2[aby]?\$\d\d\$[./A-Za-z0-9]{53}$/
/** Cost at most: what is dearer would let one sign-in take all memory. */
const MAX_SCRYPT_BYTES = 256 * 1024 * 1024

/** scrypt in PHC form, by Node's own (RFC 7914). */
export const scryptHashes: LegacyHashes = {
  isOwn: hash => SCRYPT.test(hash),
  async verify (hash, password) {
    const [, ln, r, p, salt, expected] = SCRYPT.exec(hash) as unknown as [string, string, string, string, string, string]
    const [cost, blockSize, parallelization] = [2 ** Number(ln), Number(r), Number(p)]
    const wanted = Buffer.from(expected, 'base64')
    if (128 * cost * blockSize > MAX_SCRYPT_BYTES) throw new RangeError('scrypt: this hash costs more memory than may be spent on one')
    const computed = await new Promise<Buffer>((resolve, reject) => {
      const options = { cost, blockSize, parallelization, maxmem: 2 * MAX_SCRYPT_BYTES }
      scrypt(password, Buffer.from(salt, 'base64'), wanted.length, options, (error, key) => error === null ? resolve(key) : reject(error))
    })
    return timingSafeEqual(computed, wanted)
  },
}

/**
 * bcrypt, by a package of your own: `import bcrypt from 'bcrypt'`, then `bcryptHashes(bcrypt)`.
 *
 * bcrypt sees no more than the first 72 bytes of a password; its successor sees all of them.
 */
export function bcryptHashes ({ compare }: { compare: (password: string, hash: string) => Promise<boolean> }): LegacyHashes {
  return { isOwn: hash => BCRYPT.test(hash), verify: (hash, password) => compare(password, hash) }
}
