/** The trail on a real PostgreSQL: several processes, a database that goes away, processes that are killed, and roles that may only add. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import t, { type Test } from 'tap'
import { AUDIT_TABLES } from '../../plugins/audit/index.js'
import { pgSql, type Sql } from '../../plugins/sql.js'
import { TYPESCRIPT } from '../fixtures/typescript.js'
import { postgres } from '../services.js'
import { build, folderOf, schema, until } from './build.js'

const PROCESS = fileURLToPath(new URL('process.ts', import.meta.url))
/** How often a process is killed; `AUDIT_KILLS` makes it more often. */
const KILLS = Number(process.env.AUDIT_KILLS ?? (process.env.CI === 'true' ? 5 : 10))

const service = await postgres(t)
if (service === null) process.exit(0)
const admin = sqlOn(t, service.url)

function sqlOn (t: Test, url: string): Sql {
  const pool = new pg.Pool({ connectionString: url, max: 4, connectionTimeoutMillis: 5000 })
  pool.on('error', () => {})
  t.teardown(() => pool.end())
  return pgSql(pool)
}

let made = 0
/** A database of its own on the server. */
async function fresh (t: Test): Promise<{ url: string, sql: Sql, name: string }> {
  const name = `trail_${process.pid}_${++made}`
  await admin.query(`create database ${name}`)
  const url = new URL(service!.url)
  url.pathname = `/${name}`
  const sql = sqlOn(t, url.href)
  await sql.script(AUDIT_TABLES)
  return { url: url.href, sql, name }
}

interface Running { child: ChildProcess, kept: number[], ended: Promise<unknown>, isReady: () => boolean }

function start (t: Test, env: Record<string, string>): Running {
  const child = spawn(process.execPath, [...TYPESCRIPT, PROCESS], { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] })
  const kept: number[] = []
  let text = ''
  let isReady = false
  child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
    const lines = (text + chunk).split('\n')
    text = lines.pop()!
    for (const line of lines) {
      if (line === 'ready') isReady = true
      else if (line.startsWith('200 ')) kept.push(Number(line.slice(4)))
    }
  })
  const ended = once(child, 'close')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return { child, kept, ended, isReady: () => isReady }
}

/** A line to the database that can be cut. */
async function lineTo (t: Test, url: string): Promise<{ url: string, cut: () => void, mend: () => void }> {
  const { hostname, port } = new URL(url)
  const sockets = new Set<Socket>()
  let isWhole = true
  const cut = () => {
    isWhole = false
    for (const socket of sockets) socket.destroy()
  }
  const proxy = createServer(socket => {
    if (!isWhole) {
      socket.destroy()
      return
    }
    const upstream = connect(Number(port), hostname)
    for (const [one, other] of [[socket, upstream], [upstream, socket]] as const) {
      sockets.add(one)
      one.on('error', () => {}).on('close', () => {
        sockets.delete(one)
        other.destroy()
      })
      one.pipe(other)
    }
  }).listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  t.teardown(() => {
    proxy.close()
    cut()
  })
  const through = new URL(url)
  through.port = String((proxy.address() as AddressInfo).port)
  return { url: through.href, cut, mend: () => { isWhole = true } }
}

t.test('several processes write one chain, without a gap, and each keeps its order', async t => {
  const { url, sql } = await fresh(t)
  const names = ['a', 'b', 'c']
  const running = names.map(NAME => start(t, { DATABASE_URL: url, FOLDER: folderOf(t), NAME, COUNT: '1500' }))
  await Promise.all(running.map(({ ended }) => ended))
  t.same(running.map(({ kept }) => kept.length), [1500, 1500, 1500])
  const { app } = await build(t, { sql })
  t.match(await app.audit.verify(), { whole: true, events: 9000 })
  const order: Record<string, string[]> = {}
  let changes = 0
  let last = ''
  for await (const { details, type } of app.audit.events()) {
    const name = details.name as string
    if (name !== last) changes += 1
    last = name
    ;(order[name] ??= []).push(`${type} ${String(details.i ?? details.free)}`)
  }
  t.ok(changes > 10, `they took turns: ${changes}`)
  for (const name of names) t.equal(new Set(order[name]).size, 3000)
  t.equal((await sql.query('select * from audit_people')).length, 50, 'a person is the same for all of them')
})

