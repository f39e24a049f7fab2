/** The trail of a service: kept in order, whole, redacted; what is promised is kept before its answer; what is over is emptied. */
import Fastify from 'fastify'
import t from 'tap'
import audit, { AUDIT_TABLES } from '../../plugins/audit/index.js'
import events from '../../plugins/events.js'
import plan from '../../plugins/plan/index.js'
import type { AuditEvent, Checkpoint } from '../../plugins/audit/contract.js'
import type { SecurityEventType } from '../../plugins/events.js'
import { build, database, folderOf, fragile, KEY, schema, until } from './build.js'

const open = { access: 'public' } as const

t.test('events are kept in their order, each with its place, and found by what is asked', async t => {
  const { app } = await build(t)
  for (let i = 0; i < 120; i++) app.events.record(i % 2 === 0 ? 'data_access' : 'logout', null, { user: `u${i % 3}`, i })
  const first = await app.audit.read()
  t.same(first.items.map(({ seq }) => seq), Array.from({ length: 50 }, (_none, i) => 120 - i))
  t.same(first.items.map(({ details }) => details.i), Array.from({ length: 50 }, (_none, i) => 119 - i))
  const next = await app.audit.read({ cursor: first.nextCursor! })
  t.equal(next.items[0]!.seq, 70)
  t.equal((await app.audit.read({ limit: 1000 })).nextCursor, null)
  t.equal((await app.audit.read({ type: 'logout', limit: 1000 })).items.length, 60)
  t.equal((await app.audit.read({ userId: 'u1', type: 'logout', limit: 1000 })).items.every(({ userId, type }) => userId === 'u1' && type === 'logout'), true)
  app.events.record('access_denied', null, { user: 'u1', note: '{"outcome":"success",' })
  t.match((await app.audit.read({ outcome: 'failure' })).items, [{ type: 'access_denied', outcome: 'failure' }])
  t.equal((await app.audit.read({ outcome: 'success', limit: 1000 })).items.length, 120)
  t.same((await app.audit.read({ userId: 'nobody' })).items, [])
  t.same((await app.audit.read({ cursor: 'x' })).items, [])
  t.same((await app.audit.read({ to: first.items.at(-1)!.time, from: '2016-12-31T23:59:60Z', limit: 1 })).items.length <= 1, true, 'a leap second is a time')
  t.match(await app.audit.verify(), { whole: true, events: 121 })
})

t.test('every time that a schema lets through is a time', async t => {
  const { app } = await build(t)
  app.events.record('logout', null)
  for (const [query, found] of [[{ to: '9999-12-31T23:59:59-01:00' }, 1], [{ from: '9999-12-31T23:59:59-01:00' }, 0], [{ from: '0000-01-01T00:00:00+01:00' }, 1], [{ from: '2016-12-31T23:59:60+08' }, 1], [{ to: '2016-12-31T23:59:59.5+08' }, 0]] as const) {
    t.equal((await app.audit.read(query)).items.length, found, JSON.stringify(query))
  }
})

t.test('a row that somebody wrote over keeps nobody from reading the others', async t => {
  const { app, sql } = await build(t)
  for (let i = 1; i <= 3; i++) app.events.record('logout', null, { i })
  await app.audit.flush()
  await sql.query("update audit_events set content = 'no JSON' where seq = 2")
  t.match((await app.audit.read()).items, [{ details: { i: 3 } }, { seq: 2, outcome: 'unknown', details: { unreadable: true } }, { details: { i: 1 } }])
  t.match(await app.audit.verify(), { break: { seq: 2, kind: 'changed' } })
})

t.test('what is counted and not told yet when the service closes is in the trail', async t => {
  const sql = await database(t)
  const { app } = await build(t, { sql })
  for (let i = 0; i < 50; i++) await app.inject({ url: '/', headers: { host: 'evil.example' } })
  await app.close()
  const { app: next } = await build(t, { sql })
  t.match((await next.audit.read({ type: 'untrusted_host' })).items, [{ address: '127.0.0.1', details: { host: 'evil.example', times: 49 } }, { details: { times: 1 } }])
})

t.test('by hand: request.audit, with what is known of the request', async t => {
  const { app } = await build(t, {
    declare: app => {
      app.get('/', { schema, config: open }, async request => {
        request.audit('data_access', { rows: 3 })
        return { ok: true }
      })
    }
  })
  const { headers } = await app.inject({ url: 'http://localhost/', headers: { 'user-agent': 'a'.repeat(1000) } })
  const [event] = (await app.audit.read()).items
  t.match(event, { type: 'data_access', outcome: 'success', method: 'GET', route: '/', address: '127.0.0.1', requestId: headers['x-request-id'] ?? /./, details: { rows: 3 } })
  t.equal(event!.userAgent!.length, 256)
})

