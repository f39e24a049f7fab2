/** API keys: what they may do and for how long, and what they cost. */
import Fastify from 'fastify'
import { mock } from 'node:test'
import t from 'tap'
import access from '../../plugins/access/index.js'
import apiKeys, { sqlApiKeys, type ApiKeysOptions } from '../../plugins/api-keys/index.js'
import { keyFormat } from '../../plugins/api-keys/format.js'
import errors from '../../plugins/errors.js'
import events from '../../plugins/events.js'
import identity from '../../plugins/identity.js'
import plan from '../../plugins/plan/index.js'
import state from '../../plugins/state/index.js'
import { database, DISABLED, INVALID, person, SECRET, service, typo } from './service.js'

const sql = await database(t)
const build = (t: Parameters<typeof service>[0], options?: Partial<ApiKeysOptions>, more?: Parameters<typeof service>[3]) => service(t, sql, options, more)
const stored = async (id: string) => (await sql.query<Record<string, unknown>>('select * from api_keys where id = $1', [id]))[0]

t.test('a key is a principal: itself, on behalf of its user, cut down to its scopes', async t => {
  const { make, ask } = await build(t)
  const { id, text } = await make()
  const principal = { kind: 'key', id, userId: 'ada', roles: ['editor'], scopes: ['things:read'], plan: 'pro', via: 'key', authTime: 0, credentialId: id, keyMode: 'live' }
  t.strictSame((await ask('/read', text)).principal, principal)
  t.strictSame((await ask('/read', { authorization: `Bearer ${text}` })).principal, principal, 'RFC 6750')
  t.strictSame((await ask('/read', { authorization: `bearer ${text}`, 'x-api-key': text })).principal, principal, 'the same twice is one')
  t.strictSame((await ask('/public', text)).principal, principal)
})

t.test('a key passes where it has the scope, or where keys are named; never where a person is asked for', async t => {
  const { make, ask } = await build(t)
  const { text } = await make()
  for (const [url, status] of [['/read', 200], ['/write', 403], ['/user', 403], ['/key', 200], ['/stepped', 401]] as const) t.equal((await ask(url, text)).status, status, url)
  t.equal((await ask('/write', (await make({ scopes: ['things:write', 'things:read'] })).text)).status, 200)
  t.equal((await ask('/read', (await make({ scopes: [] })).text)).status, 403, 'no scopes are no permissions')
})

t.test('while nothing changes, no request asks the store', async t => {
  const { make, ask, asked } = await build(t)
  const { text } = await make()
  await ask('/read', text)
  asked.statements.length = 0
  asked.owners = 0
  for (let i = 0; i < 100; i++) t.equal((await ask('/read', text)).status, 200)
  t.strictSame(asked, { statements: [], owners: 0 })
})

t.test('two hundred requests at once are one look-up', async t => {
  const { make, ask, asked } = await build(t)
  const { text } = await make()
  asked.statements.length = 0
  const answers = await Promise.all(Array.from({ length: 200 }, () => ask('/read', text)))
  t.ok(answers.every(({ status }) => status === 200))
  t.equal(asked.statements.length, 1)
  t.equal(asked.owners, 1)
})

t.test('every change is seen at once', async t => {
  const { app, make, ask, people } = await build(t)
  const { id, text } = await make({ scopes: ['things:write'] })
  t.equal((await ask('/write', text)).status, 200)
  t.match(await app.apiKeys.setActive(id, false), { id, isActive: false })
  t.match(await ask('/write', text), DISABLED)
  t.strictSame((await ask('/public', text)).principal, null, 'nobody, where everybody may')
  await app.apiKeys.setActive(id, true)
  t.equal((await ask('/write', text)).status, 200)
  people.ada = { isActive: true, roles: ['reader'] }
  await app.apiKeys.ownerChanged('ada')
  t.match(await ask('/write', text), { status: 403, code: 'FST_BASTION_ACCESS_FORBIDDEN' }, 'what the user may no more, the key may no more')
  people.ada = { isActive: false, roles: ['editor'] }
  await app.apiKeys.ownerChanged('ada')
  t.match(await ask('/write', text), INVALID)
  people.ada = { isActive: true, roles: ['editor'] }
  await app.apiKeys.ownerChanged('ada')
  t.equal((await ask('/write', text)).status, 200)
  delete people.ada
  await app.apiKeys.ownerChanged('ada')
  t.match(await ask('/write', text), INVALID, 'the user is gone')
  t.equal(await app.apiKeys.delete(id), true)
  t.equal(await app.apiKeys.delete(id), false)
  t.match(await ask('/write', text), INVALID)
  for (const nothing of [app.apiKeys.find(id), app.apiKeys.setActive(id, true), app.apiKeys.rotate(id)]) t.equal(await nothing, null)
})

