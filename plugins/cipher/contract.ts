/** What `app.cipher` can do. */
import type { FastifyRequest } from 'fastify'
import type { Static, TObject } from '@sinclair/typebox'
import type { EncryptedMark } from '../../schemas/encrypted.js'
import type { ColumnPlace, Place, RowPlace } from './envelope.js'
import type { RingKey } from './ring.js'

type Properties = TObject['properties']
type MarkedNames<All extends Properties> = { [Name in keyof All]: All[Name] extends EncryptedMark ? Name : never }[keyof All]
type IndexName<Schema> = Schema extends EncryptedMark<infer Index> ? Index : never

/** A row as it is stored: what is marked is an envelope, and its indexes stand beside it. */
export type SealedRow<Schema extends TObject, Row> =
  { [Name in keyof Row]: Name extends MarkedNames<Schema['properties']> ? string | Extract<Row[Name], null | undefined> : Row[Name] } &
  { [Name in keyof Row as IndexName<Schema['properties'][Name & keyof Schema['properties']]>]: string | Extract<Row[Name], null | undefined> }

/** A row as it was before it was stored. */
export type OpenedRow<Schema extends TObject, Row> =
  { [Name in keyof Row]: Name extends MarkedNames<Schema['properties']> & keyof Static<Schema> ? NonNullable<Static<Schema>[Name]> | Extract<Row[Name], null | undefined> : Row[Name] }

export interface Cipher {
  /**
   * Encrypts a text for its place.
   *
   * @throws CipherExhausted (500) where the key has encrypted as many values as it may
   */
  encrypt: (text: string, place: Place) => string
  /**
   * The text again.
   *
   * @param request whose answer it is for: stands in the event
   * @throws DecryptionFailed (500) whatever is wrong with it: it was changed, or moved, or its key is gone. Each is an event `decryption_failed`
   */
  decrypt: (envelope: string, place: Place, request?: FastifyRequest) => string
  /** It was not made with the first key, or is no envelope: encrypt it anew. */
  isStale: (envelope: string) => boolean
  /**
   * The blind index of a text, to be stored.
   *
   * @throws CipherMisconfigured without `index` in the options
   */
  index: (text: string, place: ColumnPlace) => string
  /** Its indexes by all keys, to search by: `where ssn_index = any($1)`. With few bytes others are found too, and who can write to the table can move an index to another row: decrypt, and compare. */
  indexes: (text: string, place: ColumnPlace) => string[]
  /** It was not made with the first key, or has another length. */
  isIndexStale: (index: string, place: ColumnPlace) => boolean
  /**
   * A row to be stored: each field that its schema marks (`Encrypted`) is encrypted, and its blind index stands beside it. What is null stays null, what is not there stays away.
   *
   * @throws EnvelopeRefused (400) for a text that has the form of an encrypted value
   */
  sealRow: <Schema extends TObject, Row extends object>(schema: Schema, place: RowPlace, row: Row) => SealedRow<Schema, Row>
  /**
   * A stored row with all that its schema marks decrypted. Give it the columns that the one who asks may see, and no others.
   *
   * @throws DecryptionFailed (500)
   */
  openRow: <Schema extends TObject, Row extends object>(schema: Schema, place: RowPlace, row: Row, request?: FastifyRequest) => OpenedRow<Schema, Row>
  /**
   * Other keys, without a restart: all of them or, where one is not good, none. Keys of `index` stay where they are not given.
   *
   * @throws CipherMisconfigured, also where an id is another key than before
   */
  rotate: (keys: readonly RingKey[], indexKeys?: readonly RingKey[]) => Promise<void>
  /** How many values each key has encrypted in this process. */
  usage: () => { id: string, messages: number }[]
  /** @internal What is not stale begins with these, and an index has this length. */
  current: (place?: ColumnPlace) => { envelope: string, index: { prefix: string, length: number } | null }
}
