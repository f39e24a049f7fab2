/**
 * What the audit trail costs: `npm run bench -- audit`.
 *
 * So many events a second are recorded, and meanwhile requests are made one after the other, each of which records one too: without a trail, with one, and with one
 * whose event the answer waits for. Latencies in milliseconds, of the request as `inject` makes it; microseconds of `record` alone. The trail is on a real
 * PostgreSQL of this machine (or of DATABASE_URL), whose commits do not wait for its disk where this starts it.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import pg from 'pg'
import { AUDIT_TABLES } from '../plugins/audit/index.js'
import bastion, { server } from '../plugins/index.js'
import { pgSql, type Sql } from '../plugins/sql.js'
import { postgres } from '../test/services.js'
import { quantile, rounded } from './statistics.js'

const RATE = 10_000
const SECONDS = 10
const TICK_MS = 10
/** Milliseconds between two requests. */
const PROBE_MS = 4
const MODES = ['none', 'trail', 'durable'] as const
type Mode = typeof MODES[number]

export async function measure () {
  const ends: (() => Promise<void>)[] = []
  const service = await postgres({ teardown: end => { ends.push(end) }, pass: () => {} })
  if (service === null) throw new Error('there is no PostgreSQL: set DATABASE_URL')
  const pool = new pg.Pool({ connectionString: service.url, max: 4 })
  const sql = pgSql(pool)
  const folder = mkdtempSync(join(tmpdir(), 'bastion-bench-'))
  try {
    await sql.script(AUDIT_TABLES)
    const modes = {} as Record<Mode, object>
    for (const mode of MODES) console.log(mode, modes[mode] = await record(mode, sql, folder))
    return { settings: { eventsPerSecond: RATE, seconds: SECONDS, probeMs: PROBE_MS }, modes }
  } finally {
    await pool.end()
    for (const end of ends) await end()
    rmSync(folder, { recursive: true, force: true })
  }
}

async function record (mode: Mode, sql: Sql, folder: string) {
  await sql.query('truncate audit_events, audit_head, audit_checkpoints, audit_people')
  const app = Fastify(server({ logger: false }))
  await app.register(bastion, {
    transport: { hosts: ['localhost'] },
    limits: { flood: false, address: ['1000000/minute'] },
    ...mode !== 'none' && { audit: { sql, keys: Buffer.alloc(32, 1), folder } },
  })
  app.get('/', {
    schema: { response: { 200: { type: 'object', properties: {} } } },
    config: { access: 'public', limits: false, audit: mode === 'durable' ? { type: 'data_access', durable: true } : 'data_access' },
  }, async () => ({}))
  await app.ready()
  for (let i = 0; i < 500; i++) await app.inject('http://localhost/')
  const over = new AbortController()
  const requests = probe(app, over.signal)
  const cpu = process.cpuUsage()
  const { recorded, costs, most } = await load(app)
  const { user, system } = process.cpuUsage(cpu)
  over.abort()
  const latencies = await requests
  const from = performance.now()
  await (app as Partial<FastifyInstance>).audit?.flush()
  const drainMs = performance.now() - from
  const kept = mode === 'none' ? 0 : Number((await sql.query<{ count: number }>('select count(*) from audit_events'))[0]!.count)
  const status = (app as Partial<FastifyInstance>).audit?.status()
  const verdict = await (app as Partial<FastifyInstance>).audit?.verify()
  await app.close()
  return {
    recorded,
    perSecond: Math.round(recorded / SECONDS),
    requests: latencies.length,
    requestMs: { p50: rounded(quantile(latencies, 0.5)), p99: rounded(quantile(latencies, 0.99)), max: rounded(quantile(latencies, 1)) },
    recordUs: { p50: rounded(quantile(costs, 0.5)), p99: rounded(quantile(costs, 0.99)) },
    cpuSeconds: rounded((user + system) / 1e6),
    kept,
    mostQueued: most,
    drainMs: rounded(drainMs),
    lost: status?.lost,
    wentAway: status?.isAway,
    whole: verdict?.whole,
  }
}

/** Events as a service records them. */
async function load (app: FastifyInstance): Promise<{ recorded: number, costs: number[], most: number }> {
  const costs: number[] = []
  let recorded = 0
  let most = 0
  const start = performance.now()
  for (;;) {
    const elapsed = performance.now() - start
    if (elapsed >= SECONDS * 1000) return { recorded, costs, most }
    for (const due = Math.min(RATE * SECONDS, Math.floor(elapsed * RATE / 1000)); recorded < due; recorded++) {
      const from = performance.now()
      app.events.record('data_access', null, { user: `user-${recorded % 500}`, reason: 'reads what it may', status: 200, fields: ['total', 'currency'] })
      if (recorded % 10 === 0) costs.push((performance.now() - from) * 1000)
    }
    most = Math.max(most, (app as Partial<FastifyInstance>).audit?.status().queued ?? 0)
    await pause(TICK_MS)
  }
}

async function probe (app: FastifyInstance, signal: AbortSignal): Promise<number[]> {
  const latencies: number[] = []
  while (!signal.aborted) {
    const from = performance.now()
    const { statusCode } = await app.inject('http://localhost/')
    if (statusCode !== 200) throw new Error(String(statusCode))
    latencies.push(performance.now() - from)
    await pause(PROBE_MS)
  }
  return latencies
}
