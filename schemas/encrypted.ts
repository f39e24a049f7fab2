/** Fields that are encrypted where they are kept. */
import type { TSchema } from '@sinclair/typebox'

/** What `Encrypted` leaves on a schema. */
export interface EncryptedMark<Index extends string = string> {
  encrypted: { index?: Index }
}

/** A schema whose values are encrypted where they are kept; the type of the value is that of the schema. */
export type TEncrypted<Schema extends TSchema, Index extends string = never> = Schema & EncryptedMark<Index>

/**
 * Marks a field that is encrypted where it is kept: `app.cipher.sealRow` encrypts and `app.cipher.openRow` decrypts what bears the mark. In an answer such a field must say who sees it (`visibleTo`).
 *
 * The mark stands on a column itself: `Encrypted(Type.Union([…]))`, `Encrypted(Type.Object(…))`. Inside of one it is refused as soon as the row is sealed.
 *
 * @param options.index the field beside it that holds its blind index, by which it is found; for texts only
 * @throws TypeError for an index of what is no text
 */
export function Encrypted<Schema extends TSchema, const Index extends string = never> (schema: Schema, { index }: { index?: Index } = {}): TEncrypted<Schema, Index> {
  if (index !== undefined && !isText(schema)) throw new TypeError('Encrypted: only a text has a blind index')
  return { ...schema, encrypted: index === undefined ? {} : { index } }
}

/** The mark of a schema; null where it bears none. */
export function markOf (schema: unknown): EncryptedMark['encrypted'] | null {
  const mark = (schema as Partial<EncryptedMark> | null | undefined)?.encrypted
  return typeof mark === 'object' && mark !== null ? mark : null
}

/** Its values are texts, or null: they are encrypted as they are. All others are encrypted as JSON. */
export function isText (schema: TSchema): boolean {
  const parts = schema.anyOf as TSchema[] | undefined
  return schema.type === 'string' || (Array.isArray(parts) && parts.every(part => part.type === 'null' || isText(part)) && parts.some(isText))
}