t.test('a change while the record is being read is not missed', async t => {
  const store = sqlApiKeys(sql)
  let during = async () => {}
  const { app, make, ask } = await build(t, {
    store: {
      ...store,
      async find (id) {
        const found = await store.find(id)
        await during()
        return found
      },
    },
  })
  const { id, text } = await make()
  during = async () => {
    during = async () => {}
    await app.apiKeys.setActive(id, false)
    t.match(await ask('/read', text), DISABLED, 'one that comes after it, while the first one is still reading')
  }
  t.match(await ask('/read', text), DISABLED)
  t.match(await ask('/read', text), DISABLED)
})

t.test('last use is kept in memory and written in one statement; never with a request', async t => {
  const { app, make, ask, asked, clock } = await build(t)
  const keys = await Promise.all([make(), make(), make()])
  asked.statements.length = 0
  for (const { text } of keys.slice(0, 2)) for (let i = 0; i < 10; i++) await ask('/read', text)
  clock.ms += 5000
  await ask('/read', keys[0]!.text)
  t.notOk(asked.statements.some(text => /update/.test(text)))
  t.equal((await app.apiKeys.find(keys[0]!.id))!.lastUsedAt!.getTime(), clock.ms, 'this process knows it already')
  asked.statements.length = 0
  await app.apiKeys.writeUses()
  t.equal(asked.statements.length, 1)
  t.strictSame((await Promise.all(keys.map(({ id }) => stored(id)))).map(row => (row!.last_used_at as Date | null)?.getTime()), [clock.ms, clock.ms - 5000, undefined])
  await app.apiKeys.writeUses()
  t.equal(asked.statements.length, 1, 'nothing new, nothing written')
  await ask('/read', typo(keys[2]!.text, 40))
  await app.apiKeys.setActive(keys[2]!.id, false)
  await ask('/read', keys[2]!.text)
  await app.apiKeys.writeUses()
  t.equal((await stored(keys[2]!.id))!.last_used_at, null, 'what was refused was no use')
})

t.test('a last use that cannot be written is kept; when the service closes it is written', async t => {
  const store = sqlApiKeys(sql)
  let isAway = true
  const { app, make, ask, log } = await build(t, { store: { ...store, used: uses => isAway ? Promise.reject(new Error('away')) : store.used(uses) } })
  const { id, text } = await make()
  await ask('/read', text)
  await t.rejects(app.apiKeys.writeUses(), /away/)
  t.equal((await stored(id))!.last_used_at, null)
  isAway = false
  await app.close()
  t.ok((await stored(id))!.last_used_at)
  t.notMatch(log.join(''), 'could not be written')
})

t.test('uses are written before a hook of the service closes the database', async t => {
  const store = sqlApiKeys(sql)
  let isClosed = false
  const { app, make, ask } = await build(t, { store: { ...store, used: uses => isClosed ? Promise.reject(new Error('closed')) : store.used(uses) } }, {
    onClose: async () => { isClosed = true },
  })
  const { id, text } = await make()
  await ask('/read', text)
  await app.close()
  t.equal(isClosed, true)
  t.ok((await stored(id))!.last_used_at)
})

t.test('an older use changes nothing that a later one has noted', async t => {
  const store = sqlApiKeys(sql)
  const { make } = await build(t)
  const { id } = await make()
  const [early, late] = [new Date('2026-02-01'), new Date('2026-03-01')]
  await store.used([{ id, at: late }])
  await store.used([{ id, at: early }, { id: 'unknown', at: late }])
  t.same((await stored(id))!.last_used_at, late)
})

