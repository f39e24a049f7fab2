/** The built-in store, on PGlite and on a real PostgreSQL. */
import pg from 'pg'
import t, { type Test } from 'tap'
import { MFA_TABLES, sqlMfaStore } from '../../plugins/mfa/index.js'
import { pgSql, type Sql } from '../../plugins/sql.js'
import { postgres } from '../services.js'
import { embedded } from '../fixtures/embedded.js'

async function holdsToPort (t: Test, sql: Sql): Promise<void> {
  await sql.script(MFA_TABLES)
  const { find, save, spend, remove } = sqlMfaStore(sql)
  t.equal(await find('ada'), null)
  t.equal(await save('ada', 'secret 1', ['a', 'b', 'c']), false)
  t.equal(await save('ben', 'secret 2', ['a']), false, 'codes are those of an account')
  t.strictSame(await find('ben'), { secret: 'secret 2', recoveryCodes: [{ hash: 'a', isUsed: false }] })

  const spent = await Promise.all(Array.from({ length: 50 }, () => spend('ada', 'b')))
  t.equal(spent.filter(Boolean).length, 1, 'of fifty at once one spends a code')
  for (const [id, hash] of [['ada', 'b'], ['ada', 'd'], ['cleo', 'a'], ["ada' or '1'='1", 'a']] as const) t.equal(await spend(id, hash), false)
  const { recoveryCodes } = (await find('ada'))!
  t.strictSame([...recoveryCodes].sort((one, other) => one.hash < other.hash ? -1 : 1), [{ hash: 'a', isUsed: false }, { hash: 'b', isUsed: true }, { hash: 'c', isUsed: false }])

  t.equal(await save('ada', 'secret 3', ['e']), true)
  t.strictSame(await find('ada'), { secret: 'secret 3', recoveryCodes: [{ hash: 'e', isUsed: false }] }, 'a new enrolment leaves nothing of the old one')
  await t.rejects(save('ada', 'secret 4', ['f', 'f']), 'all of it')
  t.equal((await find('ada'))!.secret, 'secret 3', 'or nothing')
  await Promise.all(Array.from({ length: 10 }, (_none, i) => save('dan', `secret ${i}`, [`${i}`])))
  const last = (await find('dan'))!
  t.strictSame(last.recoveryCodes.map(({ hash }) => `secret ${hash}`), [last.secret], 'of ten at once one is there, with its own codes')

  t.equal(await remove('ada'), true)
  t.equal(await remove('ada'), false)
  t.equal(await find('ada'), null)
  t.equal(await spend('ada', 'e'), false)
  t.ok(await find('ben'))
}

t.test('on PGlite', async t => {
  const sql = await embedded()
  t.teardown(() => sql.close())
  await holdsToPort(t, sql)
})

t.test('on PostgreSQL', async t => {
  const database = await postgres(t)
  if (database === null) return
  const pool = new pg.Pool({ connectionString: database.url, max: 10 })
  pool.on('error', () => {})
  t.teardown(() => pool.end())
  await holdsToPort(t, pgSql(pool))
})
