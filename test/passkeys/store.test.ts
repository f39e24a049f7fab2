/** The built-in store, on PGlite and on a real PostgreSQL. */
import pg from 'pg'
import t, { type Test } from 'tap'
import { PASSKEYS_TABLE, sqlPasskeys, type StoredPasskey } from '../../plugins/passkeys/index.js'
import { pgSql, type Sql } from '../../plugins/sql.js'
import { postgres } from '../services.js'
import { embedded } from '../fixtures/embedded.js'

const NOON = new Date('2026-01-01T12:00:00Z')

function passkey (id: string, userId: string, more: Partial<StoredPasskey> = {}): StoredPasskey {
  return {
    id,
    userId,
    name: `Key ${id}`,
    credentialId: `credential-${id}`,
    userHandle: `handle-${userId}`,
    publicKey: new Uint8Array([165, 0, 255, 10]),
    counter: 0,
    transports: ['usb'],
    isSyncable: false,
    isBackedUp: false,
    createdAt: NOON,
    lastUsedAt: null,
    ...more,
  }
}

async function holdsToPort (t: Test, sql: Sql): Promise<void> {
  await sql.script(PASSKEYS_TABLE)
  const { find, list, add, used, remove } = sqlPasskeys(sql)
  t.equal(await find('credential-1'), null)
  t.strictSame(await list('ada'), [])
  const first = passkey('1', 'ada')
  t.equal(await add(first, 3), true)
  t.strictSame(await find('credential-1'), first, 'what comes out is what went in')
  const large = passkey('2', 'ada', { counter: 2 ** 32 - 1, transports: [], isSyncable: true, isBackedUp: true, createdAt: new Date(NOON.getTime() + 1000) })
  t.equal(await add(large, 3), true)
  t.strictSame(await list('ada'), [first, large])

  t.equal(await add(passkey('3', 'ben', { credentialId: 'credential-1' }), 3), false, 'a credential is of one user')
  t.equal((await find('credential-1'))!.userId, 'ada')
  t.equal(await add(passkey('3', 'ada'), 2), false, 'full')
  t.equal(await add(passkey('3', 'ben'), 2), true, 'of each user so many')
  t.strictSame((await Promise.all(Array.from({ length: 20 }, (_none, i) => add(passkey(`p${i}`, 'cleo', { credentialId: 'same' }), 3)))).filter(Boolean), [true])

  const use = (counter: number) => used('credential-1', { counter, isBackedUp: true, at: NOON })
  t.equal(await use(0), true, 'one that does not count')
  t.equal(await use(0), true)
  t.equal(await use(5), true)
  t.strictSame([await use(5), await use(4), await use(0)], [false, false, false])
  t.match(await find('credential-1'), { counter: 5, isBackedUp: true, lastUsedAt: NOON })
  t.equal((await Promise.all(Array.from({ length: 50 }, () => use(6)))).filter(Boolean).length, 1, 'of fifty at once one is noted')
  t.equal(await used('credential-2', { counter: 1, isBackedUp: true, at: NOON }), false)
  t.equal(await used('unknown', { counter: 1, isBackedUp: true, at: NOON }), false)

  for (const [user, id] of [['ben', '1'], ["ada' or '1'='1", '1'], ['ada', 'unknown']] as const) t.equal(await remove(user, id), false)
  t.equal(await remove('ada', '1'), true)
  t.equal(await remove('ada', '1'), false)
  t.strictSame((await list('ada')).map(({ id }) => id), ['2'])
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
