/** HashiCorp Vault over real HTTP and HTTPS, against a server that speaks its API. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import { Concealed, loadSettings, Secret, vault, type LoadOptions, type SettingsFault, type VaultAuth, type VaultOptions } from '../../plugins/settings/index.js'
import { testClock, until } from '../fixtures/clock.js'
import { printed, refusal } from '../fixtures/refusals.js'
import { vaultServer, type VaultAnswer, type VaultRequest, type VaultServer, type VaultSettings } from '../fixtures/vault.js'
import { selfSigned } from '../wire/certificate.js'

const CANARY = 'canary-55ad1'
const TOKEN = `hvs.${CANARY}-token`
const APP_ROLE = { roleId: 'role-1', secretId: `${CANARY}-secret-id` }
const Schema = Type.Object({
  APP_SECRET: Type.Optional(Secret()),
  PORT: Type.Integer({ default: 3000 }),
  JWT_KEYS: Type.Optional(Concealed(Type.String())),
  DB_USER: Type.Optional(Concealed(Type.String())),
  DB_PASSWORD: Type.Optional(Concealed(Type.String())),
})

interface Options extends Partial<Omit<VaultOptions, 'auth'>> { auth?: VaultAuth, server?: VaultSettings, load?: Partial<LoadOptions> }

/** A Vault with one secret and the ways to sign in; its clock stands still. */
async function serve (t: Test, settings: VaultSettings = {}) {
  const clock = testClock()
  const server = await vaultServer(t, { now: clock.now, ...settings })
  server.approles.set(APP_ROLE.roleId, APP_ROLE.secretId)
  server.grant(TOKEN)
  server.write('secret/portal', { APP_SECRET: `${CANARY}-one` })
  return { server, clock }
}

/** Settings of it, and what they say is wrong. */
async function build (t: Test, { server: settings, load, ...options }: Options = {}) {
  const { server, clock } = await serve(t, settings)
  const open = () => loadSettings(Schema, { sources: [sourceOf(server, clock, options)], refresh: false, clock, ...load })
  const loaded = await open()
  t.teardown(() => loaded.close())
  const faults: SettingsFault[] = []
  loaded.onFault(fault => { faults.push(fault) })
  return { server, clock, loaded, faults }
}

function sourceOf (server: VaultServer, clock: ReturnType<typeof testClock>, options: Partial<VaultOptions> = {}) {
  return vault({ address: server.url, auth: { token: TOKEN }, secrets: [{ path: 'portal' }], clock, ...options })
}

const pathsOf = ({ requests }: VaultServer) => requests.map(({ method, path }) => `${method} ${path.replace('/v1/', '')}`)
const LOGIN = 'POST auth/approle/login'
const READ = 'GET secret/data/portal'

t.test('KV version 2 with a token: its fields are the variables; numbers and objects are what they are [ASVS 13.3.1]', async t => {
  const { server, clock } = await serve(t)
  server.write('secret/portal', { APP_SECRET: `${CANARY}-two`, PORT: 8080, JWT_KEYS: { keys: [] }, NOBODY: 'asked', DB_USER: null })
  const source = sourceOf(server, clock)
  const loaded = await loadSettings(Schema, { sources: [source], refresh: false, clock })
  t.strictSame([{ ...loaded.values }, loaded.values.APP_SECRET, loaded.values.JWT_KEYS, loaded.values.DB_USER], [{ PORT: 8080 }, `${CANARY}-two`, '{"keys":[]}', undefined])
  t.strictSame(pathsOf(server), ['GET auth/token/lookup-self', READ])
  t.match(server.requests[1]!.headers, { 'x-vault-token': TOKEN, 'x-vault-request': 'true', 'x-vault-namespace': undefined })
  t.notMatch(printed(source, loaded, loaded.values, structuredClone(loaded.values), loaded.status()), CANARY)
  await loaded.close()
  t.ok(server.tokens.has(TOKEN), 'a token that was given is not its own to revoke')
})

