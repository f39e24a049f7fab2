/**
 * The text of a key: `sk_live_`, then 81 characters of base62 (`0-9A-Za-z`):
 *
 * | part | characters | what it is |
 * |---|---|---|
 * | id | 16 | of the key, 95 random bits; public |
 * | secret | 43 | 256 random bits |
 * | tag | 16 | HMAC of all before it by a key of this service: without that, no text passes, and nothing is looked up |
 * | checksum | 6 | CRC-32 (that of zlib) of all before it, as a base62 number with leading zeros; anybody can check it |
 *
 * So scanners find leaked keys by `\b[a-z][a-z0-9]{1,15}_(?:live|test)_[0-9A-Za-z]{81}\b` and tell them from noise offline. Every part
 * has one length and one spelling: one key has one text, and reading it takes the same time whatever it holds.
 */
import { createHmac, createSecretKey, hkdfSync, randomInt, timingSafeEqual, type KeyObject } from 'node:crypto'
import { crc32 } from 'node:zlib'

export type Mode = 'live' | 'test'
export const MODES: readonly Mode[] = ['live', 'test']

/** What a text says that was made by this service. Whether the key still stands is another question. */
export interface ReadKey {
  id: string
  mode: Mode
  /** What is kept of the secret: its HMAC, by another key than that of the tag. */
  hash: string
}
/** Why a text is none of ours; the first two cost no HMAC. */
export type Fault = 'malformed' | 'checksum' | 'forged'

export interface KeyFormat {
  /** Has the look of a key of this service: worth reading as nothing else. */
  isKey: (text: string) => boolean
  /** A new key, or a new text for the key of this id. */
  make: (mode: Mode, id?: string) => ReadKey & { text: string }
  read: (text: string) => ReadKey | Fault
  /** What may be shown of a key: where its text begins, up to the id. */
  prefixOf: (key: { mode: Mode, id: string }) => string
}

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const ID = 16
const SECRET = 43
const TAG = 16
const CHECKSUM = 6
const SIGNED = ID + SECRET
const BODY = SIGNED + TAG + CHECKSUM
const BASE62 = /^[0-9A-Za-z]+$/

interface Signer { tag: KeyObject, hash: KeyObject }

/** @param secrets the first makes keys, all read them */
export function keyFormat (prefix: string, secrets: readonly Buffer[]): KeyFormat {
  const heads = MODES.map(mode => ({ mode, head: `${prefix}_${mode}_` }))
  const signers = secrets.map(secret => ({ tag: derived(secret, 'api-keys:tag'), hash: derived(secret, 'api-keys:hash') }))
  const headOf = (text: string) => heads.find(({ head }) => text.startsWith(head))

  return {
    isKey: text => headOf(text) !== undefined,
    prefixOf: ({ mode, id }) => `${prefix}_${mode}_${id}`,
    make (mode, id = randomText(ID)) {
      const signed = `${prefix}_${mode}_${id}${randomText(SECRET)}`
      const checked = signed + tagOf(signed, signers[0]!)
      return { id, mode, hash: hashOf(signed, signers[0]!), text: checked + checksumOf(checked) }
    },
    read (text) {
      const found = headOf(text)
      if (found === undefined || text.length !== found.head.length + BODY) return 'malformed'
      const { mode, head: { length: start } } = found
      if (!BASE62.test(text.slice(start))) return 'malformed'
      if (checksumOf(text.slice(0, -CHECKSUM)) !== text.slice(-CHECKSUM)) return 'checksum'
      const signed = text.slice(0, start + SIGNED)
      const tag = text.slice(start + SIGNED, -CHECKSUM)
      const signer = signers.find(signer => isSame(tagOf(signed, signer), tag))
      return signer === undefined ? 'forged' : { id: text.slice(start, start + ID), mode, hash: hashOf(signed, signer) }
    },
  }
}

/** Compares what is secret, in a time that tells only whether the lengths agree (CWE-208). */
export function isSame (one: string, other: string): boolean {
  const bytes = Buffer.from(one)
  const others = Buffer.from(other)
  return bytes.length === others.length && timingSafeEqual(bytes, others)
}

function derived (secret: Buffer, purpose: string): KeyObject {
  return createSecretKey(Buffer.from(hkdfSync('sha256', secret, 'fastify-bastion', purpose, 32)))
}

/** At least 90 bits of an HMAC-SHA-256: a byte makes a letter, of which the likeliest come up five times in 256. */
function tagOf (signed: string, { tag }: Signer): string {
  const bytes = createHmac('sha256', tag).update(signed).digest()
  let text = ''
  for (let i = 0; i < TAG; i++) text += ALPHABET[bytes[i]! % ALPHABET.length]
  return text
}

function hashOf (signed: string, { hash }: Signer): string {
  return createHmac('sha256', hash).update(signed).digest('base64url')
}

function checksumOf (text: string): string {
  let rest = crc32(text)
  let checksum = ''
  for (let i = 0; i < CHECKSUM; i++) {
    checksum = ALPHABET[rest % ALPHABET.length] + checksum
    rest = Math.floor(rest / ALPHABET.length)
  }
  return checksum
}

function randomText (length: number): string {
  return Array.from({ length }, () => ALPHABET[randomInt(ALPHABET.length)]).join('')
}
