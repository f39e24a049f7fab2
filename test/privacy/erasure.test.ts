/** Erasure: everything or nothing, what no transaction covers too, and a receipt that names nobody. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { pgSql, type Sql } from '../../plugins/sql.js'
import privacy, { type PrivacySource } from '../../plugins/privacy/index.js'
import { TYPESCRIPT } from '../fixtures/typescript.js'
import { postgres } from '../services.js'
import { build, database, gate, KEY, notes, notesOf, TABLES, write } from './build.js'

t.setTimeout(120_000)
const ADA = 'user-ada-1815'

/** Keeps files in a map: outside of every transaction. */
function files (held: Map<string, string[]>, more: Partial<PrivacySource['outside']> = {}): PrivacySource {
  return {
    name: 'files',
    outside: {
      note: userId => held.get(userId) ?? [],
      erase (userId: string, noted: string[]) {
        held.delete(userId)
        return { deleted: noted.length }
      },
      ...more,
    },
  }
}

const rowsOf = (sql: Sql, table: string) => sql.query(`select * from ${table}`)

t.test('erase runs every source and leaves a receipt that says what came of each', async t => {
  const held = new Map([[ADA, ['a.pdf', 'b.pdf']]])
  const orders: PrivacySource = { name: 'orders', erase: () => ({ anonymised: 3, reason: 'tax law wants the record' }) }
  const invoices: PrivacySource = { name: 'invoices', erase: () => [{ kept: '§ 147 AO', count: 2, until: new Date('2036-01-01') }, { deleted: 1 }] }
  const plain: PrivacySource = { name: 'plain', erase: () => 'deleted' }
  const { app, sql, recorded } = await build(t, { sources: [notes, orders, invoices, plain, files(held)] })
  await write(sql, ADA, 'one', 'two')
  await write(sql, 'bob', 'his')
  t.strictSame(app.privacy.sources, ['consents', 'receipts', 'notes', 'orders', 'invoices', 'plain', 'files'])

  const receipt = await app.privacy.erase(ADA)
  t.strictSame(receipt.sources, [
    { source: 'consents', outcome: 'deleted', count: 0 },
    { source: 'notes', outcome: 'deleted', count: 2 },
    { source: 'orders', outcome: 'anonymised', count: 3, reason: 'tax law wants the record' },
    { source: 'invoices', outcome: 'kept', count: 2, reason: '§ 147 AO', until: '2036-01-01T00:00:00.000Z' },
    { source: 'invoices', outcome: 'deleted', count: 1 },
    { source: 'plain', outcome: 'deleted', count: null },
    { source: 'files', outcome: 'deleted', count: 2 },
  ])
  t.ok(receipt.isComplete)
  t.equal(await notesOf(sql, ADA), 0)
  t.equal(await notesOf(sql, 'bob'), 1, 'and nothing of others')
  t.equal(held.size, 0)
  t.strictSame(await rowsOf(sql, 'privacy_journal'), [], 'the journal has forgotten the person')
  t.strictSame(await app.privacy.receipts(ADA), [receipt])
  t.strictSame(await app.privacy.receipts('bob'), [])
  t.notMatch(JSON.stringify(await rowsOf(sql, 'privacy_receipts')), ADA, 'the receipt names nobody')
  t.match(recorded.filter(({ type }) => type === 'data_erased'), [{ details: { receipt: receipt.id } }])
})

t.test('a receipt is found by its person after the key was rotated, and by nobody with another key', async t => {
  const { app, sql } = await build(t, { sources: [notes] })
  const receipt = await app.privacy.erase(ADA)
  const rotated = await build(t, { sql, key: [Buffer.alloc(32, 9), KEY] })
  t.match(await rotated.app.privacy.receipts(ADA), [{ id: receipt.id }])
  const foreign = await build(t, { sql, key: Buffer.alloc(32, 9) })
  t.strictSame(await foreign.app.privacy.receipts(ADA), [])
})

