/** XAES-256-GCM and HKDF by WebCrypto, from the specification alone. */
import { webcrypto } from 'node:crypto'

const { subtle } = webcrypto

export async function xaesByWebCrypto (key: Buffer, nonce: Buffer, text: Buffer, additional: Buffer): Promise<Buffer> {
  if (key.length !== 32) throw new TypeError('a key has 32 bytes')
  const blocks = await subtle.importKey('raw', key, 'AES-CBC', false, ['encrypt'])
  // The first block of CBC under a zero IV is the block cipher itself.
  const block = async (input: bigint) => BigInt(`0x${Buffer.from(await subtle.encrypt({ name: 'AES-CBC', iv: Buffer.alloc(16) }, blocks, bytesOf(input))).subarray(0, 16).toString('hex')}`)
  const l = await block(0n)
  const k1 = ((l << 1n) & ((1n << 128n) - 1n)) ^ (l >> 127n === 1n ? 0x87n : 0n)
  const head = BigInt(`0x${nonce.subarray(0, 12).toString('hex')}`)
  const derived = await Promise.all([1n, 2n].map(async counter => bytesOf(await block(((counter << 112n) | (0x58n << 104n) | head) ^ k1))))
  const gcm = await subtle.importKey('raw', Buffer.concat(derived), 'AES-GCM', false, ['encrypt'])
  return Buffer.from(await subtle.encrypt({ name: 'AES-GCM', iv: nonce.subarray(12), additionalData: additional }, gcm, text))
}

export async function hkdfByWebCrypto (key: Buffer, info: Buffer | string): Promise<Buffer> {
  const material = await subtle.importKey('raw', key, 'HKDF', false, ['deriveBits'])
  return Buffer.from(await subtle.deriveBits({ name: 'HKDF', hash: 'SHA-256', salt: Buffer.from('fastify-bastion'), info: Buffer.from(info) }, material, 256))
}

export async function hmacByWebCrypto (key: Buffer, text: string): Promise<Buffer> {
  const material = await subtle.importKey('raw', key, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign'])
  return Buffer.from(await subtle.sign('HMAC', material, Buffer.from(text)))
}

function bytesOf (block: bigint): Buffer {
  return Buffer.from(block.toString(16).padStart(32, '0'), 'hex')
}
