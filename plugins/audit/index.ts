/**
 * Audit: who did what, whole and provably unaltered, and without a secret in it.
 *
 * Threat: attackers and insiders who remove their traces (CWE-778, CWE-117, CWE-223); trails that hold passwords, tokens or card numbers
 * (CWE-532) or the names of people who asked to be forgotten; events that are lost with a process or a database.
 * Defence: every security event is redacted by name and by shape and joins one chain of HMACs in PostgreSQL, for all processes; `verify` tells the first row that
 * was changed, removed, inserted, reordered or cut off. While the database is away events wait on the disk. An answer waits for its promised event.
 * Users stand in it under random pseudonyms, whose meaning can be forgotten.
 * Not covered: who holds the keys can forge. A database that is set back as a whole, head and checkpoints too, shows only against checkpoints that were kept elsewhere.
 * Addresses stay until retention takes them.
 * Sources: OWASP ASVS 5.0 (16), OWASP Logging Vocabulary Cheat Sheet, Schneier and Kelsey, Secure Audit Logs to Support Computer Forensics (1999).
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import type { AuditRule, SecurityEvent, SecurityEventType } from '../events.js'
import { measured } from '../measured.js'
import { checkKeys, checkOptions } from '../options.js'
import type { PlannedRoute } from '../plan/index.js'
import type { Sql } from '../sql.js'
import { KeyRing } from './chain.js'
import { entryMaker } from './content.js'
import type { Audit, Checkpoint, RecordByHand } from './contract.js'
import { AuditBroken, AuditMisconfigured, AuditUnavailable } from './errors.js'
import { auditReading } from './reading.js'
import { purgeEvents, type Retention } from './retention.js'
import { Spool } from './spool.js'
import { auditStore } from './store.js'
import { verifyChain } from './verify.js'
import { Writer } from './writer.js'

export * from './errors.js'
export { AUDIT_TABLES } from './store.js'
export { VOCABULARY, type Outcome } from './vocabulary.js'
export type { Audit, AuditEvent, AuditQuery, AuditStatus, BreakKind, Checkpoint, Verdict, VerifyOptions } from './contract.js'
export type { Retention } from './retention.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** The audit trail. */
    audit: Audit
  }
  interface FastifyRequest {
    /** Records an event of this request; `durable`: its answer waits until the event is kept, and is a 503 where it cannot be. */
    audit: RecordByHand
    /** @internal What its answer waits for. */
    [pending]: Promise<void>[] | null
  }
}

const Milliseconds = (fallback: number, minimum: number, description: string) => Type.Optional(Type.Integer({ minimum, default: fallback, description }))
const Days = Type.Integer({ minimum: 1 })
export const AuditOptions = Type.Object({
  folder: Type.String({ minLength: 1, description: 'Folder of this machine (or container) alone, where events wait while the database is away' }),
  spoolBytes: Type.Optional(Type.Integer({ minimum: 524_288, default: 67_108_864, description: 'Bytes that may wait there, for each process' })),
  durable: Type.Optional(Type.Array(Type.String({ pattern: '^[a-z][a-z0-9_]*$' }), { default: [], description: 'Types of events for which an answer waits until they are kept' })),
  retention: Type.Optional(Type.Record(Type.String({ pattern: '^(?:\\*|[a-z][a-z0-9_]*)$' }), Days, { additionalProperties: false, default: {}, description: 'Days that events are kept, by type; `*` for all others. Without it: for ever' })),
  emails: Type.Optional(Type.Boolean({ default: true, description: 'E-mail addresses are taken out of what is kept' })),
  people: Type.Optional(Type.Array(Type.String(), { default: ['user'], description: 'Resources whose id is that of a user: it is kept as a pseudonym' })),
  queue: Type.Optional(Type.Integer({ minimum: 100, default: 10_000, description: 'Events that may wait in memory for the database; beyond them they go to the disk, for which ten times as many may wait' })),
  delayMs: Milliseconds(25, 0, 'Milliseconds that an event waits for others to be written with it'),
  deadlineMs: Milliseconds(2000, 10, 'Milliseconds that the database may take for a batch'),
  retryMs: Milliseconds(1000, 10, 'Milliseconds between two attempts while it is away'),
  checkpointMs: Milliseconds(60_000, 100, 'Milliseconds between two signed checkpoints'),
}, { additionalProperties: false })
export type AuditOptions = Omit<Static<typeof AuditOptions>, 'durable'> & {
  /** The database with the tables of {@link AUDIT_TABLES}. */
  sql: Sql
  /**
   * Keys of 32 bytes or more: the first seals, all of them verify. A new one is given to all processes as the last one before it becomes the first: a head that is sealed by a key which
   * a process does not know is broken to it. A key that is taken out makes its rows unverifiable.
   */
  keys: Buffer | readonly Buffer[]
  durable?: readonly SecurityEventType[]
  /** Keeps a checkpoint where whoever can write the database cannot reach it. */
  onCheckpoint?: (checkpoint: Checkpoint) => unknown
  /** Milliseconds since the epoch; for tests. */
  now?: () => number
}