t.test('a mount, a version, names of fields, several secrets of which the first wins', async t => {
  const { server, clock } = await serve(t)
  server.write('team/kv/a+b/portal', { key: 'old' })
  server.write('team/kv/a+b/portal', { key: 'new', PORT: 1 })
  server.write('secret/shared', { PORT: 2, APP_SECRET: 'shared' })
  const read = async (...secrets: VaultOptions['secrets']) => {
    const loaded = await loadSettings(Schema, { sources: [sourceOf(server, clock, { secrets })], refresh: false, clock })
    await loaded.close()
    return [loaded.values.APP_SECRET, loaded.values.PORT]
  }
  const portal = { path: 'a+b/portal', mount: 'team/kv', fields: { APP_SECRET: 'key' } }
  t.strictSame(await read(portal, { path: 'shared' }), ['new', 2])
  t.strictSame(await read({ ...portal, version: 1 }), ['old', 3000])
  t.strictSame(await read({ path: 'shared' }, portal), ['shared', 2])
  t.strictSame(pathsOf(server).filter(path => path.includes('team')).slice(0, 2), ['GET team/kv/data/a%2Bb/portal', 'GET team/kv/data/a%2Bb/portal?version=1'])
})

t.test('AppRole: signs in, and its own token is revoked at close', async t => {
  const { server, loaded } = await build(t, { auth: APP_ROLE })
  t.equal(loaded.values.APP_SECRET, `${CANARY}-one`)
  t.strictSame(pathsOf(server), [LOGIN, READ])
  t.strictSame(server.requests[0]!.body, { role_id: APP_ROLE.roleId, secret_id: APP_ROLE.secretId })
  t.equal(server.requests[0]!.headers['x-vault-token'], undefined)
  t.equal(server.tokens.size, 2)
  await loaded.close()
  t.strictSame([...server.tokens.keys()], [TOKEN])
  t.equal(server.requests.at(-1)!.path, '/v1/auth/token/revoke-self')
})

t.test('Kubernetes: the token of the service account is read anew at each sign-in', async t => {
  const path = join(t.testdir({ token: `${CANARY}-jwt-1\n` }), 'token')
  const { server, clock } = await serve(t, { ttl: 300, renewable: false })
  server.serviceAccounts.set('portal', `${CANARY}-jwt-1`)
  const loaded = await loadSettings(Schema, { sources: [sourceOf(server, clock, { auth: { role: 'portal', jwtPath: path } })], refresh: false, clock })
  t.teardown(() => loaded.close())
  t.match(server.requests[0], { path: '/v1/auth/kubernetes/login', body: { role: 'portal', jwt: `${CANARY}-jwt-1` } })
  server.serviceAccounts.set('portal', `${CANARY}-jwt-2`)
  writeFileSync(path, `${CANARY}-jwt-2`)
  clock.pass(200_000)
  await until(() => server.count(/kubernetes/) === 2)
  t.equal(server.requests.findLast(one => one.path.includes('kubernetes'))!.body.jwt, `${CANARY}-jwt-2`)
  const error = await refusal(loadSettings(Schema, { sources: [sourceOf(server, clock, { auth: { role: 'portal', jwtPath: `${path}-absent` } })], refresh: false, clock }))
  t.match(error.message, /: the token of the service account cannot be read$/)
})

t.test('a method of authentication may be mounted elsewhere', async t => {
  const { server } = await build(t, { auth: { ...APP_ROLE, mount: 'team/app-role' } })
  t.equal(server.requests[0]!.path, '/v1/auth/team/app-role/login')
})

t.test('a namespace goes with every request; without it nothing is found', async t => {
  const { server, clock } = await serve(t, { namespace: 'team/a' })
  const loaded = await loadSettings(Schema, { sources: [sourceOf(server, clock, { namespace: 'team/a', auth: APP_ROLE })], refresh: false, clock })
  await loaded.close()
  t.strictSame([...new Set(server.requests.map(({ headers }) => headers['x-vault-namespace']))], ['team/a'])
  t.match((await refusal(loadSettings(Schema, { sources: [sourceOf(server, clock)], refresh: false, clock }))).message, /was answered with 404$/)
})

t.test('the token is renewed before it ends, again and again; nobody signs in twice [ASVS 13.3.4]', async t => {
  const { server, clock, loaded, faults } = await build(t, { auth: APP_ROLE, server: { ttl: 600 } })
  const [token] = [...server.tokens.keys()].slice(-1) as [string]
  for (let i = 1; i <= 5; i++) {
    const due = clock.next()! - clock.now()
    t.ok(due > 0.59 * 600_000 && due <= 600_000 * 2 / 3, 'after two thirds of its time, more or less')
    clock.pass(due)
    await until(() => server.count(/renew-self/) === i && clock.next() !== null)
  }
  await loaded.refresh()
  t.equal(server.requests.at(-1)!.headers['x-vault-token'], token)
  t.strictSame([server.count(/login/), faults], [1, []])
})