t.test('a source that throws rolls all of them back', async t => {
  const held = new Map([[ADA, ['a.pdf']]])
  let isFailing = true
  const last: PrivacySource = { name: 'last', erase: () => { if (isFailing) throw new Error('away'); return 'deleted' } }
  const { app, sql, recorded } = await build(t, { sources: [notes, files(held), last] })
  await write(sql, ADA, 'one')
  await t.rejects(app.privacy.erase(ADA), { message: 'away' })
  t.equal(await notesOf(sql, ADA), 1)
  t.equal(held.size, 1, 'what lies outside was not touched')
  for (const table of ['privacy_receipts', 'privacy_journal']) t.strictSame(await rowsOf(sql, table), [], table)
  t.strictSame(recorded.filter(({ type }) => type === 'data_erased'), [])

  isFailing = false
  t.ok((await app.privacy.erase(ADA)).isComplete, 'and it can be asked for again')
  t.equal(await notesOf(sql, ADA), 0)
})

t.test('attack: an erasure that fails in the middle; negative control: sources that are erased one after another leave half of the person', async t => {
  const sql = await database()
  await write(sql, ADA, 'one')
  const failing: PrivacySource = { name: 'failing', erase: () => { throw new Error('away') } }
  await t.rejects((async () => { for (const { erase } of [notes, failing]) await erase!(ADA, sql) })())
  t.equal(await notesOf(sql, ADA), 0, 'gone, and nobody knows of it')
})

t.test('a source that does not say what it erased rolls all of them back', async t => {
  for (const answer of [undefined, null, 'done', true, {}, { deleted: -1 }, { deleted: '3' }, { deleted: NaN }, { kept: ' ' }, { kept: 3 }, [undefined]]) {
    const odd = { name: 'odd', erase: () => answer } as never as PrivacySource
    const { app, sql } = await build(t, { sources: [notes, odd] })
    await write(sql, ADA, 'one')
    await t.rejects(app.privacy.erase(ADA), { code: 'FST_BASTION_PRIVACY_SOURCE', statusCode: 500 }, JSON.stringify(answer))
    t.equal(await notesOf(sql, ADA), 1)
  }
})

t.test('before: who may not be erased loses nothing, whichever source says so', async t => {
  const held = new Map([[ADA, ['a.pdf']]])
  const dispute: PrivacySource = { name: 'disputes', before: () => { throw Object.assign(new Error('held for a court'), { code: 'HELD' }) } }
  let erased = 0
  const eager: PrivacySource = { name: 'eager', erase: () => { erased += 1; return 'deleted' } }
  const { app, sql } = await build(t, { sources: [eager, notes, files(held), dispute] })
  await write(sql, ADA, 'one')
  await t.rejects(app.privacy.erase(ADA), { code: 'HELD' })
  t.equal(erased, 0, 'no source was asked to erase')
  t.equal(await notesOf(sql, ADA), 1)
  t.equal(held.size, 1)
})

t.test('20 erasures at once give one receipt', async t => {
  await t.test('in one process', async t => {
    const { app, sql, recorded } = await build(t, { sources: [{ name: 'plain', erase: () => 'deleted' }, notes, files(new Map())] })
    await write(sql, ADA, 'one')
    const receipts = await Promise.all(Array.from({ length: 20 }, () => app.privacy.erase(ADA)))
    t.equal(new Set(receipts.map(({ id }) => id)).size, 1)
    t.equal((await rowsOf(sql, 'privacy_receipts')).length, 1)
    t.match(receipts[19]!.sources[2], { source: 'notes', count: 1 })
    t.equal(recorded.filter(({ type }) => type === 'data_erased').length, 1)
  })
  await t.test('in several processes', async t => {
    const service = await postgres(t)
    if (service === null) return
    const { default: pg } = await import('pg')
    const sql = pgSql(new pg.Pool({ connectionString: service.url, max: 4 }))
    t.teardown(() => sql.close())
    await sql.script(TABLES)
    const apps = await Promise.all(Array.from({ length: 4 }, () => build(t, { sql, sources: [notes, files(new Map())] })))
    for (let round = 0; round < 5; round++) {
      const person = `${ADA}-${round}`
      await write(sql, person, 'one')
      const receipts = await Promise.all(Array.from({ length: 20 }, (_none, i) => apps[i % 4]!.app.privacy.erase(person)))
      t.equal(new Set(receipts.map(({ id }) => id)).size, 1)
      t.equal((await rowsOf(sql, 'privacy_receipts')).length, round + 1)
    }
  })
})

t.test('erased again, a user has the same receipt; a new one where something had come since', async t => {
  const { app, sql, pass } = await build(t, { sources: [notes] })
  await write(sql, ADA, 'one')
  const first = await app.privacy.erase(ADA)
  pass(1000)
  t.equal((await app.privacy.erase(ADA)).id, first.id)
  await write(sql, ADA, 'late')
  const second = await app.privacy.erase(ADA)
  t.not(second.id, first.id)
  t.equal(await notesOf(sql, ADA), 0)
  t.match(await app.privacy.receipts(ADA), [{ id: second.id }, { id: first.id }])
})

