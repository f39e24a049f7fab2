/** Re-encryption of a table: everything, beside writers, begun anew after an end; on PGlite and on a real PostgreSQL. */
import { randomBytes } from 'node:crypto'
import pg from 'pg'
import t, { type Test } from 'tap'
import { reencrypt, type Cipher, type ReencryptOptions, type ReencryptProgress } from '../../plugins/cipher/index.js'
import { pgSql, type Sql } from '../../plugins/sql.js'
import { postgres } from '../services.js'
import { build, INDEX_KEY, KEY, NEXT } from './build.js'
import { embedded } from '../fixtures/embedded.js'

t.setTimeout(120_000)

const NEXT_INDEX = { id: 'i2', key: randomBytes(32) }
const COLUMNS = ['note', { column: 'ssn', index: 'ssn_index' }] as const
const OPTIONS: ReencryptOptions = { table: 'people', key: 'id', columns: COLUMNS, batch: 7 }
const TABLE = (key: string) => `drop table if exists people; create table people (id ${key} primary key, note text, ssn text, ssn_index text)`
const ssnOf = (i: number) => `${100 + i}-45-${6000 + i}`

interface Person { id: string, note: string | null, ssn: string | null, ssn_index: string | null }

/** People of an older key, and a cipher that has a new one in front. */
async function fill (t: Test, sql: Sql, count: number, key = 'text', idOf: (i: number) => string | number = i => `p${String(i).padStart(5, '0')}`): Promise<{ cipher: Cipher, old: Cipher, recorded: { type: string, details: Record<string, unknown> }[] }> {
  const { app: before } = await build(t, { keys: [KEY], index: { keys: [INDEX_KEY] } })
  const { app, recorded } = await build(t, { keys: [NEXT, KEY], index: { keys: [NEXT_INDEX, INDEX_KEY] } })
  await sql.script(TABLE(key))
  for (let i = 0; i < count; i++) {
    const row = idOf(i)
    const [note, ssn] = [before.cipher.encrypt(`note ${i}`, { table: 'people', column: 'note', row }), before.cipher.encrypt(ssnOf(i), { table: 'people', column: 'ssn', row })]
    await sql.query('insert into people values ($1, $2, $3, $4)', [row, i % 5 === 0 ? null : note, ssn, before.cipher.index(ssnOf(i), { table: 'people', column: 'ssn' })])
  }
  return { cipher: app.cipher, old: before.cipher, recorded }
}
const people = (sql: Sql) => sql.query<Person>('select id::text as id, note, ssn, ssn_index from people order by people.id')

async function isWhole (t: Test, sql: Sql, cipher: Cipher, count: number): Promise<void> {
  const rows = await people(sql)
  t.equal(rows.length, count)
  for (const [i, { id, note, ssn, ssn_index: index }] of rows.entries()) {
    const isGood = cipher.decrypt(ssn!, { table: 'people', column: 'ssn', row: id }) === ssnOf(i) && ssn!.startsWith('b1.k2.') && index === cipher.index(ssnOf(i), { table: 'people', column: 'ssn' }) &&
      (i % 5 === 0 ? note === null : note!.startsWith('b1.k2.') && cipher.decrypt(note!, { table: 'people', column: 'note', row: id }) === `note ${i}`)
    if (!isGood) t.fail(`row ${id}`)
  }
}