t.test('a promised event is in the database before its answer is: by its type, by its route, by hand', async t => {
  const sql = fragile(await database(t))
  const { app } = await build(t, {
    sql,
    delayMs: 2000,
    deadlineMs: 5000,
    durable: ['permission_change'],
    declare: app => {
      app.get('/type', { schema, config: open }, async request => { app.events.record('permission_change', request); return { ok: true } })
      app.get('/route', { schema, config: { ...open, audit: { type: 'data_access', durable: true } } }, async () => ({ ok: true }))
      app.get('/hand', { schema, config: open }, async request => { request.audit('data_modification', {}, { durable: true }); return { ok: true } })
      app.get('/later', { schema, config: { ...open, audit: 'logout' } }, async () => ({ ok: true }))
    },
  })
  const count = async () => Number((await sql.query<{ count: number }>('select count(*) from audit_events'))[0]!.count)
  for (const [i, url] of ['/type', '/route', '/hand'].entries()) {
    t.equal((await app.inject(`http://localhost${url}`)).statusCode, 200)
    t.equal(await count(), i + 1, url)
  }
  await app.inject('http://localhost/later')
  t.equal(await count(), 3, 'negative control: what was not promised is written later')
  await app.audit.flush()
  t.equal(await count(), 4)
})

t.test('many requests share a transaction', async t => {
  const sql = fragile(await database(t))
  const { app } = await build(t, { sql, declare: app => { app.get('/', { schema, config: { ...open, limits: false, audit: { type: 'data_access', durable: true } } }, async () => ({ ok: true })) } })
  await app.audit.flush()
  sql.transactions = 0
  sql.delayMs = 20
  await Promise.all(Array.from({ length: 200 }, () => app.inject('http://localhost/')))
  t.ok(sql.transactions < 60, String(sql.transactions))
  t.equal((await app.audit.read({ limit: 1000 })).items.length, 200)
})

t.test('a page does not wait for what comes while it is read', { timeout: 20_000 }, async t => {
  const { app, recorded } = await build(t)
  const never = setInterval(() => { for (let i = 0; i < 30; i++) app.events.record('logout', null) }, 1)
  t.teardown(() => clearInterval(never))
  await until(() => recorded.length > 0)
  t.equal((await app.audit.read({ limit: 5 })).items.length, 5)
  clearInterval(never)
})

t.test('a person who is forgotten is nobody: before, after, in the tables; the chain stays whole', async t => {
  const { app, sql } = await build(t)
  const record = (user: string) => { app.events.record('data_access', null, { user }) }
  record('ada')
  record('bob')
  const [bob, ada] = (await app.audit.read()).items as [AuditEvent, AuditEvent]
  t.not(ada.person, bob.person)
  t.match(ada, { userId: 'ada', person: /^p_[\w-]{16}$/ })
  record('ada')
  await app.audit.forget('ada')
  record('ada')
  const [after, , , before] = (await app.audit.read()).items as AuditEvent[]
  t.match(before, { userId: null, person: ada.person })
  t.match(after, { userId: null, person: 'erased' })
  t.same((await app.audit.read({ userId: 'ada' })).items, [])
  t.equal((await app.audit.read({ userId: 'bob' })).items.length, 1)
  t.notMatch(JSON.stringify([await sql.query('select * from audit_people'), await sql.query('select * from audit_events')]), /ada/)
  t.match(await app.audit.verify(), { whole: true, events: 4 })
  await app.audit.forget('somebody whom the trail never met')
  await t.rejects(sql.transaction(async transaction => {
    await app.audit.forget('bob', transaction)
    throw new Error('not erased after all')
  }))
  t.equal((await app.audit.read({ userId: 'bob' })).items.length, 1, 'with the transaction of its caller, or not at all')
})

for (const [what, change] of Object.entries({
  'their pseudonyms': 'update audit_people set pseudonym = null; update audit_people a set pseudonym = (select b.pseudonym from old b where b.user_id <> a.user_id)',
  'their ids': 'update audit_people a set user_id = (select b.user_id from old b where b.user_id <> a.user_id)',
  'all but their hashes': 'update audit_people set pseudonym = null; update audit_people a set (user_id, pseudonym, seal) = (select b.user_id, b.pseudonym, b.seal from old b where b.user_id <> a.user_id)',
})) {
  t.test(`who exchanges two people (${what}) makes neither of them the other: it is told, and nothing is added`, async t => {
    const { app, sql, recorded } = await build(t)
    for (const user of ['ada', 'bob']) app.events.record('data_access', null, { user })
    t.match((await app.audit.read()).items, [{ userId: 'bob' }, { userId: 'ada' }])
    t.match(await app.audit.verify(), { whole: true })
    await sql.script(`create table old as select * from audit_people; ${change}`)
    t.match((await app.audit.read()).items, [{ userId: null }, { userId: null }])
    t.same((await app.audit.read({ userId: 'ada' })).items, [])
    t.match(await app.audit.verify(), { whole: false, break: { seq: 1, kind: 'changed' } })
    app.events.record('data_access', null, { user: 'ada' })
    await app.audit.flush()
    t.equal((await sql.query("select seq from audit_events where type = 'data_access'")).length, 2)
    t.ok(recorded.some(({ type, details }) => type === 'audit_broken' && details.reason === 'FST_BASTION_AUDIT_BROKEN'))
  })
}