t.test('what lies outside and fails is tried again until it is done', async t => {
  const held = new Map([[ADA, ['a.pdf', 'b.pdf']]])
  let failures = 2
  const source = files(held, {
    erase (userId: string, noted: string[]) {
      if (failures-- > 0) throw new Error('the file server is away')
      held.delete(userId)
      return { deleted: noted.length }
    },
  })
  const { app, sql, recorded, log } = await build(t, { sources: [notes, source] })
  await write(sql, ADA, 'one')
  const receipt = await app.privacy.erase(ADA)
  t.notOk(receipt.isComplete)
  t.match(receipt.sources.at(-1), { source: 'files', outcome: 'pending', count: null })
  t.equal(await notesOf(sql, ADA), 0, 'the database has forgotten the person')
  t.match(await rowsOf(sql, 'privacy_journal'), [{ source: 'files', user_id: ADA, attempts: 1, holder: null }])
  t.equal(await app.privacy.resume(), 0, 'the second attempt fails too')
  t.equal(held.size, 1)
  t.equal(await app.privacy.resume(), 1)
  t.equal(held.size, 0)
  t.strictSame(await rowsOf(sql, 'privacy_journal'), [])
  t.match(await app.privacy.receipts(ADA), [{ id: receipt.id, isComplete: true, sources: [{}, {}, { source: 'files', outcome: 'deleted', count: 2 }] }])
  t.match(recorded.filter(({ type }) => type === 'erasure_delayed').map(({ details }) => details), [{ receipt: receipt.id, source: 'files', attempts: 1 }, { attempts: 2 }])
  t.match(log.filter(line => line.includes('the file server is away')).length, 2)
  t.equal(await app.privacy.resume(), 0, 'and then there is nothing more to do')
})

t.test('what failed is tried again by the schedule, later each time, and at the start', async t => {
  const sql = await database()
  const held = new Map([[ADA, ['a.pdf']]])
  const failing = await build(t, { sql, checkEvery: 10, sources: [files(held, { erase: () => { throw new Error('away') } })] })
  await failing.app.privacy.erase(ADA)
  const dueIn = async () => {
    const [row] = await sql.query<{ seconds: string }>('select extract(epoch from due_at - now()) as seconds from privacy_journal')
    return Number(row!.seconds)
  }
  const first = await dueIn()
  t.ok(first > 5 && first <= 10, `${first} s`)
  await failing.app.privacy.resume()
  const second = await dueIn()
  t.ok(second > 15 && second <= 20, `${second} s`)
  await failing.app.close()
  await sql.query('update privacy_journal set due_at = now()')

  const { passed, open } = gate()
  await build(t, { sql, sources: [files(held, { erase (userId: string) { held.delete(userId); open(); return 'deleted' } })] })
  await passed
  t.equal(held.size, 0, 'done by the process that started')
})

t.test('what hangs holds nobody: neither who asks nor who closes', async t => {
  const { app } = await build(t, { patience: 50, sources: [files(new Map(), { erase: () => new Promise<never>(() => {}) })] })
  const receipt = await app.privacy.erase(ADA)
  t.match(receipt.sources.at(-1), { outcome: 'pending' })
  await app.close()
})

t.test('a journal whose source is gone is not forgotten', async t => {
  const sql = await database()
  const { app } = await build(t, { sql, sources: [files(new Map(), { erase: () => { throw new Error('away') } })] })
  await app.privacy.erase(ADA)
  await app.close()
  const { app: without, log } = await build(t, { sql, sources: [notes] })
  t.equal(await without.privacy.resume(), 0)
  t.equal((await rowsOf(sql, 'privacy_journal')).length, 1)
  t.match(log.join('\n'), 'there is no source files any more')
})

