/**
 * Privacy: what is held about a person is handed over, erased and expired with one call each; and what they agreed to is known.
 *
 * Threat: data that nobody finds when its person asks for it, that outlives its purpose (CWE-359, OWASP ASVS 5.0 V14), that an erasure which
 * failed in the middle left behind; consent that cannot be shown, or that is believed after it was withdrawn.
 * Defence: every place that holds something about people registers as a source. An export streams all of them as one document; an erasure runs all of them
 * in one transaction or none, with a journal for what no transaction covers, and leaves a receipt that names nobody; purges run on a schedule, in one process.
 * Consents are a history, to one version of one text.
 * Not covered: sources that nobody registered; logs, backups and what was handed to others; whether a law wants something kept.
 * Sources: GDPR Art. 5, 7, 12, 15, 17, 19, 20, 25, 30; OWASP ASVS 5.0 (14.2).
 */
import { createHmac, randomBytes } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { checkKeys, checkOptions } from '../options.js'
import type { Sql } from '../sql.js'
import { consentsOf } from './consents.js'
import type { Privacy, PrivacySource, PurgeReport } from './contract.js'
import { documentOf, fewAtOnce } from './document.js'
import { erasureOf } from './erasure.js'
import { PrivacyMisconfigured } from './errors.js'
import { journalOf } from './journal.js'
import { within } from './lease.js'
import { purgeOf } from './purge.js'
import { receiptsOf } from './receipts.js'

export * from './errors.js'
export { inPages } from './document.js'
export { PRIVACY_TABLES } from './tables.js'
export type { Consent, ConsentPurpose, ConsentRecord, Consents, ConsentTerms } from './consents.js'
export type { ErasureOutcome, Privacy, PrivacySource, PurgeReport, Receipt, ReceiptLine } from './contract.js'

declare module 'fastify' {
  interface FastifyInstance {
    privacy: Privacy
  }
}

export const PrivacyOptions = Type.Object({
  purposes: Type.Optional(Type.Record(Type.String({ pattern: '^[a-z][a-z0-9-]{0,63}$' }), Type.Object({
    version: Type.String({ minLength: 1, maxLength: 64 }),
    description: Type.Optional(Type.String({ maxLength: 1000 })),
    proof: Type.Optional(Type.Object({ reason: Type.String({ minLength: 1, maxLength: 500 }), days: Type.Integer({ minimum: 1 }) }, { additionalProperties: false })),
  }, { additionalProperties: false }), {
    additionalProperties: false,
    description: 'What users may consent to: `{ newsletter: { version, description, proof } }`. A new `version` asks everybody again; `proof` (`reason`, `days`): the decisions outlive an erasure without the person',
  })),
  purgeEvery: Type.Optional(Type.Integer({ minimum: 1, default: 3600, description: 'Seconds between two purges, of all processes together' })),
  checkEvery: Type.Optional(Type.Integer({ minimum: 1, maximum: 3600, default: 30, description: 'Seconds, give or take a tenth, between two looks at what is due: erasures to finish, a purge' })),
  lease: Type.Optional(Type.Integer({ minimum: 1, maximum: 3600, default: 60, description: 'Seconds after which what a killed process was at is done by another one; what takes ten times as long is taken for hung' })),
  patience: Type.Optional(Type.Integer({ minimum: 0, default: 5000, description: 'Milliseconds that `erase` and a service that closes wait for what lies outside the database' })),
  receiptDays: Type.Optional(Type.Integer({ minimum: 1, default: 1096, description: 'Days that receipts of erasures are kept' })),
}, { additionalProperties: false })
export type PrivacyOptions = Static<typeof PrivacyOptions> & {
  /** The service's database, with the tables of `PRIVACY_TABLES`. */
  sql: Sql
  /** 32 bytes or more: names people in receipts without naming them. Of several the first writes, and all find. */
  key: Buffer | readonly Buffer[]
  /** Places that hold something about people; more by `app.privacy.source`. */
  sources?: readonly PrivacySource[]
  /** Milliseconds since the epoch; for tests. */
  now?: () => number
}

const NAME = /^[a-z][A-Za-z0-9]*$/
/** Keys of the exported document that are no source. */
const TAKEN: ReadonlySet<string> = new Set(['exportedAt', 'about', 'constructor'])
const WORK = ['export', 'erase', 'purge'] as const
/** Of the time between two looks: processes that started together do not ask together. */
const JITTER = 0.1

