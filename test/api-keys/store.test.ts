/** The table of keys, on PGlite and on a real PostgreSQL; and what happens while it is away. */
import pg from 'pg'
import t, { type Test } from 'tap'
import { API_KEYS_TABLE, sqlApiKeys, type StoredApiKey } from '../../plugins/api-keys/index.js'
import { pgSql, type Sql } from '../../plugins/sql.js'
import { postgres } from '../services.js'
import { database, service } from './service.js'

const ODD = ["'); drop table api_keys; --", '$1', '{a,b}', '"', '\\', 'a,b', 'NULL', '漢字 😀', '']
const key = (id: string, more: Partial<StoredApiKey> = {}): StoredApiKey => ({
  id,
  userId: 'ada',
  name: 'Nightly',
  mode: 'live',
  scopes: ['things:read'],
  allowedAddresses: null,
  hash: `hash of ${id}`,
  previousHash: null,
  previousUntil: null,
  isActive: true,
  createdAt: new Date('2026-01-01T00:00:00.123Z'),
  expiresAt: null,
  lastUsedAt: null,
  ...more,
})

async function holdsToPort (t: Test, sql: Sql): Promise<void> {
  const store = sqlApiKeys(sql)

  await t.test('what is kept is what is found, whatever it holds', async t => {
    const odd = key('odd', { userId: ODD[0]!, name: ODD[1]!, scopes: ODD, allowedAddresses: ['10.0.0.0/8', '::1'], expiresAt: new Date('2027-01-01'), isActive: false })
    t.equal(await store.add(odd, 10), true)
    t.strictSame(await store.find('odd'), odd)
    t.equal(await store.add(key('plain', { scopes: [] }), 10), true)
    t.strictSame(await store.find('plain'), key('plain', { scopes: [] }))
    t.equal(await store.find("odd' or '1'='1"), null)
    await t.rejects(store.add(odd, 10), { code: '23505' }, 'an id is given once')
  })

  await t.test('a user has so many keys and no more', async t => {
    const added = []
    for (const id of ['one', 'two', 'three']) added.push(await store.add(key(id, { userId: 'carl' }), 2))
    t.strictSame(added, [true, true, false])
    t.strictSame((await store.list('carl', 10, null)).map(({ id }) => id), ['one', 'two'])
    t.strictSame((await store.list('carl', 1, 'one')).map(({ id }) => id), ['two'])
    t.strictSame(await store.list('nobody', 10, null), [])
  })

  await t.test('off and on, rotated, removed', async t => {
    t.match(await store.setActive('one', false), { id: 'one', isActive: false })
    t.match(await store.setActive('one', true), { isActive: true })
    const until = new Date('2026-02-01')
    t.match(await store.rotate('one', 'second', until), { hash: 'second', previousHash: 'hash of one', previousUntil: until })
    t.match(await store.rotate('one', 'third', until), { hash: 'third', previousHash: 'second' })
    t.equal(await store.remove('one'), true)
    for (const nothing of [store.setActive('one', true), store.rotate('one', 'x', until), store.find('one')]) t.equal(await nothing, null)
    t.equal(await store.remove('one'), false)
  })

  await t.test('last uses go in one statement, forward only', async t => {
    const [early, late] = [new Date('2026-02-01T00:00:00.001Z'), new Date('2026-03-01T00:00:00.999Z')]
    await store.used([{ id: 'odd', at: late }, { id: 'plain', at: early }, { id: 'nothing', at: early }])
    await store.used([{ id: 'odd', at: early }])
    t.strictSame((await store.find('odd'))!.lastUsedAt, late)
    t.strictSame((await store.find('plain'))!.lastUsedAt, early)
    const many = Array.from({ length: 5000 }, (_none, i) => ({ id: `many ${i}`, at: late }))
    await store.used([...many, { id: 'plain', at: late }])
    t.strictSame((await store.find('plain'))!.lastUsedAt, late)
  })
}

t.test('on PGlite', async t => { await holdsToPort(t, await database(t)) })

t.test('on PostgreSQL', async t => {
  const server = await postgres(t)
  if (server === null) return
  const pool = new pg.Pool({ connectionString: server.url, max: 4 })
  pool.on('error', () => {})
  t.teardown(() => pool.end())
  const sql = pgSql(pool)
  await sql.script(API_KEYS_TABLE)
  await holdsToPort(t, sql)
})

t.test('while the database is away an unknown record is a 503, and nothing of the database shows', async t => {
  const sql = await database(t)
  const store = sqlApiKeys(sql)
  let isAway = false
  const one = await service(t, sql, { store: { ...store, find: id => isAway ? Promise.reject(Object.assign(new Error('connect ECONNREFUSED db.internal'), { statusCode: 503 })) : store.find(id) } })
  const [known, unknown] = [await one.make(), await one.make()]
  t.equal((await one.ask('/read', known.text)).status, 200)
  isAway = true
  t.equal((await one.ask('/read', known.text)).status, 200, 'what is known is known')
  t.match(await one.ask('/read', unknown.text), { status: 503, code: 'FST_BASTION_IDENTITY_UNCHECKED' })
  t.strictSame((await one.ask('/public', unknown.text)).principal, null)
  isAway = false
  t.equal((await one.ask('/read', unknown.text)).status, 200, 'the failure is not remembered')
})
