/** Retention: events whose time is over lose their content; their places stay in the chain. */
import type { Sql } from '../sql.js'
import type { AuditStore } from './store.js'

/** Days by type; `*` for all that are not named. */
export type Retention = Readonly<Record<string, number>>

const DAY_MS = 86_400_000
const BATCH = 1000

/** Empties what is older than its type may be; how many events there were. Two that run at once do no harm. */
export async function purgeEvents (store: AuditStore, retention: Retention, sql: Sql, now: number): Promise<number> {
  const { '*': rest, ...named } = retention
  const passes = Object.entries(named).map(([type, days]) => ({ types: [type], isRest: false, days }))
  if (rest !== undefined) passes.push({ types: Object.keys(named), isRest: true, days: rest })
  let purged = 0
  for (const { types, isRest, days } of passes) {
    const before = new Date(now - days * DAY_MS).toISOString()
    // On from the last one: what is empty before it would be passed over again and again.
    for (let place = 0; ;) {
      const found = await store.purgeable(sql, types, isRest, before, place, BATCH)
      purged += found.length === 0 ? 0 : await store.empty(sql, found, new Date(now).toISOString())
      if (found.length < BATCH) break
      place = found.at(-1)!.seq
    }
  }
  return purged
}