t.test('the connection is cut in the middle, and comes back: every promised event is there, once, and the chain is whole', async t => {
  const line = await lineTo(t, (await fresh(t)).url)
  const { app, recorded } = await build(t, {
    sql: sqlOn(t, line.url),
    deadlineMs: 1000,
    declare: app => {
      app.get('/:i', { schema, config: { access: 'public', limits: false } }, async request => {
        request.audit('data_access', { i: Number((request.params as { i: string }).i) }, { durable: true })
        return { ok: true }
      })
    },
  })
  let next = 0
  const over = new AbortController()
  const statuses: number[] = []
  const asking = Promise.all(Array.from({ length: 10 }, async () => {
    while (!over.signal.aborted) {
      statuses.push((await app.inject(`http://localhost/${next++}`)).statusCode)
      await new Promise(resolve => { setTimeout(resolve, 2) })
    }
  }))
  for (let round = 0; round < 6; round++) {
    await new Promise(resolve => { setTimeout(resolve, 200 + 40 * round) })
    line.cut()
    await new Promise(resolve => { setTimeout(resolve, 150) })
    line.mend()
  }
  over.abort()
  await asking
  await until(() => !app.audit.status().isAway)
  t.same(new Set(statuses), new Set([200]))
  t.ok(recorded.some(({ type }) => type === 'audit_away'))
  const found: number[] = []
  for await (const { details } of app.audit.events({ type: 'data_access' })) found.push(details.i as number)
  t.same(found.sort((a, b) => a - b), Array.from({ length: next }, (_none, i) => i), 'each of them once')
  t.match(await app.audit.verify(), { whole: true })
  t.match(app.audit.status(), { lost: 0, spooled: 0 })
})

t.test(`a process is killed at a random moment, ${KILLS} times: the chain is whole, and every promised event is there, also of those whose database was away`, { timeout: 900_000 }, async t => {
  const { url, sql } = await fresh(t)
  const folder = folderOf(t)
  const line = await lineTo(t, url)
  const promised = new Set<string>()
  let spooled = 0
  for (let round = 0; round < KILLS; round++) {
    line.mend()
    const running = start(t, { DATABASE_URL: line.url, FOLDER: folder, NAME: `k${round}` })
    await until(() => running.isReady() || running.child.exitCode !== null)
    await new Promise(resolve => { setTimeout(resolve, Math.random() * 250) })
    if (round % 2 === 1) {
      // In every other round the database goes away before.
      line.cut()
      const before = running.kept.length
      await until(() => running.kept.length > before + 20)
      spooled += 1
    }
    running.child.kill('SIGKILL')
    await running.ended
    for (const i of running.kept) promised.add(`k${round} ${i}`)
  }
  const { app, recorded } = await build(t, { sql, folder })
  t.match(await app.audit.verify(), { whole: true })
  const found = new Map<string, number>()
  for await (const { details: { name, i } } of app.audit.events({ type: 'data_access' })) found.set(`${String(name)} ${String(i)}`, (found.get(`${String(name)} ${String(i)}`) ?? 0) + 1)
  t.comment(`${KILLS} kills, ${promised.size} promised events, ${spooled} rounds without a database, ${found.size} found`)
  t.same([...promised].filter(id => !found.has(id)), [])
  t.same([...found].filter(([, times]) => times !== 1), [], 'none of them twice')
  t.ok(promised.size > KILLS * 5)
  t.same(recorded.filter(({ type }) => type === 'audit_broken'), [])
})

t.test('who holds the head and does not let go takes no connection from others: attempts end by their deadline', async t => {
  const { url, sql } = await fresh(t)
  const pool = new pg.Pool({ connectionString: url, max: 3 })
  pool.on('error', () => {})
  t.teardown(() => pool.end())
  const { app } = await build(t, { sql: pgSql(pool), deadlineMs: 100, retryMs: 20 })
  app.events.record('logout', null)
  await app.audit.flush()
  const told: string[] = []
  await sql.transaction(async transaction => {
    await transaction.query('select seq from audit_head for update')
    app.events.record('logout', null)
    await new Promise(resolve => { setTimeout(resolve, 700) })
    told.push(await Promise.race([pool.query('select 1').then(() => 'answered'), new Promise<string>(resolve => { setTimeout(resolve, 500, 'no connection was left') })]))
  })
  t.same(told, ['answered'])
  await until(() => !app.audit.status().isAway)
  t.match(await app.audit.verify(), { whole: true })
})