t.test('lists are of one user, in pages, and hold nothing of the secret', async t => {
  const { app, make } = await build(t)
  await sql.query('delete from api_keys')
  const own = await Promise.all([make(), make(), make()])
  const foreign = await make({}, 'ben')
  const list = await app.apiKeys.list('ada')
  t.strictSame(list.map(({ id }) => id), own.map(({ id }) => id).sort())
  t.strictSame((await app.apiKeys.list('ada', { limit: 2 })).length, 2)
  t.strictSame((await app.apiKeys.list('ada', { after: list[0]!.id, limit: 1 })).map(({ id }) => id), [list[1]!.id])
  t.notOk(JSON.stringify(list).includes(foreign.id))
  for (const { text } of own) t.notOk(JSON.stringify(list).includes(text.slice(24)))
  t.strictSame(Object.keys(list[0]!).filter(name => /hash|text|secret/i.test(name)), [])
  t.equal(list[0]!.prefix, `sk_live_${list[0]!.id}`)
})

t.test('what happens is an event, and none holds a key', async t => {
  const { app, make, ask, events, log, clock } = await build(t)
  const { id, text } = await make({ expiresAt: new Date(clock.ms + 1e9) })
  const old = text
  const { text: fresh } = (await app.apiKeys.rotate(id, { overlap: 0 }))!
  await ask('/read', fresh)
  await ask('/read', old)
  await ask('/read', 'sk_live_x')
  await ask('/read', typo(fresh, 30))
  await app.apiKeys.setActive(id, false)
  await ask('/read', fresh)
  await app.apiKeys.setActive(id, true)
  clock.ms += 1e9
  await ask('/read', fresh)
  await app.apiKeys.delete(id)
  await ask('/read', fresh)
  const told = events.filter(({ type }) => type !== 'access_denied').map(({ type, details: { reason, isActive } }) => [type, reason ?? isActive].filter(part => part !== undefined).join(': '))
  t.strictSame(told, ['key_created', 'key_rotated', 'key_refused: replaced by a rotation', 'key_refused: malformed', 'key_refused: checksum', 'key_revoked: disabled',
    'key_refused: disabled', 'permission_change: true', 'key_refused: expired', 'key_revoked: deleted', 'key_refused: expired'])
  t.match(events.find(({ type, details }) => type === 'key_refused' && details.reason === 'disabled'), { details: { keyId: id, user: 'ada' }, address: '192.0.2.1', route: '/read' })
  for (const secret of [old.slice(24), fresh.slice(24)]) t.notOk(log.join('').includes(secret.slice(0, 20)))
  t.ok(log.join('').includes(id), 'which key it was is in the log')
})

t.test('option prefix and modes', async t => {
  const { make, ask, app } = await build(t, { prefix: 'acme', modes: ['test'] })
  const { text, mode } = await make()
  t.match(text, /^acme_test_/)
  t.equal(mode, 'test', 'the first that is accepted')
  t.match(await ask('/read', text), { status: 200, principal: { keyMode: 'test' } })
  await t.rejects(make({ mode: 'live' }), { code: 'FST_BASTION_API_KEYS_REFUSED', statusCode: 400 })
  const both = await build(t, { prefix: 'acme' })
  const live = await both.make({ mode: 'live' })
  t.equal((await both.ask('/read', live.text)).status, 200)
  t.match(await ask('/read', live.text), INVALID)
  t.equal((await app.apiKeys.find(live.id))!.mode, 'live')
})

