/** Rows: what a schema marks is encrypted and decrypted field by field. */
import type { FastifyRequest } from 'fastify'
import type { TObject, TSchema } from '@sinclair/typebox'
import { isText, markOf } from '../../schemas/encrypted.js'
import type { Cipher } from './contract.js'
import type { RowPlace } from './envelope.js'
import { CipherMisconfigured } from './errors.js'

/** A column of values that are encrypted. */
export interface EncryptedColumn {
  column: string
  /** The column beside it that holds its blind index. */
  index?: string
  /** Its values are encrypted as they are, and not as JSON. */
  isText: boolean
}

const known = new WeakMap<TObject, readonly EncryptedColumn[]>()

/** The columns that a schema marks. */
export function encryptedColumns (schema: TObject): readonly EncryptedColumn[] {
  const columns = known.get(schema) ?? Object.entries(schema.properties as Record<string, TSchema>).flatMap(([column, part]) => {
    const mark = markOf(part)
    return mark === null ? [] : [{ column, isText: isText(part), ...mark }]
  })
  if (columns.length === 0) throw new CipherMisconfigured('cipher: the schema marks no field with Encrypted')
  known.set(schema, columns)
  return columns
}

export function sealFields (cipher: Pick<Cipher, 'encrypt' | 'index'>, schema: TObject, { table, row }: RowPlace, fields: object): Record<string, unknown> {
  const sealed: Record<string, unknown> = { ...fields }
  for (const { column, index, isText } of encryptedColumns(schema)) {
    const value = sealed[column]
    if (value === undefined) continue
    if (isText && value !== null && typeof value !== 'string') throw new CipherMisconfigured(`cipher: ${table}.${column}: must be a text`)
    sealed[column] = value === null ? null : cipher.encrypt(isText ? value as string : JSON.stringify(value), { table, column, row })
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

/** Undefined for what is no JSON: `null` is never encrypted. */
function parse (text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