t.test('an event that the database refuses for what is in it is kept without that, and holds up no other', async t => {
  const name = `latin_${process.pid}`
  await admin.query(`create database ${name} encoding 'LATIN1' locale 'C' template template0`)
  const url = new URL(service!.url)
  url.pathname = `/${name}`
  const sql = sqlOn(t, url.href)
  await sql.script(AUDIT_TABLES)
  const { app } = await build(t, { sql, retryMs: 20 })
  for (let i = 0; i < 9; i++) app.events.record('logout', null, { i, text: i === 4 ? 'ж' : 'é' })
  await app.audit.flush()
  await until(() => !app.audit.status().isAway)
  const { items } = await app.audit.read({ type: 'logout' })
  t.same(items.map(({ details }) => details.i).reverse(), [0, 1, 2, 3, undefined, 5, 6, 7, 8])
  t.match(items[4], { outcome: 'unknown', details: { unreadable: true } })
  t.equal(app.audit.status().lost, 1)
  t.match(await app.audit.verify(), { whole: true })
})

t.test('under the grants of the migration the service can add, and can neither change nor remove; retention is another role; who has no grant reads nothing [ASVS 16.4.2]', async t => {
  const { url, sql, name } = await fresh(t)
  const [writer, purger, outsider] = ['writer', 'purger', 'outsider'].map(role => `${role}_${process.pid}`) as [string, string, string]
  const asRole = (role: string) => {
    const as = new URL(url)
    as.username = role
    as.password = 'only-for-this-test'
    return sqlOn(t, as.href)
  }
  await sql.script(`
    create role ${writer} login password 'only-for-this-test';
    create role ${purger} login password 'only-for-this-test';
    create role ${outsider} login password 'only-for-this-test';
    grant connect on database ${name} to ${writer}, ${purger}, ${outsider};
    grant select, insert on audit_events, audit_checkpoints to ${writer};
    grant select, insert, update (seq, link, key, mac) on audit_head to ${writer};
    grant select, insert, update (user_id, pseudonym, seal) on audit_people to ${writer};
    grant select, update (id, time, type, person, subject, content, purged, mark) on audit_events to ${purger};`)
  const limited = asRole(writer)
  let now = Date.now()
  const { app } = await build(t, { sql: limited, retention: { '*': 1 }, now: () => now })
  for (let i = 0; i < 10; i++) app.events.record('data_access', null, { user: 'ada' })
  t.equal((await app.audit.read({ userId: 'ada' })).items.length, 10)
  t.ok(await app.audit.checkpoint())
  await app.audit.forget('ada')
  t.match(await app.audit.verify(), { whole: true, events: 10 })
  for (const statement of ["update audit_events set content = '{}' where seq = 1", 'delete from audit_events', 'truncate audit_events', 'delete from audit_head', 'delete from audit_checkpoints', 'update audit_checkpoints set seq = 1', 'drop table audit_events']) {
    await t.rejects(limited.query(statement), { code: '42501' }, statement)
  }
  now += 2 * 86_400_000
  await t.rejects(app.audit.purge(), { code: '42501' })
  const retention = asRole(purger)
  t.equal(await app.audit.purge(retention), 10)
  t.match(await app.audit.verify(), { whole: true, purged: 10 })
  for (const statement of ['delete from audit_events', 'update audit_events set digest = link', 'update audit_head set seq = 1', 'insert into audit_events (seq, key, digest, link) values (99, 1, 1, 1)']) {
    await t.rejects(retention.query(statement), { code: '42501' }, statement)
  }
  const stranger = asRole(outsider)
  for (const statement of ['select content from audit_events', 'select user_id from audit_people', 'select * from audit_head', 'insert into audit_events (seq, key, digest, link) values (99, 1, 1, 1)']) {
    await t.rejects(stranger.query(statement), { code: '42501' }, `without a grant: ${statement}`)
  }
  t.equal((await sql.query('select content from audit_events')).length, 10)
  t.same(await sql.query('delete from audit_events where seq = 4 returning seq::integer'), [{ seq: 4 }], 'negative control: who owns the tables reads, and changes, all of it')
  t.match(await app.audit.verify(), { break: { seq: 4, kind: 'removed' } })
  await sql.script(`drop owned by ${writer}, ${purger}, ${outsider}; drop role ${writer}; drop role ${purger}; drop role ${outsider}`)
})