/** Milliseconds in which losses are told once. */
const QUIET_MS = 10_000
/** Milliseconds that a start waits for what other processes left behind. */
const START_MS = 2000
const pending = Symbol('bastion.audit.pending')

async function audit (app: FastifyInstance, options: AuditOptions): Promise<void> {
  const { sql, keys, onCheckpoint, now = Date.now, ...plain } = options
  checkOptions(AuditOptions, plain, 'audit', AuditMisconfigured)
  if (typeof sql?.query !== 'function' || typeof sql.transaction !== 'function') throw new AuditMisconfigured('audit: sql: must be a database, as pgSql or pgliteSql make them')
  const ring = new KeyRing(checkKeys(keys, 'audit: keys', AuditMisconfigured))
  const { folder, spoolBytes = 67_108_864, retention = {}, emails = true, people = ['user'], queue = 10_000, delayMs = 25, deadlineMs = 2000, retryMs = 1000, checkpointMs = 60_000 } = plain
  const durable: ReadonlySet<string> = new Set(plain.durable)
  const { events } = app

  const store = auditStore(sql, ring, deadlineMs)
  const spool = makeSpool()
  const writer = new Writer({ write: store.write, spool, delayMs, deadlineMs, retryMs, queue, onAway, onBack, onLost, onWritten })
  const entryOf = entryMaker({ emails, people: new Set(people) })
  const readers = new Set<() => void>()
  const reading = auditReading({ store, flush: () => writer.flush(), onceWritten })
  /** Events that nothing could keep, and how many of them nobody was told of. */
  let lost = 0
  let untold = 0
  let toldAt = -Infinity
  let tending: Promise<void> | null = null
  let away: 'away' | 'broken' | null = null

  app.decorate('audit', {
    ...reading,
    flush: () => writer.flush(),
    async verify (how) {
      await writer.flush()
      const verdict = await verifyChain({ source: store, ring, seen: store.seen() }, how)
      if (verdict.break !== null) events.record('audit_broken', null, { place: verdict.break.seq, kind: verdict.break.kind, severity: 'critical' })
      return verdict
    },
    checkpoint,
    async forget (userId, transaction) {
      // In a transaction of the caller's the database may have no other connection to write by.
      if (transaction === undefined) await writer.flush()
      await store.forget(userId, transaction)
    },
    purge: (as = sql) => purgeEvents(store, retention as Retention, as, now()),
    status: () => ({ queued: writer.queued, spooled: spool.waiting, lost, isAway: writer.isAway }),
  } satisfies Audit)
  app.decorateRequest('audit', recordByHand)
  app.decorateRequest(pending as never, null as never)
  events.keyNames(Buffer.from(ring.mac('name', 'key')!, 'base64url'))
  events.listen(keepEvent)
  const measures = measured(app)
  measures.gauge('bastion_audit_queued_events', 'Events in memory that wait to be written', () => writer.queued)
  measures.gauge('bastion_audit_spooled_bytes', 'Bytes of events on the disk that wait for the database', () => spool.waiting)
  const countLost = measures.counter('bastion_audit_lost_total', 'Events that nothing could keep')

  app.plan.contribute({ concern: 'evidence', stage: 'admit', compile: route => isDurable(route, durable) ? { step: refuseWithoutEvidence } : undefined })
  app.plan.contribute({ concern: 'evidence', stage: 'keep', compile: () => ({ step: waitForEvidence }) })
  const timer = setInterval(() => { tend() }, checkpointMs).unref()
  // A database that hangs, or a spool that takes its time, keeps nobody from starting.
  app.addHook('onReady', async function tendForAMoment () {
    let timer: NodeJS.Timeout | undefined
    await Promise.race([tend(), new Promise(resolve => { timer = setTimeout(resolve, Math.min(deadlineMs, START_MS)) })])
    clearTimeout(timer)
  })
  app.addHook('onClose', async function drain () {
    clearInterval(timer)
    events.flush() // what is counted and not told yet is kept too
    await writer.close()
  })

  function keepEvent (event: SecurityEvent, request: FastifyRequest | null): void {
    const isPromised = event.promised === true || durable.has(event.type)
    const kept = writer.keep(entryOf(event), isPromised)
    if (kept === undefined) return
    // Also where an answer waits for it: that may have left already, or be a refusal, which stays one.
    kept.catch(error => { onLost(1, error) })
    if (request !== null) (request[pending] ??= []).push(kept)
  }

  function refuseWithoutEvidence (): void {
    if (!writer.canPromise) throw Object.assign(new AuditUnavailable(), { expose: true, headers: { 'retry-after': '5' } })
  }

  function waitForEvidence (request: FastifyRequest, reply: FastifyReply): void | Promise<void> {
    const promises = request[pending]
    if (promises === null) return
    request[pending] = null
    return Promise.all(promises).then(() => {}, error => {
      // A refusal stays one: nothing was done that would need evidence.
      if (reply.statusCode < 400) throw error
    })
  }

  /** What is due now and then: a checkpoint, and what other processes left behind. Once at a time. */
  function tend (): Promise<void> {
    tending ??= tendNow().finally(() => { tending = null })
    return tending
  }

  async function tendNow (): Promise<void> {
    try {
      await writer.takeUp()
      await checkpoint()
    } catch (error) {
      if (error instanceof AuditBroken) onAway(error)
      else app.log.error({ err: error }, 'the audit trail could not be tended')
    }
  }

  async function checkpoint (): Promise<Checkpoint | null> {
    await writer.flush()
    const made = await store.checkpoint(new Date(now()).toISOString())
    if (made === null) return null
    const { key: keyId, ...rest } = made // what is called `key` the log takes for one
    app.log.info({ checkpoint: { ...rest, keyId } }, 'audit checkpoint')
    try {
      await onCheckpoint?.(made)
    } catch (error) {
      app.log.error({ err: error }, 'an audit checkpoint was not taken by its sink')
    }
    return made
  }

  function onAway (error: unknown): void {
    const isBroken = error instanceof AuditBroken
    if (away === 'broken' || (away === 'away' && !isBroken)) return
    away = isBroken ? 'broken' : 'away'
    app.log.error({ err: error }, 'the audit trail cannot be written')
    events.record(isBroken ? 'audit_broken' : 'audit_away', null, { reason: (error as { code?: string }).code ?? 'unknown', severity: 'critical' })
  }

  function onBack (): void {
    away = null
    events.record('audit_back', null, { lost })
    tend()
  }

  function onLost (count: number, error: unknown): void {
    lost += count
    untold += count
    countLost(count)
    if (performance.now() - toldAt < QUIET_MS) return
    toldAt = performance.now()
    const since = untold
    untold = 0
    app.log.error({ err: error, lost: since }, 'events of the audit trail were lost')
    events.record('audit_lost', null, { count: since, severity: 'critical' })
  }

  function onWritten (): void {
    for (const wake of [...readers]) wake()
  }

  function onceWritten (wake: () => void): () => void {
    readers.add(wake)
    return () => { readers.delete(wake) }
  }

  function makeSpool (): Spool {
    try {
      return new Spool({ folder, maxBytes: spoolBytes, ring, onDamage: lines => { events.record('audit_broken', null, { place: 'spool', lines, severity: 'critical' }) } })
    } catch (error) {
      throw new AuditMisconfigured(`audit: folder: cannot be used (${(error as NodeJS.ErrnoException).code})`)
    }
  }
}

function recordByHand (this: FastifyRequest, type: SecurityEventType, details: Record<string, unknown> = {}, { durable = false } = {}): void {
  this.server.events.record(type, this, details, { promised: durable })
}

/** By the route, or by the type of what it declares. */
function isDurable ({ options }: PlannedRoute, durable: ReadonlySet<string>): boolean {
  const rule = (options.config as { audit?: AuditRule | string } | undefined)?.audit
  return typeof rule === 'string' ? durable.has(rule) : typeof rule === 'object' && (rule?.durable === true || durable.has(rule?.type))
}

export default fp(audit, { fastify: '5.x', name: 'bastion-audit', dependencies: ['bastion-plan', 'bastion-events'] })
