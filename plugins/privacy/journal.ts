/** The journal: what erasures still have to do outside of the database. Written in their transaction, worked off after it, until it is done. */
import type { Sql } from '../sql.js'
import type { PrivacySource, ReceiptLine } from './contract.js'
import { holding, patienceOf, within } from './lease.js'
import { linesOf, settleReceipt } from './receipts.js'

/** Something that is still to be done. */
export interface Entry { receiptId: string, source: string, userId: string, noted: unknown, attempts: number }

interface JournalParts {
  sql: Sql
  sources: ReadonlyMap<string, PrivacySource>
  /** Names this process. */
  holder: string
  leaseMs: number
  /** Before the second attempt; doubled from then on. */
  retryMs: number
  delayed: (entry: Entry, error: unknown) => void
}

interface Row { receipt_id: string, source: string, user_id: string, noted: unknown, attempts: number }

/** Worked off at once. */
const BATCH = 10
/** Milliseconds between two attempts at most. */
const LONGEST = 3_600_000

export type Journal = ReturnType<typeof journalOf>

export function journalOf ({ sql, sources, holder, leaseMs, retryMs, delayed }: JournalParts) {
  return { add, workOff, hurry }

  async function add (transaction: Sql, receiptId: string, userId: string, notes: ReadonlyMap<string, unknown>): Promise<void> {
    for (const [source, noted] of notes) {
      await transaction.query('insert into privacy_journal (receipt_id, source, user_id, noted) values ($1, $2, $3, $4::jsonb)', [receiptId, source, userId, JSON.stringify(noted ?? null)])
    }
  }

  /** What is due and nobody is at, of one receipt or of all; answers how much of it was done. */
  async function workOff (receiptId: string | null = null): Promise<number> {
    let done = 0
    for (;;) {
      const entries = await claim(receiptId)
      if (entries.length === 0) return done
      const results = await Promise.all(entries.map(attempt))
      done += results.filter(isDone => isDone).length
    }
  }

  /** All of it is due now. */
  async function hurry (): Promise<void> {
    await sql.query('update privacy_journal set due_at = now() where due_at > now()')
  }

  async function claim (receiptId: string | null): Promise<Entry[]> {
    const rows = await sql.query<Row>(`update privacy_journal set holder = $1, held_until = now() + $2::int * interval '1 millisecond', attempts = attempts + 1
      where (receipt_id, source) in (
        select receipt_id, source from privacy_journal
        where (held_until is null or held_until <= now()) and due_at <= now() and ($3::text is null or receipt_id = $3::text)
        order by due_at limit $4::int for update skip locked
      ) returning receipt_id, source, user_id, noted, attempts`, [holder, leaseMs, receiptId, BATCH])
    return rows.map(({ receipt_id: receiptId, source, user_id: userId, noted, attempts }) => ({ receiptId, source, userId, noted, attempts }))
  }

  async function attempt (entry: Entry): Promise<boolean> {
    try {
      await holding(leaseMs, () => prolong(entry), async () => {
        await settle(entry, await within(patienceOf(leaseMs), erase(entry), { keepsAlive: false }))
      })
      return true
    } catch (error) {
      delayed(entry, error)
      await postpone(entry)
      return false
    }
  }

  async function erase ({ source, userId, noted }: Entry): Promise<ReceiptLine[]> {
    const outside = sources.get(source)?.outside
    if (outside === undefined) throw new Error(`there is no source ${source} any more, and nobody else knows how to erase what it held`)
    return linesOf(source, await outside.erase(userId, noted))
  }

  async function settle ({ receiptId, source }: Entry, lines: readonly ReceiptLine[]): Promise<void> {
    await sql.transaction(async transaction => {
      const own = await transaction.query('delete from privacy_journal where receipt_id = $1 and source = $2 and holder = $3 returning source', [receiptId, source, holder])
      if (own.length > 0) await settleReceipt(transaction, receiptId, source, lines)
    })
  }

  async function prolong ({ receiptId, source }: Entry): Promise<boolean> {
    const held = await sql.query(`update privacy_journal set held_until = now() + $4::int * interval '1 millisecond'
      where receipt_id = $1 and source = $2 and holder = $3 returning source`, [receiptId, source, holder, leaseMs])
    return held.length > 0
  }

  /** Where even that fails, the time for which it is held runs out. */
  async function postpone ({ receiptId, source, attempts }: Entry): Promise<void> {
    const ms = Math.min(LONGEST, retryMs * 2 ** (attempts - 1))
    await sql.query(`update privacy_journal set due_at = now() + $4::int * interval '1 millisecond', holder = null, held_until = null
      where receipt_id = $1 and source = $2 and holder = $3`, [receiptId, source, holder, ms]).catch(() => {})
  }
}
