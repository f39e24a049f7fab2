/**
 * The envelope: `b1.<id of the key>.<nonce, ciphertext and tag in base64url>`, and the place to which it is bound.
 *
 * One value has one text: another spelling of the same bytes is refused. Form, key, table, column and row are additional data, each with its length before it, so that no two places are one.
 */
import { NONCE_BYTES, TAG_BYTES } from './xaes.js'
import { CipherMisconfigured } from './errors.js'

/** Version of the form. */
export const FORM = 'b1'
const ENVELOPE = /^b1\.([A-Za-z0-9_-]{1,32})\.([A-Za-z0-9_-]+)$/
const DOMAIN = 'fastify-bastion/cipher'
const MAX_NAME = 255
/** Half of a surrogate pair: in UTF-8 all of them are one and the same replacement. */
const ILL_FORMED = /\p{Cs}/u

/** A column of a table. */
export interface ColumnPlace {
  table: string
  column: string
}

/** A row of a table, by its primary key. A number is the same row as its text, because drivers differ in what they answer. */
export interface RowPlace {
  table: string
  row: string | number | bigint
}

/** Where a value stands. */
export interface Place extends ColumnPlace, RowPlace {}

export interface Envelope {
  keyId: string
  nonce: Buffer
  /** Ciphertext and tag. */
  sealed: Buffer
}

export function writeEnvelope (keyId: string, nonce: Buffer, sealed: Buffer): string {
  return `${FORM}.${keyId}.${Buffer.concat([nonce, sealed]).toString('base64url')}`
}

/** Null for every text that `writeEnvelope` would not have written. */
export function readEnvelope (text: unknown): Envelope | null {
  const [, keyId, body] = (typeof text === 'string' ? ENVELOPE.exec(text) : null) ?? []
  if (keyId === undefined || body === undefined) return null
  const bytes = Buffer.from(body, 'base64url')
  if (bytes.length < NONCE_BYTES + TAG_BYTES || bytes.toString('base64url') !== body) return null
  return { keyId, nonce: bytes.subarray(0, NONCE_BYTES), sealed: bytes.subarray(NONCE_BYTES) }
}

/** @throws CipherMisconfigured where it is no place */
export function boundTo (keyId: string, { table, column, row }: Place): Buffer {
  checkColumn({ table, column })
  return joined([DOMAIN, FORM, keyId, table, column, nameOfRow(row)])
}

/** Texts with their lengths before them: no two lists are one. */
export function joined (parts: readonly string[]): Buffer {
  let size = 0
  for (const part of parts) size += 4 + Buffer.byteLength(part)
  const bytes = Buffer.allocUnsafe(size)
  let at = 0
  for (const part of parts) {
    const length = bytes.write(part, at + 4)
    bytes.writeUInt32BE(length, at)
    at += 4 + length
  }
  return bytes
}

/** @throws CipherMisconfigured */
export function checkColumn ({ table, column }: ColumnPlace): void {
  if (!isName(table)) throw new CipherMisconfigured('cipher: table: must be the name of a table')
  if (!isName(column)) throw new CipherMisconfigured('cipher: column: must be the name of a column')
}

/** @throws CipherMisconfigured */
export function checkText (text: unknown): asserts text is string {
  if (typeof text !== 'string') throw new CipherMisconfigured('cipher: only text is encrypted: use sealRow, or make a text of it')
  if (ILL_FORMED.test(text)) throw new CipherMisconfigured('cipher: the text holds half of a surrogate pair, and would come back as another')
}

/** A row that can be named: others have no place. */
export function isNamed (row: unknown): boolean {
  return isName(row) || typeof row === 'bigint' || Number.isSafeInteger(row)
}

function nameOfRow (row: unknown): string {
  if (isNamed(row)) return String(row)
  throw new CipherMisconfigured('cipher: row: must be the primary key of the row, a text or an integer')
}

function isName (name: unknown): name is string {
  return typeof name === 'string' && name !== '' && name.length <= MAX_NAME && !ILL_FORMED.test(name)
}
