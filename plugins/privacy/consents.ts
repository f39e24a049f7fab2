/** Consents: who agreed to what, in which words, when, and whether they still do (GDPR Art. 7). */
import type { FastifyRequest } from 'fastify'
import type { SecurityEvents } from '../events.js'
import type { Sql } from '../sql.js'
import type { ErasureOutcome, PrivacySource } from './contract.js'
import { inPages } from './document.js'
import { ConsentOutdated, ConsentUnknown } from './errors.js'

/** What a service asks consent to. */
export interface ConsentPurpose {
  /** Of the text that is shown; a new one asks everybody again. */
  version: string
  /** What it is for, for people. */
  description?: string
  /** Where a law wants the proof after the person is gone: which, and for how many days. The record then names nobody. */
  proof?: { reason: string, days: number }
}

/** One decision; the latest of a purpose counts. */
export interface ConsentRecord {
  purpose: string
  version: string
  isGiven: boolean
  decidedAt: Date
  /** Where it was made, such as `web`. */
  source: string
}

/** A purpose as a user stands to it. */
export interface Consent {
  purpose: string
  /** Of the text that is asked for now. */
  version: string
  description?: string
  /** To this version. */
  isGiven: boolean
  /** Nothing was decided about this version. */
  isOpen: boolean
  /** The latest decision, about whichever version. */
  latest: ConsentRecord | null
}

export interface ConsentTerms {
  /** Default: the current one. */
  version?: string
  /** Where it was made (default `service`). */
  source?: string
  request?: FastifyRequest | null
}

export interface Consents {
  /**
   * Records that the user agrees. What is so already is not written again.
   * @throws ConsentUnknown (404), ConsentOutdated (409) for another version than the current one
   */
  give: (userId: string, purpose: string, terms?: ConsentTerms) => Promise<ConsentRecord>
  /**
   * Records that the user does not agree, or no more: to any version, at once. Of a version that they never decided about the current one is written.
   * @throws ConsentUnknown (404)
   */
  withdraw: (userId: string, purpose: string, terms?: ConsentTerms) => Promise<ConsentRecord>
  /**
   * Whether the user agrees, to this version (default: the current one). Ask right before what needs it.
   * @throws ConsentUnknown (404)
   */
  isGiven: (userId: string, purpose: string, version?: string) => Promise<boolean>
  /** Every purpose of the service, and how the user stands to it. */
  list: (userId: string) => Promise<Consent[]>
  /** All decisions of a user, the earliest first. */
  history: (userId: string) => AsyncIterable<ConsentRecord>
}

interface ConsentParts {
  sql: Sql
  purposes: Readonly<Record<string, ConsentPurpose>>
  subjectOf: (userId: string) => string
  events: SecurityEvents
  now: () => number
}

interface Row { id: string | number, purpose: string, version: string, is_given: boolean, decided_at: Date, source: string }

const DAY = 86_400_000
/** Records that are read at once. */
const PAGE = 500

