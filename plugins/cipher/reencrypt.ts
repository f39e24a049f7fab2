/**
 * Re-encryption of a table: whatever was encrypted or indexed with an older key is written anew with the first one.
 *
 * It works beside a service that runs. Pages are read by the primary key, values are computed outside of transactions, and a page is written in one short transaction. A value is replaced only where it still is the
 * one that was read (compare-and-swap), so that what somebody writes meanwhile stays. It asks only for what is stale: begun anew after an end of whatever kind, it goes on where it was.
 */
import type { Sql } from '../sql.js'
import type { Cipher } from './contract.js'
import { isNamed, readEnvelope, type ColumnPlace } from './envelope.js'
import { CipherMisconfigured, DecryptionFailed } from './errors.js'

export interface ReencryptOptions {
  /** Name of the table, here and in the places of its values. */
  table: string
  /** Schema of the table in the database; by default what the search path says. */
  schema?: string
  /** Column of the primary key: a text, an integer or a uuid. */
  key: string
  /** What is encrypted, and the column of its blind index: `['diagnosis', { column: 'ssn', index: 'ssn_index' }]`, or `encryptedColumns(schema)`. */
  columns: readonly (string | { column: string, index?: string })[]
  /** Rows of a page (default 100). */
  batch?: number
  /** Values that are not encrypted yet: `refuse` (the default) leaves them and counts them as failed, `encrypt` encrypts them. For the day on which a column becomes an encrypted one: whoever can write to the table can put text there. */
  plain?: 'refuse' | 'encrypt'
  /** All values, not only stale ones: after a change of how an index is normalised. */
  all?: boolean
  /** Told after each page. */
  progress?: (progress: ReencryptProgress) => void
  /** Ends it after the page at which it is. */
  signal?: AbortSignal
}

export interface ReencryptProgress {
  /** Values that were written anew. */
  written: number
  /** Values that somebody else wrote meanwhile: those stay. */
  lost: number
  /**
   * Values that could not be decrypted, or are not encrypted: each is an event `decryption_failed`. And those of a row whose primary key is empty or longer than 255 characters, for which nothing can be encrypted.
   * They stay as they are.
   */
  failed: number
  /** The primary key up to which it is done. */
  after: string | null
}

export interface ReencryptReport extends ReencryptProgress {
  /** Values that are stale now, those that failed among them. Old keys may go once it is 0 and every process writes with the new one. */
  left: number
}

type PageRow = Record<string, string | null>
/** `name` and `beside` are the column and its index as they are written into statements. */
interface Column extends ColumnPlace { index: string | null, name: string, beside: string | null, swap: string }
interface Change { column: Column, row: string, old: string, sealed: string, index: string | null }

const IDENTIFIER = /^[A-Za-z_][A-Za-z0-9_$]{0,62}$/
const DEFAULT_BATCH = 100
const MAX_BATCH = 10_000
/** A pass finds what another writer left stale during the one before it. */
const PASSES = 3
/** Tries of a page that met a deadlock. */
const TRIES = 5
const CONFLICTS: ReadonlySet<string | undefined> = new Set(['40P01', '40001'])

/**
 * Writes anew what is stale in a table.
 *
 * @throws CipherMisconfigured for names that are none, SqlUnavailable where the database stays away: begin anew
 */
