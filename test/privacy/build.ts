/** A service with privacy on a PGlite of its own, as the tests of privacy ask it. */
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import events, { type SecurityEvent } from '../../plugins/events.js'
import plan from '../../plugins/plan/index.js'
import privacy, { PRIVACY_TABLES, type PrivacyOptions, type PrivacySource } from '../../plugins/privacy/index.js'
import { type Sql } from '../../plugins/sql.js'
import { embedded } from '../fixtures/embedded.js'

export const KEY = Buffer.alloc(32, 7)
/** Long enough that nothing is done in a test that does not ask for it. */
export const QUIET = { checkEvery: 3600, purgeEvery: 3600 }

export const TABLES = `${PRIVACY_TABLES}
  create table notes (id integer generated always as identity primary key, author text not null, text text not null, written timestamptz not null default now());`

export interface Service {
  app: FastifyInstance
  sql: Sql
  recorded: SecurityEvent[]
  log: string[]
  pass: (ms: number) => void
}

let own: Promise<Sql> | undefined

/** Privacy's tables, and one of notes that people write; empty at each call. */
export async function database (): Promise<Sql> {
  const sql = await (own ??= open())
  for (const table of ['privacy_journal', 'privacy_receipts', 'privacy_tasks', 'privacy_consents', 'notes']) await sql.script(`drop table if exists ${table}`)
  await sql.script(TABLES)
  return sql
}

async function open (): Promise<Sql> {
  const sql = await embedded()
  t.teardown(() => sql.close())
  return sql
}

export async function build (t: Test, options: Partial<PrivacyOptions> = {}, more: (app: FastifyInstance) => void = () => {}): Promise<Service> {
  const sql = options.sql ?? await database()
  const log: string[] = []
  const recorded: SecurityEvent[] = []
  let time = Date.now()
  const app = Fastify({ logger: { level: 'info', stream: { write: (line: string) => { log.push(line) } } } })
  await app.register(plan)
  await app.register(events)
  app.events.listen(event => { recorded.push(event) })
  await app.register(privacy, { key: KEY, now: () => time, ...QUIET, ...options, sql })
  more(app)
  t.teardown(() => app.close())
  await app.ready()
  return { app, sql, recorded, log, pass: ms => { time += ms } }
}

/** What people write: in the database. */
export const notes: PrivacySource = {
  name: 'notes',
  basis: 'contract (GDPR Art. 6(1)(b))',
  export: (userId, sql) => sql.query('select id, text from notes where author = $1 order by id', [userId]),
  erase: async (userId, transaction) => ({ deleted: (await transaction.query('delete from notes where author = $1 returning id', [userId])).length }),
}

export async function write (sql: Sql, author: string, ...texts: string[]): Promise<void> {
  for (const text of texts) await sql.query('insert into notes (author, text) values ($1, $2)', [author, text])
}

export async function notesOf (sql: Sql, author: string): Promise<number> {
  return (await sql.query('select id from notes where author = $1', [author])).length
}

/** Something that is told from outside when it may go on. */
export function gate (): { passed: Promise<void>, open: () => void } {
  let open = () => {}
  const passed = new Promise<void>(resolve => { open = resolve })
  return { passed, open }
}
