/** The audit trail, as a service sees it. */
import type { FastifyRequest } from 'fastify'
import type { SecurityEventType } from '../events.js'
import type { Sql } from '../sql.js'
import type { Outcome } from './vocabulary.js'

/** An event as it is kept. */
export interface AuditEvent {
  /** Its place in the chain. */
  seq: number
  id: string
  /** UTC, ISO 8601, of the process in which it happened. */
  time: string
  type: SecurityEventType
  /** Its name in OWASP's Logging Vocabulary; null where that has none. */
  vocabulary: string | null
  outcome: Outcome
  /** Who did it: a random pseudonym; `erased` where it happened after the person was forgotten. */
  person: string | null
  /** To whom it was done, where that is somebody else. */
  subject: string | null
  /** The users behind the two; null where there is none, or no longer. */
  userId: string | null
  subjectId: string | null
  /** How the person was known, and with which key, where it was one. */
  via?: string
  keyId?: string
  address?: string
  userAgent?: string
  requestId?: string
  method?: string
  route?: string
  resource?: { type: string, id?: string }
  status?: number
  details: Record<string, unknown>
}

export interface AuditQuery {
  type?: string
  /** Whoever did it, or to whom it was done. */
  userId?: string
  /** How it ended. */
  outcome?: Outcome
  /** From this time on, and before that one (ISO 8601). */
  from?: string
  to?: string
  /** What a page before answered as `nextCursor`. */
  cursor?: string
  /** Events of a page, 1–1000 (default 50). */
  limit?: number
}

/** A head of the chain that was signed when it was one. Kept where nobody who can write the database can reach, it tells of a chain that was set back. */
export interface Checkpoint {
  seq: number
  link: string
  time: string
  /** Id of the key that signed it. */
  key: string
  mac: string
}

export type BreakKind = 'changed' | 'removed' | 'inserted' | 'reordered' | 'truncated'

export interface Verdict {
  whole: boolean
  /** Places that were looked at, and how many of them retention has emptied. */
  events: number
  purged: number
  /** The last place. */
  seq: number
  /** The first break; null where the chain is whole. */
  break: { seq: number, kind: BreakKind, reason: string } | null
}

export interface VerifyOptions {
  /** Of the service's own sink. */
  checkpoints?: readonly Checkpoint[]
  /** Only what came after it; it must be one that was kept elsewhere. */
  since?: Checkpoint
  /** Rows read at once (default 1000). */
  batch?: number
}

export interface AuditStatus {
  /** Events in memory that wait to be written. */
  queued: number
  /** Bytes in the spool that wait for the database. */
  spooled: number
  /** Events that nothing could keep. */
  lost: number
  /** The database does not take events at the moment. */
  isAway: boolean
}

export interface Audit {
  /** Waits until what was recorded so far in this process is kept: in the database, or in the spool while that is away. */
  flush: () => Promise<void>
  /** A page of events, the newest first; what was recorded before is in it. */
  read: (query?: AuditQuery) => Promise<{ items: AuditEvent[], nextCursor: string | null }>
  /** All events that match, the oldest first, never more than a page of them in memory. */
  events: (query?: Omit<AuditQuery, 'cursor' | 'limit'>) => AsyncIterable<AuditEvent>
  /** The same as JSON Lines. */
  export: (query?: Omit<AuditQuery, 'cursor' | 'limit'>) => AsyncIterable<string>
  /** What is kept, by whichever process, from now on or after a place: as many events as there are at a time, and none once a second. Ends with its signal. */
  follow: (options?: { after?: number, signal?: AbortSignal }) => AsyncIterable<AuditEvent[]>
  /** Whether the chain is whole, or where it breaks first. */
  verify: (options?: VerifyOptions) => Promise<Verdict>
  /** Signs the head of the chain, keeps that in its table, logs it and gives it to the service's sink; null for an empty chain. */
  checkpoint: () => Promise<Checkpoint | null>
  /** Takes away who a person is: what the trail knows of them is under a pseudonym that leads to nobody. `sql`: in a transaction of the caller's. */
  forget: (userId: string, sql?: Sql) => Promise<void>
  /** Empties the events whose time is over by `retention`; answers how many. `sql`: under a role that may. */
  purge: (sql?: Sql) => Promise<number>
  status: () => AuditStatus
}

export type RecordByHand = (this: FastifyRequest, type: SecurityEventType, details?: Record<string, unknown>, options?: { durable?: boolean }) => void