export function consentsOf ({ sql, purposes, subjectOf, events, now }: ConsentParts): { consents: Consents, source: PrivacySource } {
  const kept = Object.entries(purposes).filter(([, { proof }]) => proof !== undefined)
  return {
    consents: {
      async give (userId, purpose, terms = {}) {
        if (terms.version !== undefined && terms.version !== known(purpose).version) throw new ConsentOutdated()
        return decide(userId, purpose, true, terms)
      },
      withdraw: async (userId, purpose, terms = {}) => decide(userId, purpose, false, { ...terms, version: await decided(userId, purpose, terms.version) }),
      async isGiven (userId, purpose, version = known(purpose).version) {
        known(purpose)
        const latest = await latestOf(userId, purpose)
        return latest !== null && latest.isGiven && latest.version === version
      },
      list,
      history,
    },
    source: { name: 'consents', export: userId => history(userId), erase, purge },
  }

  function known (purpose: string): ConsentPurpose {
    if (!Object.hasOwn(purposes, purpose)) throw new ConsentUnknown()
    return purposes[purpose]!
  }

  /** What was agreed to, or is asked for now: a record may outlive its person, and holds no text that somebody sent. */
  async function decided (userId: string, purpose: string, version: string | undefined): Promise<string> {
    const { version: current } = known(purpose)
    const isTheirs = version !== undefined && version !== current && (await latestOf(userId, purpose))?.version === version
    return isTheirs ? version : current
  }

  async function latestOf (userId: string, purpose: string): Promise<ConsentRecord | null> {
    const [row] = await sql.query<Row>('select * from privacy_consents where user_id = $1 and purpose = $2 order by id desc limit 1', [userId, purpose])
    return row === undefined ? null : recordFrom(row)
  }

  async function decide (userId: string, purpose: string, isGiven: boolean, { version = known(purpose).version, source = 'service', request = null }: ConsentTerms): Promise<ConsentRecord> {
    known(purpose)
    // Compared and written in one statement: who says the same a hundred times fills no table.
    const [row] = await sql.query<Row>(`insert into privacy_consents (user_id, purpose, version, is_given, decided_at, source)
      select $1::text, $2::text, $3::text, $4::boolean, $5::timestamptz, $6::text
      where not exists (
        select 1 from (select version, is_given from privacy_consents where user_id = $1 and purpose = $2 order by id desc limit 1) as latest
        where latest.version = $3 and latest.is_given = $4
      ) returning *`, [userId, purpose, version, isGiven, new Date(now()), source])
    if (row === undefined) return await latestOf(userId, purpose) ?? { purpose, version, isGiven, decidedAt: new Date(now()), source }
    events.record(isGiven ? 'consent_given' : 'consent_withdrawn', request, { user: userId, purpose, version })
    return recordFrom(row)
  }

  async function list (userId: string): Promise<Consent[]> {
    const rows = await sql.query<Row>('select distinct on (purpose) * from privacy_consents where user_id = $1 order by purpose, id desc', [userId])
    const decided = new Map(rows.map(row => [row.purpose, recordFrom(row)]))
    return Object.entries(purposes).map(([purpose, { version, description }]) => {
      const latest = decided.get(purpose) ?? null
      const isOpen = latest?.version !== version
      return { purpose, version, ...description !== undefined && { description }, isGiven: !isOpen && latest!.isGiven, isOpen, latest }
    })
  }

  async function * history (userId: string): AsyncGenerator<ConsentRecord> {
    const rows = inPages<Row>(after => sql.query('select * from privacy_consents where user_id = $1 and id > $2::bigint order by id limit $3::int', [userId, after?.id ?? 0, PAGE]))
    for await (const row of rows) yield recordFrom(row)
  }

  async function erase (userId: string, transaction: Sql): Promise<ErasureOutcome[]> {
    const outcomes: ErasureOutcome[] = []
    for (const [purpose, { proof }] of kept) {
      const until = new Date(now() + proof!.days * DAY)
      const rows = await transaction.query('update privacy_consents set user_id = null, subject = $2, keep_until = $3::timestamptz where user_id = $1 and purpose = $4 returning id',
        [userId, subjectOf(userId), until, purpose])
      if (rows.length > 0) outcomes.push({ kept: `${purpose}: ${proof!.reason}`, count: rows.length, until })
    }
    const gone = await transaction.query('delete from privacy_consents where user_id = $1 returning id', [userId])
    return [...outcomes, { deleted: gone.length }]
  }

  async function purge ({ before }: { before: Date }): Promise<number> {
    return (await sql.query('delete from privacy_consents where keep_until <= $1::timestamptz returning id', [before])).length
  }
}

function recordFrom ({ purpose, version, is_given: isGiven, decided_at: decidedAt, source }: Row): ConsentRecord {
  return { purpose, version, isGiven, decidedAt, source }
}
