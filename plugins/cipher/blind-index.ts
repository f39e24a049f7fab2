/**
 * Blind indexes: a keyed hash beside an encrypted value, by which it is found.
 *
 * HMAC-SHA-256 by a key for each table and column, so that equal values of two columns cannot be told; of the value in a form in which equal ones are one text. It does tell which rows of a column are equal, and how
 * often each value comes: do not index what has few values (a sex, a diagnosis). Whoever has the key can try all values; who has the database alone cannot. An index is bound to its column and not to its row:
 * who can write to the table can put it beside another value. Compare what was decrypted.
 */
import { createHmac, hkdfSync } from 'node:crypto'
import { Type, type Static } from '@sinclair/typebox'
import { checkOptions } from '../options.js'
import { checkColumn, checkText, joined, type ColumnPlace } from './envelope.js'
import { CipherMisconfigured } from './errors.js'
import { refuseReused, type RingKey, type SettledKey } from './ring.js'

const Bytes = Type.Integer({
  minimum: 2,
  maximum: 32,
  default: 16,
  description: 'Bytes of an index. 16: no two values have one. Fewer hide which rows are equal among R rows where R / 256^bytes is 2 or more; a search then finds others too, which must be decrypted and compared',
})
const Normal = Type.Union([Type.Literal('text'), Type.Literal('digits'), Type.Literal('exact')], {
  default: 'text', description: '`text`: composed (NFKC), trimmed, in lower case; `digits`: its digits alone; `exact`: as it is; or a function of your own',
})

export const IndexOptions = Type.Object({
  bytes: Type.Optional(Bytes),
  normalize: Type.Optional(Normal),
}, { additionalProperties: false })

/** How one column is indexed. */
export type ColumnIndex = Omit<Static<typeof IndexOptions>, 'normalize'> & {
  normalize?: Static<typeof Normal> | ((text: string) => string)
}
export interface IndexOptions extends ColumnIndex {
  /** Of several keys the first makes indexes; searches go by all (`app.cipher.indexes`). Each has 32 bytes or more. */
  keys: readonly RingKey[]
  /** What is different for a column, by `table.column`. */
  columns?: Readonly<Record<string, ColumnIndex>>
}

export interface BlindIndexes {
  index: (text: string, place: ColumnPlace) => string
  indexes: (text: string, place: ColumnPlace) => string[]
  isIndexStale: (index: string, place: ColumnPlace) => boolean
  /** What every index that is not stale begins with, and its length. */
  form: (place: ColumnPlace) => { prefix: string, length: number }
  replace: (keys: readonly SettledKey[]) => void
  keys: () => readonly SettledKey[]
}

const NORMAL: Readonly<Record<string, (text: string) => string>> = {
  // Not by way of upper case, where ı becomes I and ß SS: another's address (CVE-2019-19844). What is in lower case may be composed once more.
  text: text => text.normalize('NFKC').trim().toLowerCase().replaceAll('ς', 'σ').normalize('NFKC'),
  digits: text => text.normalize('NFKC').replace(/[^0-9]/g, ''),
  exact: text => text,
}
const DEFAULT_BYTES = 16

/** Null where nothing is indexed. */
export function blindIndexes (options: IndexOptions | undefined, settled: readonly SettledKey[]): BlindIndexes | null {
  if (options === undefined) return null
  const { keys: _keys, columns = {}, ...general } = options
  const all = new Map(Object.entries(columns).map(([name, own]) => [name, readColumn({ ...general, ...own }, `encryption: index.columns.${name}`)]))
  for (const name of all.keys()) if (!/^.+\.[^.]+$/.test(name)) throw new CipherMisconfigured(`encryption: index.columns.${name}: must be named table.column`)
  const usual = readColumn(general, 'encryption: index')
  let ring = settled
  /** By place, then by key: a place is written by a programmer, so that there are few. */
  const derived = new Map<string, readonly Buffer[]>()

  function keysFor ({ table, column }: ColumnPlace): readonly Buffer[] {
    const info = joined(['fastify-bastion/cipher:index', table, column])
    const name = info.toString('latin1')
    const known = derived.get(name)
    if (known !== undefined) return known
    const made = ring.map(({ bytes }) => Buffer.from(hkdfSync('sha256', bytes, 'fastify-bastion', info, 32)))
    derived.set(name, made)
    return made
  }

  function make (text: string, place: ColumnPlace, count: number): string[] {
    checkColumn(place)
    checkText(text)
    const { bytes, normalize } = ruleOf(place)
    const normal = normalize(text)
    checkText(normal)
    return keysFor(place).slice(0, count).map((key, i) => `${ring[i]!.id}.${createHmac('sha256', key).update(normal).digest().subarray(0, bytes).toString('base64url')}`)
  }

  const ruleOf = ({ table, column }: ColumnPlace) => all.get(`${table}.${column}`) ?? usual
  function form (place: ColumnPlace) {
    const prefix = `${ring[0]!.id}.`
    return { prefix, length: prefix.length + Math.ceil(ruleOf(place).bytes * 4 / 3) }
  }

  return {
    index: (text, place) => make(text, place, 1)[0]!,
    indexes: (text, place) => make(text, place, ring.length),
    form,
    isIndexStale (index, place) {
      const { prefix, length } = form(place)
      return typeof index !== 'string' || !index.startsWith(prefix) || index.length !== length
    },
    replace (keys) {
      refuseReused(ring, keys, 'encryption: index.keys')
      ring = keys
      derived.clear()
    },
    keys: () => ring,
  }
}

function readColumn ({ normalize = 'text', ...plain }: ColumnIndex, option: string): { bytes: number, normalize: (text: string) => string } {
  checkOptions(IndexOptions, typeof normalize === 'function' ? plain : { ...plain, normalize }, option, CipherMisconfigured)
  return { bytes: plain.bytes ?? DEFAULT_BYTES, normalize: typeof normalize === 'function' ? normalize : NORMAL[normalize]! }
}
