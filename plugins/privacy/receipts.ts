/** Receipts of erasures: what was done, and nobody's name. */
import { randomBytes } from 'node:crypto'
import type { Sql } from '../sql.js'
import type { ErasureOutcome, Receipt, ReceiptLine } from './contract.js'
import { PrivacySourceFaulty } from './errors.js'

interface Row { id: string, subject: string, erased_at: Date, sources: ReceiptLine[] }

/** The receipts of a subject, whichever of the keys named it; the latest first. */
export async function receiptsOf (sql: Sql, subjects: readonly string[]): Promise<Receipt[]> {
  return (await sql.query<Row>('select * from privacy_receipts where subject = any($1::text[]) order by erased_at desc, id desc', [subjects])).map(receiptFrom)
}

export async function findReceipt (sql: Sql, id: string): Promise<Receipt | null> {
  const [row] = await sql.query<Row>('select * from privacy_receipts where id = $1', [id])
  return row === undefined ? null : receiptFrom(row)
}

export async function addReceipt (transaction: Sql, subject: string, erasedAt: Date, sources: readonly ReceiptLine[]): Promise<Receipt> {
  const id = randomBytes(12).toString('base64url')
  const [row] = await transaction.query<Row>('insert into privacy_receipts (id, subject, erased_at, sources) values ($1, $2, $3::timestamptz, $4::jsonb) returning *',
    [id, subject, erasedAt, JSON.stringify(sources)])
  return receiptFrom(row!)
}

/** What a source had to do outside is done: its lines take the place of the pending one. */
export async function settleReceipt (transaction: Sql, id: string, source: string, done: readonly ReceiptLine[]): Promise<void> {
  const [row] = await transaction.query<Row>('select * from privacy_receipts where id = $1 for update', [id])
  if (row === undefined) return
  const sources = row.sources.flatMap(line => line.source === source && line.outcome === 'pending' ? done : [line])
  await transaction.query('update privacy_receipts set sources = $2::jsonb where id = $1', [id, JSON.stringify(sources)])
}

/**
 * What a source answered, as a receipt says it.
 *
 * @throws PrivacySourceFaulty where it is no outcome: nobody shall think that something was erased
 */
export function linesOf (source: string, answer: ErasureOutcome | readonly ErasureOutcome[]): ReceiptLine[] {
  return [answer].flat().map(outcome => lineOf(source, outcome as ErasureOutcome))
}

function lineOf (source: string, outcome: ErasureOutcome): ReceiptLine {
  if (outcome === 'deleted' || outcome === 'anonymised') return { source, outcome, count: null }
  if (typeof outcome === 'object' && outcome !== null) {
    if ('deleted' in outcome && isCount(outcome.deleted)) return { source, outcome: 'deleted', count: outcome.deleted }
    if ('anonymised' in outcome && isCount(outcome.anonymised)) {
      return { source, outcome: 'anonymised', count: outcome.anonymised, ...outcome.reason !== undefined && { reason: outcome.reason } }
    }
    if ('kept' in outcome && typeof outcome.kept === 'string' && outcome.kept.trim() !== '') {
      return { source, outcome: 'kept', count: outcome.count ?? null, reason: outcome.kept, ...outcome.until !== undefined && { until: outcome.until.toISOString() } }
    }
  }
  throw new PrivacySourceFaulty(`The source ${source} did not say what it erased: 'deleted', 'anonymised', { deleted: n }, { anonymised: n } or { kept: 'the law' }`)
}

function isCount (value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function receiptFrom ({ id, subject, erased_at: erasedAt, sources }: Row): Receipt {
  return { id, subject, erasedAt, sources, isComplete: sources.every(({ outcome }) => outcome !== 'pending') }
}