t.test('option overlap: a day by default, then the old text is dead', async t => {
  for (const [options, seconds] of [[{}, 86_400], [{ overlap: 60 }, 60], [{ overlap: 0 }, 0]] as const) {
    const { app, make, ask, clock } = await build(t, options)
    const { id, text } = await make()
    const rotated = (await app.apiKeys.rotate(id))!
    t.equal(rotated.id, id)
    t.equal(rotated.previousUntil!.getTime(), clock.ms + seconds * 1000)
    t.equal((await ask('/read', rotated.text)).status, 200)
    if (seconds > 0) {
      clock.ms += seconds * 1000 - 1
      t.equal((await ask('/read', text)).status, 200)
      clock.ms += 1
    }
    t.match(await ask('/read', text), INVALID, `${seconds} s`)
    t.equal((await ask('/read', rotated.text)).status, 200)
  }
  const { app, make, ask } = await build(t)
  const { id, text } = await make()
  const second = (await app.apiKeys.rotate(id))!
  const third = (await app.apiKeys.rotate(id, { overlap: 5 }))!
  t.match(await ask('/read', text), INVALID, 'the one before the last is dead')
  for (const { text } of [second, third]) t.equal((await ask('/read', text)).status, 200)
})

t.test('a key expires to the millisecond, and no rotation revives it', async t => {
  const { app, make, ask, clock } = await build(t)
  const { id, text } = await make({ expiresAt: new Date(clock.ms + 1000) })
  clock.ms += 999
  t.equal((await ask('/read', text)).status, 200)
  const { text: rotated } = (await app.apiKeys.rotate(id))!
  clock.ms += 1
  for (const one of [text, rotated]) t.match(await ask('/read', one), INVALID)
  await t.rejects(app.apiKeys.rotate(id), { code: 'FST_BASTION_API_KEYS_EXPIRED', statusCode: 409 })
  for (const expiresAt of [new Date(clock.ms), new Date(0), new Date(NaN)]) await t.rejects(make({ expiresAt }), { code: 'FST_BASTION_API_KEYS_REFUSED' })
})

t.test('allowed addresses: from elsewhere 403, and the forwarded address of an untrusted peer is not believed', async t => {
  const { make, ask } = await build(t)
  const { text } = await make({ allowedAddresses: ['203.0.113.0/24', '2001:db8::/32'] })
  const foreign = { status: 403, code: 'FST_BASTION_API_KEYS_ADDRESS' }
  for (const address of ['203.0.113.7', '2001:db8:1::1']) t.equal((await ask('/read', text, address)).status, 200)
  for (const address of ['203.0.112.7', '2001:db9::1', '192.0.2.1']) t.match(await ask('/read', text, address), foreign)
  const forwarded = { 'x-api-key': text, 'x-forwarded-for': '203.0.113.7' }
  t.match(await ask('/read', forwarded, '192.0.2.1'), foreign)
  t.equal((await ask('/read', forwarded, '127.0.0.1')).status, 200, 'the control: a trusted proxy says so')
  t.equal((await ask('/read', (await make()).text, '192.0.2.1')).status, 200, 'the control: the same address, with a key for everywhere')
  for (const wrong of [[], ['nowhere'], ['0.0.0.0/0'], ['::/0'], Array.from({ length: 101 }, () => '10.0.0.1')]) {
    await t.rejects(make({ allowedAddresses: wrong }), { code: 'FST_BASTION_API_KEYS_REFUSED', statusCode: 400 })
  }
})

t.test('option perUser, in parallel too', async t => {
  const { make } = await build(t, { perUser: 3 })
  await sql.query('delete from api_keys')
  const made = await Promise.allSettled(Array.from({ length: 10 }, () => make()))
  t.equal(made.filter(({ status }) => status === 'fulfilled').length, 3)
  await t.rejects(make(), { code: 'FST_BASTION_API_KEYS_FULL', statusCode: 409 })
  t.ok(await make({}, 'ben'), 'each user has their own')
})

t.test('option rememberFor: what is changed past app.apiKeys is seen after that', async t => {
  const { make, ask, clock, people } = await build(t, { rememberFor: 30 })
  const { id, text } = await make()
  t.equal((await ask('/read', text)).status, 200)
  await sql.query('update api_keys set is_active = false where id = $1', [id])
  people.ada!.isActive = true
  clock.ms += 29_999
  t.equal((await ask('/read', text)).status, 200)
  clock.ms += 1
  t.match(await ask('/read', text), DISABLED)
})