async function holds (t: Test, sql: Sql): Promise<void> {
  await t.test('everything is written anew, once, in pages, and it tells how far it is', async t => {
    const { cipher, recorded } = await fill(t, sql, 40)
    const told: ReencryptProgress[] = []
    t.strictSame(await reencrypt(sql, cipher, { ...OPTIONS, progress: progress => told.push(progress) }), { written: 72, lost: 0, failed: 0, after: 'p00039', left: 0 })
    await isWhole(t, sql, cipher, 40)
    t.equal(told.length, 6)
    t.match([told[0], told[5]], [{ written: 12, after: 'p00006' }, { written: 72, after: 'p00039' }])
    t.strictSame(await reencrypt(sql, cipher, OPTIONS), { written: 0, lost: 0, failed: 0, after: null, left: 0 }, 'and begun anew there is nothing to do')
    t.equal(recorded.length, 0)

    const before = await people(sql)
    t.match(await reencrypt(sql, cipher, { ...OPTIONS, all: true }), { written: 72, left: 0 }, 'all of it, where that is wanted')
    t.ok((await people(sql)).every(({ ssn }, i) => ssn !== before[i]!.ssn))
    await isWhole(t, sql, cipher, 40)
  })

  await t.test('keys may be integers, big ones and uuids', async t => {
    for (const [type, idOf] of [
      ['integer', (i: number) => i - 12], ['bigint', (i: number) => String(9_007_199_254_740_993n + BigInt(i))], ['uuid', (i: number) => `00000000-0000-4000-8000-0000000000${String(i + 10)}`],
    ] as const) {
      const { cipher } = await fill(t, sql, 25, type, idOf)
      t.match(await reencrypt(sql, cipher, OPTIONS), { written: 45, lost: 0, failed: 0, left: 0 }, type)
      await isWhole(t, sql, cipher, 25)
    }
  })

  await t.test('only the index is stale: then it is written too', async t => {
    const { cipher } = await fill(t, sql, 10)
    await reencrypt(sql, cipher, OPTIONS)
    await sql.query('update people set ssn_index = null where id <= $1', ['p00002'])
    await sql.query('update people set ssn_index = left(ssn_index, 6) where id > $1', ['p00007'])
    t.match(await reencrypt(sql, cipher, OPTIONS), { written: 5, left: 0 })
    await isWhole(t, sql, cipher, 10)
  })

  await t.test('it is stopped, and goes on where it was', async t => {
    const { cipher } = await fill(t, sql, 40)
    const stop = new AbortController()
    const report = await reencrypt(sql, cipher, { ...OPTIONS, signal: stop.signal, progress: ({ after }) => { if (after === 'p00020') stop.abort() } })
    t.match(report, { after: 'p00020', left: 35 })
    const broken = { ...sql, transaction: async () => { throw new Error('the process dies') } }
    await t.rejects(reencrypt(broken as Sql, cipher, OPTIONS), /dies/)
    t.match(await reencrypt(sql, cipher, OPTIONS), { written: 35, left: 0 })
    await isWhole(t, sql, cipher, 40)
  })

  await t.test('attack: values that cannot be read stay as they are, are told, and stop nothing', async t => {
    const { cipher, recorded } = await fill(t, sql, 20)
    const [one, two] = await people(sql)
    await sql.query('update people set ssn = $1 where id = $2', [one!.ssn, two!.id]) // moved
    await sql.query('update people set note = $1 where id = $2', ['never encrypted', 'p00003'])
    const report = await reencrypt(sql, cipher, OPTIONS)
    t.match(report, { written: 34, lost: 0, failed: 2, left: 2 })
    t.match(recorded.filter(({ type }) => type === 'decryption_failed').map(({ details }) => details), [{ row: 'p00001', column: 'ssn' }, { row: 'p00003', column: 'note' }])
    t.match((await people(sql)).slice(1, 4), [{ ssn: one!.ssn }, {}, { note: 'never encrypted' }])

    await t.test('what is not encrypted yet is, where that is asked for', async t => {
      t.match(await reencrypt(sql, cipher, { ...OPTIONS, plain: 'encrypt' }), { written: 1, failed: 1, left: 1 })
      const { note } = (await people(sql))[3]!
      t.equal(cipher.decrypt(note!, { table: 'people', column: 'note', row: 'p00003' }), 'never encrypted')
    })
  })

  await t.test('attack: a row whose key is none stops nothing', async t => {
    const { cipher } = await fill(t, sql, 3)
    const [{ note } = { note: null }] = (await people(sql)).slice(1)
    for (const id of ['', 'x'.repeat(256)]) await sql.query('insert into people values ($1, $2)', [id, note])
    t.match(await reencrypt(sql, cipher, OPTIONS), { written: 5, lost: 0, failed: 2, left: 2 })
  })

  await t.test('a key may be called as what the command calls its columns', async t => {
    const { cipher, old } = await fill(t, sql, 0)
    for (const key of ['row', 'v0']) {
      await sql.script(`drop table if exists numbered; create table numbered ("${key}" integer primary key, note text)`)
      for (let i = 1; i <= 25; i++) await sql.query('insert into numbered values ($1, $2)', [i, old.encrypt('x', { table: 'numbered', column: 'note', row: i })])
      t.match(await reencrypt(sql, cipher, { table: 'numbered', key, columns: ['note'], batch: 7 }), { written: 25, left: 0, after: '25' })
    }
  })

  await t.test('beside writers: what they write stays, whichever key they have', async t => {
    const { cipher, old } = await fill(t, sql, 60)
    const end = new AbortController()
    const latest = new Map<string, string>()
    const count = { writes: 0 }
    const write = async () => {
      for (let i = 0; !end.signal.aborted; i = (i + 7) % 60) {
        const row = `p${String(i).padStart(5, '0')}`
        const text = `new ${++count.writes}`
        const written = await sql.query('update people set note = $1 where id = $2 returning id', [cipher.encrypt(text, { table: 'people', column: 'note', row }), row])
        if (written.length === 1) latest.set(row, text)
      }
    }
    const writing = write()
    let [lost, passes] = [0, 0]
    do {
      const report = await reencrypt(sql, cipher, { ...OPTIONS, batch: 3, all: true })
      t.match(report, { failed: 0, left: 0 })
      lost += report.lost
    } while (++passes < 50 && (count.writes < 60 || lost === 0))
    end.abort()
    await writing
    t.ok(count.writes >= 60 && lost > 0, `${count.writes} writes meanwhile, ${lost} of which came between`)
    for (const { id, note } of await people(sql)) {
      const expected = latest.get(id)
      if (expected !== undefined && cipher.decrypt(note!, { table: 'people', column: 'note', row: id }) !== expected) t.fail(`a write to ${id} was lost`)
    }

    await t.test('one that still writes with the old key is not overwritten, and what it leaves is counted', async t => {
      const row = 'p00030'
      const place = { table: 'people', column: 'note', row }
      await sql.query('update people set note = $1 where id = $2', [old.encrypt('stale', place), row])
      const late = { ...cipher, decrypt: cipher.decrypt }
      let isBetween = true
      /** Writes between the reading of the page and the swap. */
      const racing: Sql = {
        ...sql,
        transaction: async work => {
          if (isBetween) {
            isBetween = false
            await sql.query('update people set note = $1 where id = $2', [old.encrypt('theirs', place), row])
          }
          return sql.transaction(work)
        },
      }
      const report = await reencrypt(racing, late, OPTIONS)
      t.match(report, { written: 1, lost: 1, failed: 0, left: 0 }, 'lost at first, and found by the next pass')
      const [{ note }] = await sql.query<{ note: string }>('select note from people where id = $1', [row]) as [{ note: string }]
      t.equal(cipher.decrypt(note, place), 'theirs')
      t.match(note, /^b1\.k2\./)

      await t.test('negative control: without the comparison their write would be gone', async t => {
        const read = old.encrypt('stale', place)
        await sql.query('update people set note = $1 where id = $2', [read, row])
        await sql.query('update people set note = $1 where id = $2', [old.encrypt('theirs', place), row])
        await sql.query('update people set note = $1 where id = $2', [cipher.encrypt(old.decrypt(read, place), place), row])
        const [{ note }] = await sql.query<{ note: string }>('select note from people where id = $1', [row]) as [{ note: string }]
        t.equal(cipher.decrypt(note, place), 'stale')
      })
    })
  })

  await t.test('rows that go meanwhile are no matter', async t => {
    const { cipher } = await fill(t, sql, 10)
    const going: Sql = {
      ...sql,
      transaction: async work => {
        await sql.query('delete from people where id = $1', ['p00001'])
        return sql.transaction(work)
      },
    }
    t.match(await reencrypt(going, cipher, OPTIONS), { written: 16, lost: 2, failed: 0, left: 0 })
  })
}

