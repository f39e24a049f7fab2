/** Key rings: the first key is used, all are known. What is given are keys, or data keys that a KMS has wrapped and unwraps once, at boot. */
import { hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto'
import { CipherMisconfigured } from './errors.js'

/**
 * A key management service: `wrap` and `unwrap` are its Encrypt and Decrypt. The context must be given to it as additional data (AWS: EncryptionContext; Google Cloud: additionalAuthenticatedData), so that a
 * wrapped key is good for nothing else.
 */
export interface Kms {
  wrap?: (key: Buffer, context: KmsContext) => Promise<Uint8Array> | Uint8Array
  unwrap: (wrapped: Buffer, context: KmsContext) => Promise<Uint8Array> | Uint8Array
}

export interface KmsContext extends Record<string, string> {
  purpose: string
  key: string
}

/** A key of a ring: 32 bytes or more, or a data key as {@link newDataKey} made it. The id stands in all that it makes, and belongs to it for ever. */
export type RingKey = { id: string, key: Buffer } | { id: string, wrapped: string }

/** A key as it was settled. */
export interface SettledKey {
  id: string
  bytes: Buffer
}

const ID = /^[A-Za-z0-9_-]{1,32}$/
const MIN_BYTES = 32
const PURPOSE = 'fastify-bastion/cipher'

/**
 * Makes a data key: random, known in clear to nobody, wrapped by the KMS. What it answers may stand in the settings beside the service.
 *
 * @throws CipherMisconfigured for an id of another form, and for a KMS that cannot wrap
 */
export async function newDataKey (kms: Kms, id: string): Promise<{ id: string, wrapped: string }> {
  if (!ID.test(id)) throw new CipherMisconfigured('cipher: the id of a key: must be 1 to 32 of A-Z a-z 0-9 _ -')
  if (typeof kms?.wrap !== 'function') throw new CipherMisconfigured('cipher: kms: must be an object with wrap and unwrap')
  const key = randomBytes(MIN_BYTES)
  try {
    const wrapped = await kms.wrap(Buffer.from(key), contextOf(id))
    if (!(wrapped instanceof Uint8Array)) throw new CipherMisconfigured('cipher: kms: wrap must answer bytes')
    return { id, wrapped: Buffer.from(wrapped).toString('base64url') }
  } finally {
    key.fill(0)
  }
}

/**
 * The keys of a ring, each derived for its use (HKDF-SHA-256), so that a key that is used elsewhere too is another one here.
 *
 * @param option what the ring is called in a message
 * @param use tells the rings of this concern from each other
 * @param deadline milliseconds that the KMS may take
 * @throws CipherMisconfigured with a line that names the key, and nothing of it
 */
export async function settleKeys (given: unknown, option: string, use: string, kms: Kms | undefined, deadline: number): Promise<readonly SettledKey[]> {
  if (!Array.isArray(given) || given.length === 0) throw new CipherMisconfigured(`${option}: must be a list of { id, key } or { id, wrapped }, the first of which is used`)
  const keys = await Promise.all((given as RingKey[]).map(async (one, i) => {
    const name = `${option}.${i}`
    if (typeof one?.id !== 'string' || !ID.test(one.id)) throw new CipherMisconfigured(`${name}: id: must be 1 to 32 of A-Z a-z 0-9 _ -`)
    const material = 'wrapped' in one ? await unwrap(one, name, kms, deadline) : one.key
    if (!Buffer.isBuffer(material) || material.length < MIN_BYTES) throw new CipherMisconfigured(`${name} (${one.id}): must be a Buffer of at least ${MIN_BYTES} bytes`)
    const bytes = Buffer.from(hkdfSync('sha256', material, 'fastify-bastion', use, 32))
    if ('wrapped' in one) material.fill(0)
    return { id: one.id, bytes }
  }))
  for (const [i, one] of keys.entries()) {
    const before = keys.slice(0, i)
    if (before.some(({ id }) => id === one.id)) throw new CipherMisconfigured(`${option}: the id ${one.id} stands there twice`)
    if (before.some(({ bytes }) => timingSafeEqual(bytes, one.bytes))) throw new CipherMisconfigured(`${option}: ${one.id} is the same key as another one`)
  }
  return keys
}

/** @throws CipherMisconfigured where an id is another key than it was: what it made could never be read again */
export function refuseReused (before: readonly SettledKey[], after: readonly SettledKey[], option: string): void {
  const changed = after.find(({ id, bytes }) => before.some(other => other.id === id && !timingSafeEqual(other.bytes, bytes)))
  if (changed !== undefined) throw new CipherMisconfigured(`${option}: the id ${changed.id} is that of another key: give the new one an id of its own`)
}

async function unwrap ({ id, wrapped }: { id: string, wrapped: string }, name: string, kms: Kms | undefined, deadline: number): Promise<Buffer> {
  if (typeof kms?.unwrap !== 'function') throw new CipherMisconfigured(`${name} (${id}): is wrapped, and there is no kms with unwrap`)
  if (typeof wrapped !== 'string' || wrapped === '') throw new CipherMisconfigured(`${name} (${id}): wrapped: must be the text that newDataKey made`)
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => { timer = setTimeout(() => reject(new Error(`no answer in ${deadline} ms`)), deadline) })
  try {
    const bytes = await Promise.race([kms.unwrap(Buffer.from(wrapped, 'base64url'), contextOf(id)), late])
    // Of a text it is not known how it is written: read as it is, base64 would be another key.
    if (!(bytes instanceof Uint8Array)) throw new TypeError('it answered no bytes')
    return Buffer.from(bytes)
  } catch (cause) {
    throw Object.assign(new CipherMisconfigured(`${name} (${id}): the kms did not unwrap it`), { cause })
  } finally {
    clearTimeout(timer)
  }
}

function contextOf (id: string): KmsContext {
  return { purpose: PURPOSE, key: id }
}