t.test('option remembered: more keys than that are read again, and none is mistaken for another', async t => {
  const { make, ask, asked } = await build(t, { remembered: 2, perUser: 100 })
  const keys = await Promise.all(Array.from({ length: 12 }, () => make()))
  asked.statements.length = 0
  for (let round = 0; round < 2; round++) for (const { id, text } of keys) t.equal((await ask('/read', text)).principal!.id, id)
  t.ok(asked.statements.length >= 20)
})

t.test('option lastUsedEvery: uses are written by themselves, and a failure is told and tried again', async t => {
  mock.timers.enable({ apis: ['setInterval'] })
  t.teardown(() => mock.timers.reset())
  const store = sqlApiKeys(sql)
  let isAway = true
  const { make, ask, log } = await build(t, { lastUsedEvery: 10, store: { ...store, used: uses => isAway ? Promise.reject(new Error('away')) : store.used(uses) } })
  const { id, text } = await make()
  await ask('/read', text)
  const tick = async () => {
    mock.timers.tick(10_000)
    await stored(id) // the database does one thing after the other
    await new Promise(resolve => { setImmediate(resolve) })
  }
  await tick()
  t.match(log.join(''), 'could not be written')
  isAway = false
  await tick()
  t.ok((await stored(id))!.last_used_at)
})

t.test('option secret: a new one in front makes keys, the old ones are still read', async t => {
  const old = await build(t)
  const { text } = await old.make()
  const both = await build(t, { secret: [Buffer.alloc(32, 5), SECRET] })
  t.equal((await both.ask('/read', text)).status, 200)
  const young = await both.make()
  t.equal((await both.ask('/read', young.text)).status, 200)
  t.match(await old.ask('/read', young.text), INVALID)
  const alone = await build(t, { secret: Buffer.alloc(32, 5) })
  t.match(await alone.ask('/read', text), INVALID)
  t.equal((await alone.ask('/read', young.text)).status, 200)
})

t.test('a key can do nothing that its maker cannot, and a key makes none [ASVS 8.2.1]', async t => {
  const { app, make, asked, events } = await build(t)
  asked.statements.length = 0
  const exceeds = { code: 'FST_BASTION_API_KEYS_EXCEEDS', statusCode: 403 }
  for (const scope of ['things:write', 'things:delete', 'things:raed', '*', 'things:*', '']) await t.rejects(make({ scopes: ['things:read', scope] }, 'ben'), exceeds, scope)
  const cut = { ...person('ada', ['editor']), scopes: ['things:read'] }
  await t.rejects(app.apiKeys.create(cut, { name: 'x', scopes: ['things:write'] }), exceeds, 'a token that was cut down makes no larger key')
  await t.rejects(app.apiKeys.create({ ...person('ada', ['editor']), kind: 'key' }, { name: 'x', scopes: [] }), exceeds)
  t.strictSame(asked.statements, [])
  t.equal(events.filter(({ type }) => type === 'access_denied').length, 8)
  t.strictSame((await app.apiKeys.create(cut, { name: 'x', scopes: ['things:read', 'things:read'] })).scopes, ['things:read'], 'the control, and no scope twice')
})

t.test('guesses, typos and forged texts cost no look-up and spend nobody\'s budget', async t => {
  const { make, ask, asked, handled } = await build(t)
  const { id, text } = await make()
  const thief = keyFormat('sk', [Buffer.alloc(32, 66)]) // knows all but the secret of the service
  const named = thief.make('live', id).text // the id of somebody's key
  const remaining = async () => (await ask('/budget', text)).headers['x-ratelimit-remaining']
  t.equal(await remaining(), '4')
  asked.statements.length = 0
  asked.owners = 0
  handled.length = 0
  for (let i = 0; i < 20; i++) {
    for (const guess of [typo(text, 40), typo(text, 80), named, thief.make('live').text]) t.match(await ask('/read', guess, '198.51.100.1'), INVALID)
    await ask('/budget', named, '198.51.100.1')
  }
  t.equal((await ask('/budget', named, '198.51.100.1')).status, 429, 'they are counted by the address they come from')
  t.strictSame(asked, { statements: [], owners: 0 })
  t.strictSame(handled.filter(url => url === '/read'), [])
  t.equal(await remaining(), '3')

  const cold = await build(t)
  const insider = keyFormat('sk', [SECRET]).make('live', id).text
  await cold.ask('/budget', insider, '198.51.100.2')
  t.equal(cold.asked.statements.length, 1, 'the control: whoever has the secret of the service can name a key: that costs a look-up')
  t.equal((await cold.ask('/budget', text)).headers['x-ratelimit-remaining'], '3', 'and spends of its budget')
  t.match(await cold.ask('/read', insider), INVALID, 'but that is all: its hash is another one')
})

