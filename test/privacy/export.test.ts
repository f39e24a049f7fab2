/** Export: everything as one document, streamed; cut off, it does not look whole. */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { inPages, type PrivacySource } from '../../plugins/privacy/index.js'
import { build, notes, notesOf, write } from './build.js'

t.setTimeout(300_000)
const ADA = 'user-ada-1815'
const MIB = 1_048_576

setFlagsFromString('--expose_gc')
const collect = runInNewContext('gc') as () => void

const erase = () => 'deleted' as const
const source = (name: string, held: PrivacySource['export'], more: Partial<PrivacySource> = {}): PrivacySource => ({ name, export: held, erase, ...more })

async function textOf (stream: Readable): Promise<string> {
  let text = ''
  for await (const chunk of stream.setEncoding('utf8')) text += chunk
  return text
}

t.test('export is one document with all that the sources hold about the user, and nothing of others', async t => {
  const { app, sql, recorded } = await build(t, {
    sources: [
      notes,
      source('profile', userId => ({ id: userId, born: new Date('1815-12-10'), none: undefined }), { basis: 'contract', retention: 30 }),
      source('nothing', () => undefined),
      source('list', () => ['a', undefined]),
      source('empty', async function * () {}),
      source('rows', async function * () { yield { n: 1 }; yield undefined; yield 'ü " \\ \ud800 \u2028' }),
      source('stream', () => Readable.from([1, 2])),
      { name: 'silent', erase },
    ],
  })
  await write(sql, ADA, 'one', 'two')
  await write(sql, 'bob', 'of bob')
  const text = await textOf(app.privacy.export(ADA))
  const { exportedAt, ...rest } = JSON.parse(text)
  t.match(exportedAt, /^\d{4}-\d\d-\d\dT.*Z$/)
  t.strictSame(rest, {
    about: { notes: { basis: 'contract (GDPR Art. 6(1)(b))' }, profile: { basis: 'contract', retentionDays: 30 } },
    consents: [],
    notes: [{ id: 1, text: 'one' }, { id: 2, text: 'two' }],
    profile: { id: ADA, born: '1815-12-10T00:00:00.000Z' },
    nothing: null,
    list: ['a', null],
    empty: [],
    rows: [{ n: 1 }, null, 'ü " \\ \ud800 \u2028'],
    stream: [1, 2],
  })
  t.match(recorded.filter(({ type }) => type === 'data_exported'), [{ details: { user: ADA } }])
})

t.test('nothing is read before somebody reads, and nothing more once they go', async t => {
  let begun = 0
  let ended = 0
  let rows = 0
  const { app } = await build(t, {
    sources: [source('rows', async function * () {
      begun += 1
      try {
        for (;;) yield { row: rows++, filler: 'x'.repeat(1000) }
      } finally {
        ended += 1
      }
    })],
  })
  const stream = app.privacy.export(ADA)
  await new Promise(resolve => { setImmediate(resolve) })
  t.equal(begun, 0)
  await once(stream, 'readable')
  stream.read(1)
  stream.destroy()
  await once(stream, 'close')
  t.strictSame([begun, ended], [1, 1], 'the source was told')
  t.ok(rows < 500, `${rows} rows were read for nobody`)
})