export async function reencrypt (sql: Sql, cipher: Cipher, options: ReencryptOptions): Promise<ReencryptReport> {
  const { table, batch = DEFAULT_BATCH, plain = 'refuse', all = false, progress, signal } = options
  if (!Number.isInteger(batch) || batch < 1 || batch > MAX_BATCH) throw new CipherMisconfigured(`reencrypt: batch: must be 1 to ${MAX_BATCH} rows`)
  if (plain !== 'refuse' && plain !== 'encrypt') throw new CipherMisconfigured("reencrypt: plain: must be 'refuse' or 'encrypt'")
  const { columns, page, count } = statementsFor(options, cipher)
  const report: ReencryptReport = { written: 0, lost: 0, failed: 0, after: null, left: 0 }

  for (let pass = 0; pass < PASSES; pass++) {
    report.after = null
    report.failed = 0
    const lost = report.lost
    while (signal?.aborted !== true) {
      const { text, values } = page(report.after, batch)
      // eslint-disable-next-line no-restricted-syntax -- made of checked and quoted names alone, in statementsFor
      const rows = await sql.query<PageRow>(text, values)
      if (rows.length === 0) break
      const changes = rows.flatMap(changesOf)
      const written = changes.length === 0 ? 0 : await write(changes)
      report.written += written
      report.lost += changes.length - written
      report.after = rows.at(-1)!.row!
      progress?.({ written: report.written, lost: report.lost, failed: report.failed, after: report.after })
    }
    // What was lost was written by another: perhaps by one that does not have the new key yet.
    if (report.lost === lost || all || signal?.aborted === true) break
  }
  const { text, values } = count()
  // eslint-disable-next-line no-restricted-syntax -- as above
  const [found] = await sql.query<{ stale: string | number }>(text, values)
  return { ...report, left: Number(found!.stale) }

  function changesOf (page: PageRow): Change[] {
    return columns.flatMap((column, i) => {
      const old = page[`v${i}`]
      if (old === null || old === undefined) return []
      const place = { table, column: column.column, row: page.row! }
      const index = column.index === null ? null : page[`i${i}`] ?? null
      const isWhole = !cipher.isStale(old) && (column.index === null || (index !== null && !cipher.isIndexStale(index, place)))
      if (isWhole && !all) return []
      if (!isNamed(page.row)) {
        report.failed++
        return []
      }
      try {
        const text = plain === 'encrypt' && readEnvelope(old) === null ? old : cipher.decrypt(old, place)
        return [{ column, row: page.row!, old, sealed: cipher.encrypt(text, place), index: column.index === null ? null : cipher.index(text, place) }]
      } catch (error) {
        if (!(error instanceof DecryptionFailed)) throw error
        report.failed++
        return []
      }
    })
  }

  /** How many were still what was read. */
  async function write (changes: readonly Change[]): Promise<number> {
    for (let i = 1; ; i++) {
      try {
        return await sql.transaction(async transaction => {
          let written = 0
          for (const { column, row, old, sealed, index } of changes) {
            // eslint-disable-next-line no-restricted-syntax -- as above
            written += (await transaction.query(column.swap, [sealed, row, old, ...column.index === null ? [] : [index]])).length
          }
          return written
        })
      } catch (error) {
        const { code, cause } = error as { code?: string, cause?: { code?: string } }
        if (i === TRIES || !(CONFLICTS.has(code) || CONFLICTS.has(cause?.code))) throw error
      }
    }
  }
}

/** The statements of one run, made of names that were checked and quoted. */
function statementsFor ({ table, schema, key, columns: given, all = false }: ReencryptOptions, cipher: Cipher) {
  if (!Array.isArray(given) || given.length === 0) throw new CipherMisconfigured('reencrypt: columns: must name those that are encrypted')
  const from = schema === undefined ? quoted(table, 'table') : `${quoted(schema, 'schema')}.${quoted(table, 'table')}`
  const id = quoted(key, 'key')
  const columns = given.map((one): Column => {
    const { column, index = null } = typeof one === 'string' ? { column: one } : one as { column: string, index?: string }
    const name = quoted(column, 'columns')
    const beside = index === null ? null : quoted(index, 'columns: index')
    const swap = `update ${from} set ${name} = $1${beside === null ? '' : `, ${beside} = $4`} where ${id} = $2 and ${name} = $3 returning 1 as one`
    return { table, column, index, name, beside, swap }
  })

  function staleIn ({ name, beside, ...place }: Column, bind: Bind): string {
    const { envelope, index } = cipher.current(beside === null ? undefined : place)
    const faults = [`not starts_with(${name}, ${bind(envelope)})`]
    if (index !== null) faults.push(`${beside} is null`, `not starts_with(${beside}, ${bind(index.prefix)})`, `length(${beside}) <> ${bind(index.length)}`)
    return `(${name} is not null and (${faults.join(' or ')}))`
  }

  return {
    columns,
    page: (after: string | null, limit: number) => statement(bind => {
      const shown = columns.flatMap(({ name, beside }, i) => [`${name} as v${i}`, ...beside === null ? [] : [`${beside} as i${i}`]])
      const wanted = columns.map(column => all ? `${column.name} is not null` : staleIn(column, bind)).join(' or ')
      const beyond = after === null ? '' : ` and ${id} > ${bind(after)}`
      return `select ${id}::text as row, ${shown.join(', ')} from ${from} as stored where (${wanted})${beyond} order by stored.${id} limit ${bind(limit)}`
    }),
    count: () => statement(bind => `select coalesce(sum(${columns.map(column => `case when ${staleIn(column, bind)} then 1 else 0 end`).join(' + ')}), 0) as stale from ${from}`),
  }
}

type Bind = (value: unknown) => string

/** A statement whose values are bound as it is written. */
function statement (write: (bind: Bind) => string): { text: string, values: unknown[] } {
  const values: unknown[] = []
  return { text: write(value => `$${values.push(value)}`), values }
}

/** A name of the database as it is written into a statement. It cannot be bound as a value, so that nothing but a plain name is taken. */
function quoted (name: unknown, option: string): string {
  if (typeof name !== 'string' || !IDENTIFIER.test(name)) throw new CipherMisconfigured(`reencrypt: ${option}: must be a plain name of letters, digits and _`)
  return `"${name}"`
}
