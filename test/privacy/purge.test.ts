/** Purging: what was held long enough goes, on a schedule, in one process at a time. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { pgSql } from '../../plugins/sql.js'
import type { PrivacySource } from '../../plugins/privacy/index.js'
import { TYPESCRIPT } from '../fixtures/typescript.js'
import { postgres } from '../services.js'
import { build, database, gate, notes, notesOf, TABLES, write } from './build.js'

t.setTimeout(600_000)
const ADA = 'user-ada-1815'
const DAY = 86_400_000

const expiring: PrivacySource = {
  ...notes,
  retention: 30,
  purge: async ({ before, sql }) => (await sql.query('delete from notes where written <= $1::timestamptz returning id', [before])).length,
}

t.test('purge removes what was held for longer than its retention, and nothing else [ASVS 14.2.7]', async t => {
  const { app, sql, recorded, pass } = await build(t, { sources: [expiring] })
  await write(sql, ADA, 'old')
  pass(29 * DAY)
  t.strictSame(await app.privacy.purge(), { removed: {}, failed: [] })
  t.equal(await notesOf(sql, ADA), 1)
  pass(DAY + 60_000)
  t.strictSame(await app.privacy.purge(), { removed: { notes: 1 }, failed: [] })
  t.equal(await notesOf(sql, ADA), 0)
  t.strictSame(recorded.filter(({ type }) => type === 'data_purged').map(({ details }) => details), [{ notes: 1 }])
})

t.test('on the schedule, each class by its own time, and nobody asks for it [ASVS 14.2.7]', async t => {
  const sql = await database()
  const held = (name: string, author: string, retention: number): PrivacySource => ({
    name, retention, purge: async ({ before, sql }) => (await sql.query('delete from notes where author = $1 and written <= $2::timestamptz returning id', [author, before])).length,
  })
  const purged = gate()
  const { recorded, pass, app } = await build(t, { sql, checkEvery: 1, purgeEvery: 1, sources: [held('visits', 'visitor', 400), held('orders', ADA, 30)] })
  app.events.listen(({ type }) => { if (type === 'data_purged') purged.open() })
  await write(sql, ADA, 'old')
  await write(sql, 'visitor', 'old')
  pass(31 * DAY)
  await purged.passed
  t.strictSame([await notesOf(sql, ADA), await notesOf(sql, 'visitor')], [0, 1])
  t.strictSame(recorded.filter(({ type }) => type === 'data_purged').map(({ details }) => details), [{ orders: 1 }])
  await app.close()

  await t.test('negative control: of a source that names no time, what is outdated stays', async t => {
    const { app, sql, pass } = await build(t, { sources: [notes] })
    await write(sql, ADA, 'old')
    pass(3653 * DAY)
    t.strictSame(await app.privacy.purge(), { removed: {}, failed: [] })
    t.equal(await notesOf(sql, ADA), 1)
  })
})

t.test('without a retention the source is told the time, and knows itself what is over', async t => {
  let before: Date | null = null
  const { app } = await build(t, { now: () => 1_800_000_000_000, sources: [{ name: 'links', purge: due => { before = due.before; return 0 } }] })
  await app.privacy.purge()
  t.equal(Number(before), 1_800_000_000_000)
})

t.test('receipts go after their time, and not while something is left to do', async t => {
  let isFailing = true
  const outside = { erase: () => { if (isFailing) throw new Error('away'); return 'deleted' as const } }
  const { app, sql, pass } = await build(t, { receiptDays: 10, sources: [{ name: 'files', outside }] })
  await app.privacy.erase(ADA)
  pass(11 * DAY)
  await app.privacy.purge()
  t.equal((await app.privacy.receipts(ADA)).length, 1, 'still in the journal')
  isFailing = false
  await app.privacy.resume()
  t.strictSame(await app.privacy.purge(), { removed: { receipts: 1 }, failed: [] })
  t.strictSame(await sql.query('select * from privacy_receipts'), [])
})

t.test('a source that fails keeps no other from being purged, and is told', async t => {
  const failing: PrivacySource = { name: 'failing', purge: () => { throw new Error('locked') } }
  const { app, sql, recorded, pass } = await build(t, { sources: [failing, expiring] })
  await write(sql, ADA, 'old')
  pass(31 * DAY)
  t.strictSame(await app.privacy.purge(), { removed: { notes: 1 }, failed: ['failing'] })
  t.match(recorded.filter(({ type }) => type === 'purge_failed'), [{ details: { source: 'failing' } }])
})

t.test('two purges at once: one runs; a holder that is gone is not waited for longer than its lease', async t => {
  const sql = await database()
  const { passed, open } = gate()
  const begun = gate()
  const slow: PrivacySource = { name: 'slow', async purge () { begun.open(); await passed; return 1 } }
  const [one, two] = [await build(t, { sql, sources: [slow] }), await build(t, { sql, sources: [expiring] })]
  const running = one.app.privacy.purge()
  await begun.passed
  t.equal(await two.app.privacy.purge(), null)
  open()
  t.strictSame(await running, { removed: { slow: 1 }, failed: [] })
  t.strictSame(await two.app.privacy.purge(), { removed: {}, failed: [] }, 'then the other one may')

  await sql.query("update privacy_tasks set holder = 'killed', held_until = now() + interval '1 minute'")
  t.equal(await two.app.privacy.purge(), null)
  await sql.query("update privacy_tasks set held_until = now() - interval '1 second'")
  t.not(await two.app.privacy.purge(), null)
})

t.test('who was taken for dead does not go on to the next source', async t => {
  const real = await database()
  const [begun, beaten, go] = [gate(), gate(), gate()]
  const query = async (text: string, values?: readonly unknown[]) => {
    const rows = await real.query(text, values)
    if (text.startsWith('update privacy_tasks set held_until') && rows.length === 0) setImmediate(beaten.open)
    return rows
  }
  let purged = 0
  const { app, sql } = await build(t, {
    sql: { ...real, query: query as typeof real.query },
    lease: 1,
    sources: [{ name: 'slow', async purge () { begun.open(); await go.passed; return 1 } }, { name: 'next', purge: () => { purged += 1; return 1 } }],
  })
  const running = app.privacy.purge()
  await begun.passed
  await sql.query("update privacy_tasks set holder = 'another'")
  await beaten.passed
  go.open()
  t.strictSame(await running, { removed: { slow: 1 }, failed: [] })
  t.equal(purged, 0)
  t.match(await sql.query('select holder from privacy_tasks'), [{ holder: 'another' }], 'and what another one holds stays theirs')
})

t.test('what a killed process was at is done once its lease is over, and not when it would be due the next time', async t => {
  const sql = await database()
  await sql.query("insert into privacy_tasks (name, due_at, holder, held_until) values ('purge', now() + interval '1 day', 'killed', now() - interval '1 second')")
  const done = gate()
  await build(t, { sql, checkEvery: 1, sources: [{ name: 'counted', purge () { done.open(); return 0 } }] })
  await done.passed
})

t.test('attack: a source that hangs keeps neither the others from being purged nor erasures from being finished', async t => {
  let attempts = 0
  const [finished, purged] = [gate(), gate()]
  const outside = { erase () { if (++attempts === 1) throw new Error('away'); finished.open(); return 'deleted' as const } }
  const begun = gate()
  const hanging: PrivacySource = { name: 'hanging', purge () { begun.open(); return new Promise(() => {}) } }
  const { app, recorded } = await build(t, {
    checkEvery: 1, purgeEvery: 1, lease: 1, patience: 1000, sources: [hanging, { name: 'next', purge () { purged.open(); return 0 } }, { name: 'files', outside }],
  })
  await begun.passed
  await app.privacy.erase(ADA)
  await finished.passed
  await purged.passed
  t.match(recorded.filter(({ type }) => type === 'purge_failed'), [{ details: { source: 'hanging' } }])
})

t.test('it runs by itself, and stops when the service closes [ASVS 14.2.7]', async t => {
  const sql = await database()
  const every = { sql, checkEvery: 1, purgeEvery: 1 }
  const counted = () => {
    const twice = gate()
    const counter = { runs: 0, twice: twice.passed, source: { name: 'counted', purge () { if (++counter.runs === 2) twice.open(); return 0 } } }
    return counter
  }
  const [one, two] = [counted(), counted()]
  const { app } = await build(t, { ...every, sources: [one.source] })
  await one.twice
  await app.close()
  const before = one.runs
  await build(t, { ...every, sources: [two.source] })
  await two.twice
  t.equal(one.runs, before)
})

t.test('a database that is away delays it and ends nothing', async t => {
  const sql = await database()
  const logged = gate()
  let isAway = false
  const flaky = { ...sql, query: ((text, values) => isAway ? Promise.reject(new Error('away')) : sql.query(text, values)) as typeof sql.query }
  const done = gate()
  const service = await build(t, { sql: flaky, checkEvery: 1, purgeEvery: 1, sources: [{ name: 'counted', purge () { done.open(); return 0 } }] })
  isAway = true
  const watch = setInterval(() => { if (service.log.join('').includes('the work of privacy is delayed')) logged.open() }, 20)
  await logged.passed
  clearInterval(watch)
  isAway = false
  await done.passed
})

t.test('two processes on one PostgreSQL: one purges, by hand and by schedule', async t => {
  const service = await postgres(t)
  if (service === null) return
  const { default: pg } = await import('pg')
  const sql = pgSql(new pg.Pool({ connectionString: service.url, max: 2 }))
  t.teardown(() => sql.close())
  await sql.script(`${TABLES} create table purges (id integer generated always as identity primary key, pid integer not null, begun timestamptz not null, ended timestamptz);`)

  async function start (env: Record<string, string>) {
    const child = spawn(process.execPath, [...TYPESCRIPT, fileURLToPath(new URL('process.ts', import.meta.url))], {
      stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, DATABASE_URL: service!.url, ...env },
    })
    t.teardown(() => { child.kill('SIGKILL') })
    const exited = once(child, 'exit')
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    t.equal((await lines.next()).value, 'ready')
    return {
      async purge () {
        child.stdin.write('purge\n')
        return JSON.parse((await lines.next()).value as string)
      },
      async end () {
        child.stdin.end()
        t.strictSame(await exited, [0, null], 'no timer holds the process')
      },
    }
  }

  const quiet = await Promise.all([start({}), start({})])
  await sql.query('delete from purges')
  for (let round = 0; round < 5; round++) {
    const reports = await Promise.all(quiet.map(process => process.purge()))
    t.equal(reports.filter(report => report !== null).length, 1, JSON.stringify(reports))
  }
  t.equal((await sql.query('select id from purges')).length, 5)
  await Promise.all(quiet.map(process => process.end()))

  await sql.script('delete from purges; delete from privacy_tasks;')
  const scheduled = await Promise.all([start({ PURGE_EVERY: '2' }), start({ PURGE_EVERY: '2' })])
  while ((await sql.query('select id from purges where ended is not null')).length < 4) await new Promise(resolve => { setTimeout(resolve, 100) })
  await Promise.all(scheduled.map(process => process.end()))
  const runs = await sql.query<{ gap: string | null }>('select extract(epoch from begun - lag(begun) over (order by begun)) as gap from purges order by begun')
  const gaps = runs.flatMap(({ gap }) => gap === null ? [] : [Number(gap)])
  t.ok(gaps.every(gap => gap > 1.9), `one in two seconds, of both together: ${gaps.join(', ')}`)
})