async function privacy (app: FastifyInstance, options: PrivacyOptions): Promise<void> {
  const { sql, key, sources: given = [], now = Date.now, ...plain } = options
  checkOptions(PrivacyOptions, plain, 'privacy', PrivacyMisconfigured)
  if (typeof sql?.query !== 'function' || typeof sql.transaction !== 'function') throw new PrivacyMisconfigured('privacy: sql: must be a Sql: pgSql(pool) or pgliteSql(database) makes one')
  const keys = checkKeys(key, 'privacy: key', PrivacyMisconfigured)
  if (!Array.isArray(given)) throw new PrivacyMisconfigured('privacy: sources: must be a list')
  const { purposes = {}, purgeEvery = 3600, checkEvery = 30, lease = 60, patience = 5000, receiptDays = 1096 } = plain

  const sources = new Map<string, PrivacySource>()
  const holder = randomBytes(12).toString('base64url')
  const underWay = new Set<Promise<unknown>>()
  const subjectsOf = (userId: string) => keys.map(one => createHmac('sha256', one).update(`privacy:subject:${userId}`).digest('base64url'))
  const journal = journalOf({
    sql,
    sources,
    holder,
    leaseMs: lease * 1000,
    retryMs: checkEvery * 1000,
    delayed ({ receiptId, source, attempts }, error) {
      app.log.error({ err: error, source, receipt: receiptId }, 'what an erasure has to do outside of the database failed, and is tried again')
      app.events.record('erasure_delayed', null, { receipt: receiptId, source, attempts })
    },
  })
  const erase = erasureOf({ sql, sources, journal, subjectsOf, now, patience, track })
  const purge = purgeOf({
    sql,
    sources,
    holder,
    leaseMs: lease * 1000,
    everyMs: purgeEvery * 1000,
    now,
    failed (source, error) {
      app.log.error({ err: error, source }, 'a purge failed')
      app.events.record('purge_failed', null, { source })
    },
  })
  const { consents, source: ofConsents } = consentsOf({ sql, purposes, subjectOf: userId => subjectsOf(userId)[0]!, events: app.events, now })
  const limited = fewAtOnce()
  let isReady = false

  app.decorate('privacy', {
    source: add,
    get sources () { return [...sources.keys()] },
    export (userId, request = null) {
      app.events.record('data_exported', request, { user: userId })
      return limited(userId, documentOf({ userId, sources: sources.values(), sql, exportedAt: new Date(now()) }))
    },
    async erase (userId, request: FastifyRequest | null = null) {
      const { receipt, isNew } = await erase(userId)
      // Without whom: the event would outlive them.
      if (isNew) app.events.record('data_erased', request, { receipt: receipt.id })
      return receipt
    },
    receipts: userId => receiptsOf(sql, subjectsOf(userId)),
    async resume () {
      await journal.hurry()
      return journal.workOff()
    },
    purge: () => purgeAndTell(false),
    consents,
  })
  add(ofConsents)
  add({ name: 'receipts', retention: receiptDays, purge: purgeReceipts })
  for (const source of given) add(source)

  let timer: NodeJS.Timeout | undefined
  app.addHook('onReady', async function beginPrivacy () {
    isReady = true
    track(look(() => journal.workOff())) // what a process that ended left undone
    wait()
  })
  app.addHook('onClose', async function endPrivacy () {
    isReady = false
    clearTimeout(timer)
    await within(Math.max(1, patience), Promise.allSettled(underWay), { keepsAlive: true }).catch(() => {})
  })

  function add (source: PrivacySource): void {
    const name: unknown = source?.name
    if (typeof name !== 'string' || !NAME.test(name) || TAKEN.has(name)) throw new PrivacyMisconfigured(`privacy: sources: ${JSON.stringify(name) ?? 'undefined'} is no name of a source: write it as a key of the exported document, such as "posts"`)
    if (sources.has(name)) throw new PrivacyMisconfigured(`privacy: sources: there are two called ${name}`)
    if (isReady) throw new PrivacyMisconfigured(`privacy: sources: ${name} comes too late: whoever was erased before is still in it`)
    for (const work of [...WORK.map(kind => source[kind]), source.before, source.outside?.note]) {
      if (work !== undefined && typeof work !== 'function') throw new PrivacyMisconfigured(`privacy: sources: ${name}: what it does must be functions`)
    }
    if (source.outside !== undefined && typeof source.outside.erase !== 'function') throw new PrivacyMisconfigured(`privacy: sources: ${name}.outside: needs erase`)
    if (source.retention !== undefined && !(Number.isFinite(source.retention) && source.retention >= 0)) throw new PrivacyMisconfigured(`privacy: sources: ${name}.retention: must be a number of days`)
    // What is handed over and can never be erased is an oversight; where a law wants it, erase says so.
    if (source.export !== undefined && source.erase === undefined && source.outside === undefined) {
      throw new PrivacyMisconfigured(`privacy: sources: ${name} exports and does not erase: let erase say { kept: 'which law wants it' } where it must stay`)
    }
    if (![...WORK, 'outside' as const, 'before' as const].some(kind => source[kind] !== undefined)) throw new PrivacyMisconfigured(`privacy: sources: ${name} does nothing`)
    sources.set(name, source)
  }

  async function purgeAndTell (isScheduled: boolean): Promise<PurgeReport | null> {
    const report = await purge(isScheduled)
    if (report !== null && Object.keys(report.removed).length > 0) app.events.record('data_purged', null, report.removed)
    return report
  }

  async function purgeReceipts ({ before }: { before: Date }): Promise<number> {
    const gone = await sql.query(`delete from privacy_receipts where erased_at <= $1::timestamptz
      and not exists (select 1 from privacy_journal where receipt_id = privacy_receipts.id) returning id`, [before])
    return gone.length
  }

  function wait (): void {
    timer = setTimeout(lookAround, checkEvery * 1000 * (1 - JITTER + 2 * JITTER * Math.random())).unref()
  }

  function lookAround (): void {
    // Erasures wait for no purge.
    track(look(() => purgeAndTell(true)))
    track(look(() => journal.workOff()).then(() => { if (isReady) wait() }))
  }

  /** A database that is away is asked again the next time. */
  async function look (work: () => Promise<unknown>): Promise<void> {
    try {
      await work()
    } catch (error) {
      if (isReady) app.log.warn({ err: error }, 'the work of privacy is delayed')
    }
  }

  function track (work: Promise<unknown>): void {
    const settled = work.then(() => {}, () => {}).finally(() => { underWay.delete(settled) })
    underWay.add(settled)
  }
}

export default fp(privacy, { fastify: '5.x', name: 'bastion-privacy', dependencies: ['bastion-events'] })