t.test('negative control: a token that nobody renews has ended by then', async t => {
  const { server, clock } = await serve(t, { ttl: 600 })
  const token = server.grant(undefined, 600)
  const ask = async () => (await fetch(`${server.url}/v1/secret/data/portal`, { headers: { 'x-vault-token': token } })).status
  t.equal(await ask(), 200)
  clock.pass(600_000)
  t.equal(await ask(), 403)
})

t.test('while Vault is away it is tried again until the token ends, and had anew after that; what was read goes on', async t => {
  const { server, clock, loaded, faults } = await build(t, { auth: APP_ROLE, attempts: 1, server: { ttl: 600 } })
  const away = async () => {
    const [due, told] = [clock.next()! - clock.now(), faults.length]
    clock.pass(due)
    await until(() => faults.length > told && clock.next() !== null)
    return due
  }
  server.isSealed = true
  await away()
  t.match(faults[0], { kind: 'unavailable', message: /auth\/token\/renew-self was answered with 503/ })
  t.ok(await away() < 100_000, 'again, in a third of what is left')
  server.isSealed = false
  clock.pass(clock.next()! - clock.now())
  await until(() => server.count(/renew-self/) === 3 && clock.next() !== null)
  t.equal(server.count(/login/), 1)

  server.isSealed = true
  const end = clock.now() + 600_000
  while (clock.now() < end) await away()
  t.equal(await away(), 30_000, 'once it has ended, twice a minute')
  server.isSealed = false
  server.write('secret/portal', { APP_SECRET: 'two' })
  const changed = new Promise(resolve => { loaded.onChange(['APP_SECRET'], resolve) })
  clock.pass(30_000)
  await changed
  t.strictSame([loaded.values.APP_SECRET, server.tokens.size > 1], ['two', true], 'who reads settings is told to read them anew')
})

t.test('where renewal is refused, or gives less and less, it signs in anew [ASVS 13.3.4]', async t => {
  for (const [title, server] of [['not renewable', { ttl: 600, renewable: false }], ['close to its longest time', { ttl: 600, maxTtl: 650 }]] as const) {
    const { server: vaultOf, clock, loaded, faults } = await build(t, { auth: APP_ROLE, server })
    clock.pass(400_000)
    await until(() => vaultOf.count(/login/) === 2 && clock.next() !== null)
    t.equal(vaultOf.count(/renew-self/), 'maxTtl' in server ? 1 : 0)
    clock.pass(250_000)
    await loaded.refresh()
    t.strictSame([loaded.values.APP_SECRET, faults], [`${CANARY}-one`, []], title)
  }
  const { server, clock, faults } = await build(t, { auth: APP_ROLE, server: { ttl: 600 } })
  server.instead = ({ path }) => path.includes('renew-self') ? { status: 403, body: { errors: [`${CANARY} permission denied`] } } : undefined
  clock.pass(400_000)
  await until(() => server.count(/login/) === 2)
  t.strictSame([server.count(/renew-self/), faults], [1, []], 'what is refused is not asked again')
})

t.test('a token that was revoked is replaced when it is next used; one that was given cannot be, and that is told', async t => {
  const { server, loaded, faults } = await build(t, { auth: APP_ROLE })
  server.revoke([...server.tokens.keys()].at(-1)!)
  server.write('secret/portal', { APP_SECRET: 'two' })
  t.strictSame(await loaded.refresh(), ['APP_SECRET'])
  t.strictSame([server.count(/login/), faults], [2, []])

  const given = await build(t)
  given.server.revoke(TOKEN)
  t.strictSame(await given.loaded.refresh(), [])
  t.match(given.faults, [{ kind: 'unavailable', message: /secret\/data\/portal was answered with 403; what was read last goes on$/ }])
  t.equal(given.loaded.values.APP_SECRET, `${CANARY}-one`)
})