t.test('attack: a source that fails in the middle ends the answer with an error; negative control: the parts that were sent look whole to who joins them', async t => {
  const failing = source('rows', async function * () {
    for (let i = 0; i < 5000; i++) yield { i }
    throw new Error('the database went away')
  })
  const { app } = await build(t, { sources: [notes, failing] }, app => {
    const config = { access: 'public' } as never
    app.get('/export', { config }, (_request, reply) => reply.type('application/json').send(app.privacy.export(ADA)))
    app.get('/lenient', { config }, async (_request, reply) => {
      const rows: unknown[] = []
      try {
        for await (const row of failing.export!(ADA, null as never) as AsyncIterable<unknown>) rows.push(row)
      } catch {}
      return reply.send({ rows })
    })
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`
  const answer = await fetch(`${url}/export`)
  t.equal(answer.status, 200, 'it had begun')
  await t.rejects(answer.text(), 'the connection was cut')
  t.equal((await (await fetch(`${url}/lenient`)).json() as { rows: unknown[] }).rows.length, 5000)

  await t.rejects(textOf(app.privacy.export(ADA)), { message: 'the database went away' })
  let text = ''
  await t.rejects((async () => { for await (const chunk of app.privacy.export(ADA)) text += String(chunk) })())
  t.throws(() => JSON.parse(text), 'what came is no document')
})

t.test('a source that fails before anything was sent is a 500 that says nothing', async t => {
  const { app } = await build(t, { sources: [source('first', () => { throw new Error('secret detail') })] }, app => {
    app.get('/export', { config: { access: 'public' } as never }, (_request, reply) => reply.type('application/json').send(app.privacy.export(ADA)))
  })
  const { statusCode } = await app.inject('/export')
  t.equal(statusCode, 500)
})

t.test('attack: who opens one export after another and reads none of them holds two; negative control: two, and those of others, go on', async t => {
  let held = 0
  const rows = source('rows', async function * () {
    held += 1
    try {
      for (let i = 0; i < 20_000; i++) yield { i, filler: 'x'.repeat(1000) }
    } finally {
      held -= 1
    }
  })
  const { app } = await build(t, { sources: [rows] }, app => {
    app.get('/export', { config: { access: 'public' } as never }, (_request, reply) => reply.type('application/json').send(app.privacy.export(ADA)))
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}/export`
  const others = app.privacy.export('bob')
  const answers = []
  for (let i = 0; i < 6; i++) answers.push(await fetch(url))
  t.equal(held, 2)
  for (const cut of answers.slice(0, 4)) await t.rejects(cut.text(), 'the connection was cut')
  for (const whole of answers.slice(4)) t.equal((await whole.json() as { rows: unknown[] }).rows.length, 20_000)
  t.equal(JSON.parse(await textOf(others)).rows.length, 20_000)

  const [unread] = [app.privacy.export(ADA), app.privacy.export(ADA), app.privacy.export(ADA)]
  await t.rejects(textOf(unread!), { message: /since/ })
})

t.test('rows that JSON cannot say end the document', async t => {
  const circular: { self?: unknown } = {}
  circular.self = circular
  for (const held of [circular, 1n, [1n]]) {
    const { app } = await build(t, { sources: [source('odd', () => held)] })
    await t.rejects(textOf(app.privacy.export(ADA)), TypeError)
  }
})

t.test('50,000 rows pass through flat memory, a page at a time', async t => {
  const ROWS = 50_000
  const paged: PrivacySource = {
    ...notes,
    export: (userId, sql) => inPages<{ id: number, text: string }>(after =>
      sql.query('select id, text from notes where author = $1 and id > $2::int order by id limit 500', [userId, after?.id ?? 0])),
  }
  const { app, sql } = await build(t, { sources: [paged] })
  await sql.query("insert into notes (author, text) select $1, repeat('x', 1000) || i from generate_series(1, $2::int) as i", [ADA, ROWS])
  t.equal(await notesOf(sql, ADA), ROWS)
  collect()
  const before = process.memoryUsage().heapUsed
  let most = 0
  let bytes = 0
  let next = 0
  for await (const chunk of app.privacy.export(ADA)) {
    bytes += chunk.length
    if (bytes < next) continue
    next = bytes + 5 * MIB
    collect()
    most = Math.max(most, process.memoryUsage().heapUsed - before)
  }
  t.ok(bytes > 48 * MIB, `${(bytes / MIB).toFixed(1)} MiB were sent`)
  t.ok(most < 8 * MIB, `at most ${(most / MIB).toFixed(1)} MiB were held`)
  t.comment(`${(bytes / MIB).toFixed(1)} MiB sent, at most ${(most / MIB).toFixed(1)} MiB held`)

  const idsIn = async () => JSON.parse(await textOf(app.privacy.export(ADA))).notes.map(({ id }: { id: number }) => id)
  t.equal(new Set(await idsIn()).size, ROWS, 'well-formed, with every row')

  collect()
  const own = process.memoryUsage().heapUsed
  const all = await notes.export!(ADA, sql) as unknown[]
  collect()
  t.ok(process.memoryUsage().heapUsed - own > 8 * MIB, 'negative control: all at once they are held')
  t.equal(all.length, ROWS)
})
