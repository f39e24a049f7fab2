/** The Sql port on PGlite and on a real PostgreSQL, and the tables that the suite wants. */
import { readFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { PGlite } from '@electric-sql/pglite'
import pg from 'pg'
import t, { type Test } from 'tap'
import { API_KEYS_TABLE } from '../plugins/api-keys/index.js'
import { AUDIT_TABLES } from '../plugins/audit/index.js'
import { MFA_TABLES } from '../plugins/mfa/index.js'
import { PASSKEYS_TABLE } from '../plugins/passkeys/index.js'
import { PRIVACY_TABLES } from '../plugins/privacy/index.js'
import { pgSql, pgliteSql, SqlUnavailable, type Sql } from '../plugins/sql.js'
import { UPLOADS_TABLE } from '../plugins/uploads/index.js'
import { postgres } from './services.js'

function poolOn (t: Test, connectionString: string, more: pg.PoolConfig = {}): pg.Pool {
  const pool = new pg.Pool({ connectionString, max: 4, connectionTimeoutMillis: 2000, ...more })
  pool.on('error', () => {})
  t.teardown(() => pool.end())
  return pool
}

async function embedded (t: Test): Promise<Sql> {
  const sql = pgliteSql(await PGlite.create('memory://') as never)
  t.teardown(() => sql.close())
  return sql
}

async function holdsToPort (t: Test, sql: Sql): Promise<void> {
  await sql.script('create table notes (id int primary key, body text); create table empty (id int)')

  await t.test('values go beside the statement, whatever they hold', async t => {
    for (const [id, body] of ["'); drop table notes; --", '$1', '\\', "it''s", '漢字 😀', ''].entries()) await sql.query('insert into notes values ($1, $2)', [id, body])
    t.strictSame((await sql.query<{ body: string }>('select body from notes order by id')).map(({ body }) => body), ["'); drop table notes; --", '$1', '\\', "it''s", '漢字 😀', ''])
    t.strictSame(await sql.query('select * from empty'), [])
    await t.rejects(sql.query('select 1; select 2', [1]), 'one statement at a time')
  })

  await t.test('a transaction is kept whole, or not at all', async t => {
    t.equal(await sql.transaction(async transaction => {
      await transaction.query('insert into notes values (10, $1)', ['kept'])
      return 'result'
    }), 'result')
    const fault = new Error('of the service')
    await t.rejects(sql.transaction(async transaction => {
      await transaction.query('insert into notes values (11, $1)', ['lost'])
      throw fault
    }), fault)
    await t.rejects(sql.transaction(async transaction => {
      await transaction.query('insert into notes values (12, $1)', ['lost'])
      await transaction.query('insert into notes values (12, $1)', ['again'])
    }), { code: '23505' })
    t.strictSame(await sql.query('select id from notes where id >= 10'), [{ id: 10 }])
  })

  await t.test('statements of others are no part of it', async t => {
    await t.rejects(Promise.all([
      sql.transaction(async transaction => {
        await transaction.query('insert into notes values (20, $1)', ['lost'])
        await new Promise(resolve => { setTimeout(resolve, 50) })
        throw new Error('undone')
      }),
      sql.query('insert into notes values (21, $1)', ['kept']),
    ]), /undone/)
    // PGlite may still be at the second one.
    await new Promise(resolve => { setTimeout(resolve, 100) })
    t.strictSame(await sql.query('select id from notes where id between 20 and 29'), [{ id: 21 }])
  })

  await t.test('it does not nest', async t => {
    await t.rejects(sql.transaction(transaction => transaction.transaction(async () => {})), TypeError)
    t.strictSame(await sql.query('select 1 as one'), [{ one: 1 }], 'and the connection is good afterwards')
  })

  await t.test('faults of a statement are the database\'s own errors', async t => {
    await t.rejects(sql.query('select * from nowhere'), { code: '42P01' })
    await t.rejects(sql.query('insert into notes values (0, $1)', ['twice']), { code: '23505' })
    await t.rejects(sql.query('select $1::int', ['x']), { code: '22P02' })
  })
}

t.test('on PGlite', async t => holdsToPort(t, await embedded(t)))

t.test('negative control: a bare begin on a shared connection swallows the statement of another request', async t => {
  const sql = await embedded(t)
  await sql.script('create table notes (id int)')
  await sql.query('begin')
  await sql.query('insert into notes values (1)') // the other request
  await sql.query('rollback')
  t.strictSame(await sql.query('select id from notes'), [])
})

t.test('on PostgreSQL', async t => {
  const service = await postgres(t)
  if (service === null) return
  const pool = poolOn(t, service.url)
  const sql = pgSql(pool)
  await holdsToPort(t, sql)

  await t.test('a connection that the server ends is one error, and the next one is good', async t => {
    const other = pgSql(poolOn(t, service.url))
    const endAll = () => other.query('select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()')
    const sleeping = sql.query('select pg_sleep(30)').catch((error: Error) => error)
    await new Promise(resolve => { setTimeout(resolve, 200) })
    await endAll()
    t.match(await sleeping, { code: 'FST_BASTION_SQL_UNAVAILABLE', statusCode: 503, expose: true, headers: { 'retry-after': '5' }, cause: { code: '57P01' } })
    t.strictSame(await sql.query('select 1 as one'), [{ one: 1 }])

    await t.rejects(sql.transaction(async transaction => {
      await transaction.query('insert into notes values (30, $1)', ['lost'])
      await endAll()
      await new Promise(resolve => { setTimeout(resolve, 200) })
      await transaction.query('select 1')
    }), SqlUnavailable, 'also where it ends between two statements')
    t.strictSame(await sql.query('select id from notes where id = 30'), [])
  })

  await t.test('a deadlock and a statement that takes too long ask to come back', async t => {
    const slow = pgSql(poolOn(t, service.url, { statement_timeout: 100 }))
    await t.rejects(slow.query('select pg_sleep(5)'), { code: 'FST_BASTION_SQL_UNAVAILABLE', cause: { code: '57014' } })
    const late = pgSql(poolOn(t, service.url, { query_timeout: 100 }))
    await t.rejects(late.query('select pg_sleep(5)'), { code: 'FST_BASTION_SQL_UNAVAILABLE', cause: { message: /timeout/ } })
    const crossed = async (first: number, second: number) => sql.transaction(async transaction => {
      await transaction.query('update notes set body = body where id = $1', [first])
      await new Promise(resolve => { setTimeout(resolve, 300) })
      await transaction.query('update notes set body = body where id = $1', [second])
    })
    const outcomes = await Promise.allSettled([crossed(0, 1), crossed(1, 0)])
    t.strictSame(outcomes.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
    t.match(outcomes.find(({ status }) => status === 'rejected'), { reason: { code: 'FST_BASTION_SQL_UNAVAILABLE', cause: { code: '40P01' } } })
  })

  await t.test('connections come back to the pool, whatever happened', async t => {
    const few = poolOn(t, service.url, { max: 1 })
    const narrow = pgSql(few)
    for (let i = 0; i < 5; i++) {
      await t.rejects(narrow.transaction(async transaction => { await transaction.query('select * from nowhere') }))
      await t.rejects(narrow.transaction(async () => { throw new Error('of the service') }))
    }
    t.strictSame(await narrow.query('select 1 as one'), [{ one: 1 }])
    t.equal(few.waitingCount, 0)
  })
})

t.test('a server that is not there is one error, which tells no password', async t => {
  const probe = createServer(socket => { socket.resume() })
  await new Promise<void>(resolve => { probe.listen(0, '127.0.0.1', resolve) })
  const { port } = probe.address() as AddressInfo
  const silent = pgSql(poolOn(t, `postgres://portal:hunter2@127.0.0.1:${port}/portal`, { connectionTimeoutMillis: 200 }))
  await t.rejects(silent.query('select 1'), { code: 'FST_BASTION_SQL_UNAVAILABLE' }, 'one that accepts and says nothing')
  await new Promise(resolve => { probe.close(resolve) })
  for (const work of [
    (sql: Sql) => sql.query('select 1'), (sql: Sql) => sql.script('select 1'), (sql: Sql) => sql.transaction(async () => {}),
  ]) {
    const error = await work(pgSql(poolOn(t, `postgres://portal:hunter2@localhost:${port}/portal`))).then(() => null, (fault: Error) => fault)
    t.match(error, { code: 'FST_BASTION_SQL_UNAVAILABLE', statusCode: 503, message: 'The service is not available, try again shortly' })
    t.notMatch(JSON.stringify([error, error!.message, error!.stack, (error!.cause as Error).message, (error!.cause as Error).stack]), 'hunter2')
  }
  await t.rejects(pgSql(poolOn(t, 'postgres://portal:hunter2@no-such-host.invalid/portal')).query('select 1'), { code: 'FST_BASTION_SQL_UNAVAILABLE' })
})

t.test("the portal's migrations make the tables that the suite wants, for its own users", async t => {
  const wanted = { '010_mfa': MFA_TABLES, '011_api_keys': API_KEYS_TABLE, '012_passkeys': PASSKEYS_TABLE, '014_files': UPLOADS_TABLE, '018_audit': AUDIT_TABLES, '019_privacy': PRIVACY_TABLES }
  for (const [name, tables] of Object.entries(wanted)) {
    const migration = readFileSync(new URL(`../demo/data/migrations/${name}.sql`, import.meta.url), 'utf8')
    t.equal(migration.replace(/^(?:--.*\n)+/, '').replaceAll(' references users on delete cascade', '').trim(), tables.trim(), name)
  }
})
