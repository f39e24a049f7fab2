/** What privacy asks of a service's sources, and what it answers. */
import type { Readable } from 'node:stream'
import type { FastifyRequest } from 'fastify'
import type { MaybePromise } from '../state/index.js'
import type { Sql } from '../sql.js'
import type { Consents } from './consents.js'

/** What became of what a source held. Say how many: a receipt without numbers proves little. */
export type ErasureOutcome =
  | 'deleted'
  | 'anonymised'
  | { deleted: number }
  /** `reason`: why the record stays without the person. */
  | { anonymised: number, reason?: string }
  /** Still about the person; `kept` names the law that wants it. */
  | { kept: string, count?: number, until?: Date }

/** A place in which a service holds something about people. */
export interface PrivacySource {
  /** Its key in the exported document: `[a-z][A-Za-z0-9]*`. */
  name: string
  /** Why it is held, for the one who asks: contract, consent, a law (GDPR Art. 6). Stands in the export. */
  basis?: string
  /** Days that it is held: `before` of {@link PrivacySource.purge} is so long ago. Stands in the export. */
  retention?: number
  /**
   * Everything that is held about this user, in the forms in which it may be shown: no hashes, no secrets. What may be many rows is an async
   * iterable ({@link inPages}), of which one page is in memory at a time.
   */
  export?: (userId: string, sql: Sql) => unknown
  /** Before anything is erased, in the transaction: what it throws refuses the erasure, such as a dispute for whose time everything must stay. */
  before?: (userId: string, transaction: Sql) => unknown
  /** Erases in the transaction that all sources share: use no other connection. What it throws rolls all of them back. */
  erase?: (userId: string, transaction: Sql) => MaybePromise<ErasureOutcome | readonly ErasureOutcome[]>
  /** What no transaction covers: files, sessions, another service. Stands in a journal from the commit on, until it is done. */
  outside?: {
    /** Before anything is erased, in the transaction: what the work needs to know once the rows are gone, as JSON. */
    note?: (userId: string, transaction: Sql) => unknown
    /** After the commit. Whenever it fails, or its process ends, it is done again: doing it twice must do nothing more. */
    erase: (userId: string, noted: any) => MaybePromise<ErasureOutcome | readonly ErasureOutcome[]>
  }
  /** Removes what was held long enough, in batches where it may be much; answers how many. On a schedule, in one process at a time. */
  purge?: (due: { before: Date, sql: Sql }) => MaybePromise<number>
}

/** One source of a receipt. */
export interface ReceiptLine {
  source: string
  /** `pending`: it is in the journal. */
  outcome: 'deleted' | 'anonymised' | 'kept' | 'pending'
  /** Null where the source did not say. */
  count: number | null
  reason?: string
  /** Until when it is kept, ISO 8601. */
  until?: string
}

/** What an erasure came to. Names nobody: only who has the id, and the key, finds the receipt. */
export interface Receipt {
  id: string
  /** Keyed hash of the user's id. */
  subject: string
  erasedAt: Date
  sources: ReceiptLine[]
  /** Nothing is pending. */
  isComplete: boolean
}

export interface PurgeReport {
  /** How many went, by source. */
  removed: Record<string, number>
  /** Sources that failed; the log says why. */
  failed: string[]
}

export interface Privacy {
  /** Adds a source, before the service is ready. Exports, erasures and purges go through them in the order in which they were added. */
  source: (source: PrivacySource) => void
  /** The names of the sources. */
  readonly sources: readonly string[]
  /**
   * Everything that is held about a user, as one JSON document: a stream, in memory a page at a time. A source that fails ends it with an error:
   * a document that is whole as JSON is whole. Of one person two are read at once, in one process: a third one ends the first, unfinished.
   */
  export: (userId: string, request?: FastifyRequest | null) => Readable
  /**
   * Erases a user: every source, or none where one of them throws. What lies outside the database is worked off right after the commit; what
   * of it fails, or takes longer than `patience`, is `pending` in the receipt, and is tried again until it is done. Of calls at the same time
   * all get one receipt.
   */
  erase: (userId: string, request?: FastifyRequest | null) => Promise<Receipt>
  /** The receipts of a user's erasures, the latest first. */
  receipts: (userId: string) => Promise<Receipt[]>
  /** Works off the journal now, whenever it was due; answers how much of it was done. */
  resume: () => Promise<number>
  /** Removes what was held long enough, now; null where another process is at it. */
  purge: () => Promise<PurgeReport | null>
  consents: Consents
}
