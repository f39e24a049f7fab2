/** Purging: what was held long enough goes, in one process at a time. */
import type { Sql } from '../sql.js'
import type { PrivacySource, PurgeReport } from './contract.js'
import { holding, patienceOf, within } from './lease.js'

interface PurgeParts {
  sql: Sql
  sources: ReadonlyMap<string, PrivacySource>
  holder: string
  leaseMs: number
  /** Between two scheduled purges, of all processes together. */
  everyMs: number
  now: () => number
  failed: (source: string, error: unknown) => void
}

const DAY = 86_400_000

export function purgeOf ({ sql, sources, holder, leaseMs, everyMs, now, failed }: PurgeParts) {
  return purge

  /** @param isScheduled only where it is due; null where it is not, or another process is at it */
  async function purge (isScheduled: boolean): Promise<PurgeReport | null> {
    if (!await claim(isScheduled)) return null
    try {
      const report: PurgeReport = { removed: {}, failed: [] }
      for (const source of sources.values()) {
        if (source.purge === undefined) continue
        await holding(leaseMs, prolong, () => purgeOne(source, report))
        // Where another one has it meanwhile, or nobody knows, that one goes on.
        if (!await prolong().catch(() => false)) break
      }
      return report
    } finally {
      await sql.query("update privacy_tasks set holder = null, held_until = null where name = 'purge' and holder = $1", [holder])
    }
  }

  /** One that fails, or hangs, does not keep what the others hold. */
  async function purgeOne ({ name, retention = 0, purge }: PrivacySource, report: PurgeReport): Promise<void> {
    try {
      const purging = Promise.resolve(purge!({ before: new Date(now() - retention * DAY), sql }))
      const removed = await within(patienceOf(leaseMs), purging, { keepsAlive: false })
      if (removed > 0) report.removed[name] = removed
    } catch (error) {
      failed(name, error)
      report.failed.push(name)
    }
  }

  /** What is still in somebody's name after its time, its process did not end. */
  async function claim (isScheduled: boolean): Promise<boolean> {
    const own = await sql.query(`insert into privacy_tasks as task (name, due_at, holder, held_until)
      values ('purge', now() + $1::bigint * interval '1 millisecond', $2, now() + $3::int * interval '1 millisecond')
      on conflict (name) do update set due_at = excluded.due_at, holder = excluded.holder, held_until = excluded.held_until
      where (task.held_until is null or task.held_until <= now()) and (task.due_at <= now() or task.holder is not null or not $4::boolean)
      returning name`, [everyMs, holder, leaseMs, isScheduled])
    return own.length > 0
  }

  async function prolong (): Promise<boolean> {
    const held = await sql.query("update privacy_tasks set held_until = now() + $2::int * interval '1 millisecond' where name = 'purge' and holder = $1 returning name", [holder, leaseMs])
    return held.length > 0
  }
}