t.test('a given token is renewed too; when it cannot be any more, it is told before it ends', async t => {
  const { server, clock } = await serve(t, { maxTtl: 650 })
  server.grant(TOKEN, 600)
  const loaded = await loadSettings(Schema, { sources: [sourceOf(server, clock)], refresh: false, clock })
  t.teardown(() => loaded.close())
  const faults: SettingsFault[] = []
  loaded.onFault(fault => { faults.push(fault) })
  clock.pass(400_000)
  await until(() => faults.length === 1)
  t.match(faults, [{ kind: 'unavailable', message: /: the token is not renewed any more, and ends in 250 s$/ }])
  await until(() => clock.next() !== null)
  clock.pass(300_000)
  await until(() => faults.length === 2)
  t.match(faults[1], { kind: 'unavailable', message: /was answered with 403; what was read last goes on/ })
  t.equal(loaded.values.APP_SECRET, `${CANARY}-one`)
})

t.test('a token that another process renews is read by a function, at each sign-in', async t => {
  const { server, clock } = await serve(t)
  const tokens = [server.grant(`hvs.${CANARY}-a`, 300, false), server.grant(`hvs.${CANARY}-b`, 900)]
  let reads = 0
  const loaded = await loadSettings(Schema, { sources: [sourceOf(server, clock, { auth: { token: async () => tokens[reads++]! } })], refresh: false, clock })
  t.teardown(() => loaded.close())
  clock.pass(200_000)
  await until(() => reads === 2)
  await loaded.refresh()
  t.equal(server.requests.at(-1)!.headers['x-vault-token'], tokens[1])
})