t.test('one process at a time works off an entry', async t => {
  const sql = await database()
  const { passed, open } = gate()
  let attempts = 0
  const slow = files(new Map(), { async erase () { attempts += 1; await passed; return { deleted: 1 } } })
  const [one, two] = [await build(t, { sql, patience: 0, sources: [slow] }), await build(t, { sql, sources: [slow] })]
  await one.app.privacy.erase(ADA)
  t.equal(await two.app.privacy.resume(), 0)
  t.equal(attempts, 1)
  open()
  for (;;) {
    const [receipt] = await two.app.privacy.receipts(ADA)
    if (receipt!.isComplete) break
  }
  t.equal(await two.app.privacy.resume(), 0)
  t.equal(attempts, 1)
})

t.test('a process that is killed between the commit and the work: another one does it', async t => {
  const service = await postgres(t)
  if (service === null) return
  const { default: pg } = await import('pg')
  const sql = pgSql(new pg.Pool({ connectionString: service.url, max: 4 }))
  t.teardown(() => sql.close())
  await sql.script(TABLES)
  await write(sql, ADA, 'one', 'two')
  const child = spawn(process.execPath, [...TYPESCRIPT, fileURLToPath(new URL('process.ts', import.meta.url))], {
    stdio: ['pipe', 'inherit', 'inherit'], env: { ...process.env, DATABASE_URL: service.url, ERASE: ADA },
  })
  const [, signal] = await once(child, 'exit')
  t.equal(signal, 'SIGKILL')
  t.equal(await notesOf(sql, ADA), 0, 'it was committed')
  t.match(await rowsOf(sql, 'privacy_journal'), [{ source: 'files', user_id: ADA, noted: ['a.pdf'] }])

  const { passed, open } = gate()
  const done: unknown[] = []
  const { app } = await build(t, {
    sql,
    checkEvery: 1,
    lease: 1,
    sources: [notes, { name: 'files', outside: { erase (userId: string, noted: string[]) { done.push([userId, noted]); open(); return { deleted: noted.length } } } }],
  })
  await passed
  t.strictSame(done, [[ADA, ['a.pdf']]], 'with what was noted before')
  for (;;) {
    const [receipt] = await app.privacy.receipts(ADA)
    if (receipt!.isComplete) break
  }
  t.strictSame(await rowsOf(sql, 'privacy_journal'), [])
})

t.test('misconfiguration stops boot', async t => {
  const sql = await database()
  const boot = (options: Record<string, unknown>) => build(t, { sql, ...options } as never)
  for (const [options, message] of [
    [{ key: Buffer.alloc(31) }, /privacy: key: must be a Buffer of at least 32 bytes/],
    [{ key: 'x'.repeat(40) }, /privacy: key/],
    [{ key: [] }, /privacy: key/],
    [{ sql: {} }, /privacy: sql/],
    [{ purgeEvry: 3 }, /privacy: purgeEvry/],
    [{ purgeEvery: 0 }, /privacy: purgeEvery/],
    [{ purposes: { Newsletter: { version: '1' } } }, /privacy: purposes.Newsletter/],
    [{ purposes: { newsletter: {} } }, /privacy: purposes.newsletter.version/],
    [{ sources: {} }, /privacy: sources: must be a list/],
    [{ sources: [{ name: 'Not a name', erase: () => 'deleted' }] }, /"Not a name" is no name of a source/],
    [{ sources: [{ name: 'exportedAt', erase: () => 'deleted' }] }, /is no name of a source/],
    [{ sources: [{ name: '__proto__', erase: () => 'deleted' }] }, /is no name of a source/],
    [{ sources: [null] }, /is no name of a source/],
    [{ sources: [notes, notes] }, /there are two called notes/],
    [{ sources: [{ name: 'consents', erase: () => 'deleted' }] }, /there are two called consents/],
    [{ sources: [{ name: 'a', erase: 'deleted' }] }, /what it does must be functions/],
    [{ sources: [{ name: 'a', outside: {} }] }, /a.outside: needs erase/],
    [{ sources: [{ name: 'a', purge: () => 1, retention: '30' }] }, /a.retention: must be a number/],
    [{ sources: [{ name: 'a', export: () => [] }] }, /a exports and does not erase/],
    [{ sources: [{ name: 'a' }] }, /a does nothing/],
  ] as [Record<string, unknown>, RegExp][]) {
    await t.rejects(boot(options), { code: 'FST_BASTION_PRIVACY_MISCONFIGURED', message }, String(message))
  }
  t.type(privacy, 'function')
  const { app } = await boot({})
  t.throws(() => app.privacy.source({ ...notes, name: 'late' }), { code: 'FST_BASTION_PRIVACY_MISCONFIGURED', message: /late comes too late/ })
})