t.test('retention by type empties what is over, and the chain stays whole; what else is emptied is told', async t => {
  let now = Date.now()
  const { app, sql } = await build(t, { retention: { logout: 30, data_access: 100 }, now: () => now })
  for (const type of ['logout', 'data_access', 'permission_change'] as const) app.events.record(type, null, { user: 'u1' })
  await app.audit.flush()
  t.equal(await app.audit.purge(), 0)
  now += 31 * 86_400_000
  t.equal(await app.audit.purge(), 1)
  t.equal(await app.audit.purge(), 0)
  now += 70 * 86_400_000
  t.equal(await app.audit.purge(), 1)
  t.same((await app.audit.read()).items.map(({ type }) => type), ['permission_change'])
  t.match(await app.audit.verify(), { whole: true, events: 3, purged: 2 })
  await sql.query("update audit_events set id = null, time = null, type = null, person = null, subject = null, content = null, purged = '2026-01-01T00:00:00.000Z', mark = 'x:y' where seq = 3")
  t.match(await app.audit.verify(), { whole: false, break: { seq: 3 } })
})

t.test('retention: a star is for all that are not named, and two purges at once do no harm', async t => {
  let now = Date.now()
  const { app, sql } = await build(t, { retention: { '*': 10, logout: 100 }, now: () => now })
  for (let i = 0; i < 2500; i++) app.events.record(i === 0 ? 'logout' : 'data_access', null)
  await app.audit.flush()
  now += 11 * 86_400_000
  const places: unknown[] = []
  const watched: typeof sql = {
    ...sql,
    query (text, values = []) {
      if (text.includes('order by')) places.push(values[2])
      return sql.query(text, values)
    },
  }
  const purged = await Promise.all([app.audit.purge(), app.audit.purge(watched)])
  t.equal(purged[0] + purged[1], 2499)
  t.ok(places.length >= 2 && places.every((place, i) => i === 0 || Number(place) > Number(places[i - 1]) || place === 0), `on from the last one, not over what is empty already: ${places.join()}`)
  t.match(await app.audit.verify(), { whole: true, purged: 2499 })
})

t.test('export is JSON Lines, the oldest first, and never all of it in memory', async t => {
  const { app } = await build(t)
  for (let i = 0; i < 2100; i++) app.events.record('data_access', null, { i, text: 'two\nlines' })
  let i = 0
  for await (const line of app.audit.export({ type: 'data_access' })) {
    t.equal(line.indexOf('\n'), line.length - 1) || t.fail(line)
    if ((JSON.parse(line) as AuditEvent).details.i !== i++) t.fail('out of order')
  }
  t.equal(i, 2100)
})

t.test('whoever follows gets each event once, in order, also those of before', async t => {
  const { app } = await build(t)
  app.events.record('logout', null, { i: 0 })
  await app.audit.flush()
  const end = new AbortController()
  const seen: number[] = []
  const following = (async () => { for await (const events of app.audit.follow({ after: 0, signal: end.signal })) seen.push(...events.map(({ seq }) => seq)) })()
  for (let i = 1; i < 130; i++) app.events.record('logout', null, { i })
  await until(() => seen.length === 130)
  end.abort()
  await following
  t.same(seen, Array.from({ length: 130 }, (_none, i) => i + 1))
})

t.test('checkpoints are signed, kept, logged and handed out; with one of them a chain that was set back is told', async t => {
  const kept: Checkpoint[] = []
  const sql = await database(t)
  const { app, log } = await build(t, { sql, onCheckpoint: checkpoint => { kept.push(checkpoint) } })
  t.equal(await app.audit.checkpoint(), null, 'of nothing there is none')
  app.events.record('logout', null)
  await app.audit.flush()
  const early = await sql.query<{ seq: number, link: string, key: string, mac: string }>('select seq, link, key, mac from audit_head')
  for (let i = 0; i < 5; i++) app.events.record('data_access', null)
  const made = await app.audit.checkpoint()
  t.equal(made!.seq, 6)
  t.equal(await app.audit.checkpoint(), null, 'nothing came since')
  t.same(kept, [made])
  t.match(log.map(line => JSON.parse(line)).find(({ msg }) => msg === 'audit checkpoint').checkpoint, { seq: 6, link: made!.link, time: made!.time, mac: made!.mac, keyId: made!.key }, 'all that a verification needs')
  t.match(await app.audit.verify({ since: made! }), { whole: true, events: 0 })
  await app.close()
  const [{ seq, link, key, mac }] = early as [typeof early[0] & object]
  await sql.query('delete from audit_events where seq > 1')
  await sql.query('delete from audit_checkpoints')
  await sql.query('update audit_head set seq = $1::bigint, link = $2, key = $3, mac = $4', [seq, link, key, mac])
  const { app: later } = await build(t, { sql })
  t.match(await later.audit.verify(), { whole: true }, 'by itself it cannot be told')
  t.match(await later.audit.verify({ checkpoints: kept }), { whole: false, break: { kind: 'truncated', seq: 2 } })
})