t.test('secrets that Vault makes: leased, renewed, not made anew at each reading; had anew when the lease is over, and told [ASVS 13.3.4]', async t => {
  const secrets = [{ path: 'portal' }, { dynamic: 'database/creds/portal', fields: { DB_USER: 'username', DB_PASSWORD: 'password' } }]
  const { server, clock, loaded, faults } = await build(t, { auth: APP_ROLE, secrets, server: { ttl: 600, maxTtl: 1300 } })
  const { DB_USER: user, DB_PASSWORD: password } = loaded.values
  t.match([user, password], [/^v-portal-/, /^pw-/])
  const told: unknown[] = []
  loaded.onChange(['DB_USER', 'DB_PASSWORD'], ({ DB_USER, DB_PASSWORD }) => { told.push([DB_USER, DB_PASSWORD]) })
  await loaded.refresh()
  t.equal(server.count(/creds/), 1)
  clock.pass(400_000)
  await until(() => server.count(/leases\/renew/) === 1 && clock.next() !== null)
  t.match(server.requests.find(({ path }) => path.includes('leases/renew')), { method: 'PUT', body: { lease_id: /^database\/creds\/portal\//, increment: 600 } })
  await loaded.refresh()
  t.strictSame([loaded.values.DB_USER, told], [user, []])
  while (told.length === 0) {
    clock.pass(clock.next()! - clock.now())
    await until(() => clock.next() !== null)
    await loaded.refresh()
  }
  t.strictSame(told, [[loaded.values.DB_USER, loaded.values.DB_PASSWORD]])
  t.not(loaded.values.DB_USER, user)
  t.ok([...server.leases.keys()].some(id => loaded.values.DB_PASSWORD === `pw-${id.slice(-36)}`), 'and it is one that is still good')
  t.strictSame(faults, [])
  const token = server.requests.at(-1)!.headers['x-vault-token']
  const left = () => [...server.leases.values()].filter(lease => lease.token === token).length
  t.ok(left() > 0)
  await loaded.close()
  t.equal(left(), 0, 'what was leased ends with the token')
})

t.test('what fails in passing is tried again, later and later, not all at once; what is refused is not', async t => {
  const { server, clock } = await serve(t)
  const answers: (number | 'cut')[] = []
  server.instead = ({ path }) => {
    const next = path.includes('/data/') ? answers.shift() : undefined
    return next === undefined || next === 'cut' ? next : { status: next, body: { errors: [CANARY] }, ...next === 429 && { headers: { 'retry-after': '3' } } }
  }
  const read = async (...given: (number | 'cut')[]) => {
    answers.splice(0, answers.length, ...given)
    clock.pauses.length = 0
    const before = server.count(/data/)
    const outcome = await loadSettings(Schema, { sources: [sourceOf(server, clock)], refresh: false, clock }).then(async one => {
      await one.close()
      return 'read'
    }, (error: Error) => error.message.replace(/^.*?\): /, ''))
    return { outcome, asked: server.count(/data/) - before }
  }
  t.strictSame(await read(500, 'cut', 503), { outcome: 'read', asked: 4 })
  for (const [i, ms] of clock.pauses.entries()) t.ok(ms >= 100 * 2 ** i && ms <= 200 * 2 ** i, `pause ${i + 1}: ${ms} ms`)
  t.strictSame(await read(429), { outcome: 'read', asked: 2 })
  t.strictSame(clock.pauses, [3000], 'as long as it is asked to wait')
  t.strictSame(await read(502, 502, 502, 502, 502), { outcome: 'secret/data/portal was answered with 502, 4 attempts', asked: 4 })
  t.strictSame(await read(503, 503, 503, 503), { outcome: 'secret/data/portal was answered with 503: it is sealed, or under maintenance, 4 attempts', asked: 4 })
  t.strictSame(await read('cut', 'cut', 'cut', 'cut'), { outcome: 'no connection (ECONNRESET), 4 attempts', asked: 4 })
  for (const status of [400, 403, 404, 405]) t.strictSame(await read(status, status), { outcome: `secret/data/portal was answered with ${status}`, asked: 1 })
})

t.test('a server that says nothing holds nobody up', async t => {
  const { server, clock } = await serve(t)
  server.instead = () => 'hang'
  const began = Date.now()
  const error = await refusal(loadSettings(Schema, { sources: [sourceOf(server, clock, { timeout: 100, attempts: 2 })], refresh: false, clock }))
  t.match(error, { code: 'FST_BASTION_SETTINGS_UNAVAILABLE', message: /no answer within 100 ms, 2 attempts$/ })
  t.ok(Date.now() - began >= 190)
  server.instead = () => undefined
  const loaded = await loadSettings(Schema, { sources: [sourceOf(server, clock, { timeout: 20_000 })], refresh: false, clock })
  server.instead = () => 'hang'
  const waiting = loaded.refresh()
  await until(() => server.requests.at(-1)!.path.includes('data') && server.requests.length >= 5)
  await loaded.close()
  t.strictSame(await waiting, [], 'who closes does not wait for it')
})

t.test('boot without any value fails; later what was read last goes on, as long as it may, and then that is told', async t => {
  const { server, clock, loaded, faults } = await build(t, { staleFor: 3_600_000 })
  server.isSealed = true
  const told: unknown[] = []
  loaded.onChange(['APP_SECRET'], (_values, changed) => { told.push(changed) })
  t.match(await refusal(loadSettings(Schema, { sources: [sourceOf(server, clock)], refresh: false, clock })), { code: 'FST_BASTION_SETTINGS_UNAVAILABLE', message: /^Settings cannot be read: Vault \(127\.0\.0\.1:\d+\): .* 503/ })
  const readAt = clock.now()
  for (const ms of [1000, 3_599_000]) {
    clock.pass(ms)
    t.strictSame(await loaded.refresh(), [])
    t.match(faults.pop(), { kind: 'unavailable', message: /503.*what was read last goes on$/ })
    t.match(loaded.status(), [{ readAt, isExpired: false, problem: /503/ }])
  }
  clock.pass(1)
  await loaded.refresh()
  t.match(faults.pop(), { kind: 'expired', message: /and what was read last is older than 3600000 ms$/ })
  t.match(loaded.status(), [{ readAt, isExpired: true }])
  t.equal(loaded.values.APP_SECRET, `${CANARY}-one`)
  server.isSealed = false
  server.write('secret/portal', { APP_SECRET: 'two' })
  t.strictSame(await loaded.refresh(), ['APP_SECRET'])
  t.match(loaded.status(), [{ readAt: clock.now(), isExpired: false, problem: null }])
  t.strictSame([told, faults], [[['APP_SECRET']], []])
})

t.test('a reading is used again for a while, unless somebody asks by hand; what is asked at once is asked once', async t => {
  const { server, clock } = await serve(t)
  const source = sourceOf(server, clock, { cache: 5000 })
  const open = () => loadSettings(Schema, { sources: [source], refresh: false, clock })
  const [one] = await Promise.all([open(), open(), open()])
  await open()
  t.equal(server.count(/data/), 1)
  clock.pass(5001)
  await open()
  t.equal(server.count(/data/), 2)
  await one.refresh()
  t.equal(server.count(/data/), 3)
  await one.close()
})

t.test('attack: what a server says wrong is told as what it is, and nothing of it is repeated', async t => {
  const { server, clock } = await serve(t)
  for (const [answer, message] of [
    [{ status: 200, body: `<html>${CANARY}` }, /was answered with something else than JSON/],
    [{ status: 200, body: `"${CANARY}"` }, /was answered with something else than JSON/],
    [{ status: 200, body: { data: { data: [CANARY] } } }, /secret\/data\/portal holds no object of fields$/],
    [{ status: 200, body: { data: CANARY } }, /holds no object of fields$/],
    [{ status: 200, body: { data: { data: CANARY.repeat(200_000) } } }, /answers more than 1048576 bytes$/],
    [{ status: 400, body: { errors: [`${CANARY} ${TOKEN}`] }, headers: { 'x-echo': TOKEN } }, /was answered with 400$/],
    [{ status: 307, headers: { location: '//' } }, /leads nowhere$/],
    [{ status: 307, headers: { location: '/v1/secret/data/portal' } }, /redirected again and again$/],
  ] as const) {
    server.instead = ({ path }) => path.includes('data') ? answer as VaultAnswer : undefined
    const error = await refusal(loadSettings(Schema, { sources: [sourceOf(server, clock)], refresh: false, clock }))
    t.match(error, { code: 'FST_BASTION_SETTINGS_UNAVAILABLE', message })
    t.notMatch(printed(error), CANARY)
  }
})

t.test('attack: no redirect to another host, port or scheme gets the token; one within the server is followed', async t => {
  const { server, clock } = await serve(t)
  const thief = await vaultServer(t)
  const lead = (location: string) => {
    server.instead = ({ path }: VaultRequest) => path.includes('secret/data/portal') && !path.includes('again') ? { status: 307, headers: { location } } : undefined
    return loadSettings(Schema, { sources: [sourceOf(server, clock)], refresh: false, clock })
  }
  for (const location of [`${thief.url}/v1/secret/data/portal`, thief.url.replace('http:', ''), server.url.replace('127.0.0.1', 'localhost'), server.url.replace('http:', 'https:')]) {
    const error = await refusal(lead(location))
    t.match(error.message, /it was answered with 307 and leads to another host, where nothing is sent$/)
  }
  t.strictSame(thief.requests, [])
  const loaded = await lead('/v1/secret/data/portal?again')
  t.equal(loaded.values.APP_SECRET, `${CANARY}-one`)
  await loaded.close()
  server.instead = () => ({ status: 307, headers: { location: `${thief.url}/v1/secret/data/portal` } })
  await fetch(`${server.url}/v1/secret/data/portal`, { headers: { 'x-vault-token': TOKEN } })
  t.equal(thief.requests[0]!.headers['x-vault-token'], TOKEN, 'negative control: a client that follows hands it over')
})

t.test('TLS: a certificate that is trusted and of that name; whatever else is refused, and nothing was sent', async t => {
  const tls = selfSigned(['localhost'])
  const { server, clock } = await serve(t, { tls })
  const open = (options: Partial<VaultOptions>) => loadSettings(Schema, { sources: [sourceOf(server, clock, options)], refresh: false, clock })
  const loaded = await open({ ca: tls.cert })
  t.equal(loaded.values.APP_SECRET, `${CANARY}-one`)
  await loaded.close()
  const before = server.requests.length
  for (const options of [{}, { ca: selfSigned(['localhost']).cert }, { ca: tls.cert, address: server.url.replace('localhost', '127.0.0.1') }]) {
    const error = await refusal(open(options))
    t.match(error.message, /no connection \((?:DEPTH_ZERO_SELF_SIGNED_CERT|ERR_TLS_CERT_ALTNAME_INVALID)\)$/, 'once: it does not get better')
  }
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'
  t.teardown(() => { delete process.env.NODE_TLS_REJECT_UNAUTHORIZED })
  await t.rejects(open({}), /SELF_SIGNED/, 'whatever the environment says')
  t.equal((await fetch(`${server.url}/v1/x`)).status, 403, 'negative control: that is what it says to others')
  t.equal(server.requests.length, before + 1)
})

t.test('attack: no value and no credential in anything that is said, whatever goes wrong', async t => {
  const said: unknown[] = []
  const settled = async (options: Options, wrong: (server: VaultServer) => void) => {
    const { server, clock, loaded, faults } = await build(t, options)
    wrong(server)
    clock.pass(500_000)
    await loaded.refresh()
    said.push(faults, loaded.status(), loaded)
    t.ok(faults.length > 0)
    wrong(server)
    said.push(await refusal(loadSettings(Schema, { sources: [sourceOf(server, clock, { auth: options.auth, attempts: 1 })], refresh: false, clock })))
  }
  const echo = (status: number) => (server: VaultServer) => { server.instead = ({ headers, body }) => ({ status, body: { errors: [JSON.stringify(headers), JSON.stringify(body), `${CANARY}-one`] } }) }
  for (const auth of [{ token: TOKEN }, APP_ROLE]) {
    for (const status of [400, 403, 404, 429, 500, 503, 200]) await settled({ auth }, echo(status))
    await settled({ auth }, server => { server.instead = () => 'cut' })
  }
  t.notMatch(printed(...said), CANARY)
  const { server } = await serve(t)
  const naive = await (await fetch(`${server.url}/v1/secret/data/portal`, { headers: { 'x-vault-token': TOKEN } })).json()
  t.match(printed(naive), CANARY, 'negative control: the answer itself tells it')
})

t.test('attack: the token of Vault\'s development server stops boot in production [ASVS 13.2.3]', async t => {
  const { server, clock } = await serve(t)
  for (const token of ['root', 'myroot', 'dev-only-token']) {
    server.grant(token)
    const open = (production: boolean) => loadSettings(Type.Object({ PORT: Type.Integer({ default: 1 }) }), { sources: [sourceOf(server, clock, { auth: { token } })], refresh: false, clock, production })
    t.match((await refusal(open(true))).message, /^Settings are refused:\n {2}Vault: its token or secret id is a well-known default$/)
    await (await open(false)).close()
  }
})

t.test('attack: what reads a token and never answers does not hold the boot', async t => {
  const { server, clock } = await serve(t)
  const open = (token: () => Promise<string>, timeout: number) =>
    loadSettings(Schema, { sources: [sourceOf(server, clock, { auth: { token }, timeout })], refresh: false, clock })
  t.match((await refusal(open(() => new Promise(() => {}), 50))).message, /^Settings cannot be read: Vault \([^)]+\): the token cannot be read$/)
  t.strictSame(server.requests, [])
  const loaded = await open(async () => TOKEN, 5000)
  t.equal(loaded.values.APP_SECRET, `${CANARY}-one`, 'negative control: one that answers is read')
  await loaded.close()
})

t.test('misconfiguration stops boot, and tells no credential', async t => {
  const good = { address: 'https://vault.example', auth: { token: TOKEN }, secrets: [{ path: 'portal' }] }
  for (const [change, message] of [
    [{ address: 'http://vault.example' }, /address: must begin with https:\/\/; http is for this machine alone/],
    [{ address: 'http://127.0.0.1.example' }, /must begin with https/],
    [{ address: `https://user:${CANARY}@vault.example` }, /vault: address/],
    [{ address: 'https://vault.example/prefix' }, /vault: address/],
    [{ address: 'vault.example' }, /vault: address/],
    [{ address: 'https://vault.example:99999' }, /vault: address: is no URL/],
    [{ secrets: [] }, /vault: secrets/],
    [{ secrets: [{ path: '/portal' }] }, /vault: secrets/],
    [{ secrets: [{ dynamic: 'database/creds/x' }] }, /vault: secrets/],
    [{ auth: {} }, /vault: auth/],
    [{ auth: { token: '' } }, /vault: auth/],
    [{ auth: { roleId: CANARY } }, /vault: auth/],
    [{ auth: { token: TOKEN, roleId: CANARY, secretId: CANARY } }, /vault: auth/],
    [{ ca: '/etc/ca.pem' }, /vault: ca/],
    [{ timeout: 0 }, /vault: timeout/],
    [{ attempts: 100 }, /vault: attempts/],
    [{ tokne: TOKEN }, /vault: tokne/],
  ] as const) {
    try {
      vault({ ...good, ...change } as never)
      t.fail(JSON.stringify(change))
    } catch (error) {
      t.match(error, { code: 'FST_BASTION_SETTINGS_REFUSED', message })
      t.notMatch(printed(error), CANARY)
    }
  }
  for (const address of ['http://localhost:8200', 'http://[::1]:8200', 'http://127.0.0.1:8200', 'https://vault.example:8200/']) t.ok(vault({ ...good, address }))
})