t.test('an old text cannot go on spending the budget of the one that replaced it', async t => {
  const { app, make } = await build(t)
  const { id, text } = await make()
  const fresh = (await app.apiKeys.rotate(id, { overlap: 0 }))!
  const { ask, clock, asked } = await build(t) // knows nothing of it yet
  const remaining = async () => (await ask('/budget', fresh.text)).headers['x-ratelimit-remaining']
  await ask('/budget', text, '198.51.100.1')
  t.equal(await remaining(), '3')
  asked.statements.length = 0
  for (let i = 0; i < 20; i++) await ask('/budget', text, '198.51.100.1')
  t.equal(await remaining(), '2', 'it spent one, before it was known to be dead')
  clock.ms += 30_000
  for (let i = 0; i < 5; i++) t.match(await ask('/read', text), INVALID)
  t.strictSame(asked.statements, [])
})

t.test('texts of keys that are gone cost one look-up a minute', async t => {
  const { app, make, ask, clock, asked } = await build(t)
  const { id, text } = await make()
  await app.apiKeys.delete(id)
  asked.statements.length = 0
  for (let i = 0; i < 20; i++) t.match(await ask('/read', text), INVALID)
  t.equal(asked.statements.length, 1)
  clock.ms += 60_000
  t.match(await ask('/read', text), INVALID)
  t.equal(asked.statements.length, 2)
})

t.test('two different credentials: refused, and whose record comes later changes nothing', async t => {
  const { app, make, ask } = await build(t)
  const [one, other] = [await make(), await make()]
  const bearer = (await app.tokens.issue({ id: 'ben', roles: ['reader'] })).access_token
  const several = { status: 400, code: 'FST_BASTION_IDENTITY_TWO_CREDENTIALS' }
  const pairs: Record<string, string>[] = [
    { 'x-api-key': one.text, authorization: `Bearer ${other.text}` }, { 'x-api-key': one.text, authorization: `Bearer ${bearer}` }, { 'x-api-key': `${one.text},${other.text}` },
    { 'x-api-key': one.text, authorization: `Bearer ${typo(one.text, 40)}` }, { 'x-api-key': 'junk', authorization: `Bearer ${bearer}` }, { authorization: `Bearer ${one.text}, Bearer ${bearer}` },
  ]
  for (const headers of pairs) {
    t.match(await ask('/read', headers), several)
    t.strictSame((await ask('/public', headers)).principal, null)
  }
  t.equal((await ask('/read', { authorization: `Bearer ${bearer}` })).status, 200, 'the control: each alone')
  t.equal((await ask('/read', one.text)).status, 200)
})

t.test('what looks like a key is read as a key, and as nothing else', async t => {
  const { make, ask } = await build(t)
  const { text } = await make()
  t.match(await ask('/read', { authorization: 'Bearer sk_live_junk' }), { ...INVALID, headers: { 'www-authenticate': /Bearer .*invalid_token/ } })
  t.match(await ask('/read', { authorization: 'Bearer junk' }), { status: 401, code: 'FST_BASTION_TOKENS_INVALID' })
  for (const junk of ['', ' ', text.slice(8), 'null', '{}', '\u00e9']) t.match(await ask('/read', { 'x-api-key': junk }), INVALID, JSON.stringify(junk))
  t.match(await ask('/read', { authorization: `Basic ${text}` }), { status: 401 })
  t.equal((await ask(`/read?api_key=${text}`, {})).status, 401, 'never from the URL [ASVS 14.2.1]')
})

