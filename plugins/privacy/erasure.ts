/** Erasure: all sources in one transaction, or none; a receipt; and in the journal what no transaction covers. */
import type { Sql } from '../sql.js'
import type { PrivacySource, Receipt, ReceiptLine } from './contract.js'
import type { Journal } from './journal.js'
import { within } from './lease.js'
import { addReceipt, findReceipt, linesOf, receiptsOf } from './receipts.js'

interface ErasureParts {
  sql: Sql
  sources: ReadonlyMap<string, PrivacySource>
  journal: Journal
  /** Keyed hashes of a user's id: the first is written, all are looked for. */
  subjectsOf: (userId: string) => readonly string[]
  now: () => number
  /** Milliseconds that the caller waits for the journal. */
  patience: number
  /** Learns of work that nobody waits for any more. */
  track: (work: Promise<unknown>) => void
}

/** Locks of this concern among the advisory locks of a database. */
const LOCKS = 7_266_819

export function erasureOf ({ sql, sources, journal, subjectsOf, now, patience, track }: ErasureParts) {
  const running = new Map<string, Promise<{ receipt: Receipt, isNew: boolean }>>()

  /** `isNew` for the one call that did it. */
  return async function erase (userId: string): Promise<{ receipt: Receipt, isNew: boolean }> {
    const other = running.get(userId)
    if (other !== undefined) return { ...await other, isNew: false }
    const erasing = eraseNow(userId).finally(() => { running.delete(userId) })
    running.set(userId, erasing)
    return erasing
  }

  async function eraseNow (userId: string): Promise<{ receipt: Receipt, isNew: boolean }> {
    const [before] = await receiptsOf(sql, subjectsOf(userId))
    const done = await sql.transaction(transaction => eraseAll(transaction, userId, before?.id))
    if (done.receipt.isComplete) return done
    const work = journal.workOff(done.receipt.id)
    track(work)
    // It goes on by itself: nobody has to wait for a service that hangs.
    await within(patience, work, { keepsAlive: true }).catch(() => {})
    return { ...done, receipt: await findReceipt(sql, done.receipt.id) ?? done.receipt }
  }

  async function eraseAll (transaction: Sql, userId: string, before: string | undefined): Promise<{ receipt: Receipt, isNew: boolean }> {
    const subjects = subjectsOf(userId)
    await transaction.query('select pg_advisory_xact_lock($1::int, hashtext($2))', [LOCKS, subjects[0]!])
    const [latest] = await receiptsOf(transaction, subjects)
    // Another process did it while this one waited: all that was there when it was asked for is gone.
    if (latest !== undefined && latest.id !== before) return { receipt: latest, isNew: false }
    for (const source of sources.values()) await source.before?.(userId, transaction)
    const notes = new Map<string, unknown>()
    for (const { name, outside } of sources.values()) if (outside !== undefined) notes.set(name, await outside.note?.(userId, transaction))
    const lines: ReceiptLine[] = []
    for (const { name, erase } of sources.values()) {
      if (erase !== undefined) lines.push(...linesOf(name, await erase(userId, transaction)))
    }
    // Asked for again, and nothing had come since.
    if (latest !== undefined && lines.every(({ count }) => count === 0)) return { receipt: latest, isNew: false }
    const pending = [...notes.keys()].map((source): ReceiptLine => ({ source, outcome: 'pending', count: null }))
    const receipt = await addReceipt(transaction, subjects[0]!, new Date(now()), [...lines, ...pending])
    await journal.add(transaction, receipt.id, userId, notes)
    return { receipt, isNew: true }
  }
}