for (const [what, attack] of Object.entries({
  'its tail cut and the head set to what is left': 'delete from audit_events where seq > 3; update audit_head set seq = 3, link = (select link from audit_events where seq = 3)',
  'its head gone': 'delete from audit_head',
  'all of it gone': 'delete from audit_events; delete from audit_head; delete from audit_checkpoints',
})) {
  t.test(`a trail with ${what} is not built on: events wait in the spool, loudly`, async t => {
    const { app, sql, recorded } = await build(t, { retryMs: 20 })
    for (let i = 0; i < 6; i++) app.events.record('data_access', null)
    await app.audit.flush()
    await sql.script(attack)
    app.events.record('logout', null)
    await app.audit.flush()
    t.match(recorded.filter(({ type }) => type === 'audit_broken'), [{ details: { severity: 'critical', reason: 'FST_BASTION_AUDIT_BROKEN' } }])
    t.match(app.audit.status(), { isAway: true, lost: 0 })
    t.ok(app.audit.status().spooled > 0)
    t.same(await sql.query("select seq from audit_events where type = 'logout'"), [], 'what somebody did is not signed by us')
    t.match(await app.audit.verify(), { whole: false })
    await new Promise(resolve => { setTimeout(resolve, 100) })
    t.equal(recorded.filter(({ type, details }) => type === 'audit_broken' && details.reason !== undefined).length, 1, 'once, however often it is tried')
  })
}

t.test('keys: a new one seals, the old one still verifies; people are the same', async t => {
  const [sql, folder] = [await database(t), folderOf(t)]
  const first = await build(t, { sql, folder })
  for (const user of ['ada', 'bob']) first.app.events.record('data_access', null, { user })
  await first.app.close()
  const { app } = await build(t, { sql, folder, keys: [Buffer.alloc(32, 9), KEY] })
  app.events.record('data_access', null, { user: 'ada' })
  const { items } = await app.audit.read({ userId: 'ada' })
  t.equal(items.length, 2)
  t.equal(items[0]!.person, items[1]!.person)
  t.match(await app.audit.verify(), { whole: true, events: 3 })
  await app.audit.forget('ada')
  t.same((await app.audit.read({ userId: 'ada' })).items, [])
  await app.close()
  const { app: without } = await build(t, { sql, folder, keys: Buffer.alloc(32, 9) })
  t.match(await without.audit.verify(), { whole: false, break: { seq: 1 } }, 'without the old key nothing of it can be proven')
  t.equal((await sql.query("select who from audit_people where user_id = 'bob'")).length, 1)
  await without.audit.forget('bob')
  t.same(await sql.query("select who from audit_people where user_id = 'bob'"), [], 'and yet somebody is forgotten')
})

t.test('misconfiguration stops boot, with a message that names the option', async t => {
  const sql = await database(t)
  const good = { sql, keys: KEY, folder: folderOf(t) }
  const cases: [object, RegExp][] = [
    [{ ...good, keys: Buffer.alloc(16) }, /audit: keys/],
    [{ ...good, keys: [] }, /audit: keys/],
    [{ ...good, sql: {} }, /audit: sql/],
    [{ sql, keys: KEY }, /folder/],
    [{ ...good, folder: '/dev/null/spool' }, /audit: folder/],
    [{ ...good, durable: ['Login'] }, /durable/],
    [{ ...good, retention: { logout: 0 } }, /retention/],
    [{ ...good, retention: { Logout: 3 } }, /retention/],
    [{ ...good, sqool: 1 }, /sqool/],
  ]
  for (const [options, message] of cases) {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(plan)
    await app.register(events)
    await t.rejects(async () => { await app.register(audit, options as never) }, { code: 'FST_BASTION_AUDIT_MISCONFIGURED', message }, String(message))
  }
  t.match(AUDIT_TABLES, /create table audit_events/)
})

t.test('a service adds types of its own', async t => {
  const { app } = await build(t)
  app.events.record('invoice_sent' as SecurityEventType, null, { outcome: 'success' })
  t.match((await app.audit.read()).items, [{ type: 'invoice_sent', vocabulary: null, outcome: 'success' }])
})
