/** Reading: pages, all that matches, and what comes next. */
import type { Row } from './chain.js'
import type { Audit, AuditEvent, AuditQuery } from './contract.js'
import type { AuditStore } from './store.js'
import { vocabularyOf } from './vocabulary.js'

const PAGE = 50
const MAX_PAGE = 1000
/** Milliseconds between two looks for what other processes kept, and at least between any two. */
const LOOK_MS = 1000
const GATHER_MS = 200

export interface ReadingParts {
  store: AuditStore
  flush: () => Promise<void>
  /** Calls back once, when this process has kept something. */
  onceWritten: (call: () => void) => () => void
}

export function auditReading ({ store, flush, onceWritten }: ReadingParts): Pick<Audit, 'read' | 'events' | 'export' | 'follow'> {
  return { read, events, export: exportLines, follow }

  async function read (query: AuditQuery = {}) {
    await flush()
    const limit = Math.min(Math.max(query.limit ?? PAGE, 1), MAX_PAGE)
    const pseudonyms = await pseudonymsOf(query)
    const before = query.cursor === undefined ? null : Number(query.cursor)
    if (pseudonyms?.length === 0 || (before !== null && !Number.isSafeInteger(before))) return { items: [], nextCursor: null }
    const rows = await store.page(timesOf(query), pseudonyms, before, limit + 1)
    const shown = rows.slice(0, limit)
    return { items: await eventsFrom(shown), nextCursor: rows.length > limit ? String(shown.at(-1)!.seq) : null }
  }

  async function * events (query: AuditQuery = {}): AsyncGenerator<AuditEvent> {
    await flush()
    const pseudonyms = await pseudonymsOf(query)
    if (pseudonyms?.length === 0) return
    for (let place = 0; ;) {
      const rows = await store.after(timesOf(query), pseudonyms, place, MAX_PAGE)
      yield * await eventsFrom(rows)
      if (rows.length < MAX_PAGE) return
      place = rows.at(-1)!.seq
    }
  }

  async function * exportLines (query: AuditQuery = {}): AsyncGenerator<string> {
    for await (const event of events(query)) yield `${JSON.stringify(event)}\n`
  }

  async function * follow ({ after, signal }: { after?: number, signal?: AbortSignal } = {}): AsyncGenerator<AuditEvent[]> {
    if (after === undefined) await flush()
    let place = after ?? (await store.head())?.seq ?? 0
    const isOver = () => signal?.aborted === true
    while (!isOver()) {
      const rows = await store.after({}, null, place, PAGE)
      const found = await eventsFrom(rows)
      if (isOver()) return
      yield found
      place = rows.at(-1)?.seq ?? place
      if (rows.length < PAGE) await pause(signal)
    }
  }

  /** A moment, so that many events come together; then until something was kept here, or may have been elsewhere. */
  async function pause (signal: AbortSignal | undefined): Promise<void> {
    await asleep(GATHER_MS, signal)
    await asleep(LOOK_MS, signal, onceWritten)
  }

  /** Null where nobody was asked for; none where that one is not known, or no longer. */
  async function pseudonymsOf ({ userId }: AuditQuery): Promise<string[] | null> {
    return userId === undefined ? null : store.pseudonymsOf(userId)
  }

  async function eventsFrom (rows: readonly Row[]): Promise<AuditEvent[]> {
    const pseudonyms = [...new Set(rows.flatMap(({ person, subject }) => [person, subject]).filter(name => name !== null))]
    const users = pseudonyms.length === 0 ? new Map<string, string>() : await store.namesBehind(pseudonyms)
    return rows.map(({ seq, id, time, type, person, subject, content }) => ({
      seq,
      id,
      time,
      type,
      vocabulary: vocabularyOf(type!),
      person,
      subject,
      userId: users.get(person!) ?? null,
      subjectId: users.get(subject!) ?? null,
      ...contentOf(content!),
    }) as AuditEvent)
  }
}

/** One that somebody wrote over is for `verify` to tell; it keeps nobody from reading the others. */
function contentOf (text: string): object {
  try {
    return JSON.parse(text) as object
  } catch {
    return { outcome: 'unknown', details: { unreadable: true } }
  }
}

/** As times are written in the trail, where they are compared as text. */
function timesOf ({ type, outcome, from, to }: AuditQuery): AuditQuery {
  // A leap second and an offset of hours alone are times too, which Date does not know.
  const written = (time: string) => new Date(time.replace(/:60(?:\.\d+)?/, ':59.999').replace(/[+-]\d\d$/, '$&:00')).toISOString().replace(/^\+/, '~') // the year 10000 comes after all others
  return { type, outcome, ...from !== undefined && { from: written(from) }, ...to !== undefined && { to: written(to) } }
}

function asleep (ms: number, signal: AbortSignal | undefined, wake?: (call: () => void) => () => void): Promise<void> {
  return new Promise(resolve => {
    const timer = setTimeout(end, ms)
    const forget = wake?.(end)
    signal?.addEventListener('abort', end, { once: true })
    function end (): void {
      clearTimeout(timer)
      forget?.()
      signal?.removeEventListener('abort', end)
      resolve()
    }
  })
}
