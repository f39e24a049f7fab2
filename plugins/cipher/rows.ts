/** Rows: what a schema marks is encrypted and decrypted field by field. */
import type { FastifyRequest } from 'fastify'
import type { TObject, TSchema } from '@sinclair/typebox'
import { isText, markOf } from '../../schemas/encrypted.js'
import { isSchema, partsOf } from '../references.js'
import type { Cipher } from './contract.js'
import { readEnvelope, type RowPlace } from './envelope.js'
import { CipherMisconfigured, EnvelopeRefused } from './errors.js'

/** A column of values that are encrypted. */
export interface EncryptedColumn {
  column: string
  /** The column beside it that holds its blind index. */
  index?: string
  /** Its values are encrypted as they are, and not as JSON. */
  isText: boolean
}

const known = new WeakMap<TObject, readonly EncryptedColumn[]>()

/**
 * The columns that a schema marks.
 *
 * @throws CipherMisconfigured where it marks none, or what lies inside of a column: that would be kept as it is; and where a blind index has no column to itself
 */
export function encryptedColumns (schema: TObject): readonly EncryptedColumn[] {
  const before = known.get(schema)
  if (before !== undefined) return before
  const { properties = {}, ...around } = schema as { properties?: Record<string, TSchema> }
  for (const [name, part] of [['the schema', { ...around }] as const, ...Object.entries(properties)]) {
    if (markOf(part) === null && partsOf(part).some(holdsMark)) {
      throw new CipherMisconfigured(`cipher: ${name}: Encrypted stands inside of it, where nothing is encrypted: mark the column itself, all of it`)
    }
  }
  const columns = Object.entries(properties).flatMap(([column, part]) => {
    const mark = markOf(part)
    return mark === null ? [] : [{ column, isText: isText(part), ...mark }]
  })
  if (columns.length === 0) throw new CipherMisconfigured('cipher: the schema marks no field with Encrypted')
  const names = columns.flatMap(({ column, index }) => index === undefined ? [column] : [column, index])
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (twice !== undefined) throw new CipherMisconfigured(`cipher: ${twice}: a blind index needs a column to itself`)
  known.set(schema, columns)
  return columns
}

function holdsMark (schema: unknown): boolean {
  return isSchema(schema) && (markOf(schema) !== null || partsOf(schema).some(holdsMark))
}

export function sealFields (cipher: Pick<Cipher, 'encrypt' | 'index'>, schema: TObject, { table, row }: RowPlace, fields: object): Record<string, unknown> {
  const sealed: Record<string, unknown> = { ...fields }
  for (const { column, index, isText } of encryptedColumns(schema)) {
    const value = sealed[column]
    if (value === undefined) continue
    if (isText && value !== null && typeof value !== 'string') throw new CipherMisconfigured(`cipher: ${table}.${column}: must be a text`)
    // It comes from a client, or is encrypted already.
    if (readEnvelope(value) !== null) throw new EnvelopeRefused()
    sealed[column] = value === null ? null : cipher.encrypt(isText ? value as string : json(value, `${table}.${column}`), { table, column, row })
    if (index !== undefined) sealed[index] = value === null ? null : cipher.index(value as string, { table, column })
  }
  return sealed
}

/** @param fail tells what is wrong with a value that was decrypted */
export function openFields (
  decrypt: Cipher['decrypt'], fail: (place: RowPlace & { column: string }) => never, schema: TObject, { table, row }: RowPlace, fields: object, request?: FastifyRequest
): Record<string, unknown> {
  const opened: Record<string, unknown> = { ...fields }
  for (const { column, isText } of encryptedColumns(schema)) {
    const value = opened[column]
    if (value === undefined || value === null) continue
    const place = { table, column, row }
    const text = decrypt(value as string, place, request)
    opened[column] = isText ? text : parse(text) ?? fail(place)
  }
  return opened
}

/** What is nothing in JSON (NaN, an invalid date) would be encrypted, and never be read again. */
function json (value: unknown, name: string): string {
  const text = JSON.stringify(value)
  if (text === undefined || text === 'null') throw new CipherMisconfigured(`cipher: ${name}: is nothing that JSON can hold`)
  return text
}

/** Undefined for what is no JSON: `null` is never encrypted. */
function parse (text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