t.test('a long text costs no more than a short one', async t => {
  const { make, ask } = await build(t)
  const { text } = await make()
  const from = process.cpuUsage()
  for (let i = 0; i < 200; i++) await ask('/public', { 'x-api-key': `sk_live_${'a'.repeat(15_000)}` })
  const long = process.cpuUsage(from).user
  const again = process.cpuUsage()
  for (let i = 0; i < 200; i++) await ask('/public', { 'x-api-key': text.slice(0, -1) })
  t.ok(long < process.cpuUsage(again).user * 10 + 200_000)
})

t.test('a reader of the database gets no key by what is kept', async t => {
  const { make, ask } = await build(t)
  const { id, text } = await make()
  const row = (await stored(id))!
  const hash = row.hash as string
  for (const tried of [hash, `sk_live_${hash}`, `sk_live_${id}${hash}${text.slice(67)}`, typo(text, 40)]) t.match(await ask('/read', tried), INVALID)
  t.notOk(JSON.stringify(await sql.query('select * from api_keys')).includes(text.slice(24, 44)))
  await sql.query('update api_keys set hash = $1 where id = $2', [text, id])
  t.equal((await build(t).then(other => other.ask('/read', text))).status, 401, 'and a text that is kept as it is matches nothing')
})

t.test('what one request writes into its principal is not there for the next', async t => {
  const { make, ask } = await build(t)
  const { text } = await make()
  const clean = await ask('/read', text)
  t.equal((await ask('/poison', text)).status, 200)
  t.strictSame((await ask('/read', text)).principal, clean.principal)
  t.equal((await ask('/write', text)).status, 403)
})

t.test('works with no more than it names as dependencies', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  for (const plugin of [plan, events, errors]) await app.register(plugin)
  await app.register(state, {})
  await app.register(identity)
  await app.register(access, { roles: { reader: { permissions: ['things:read'] } } })
  await app.register(apiKeys, { secret: SECRET, store: sqlApiKeys(sql), owner: async () => ({ isActive: true, roles: ['reader'] }) })
  app.get('/', { config: { access: { permissions: 'things:read' } } }, async request => request.principal!.id)
  const { id, text } = await app.apiKeys.create(person('carl', ['reader']), { name: 'x', scopes: ['things:read'] })
  t.equal((await app.inject({ url: '/', headers: { 'x-api-key': text } })).body, id)
})

t.test('misconfiguration stops boot', async t => {
  const good = { secret: SECRET, store: sqlApiKeys(sql), owner: async () => null }
  for (const [wrong, named] of [
    [{ secret: undefined }, 'secret'], [{ secret: Buffer.alloc(31) }, 'secret'], [{ secret: 'text'.repeat(20) }, 'secret'], [{ secret: [] }, 'secret'], [{ secret: [SECRET, Buffer.alloc(1)] }, 'secret'],
    [{ store: undefined }, 'store'], [{ store: {} }, 'store'], [{ owner: undefined }, 'owner'], [{ prefix: 'SK' }, 'prefix'], [{ prefix: 's' }, 'prefix'], [{ prefix: 'a_b' }, 'prefix'], [{ modes: [] }, 'modes'],
    [{ modes: ['prod'] }, 'modes'], [{ overlap: -1 }, 'overlap'], [{ perUser: 0 }, 'perUser'], [{ remembered: 0 }, 'remembered'], [{ rememberFor: 3601 }, 'rememberFor'], [{ lastUsedEvery: 0 }, 'lastUsedEvery'],
    [{ whenAway: 'accept' }, 'whenAway'], [{ overlapp: 1 }, 'overlapp'],
  ] as const) {
    const app = Fastify()
    for (const plugin of [plan, events, errors]) await app.register(plugin)
    await app.register(state, {})
    await app.register(identity)
    await app.register(access, {})
    const error = await Promise.resolve(app.register(apiKeys, { ...good, ...wrong } as never)).then(() => app.ready()).then(() => null, (error: Error) => error)
    t.match(error, { code: 'FST_BASTION_API_KEYS_MISCONFIGURED', message: named }, JSON.stringify(wrong))
    t.notMatch(error!.message, SECRET.toString())
    await app.close()
  }
})