t.test('on PGlite', async t => {
  const sql = await embedded()
  t.teardown(() => sql.close())
  await holds(t, sql)

  await t.test('attack: names are names, and nothing else comes into a statement (CWE-89)', async t => {
    const { cipher } = await fill(t, sql, 3)
    const odd = ['people; drop table people', 'people"', 'peo ple', 'public.people', '', '1people', 'people--', 'pe\u0000ople', 'pеople', 'x'.repeat(64), '"people"', "people'", null, undefined, 7, {}, ['people']]
    for (const name of odd) {
      for (const options of [{ table: name }, { key: name }, { columns: [name] }, { columns: [{ column: 'ssn', index: name }] }, { columns: [{ column: name }] }, { schema: name }]) {
        // What is left out is left out.
        if (name === undefined && ('schema' in options || JSON.stringify(options).includes('ssn'))) continue
        if (name === null && JSON.stringify(options).includes('ssn')) continue
        await t.rejects(reencrypt(sql, cipher, { ...OPTIONS, ...options } as never), `${JSON.stringify(options)}`)
      }
    }
    t.equal((await people(sql)).length, 3)
    t.match(await reencrypt(sql, cipher, { ...OPTIONS, schema: 'public' }), { left: 0 }, 'a schema may be named')
    for (const [options, message] of [[{ columns: [] }, /columns: must name/], [{ batch: 0 }, /batch/], [{ batch: 1e9 }, /batch/], [{ plain: 'yes' }, /plain/]] as const) {
      await t.rejects(reencrypt(sql, cipher, { ...OPTIONS, ...options } as never), { code: 'FST_BASTION_CIPHER_MISCONFIGURED', message })
    }
    const { app } = await build(t)
    await t.rejects(reencrypt(sql, app.cipher, OPTIONS), { message: /index: its keys are missing/ })
    await sql.script('create table "Odd$Name" ("Key_1" text primary key, "select" text)')
    await sql.query('insert into "Odd$Name" values ($1, $2)', ['a', app.cipher.encrypt('x', { table: 'Odd$Name', column: 'select', row: 'a' })])
    t.match(await reencrypt(sql, cipher, { table: 'Odd$Name', key: 'Key_1', columns: ['select'] }), { written: 1, left: 0 }, 'names are quoted')
  })
})

t.test('on PostgreSQL', async t => {
  const service = await postgres(t)
  if (service === null) return
  const pool = new pg.Pool({ connectionString: service.url, max: 6 })
  pool.on('error', () => {})
  const sql = pgSql(pool)
  t.teardown(() => sql.close())
  await holds(t, sql)

  await t.test('two commands at once, and one that locks rows the other way round, end well', async t => {
    const { cipher } = await fill(t, sql, 60)
    const end = new AbortController()
    const crossing = (async () => {
      let deadlocks = 0
      while (!end.signal.aborted) {
        await sql.transaction(async transaction => {
          for (const row of ['p00059', 'p00041', 'p00020', 'p00001']) await transaction.query('update people set ssn_index = ssn_index where id = $1', [row])
        }).catch(() => { deadlocks++ })
      }
      return deadlocks
    })()
    const reports = await Promise.all([1, 2].map(() => reencrypt(sql, cipher, { ...OPTIONS, batch: 60 })))
    end.abort()
    t.comment(`${await crossing} deadlocks met by the other, ${JSON.stringify(reports)}`)
    t.equal(reports[0]!.written + reports[1]!.written, 108, 'each value once')
    for (const { failed, left } of reports) t.same([failed, left], [0, 0])
    await isWhole(t, sql, cipher, 60)
  })
})
