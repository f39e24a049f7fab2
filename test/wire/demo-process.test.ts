/** The portal as a process: how it starts, what it prints, how it ends. */
import type { ChildProcess } from 'node:child_process'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import https from 'node:https'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { until } from '../fixtures/clock.js'
import { launch, PORTAL, start } from '../fixtures/portal-process.js'
import { vaultServer } from '../fixtures/vault.js'
import { postgres } from '../services.js'
import { selfSigned } from './certificate.js'

t.setTimeout(900_000)
const SECRET = randomBytes(48).toString('base64url')
const PASSWORD = 'Process-pass-1'
const { cert: CERTIFICATE, key: KEY } = selfSigned(['localhost'])

function folder (t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'portal-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return join(path, 'data')
}

/** A directory whose database is seeded already: making one takes seconds, copying it does not. */
function seededFolder (t: Test): string {
  const path = folder(t)
  cpSync(SEEDED, path, { recursive: true })
  return path
}

/** Starts what must not start: its exit code and its output. */
async function refused (t: Test, env: Record<string, string>): Promise<{ code: number | string, output: string }> {
  const { child, ended, output } = launch(t, env)
  // One that starts after all ends with the signal, and not with 1.
  const late = setTimeout(() => { child.kill('SIGKILL') }, 30_000)
  const code = await ended
  clearTimeout(late)
  return { code, output: output() }
}

/** The log is written while the next request is served. */
async function appears (output: () => string, pattern: RegExp): Promise<boolean> {
  for (let i = 0; i < 100 && !pattern.test(output()); i++) await pause(50)
  return pattern.test(output())
}

const pause = (ms: number) => new Promise(resolve => { setTimeout(resolve, ms) })

async function ask (url: string, path: string, { body, token, ...more }: { body?: unknown, token?: string, method?: string, headers?: Record<string, string> } = {}) {
  const answer = await fetch(new URL(path, url), {
    method: body === undefined ? 'GET' : 'POST',
    ...more,
    headers: { ...(body !== undefined && { 'content-type': 'application/json' }), ...(token !== undefined && { authorization: `Bearer ${token}` }), ...more.headers },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  })
  const text = await answer.text()
  return { status: answer.status, headers: answer.headers, text, body: text === '' ? undefined : JSON.parse(text) }
}

const signIn = async (url: string, username = 'alice', password = PASSWORD) => (await ask(url, '/auth/login', { body: { username, password } })).body

/** A login of which the last part of the body is held back: in flight for as long as one likes. */
async function slowLogin (url: string): Promise<{ socket: Socket, finish: () => Promise<string> }> {
  const { port, hostname } = new URL(url)
  const body = JSON.stringify({ username: 'alice', password: PASSWORD })
  const socket = connect(Number(port), hostname)
  let answer = ''
  socket.setEncoding('utf8').on('data', (text: string) => { answer += text }).on('error', () => {})
  await once(socket, 'connect')
  socket.write(`POST /auth/login HTTP/1.1\r\nhost: localhost:${port}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body.slice(0, 10)}`)
  await pause(200)
  return {
    socket,
    async finish () {
      const closed = once(socket, 'close')
      socket.write(body.slice(10))
      await closed
      return answer
    },
  }
}

const SEEDED = folder(t)
const seeding = await start(t, { DATA_DIR: SEEDED, DEMO_PASSWORD: PASSWORD, APP_SECRET: SECRET })
seeding.child.kill('SIGTERM')
await seeding.ended

t.test('the first start on a new directory', async t => {
  const DATA_DIR = folder(t)
  const { url, output, child, ended } = await start(t, { DATA_DIR })
  const lines = output().split('\n')

  await t.test('prints the table of accounts, the password, and then one line with the URL', async t => {
    const listening = lines.findIndex(line => line.startsWith('listening on '))
    t.match(lines[listening], /^listening on http:\/\/127\.0\.0\.1:\d+$/)
    t.equal(output().split('listening on').length, 2, 'once')
    for (const name of ['admin', 'mona', 'max', 'alice', 'bob', 'gus', 'nora', 'dora', 'ina']) {
      const at = lines.findIndex(line => new RegExp(`│ ${name} +│`).test(line))
      t.ok(at >= 0 && at < listening, name)
    }
    t.match(output(), /password of all seeded accounts[^\n]*: \S+\n/)
  })

  await t.test('the password is that of all seeded accounts', async t => {
    const password = /password of all seeded accounts[^\n]*: (\S+)/.exec(output())![1]!
    for (const name of ['admin', 'alice']) t.equal((await ask(url, '/auth/login', { body: { username: name, password } })).status, 200, name)
  })

  await t.test('keeps its secret and its database where nobody else reads them', async t => {
    t.equal(statSync(DATA_DIR).mode & 0o777, 0o700)
    const [secret, ...others] = readdirSync(DATA_DIR).filter(name => /secret|key/.test(name))
    t.strictSame(others, [])
    t.equal(statSync(join(DATA_DIR, secret!)).mode & 0o777, 0o600)
    t.equal(Buffer.from(readFileSync(join(DATA_DIR, secret!), 'utf8'), 'base64url').length, 48)
    t.equal(statSync(join(DATA_DIR, 'database')).mode & 0o077, 0)
  })

  await t.test('answers to loopback names, and to no others', async t => {
    const { port } = new URL(url)
    for (const [host, status] of [[`localhost:${port}`, 200], [`127.0.0.1:${port}`, 200], [`[::1]:${port}`, 200], ['localhost', 200], ['evil.example', 421], [`localhost.evil.example:${port}`, 421]] as const) {
      const socket = connect(Number(port), '127.0.0.1')
      socket.end(`GET /health HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`)
      const [answer] = await once(socket.setEncoding('utf8'), 'data')
      t.match(answer, `HTTP/1.1 ${status} `, host)
    }
  })

  await t.test('a second start on the directory is refused, and the first one goes on', async t => {
    const { code, output } = await refused(t, { DATA_DIR })
    t.equal(code, 1)
    t.match(output, `in use by process ${child.pid}`)
    t.match(output, 'DATA_DIR')
    t.notMatch(output, / {4}at /, 'a message, not a stack')
    t.equal((await ask(url, '/health')).status, 200)
    t.strictSame(readdirSync(DATA_DIR).sort(), ['app-secret', 'audit', 'database', 'lock', 'uploads'])
  })

  child.kill('SIGKILL')
  t.equal(await ended, 'SIGKILL')
  await t.test('after kill -9 the directory is free, the data is there, the password is not repeated', async t => {
    const password = /password of all seeded accounts[^\n]*: (\S+)/.exec(output())![1]!
    const second = await start(t, { DATA_DIR })
    t.notMatch(second.output(), password)
    t.notMatch(second.output(), 'password of')
    t.match(second.output(), 'alice')
    t.equal((await ask(second.url, '/auth/login', { body: { username: 'alice', password } })).status, 200)
    second.child.kill('SIGTERM')
    t.equal(await second.ended, 0)
    t.strictSame(readdirSync(DATA_DIR).sort(), ['app-secret', 'audit', 'database', 'uploads'], 'the lock is given back')
  })
})

t.test('a whole session', async t => {
  const DATA_DIR = seededFolder(t)
  const env = { DATA_DIR, DEMO_PASSWORD: PASSWORD, APP_SECRET: SECRET, LOG_LEVEL: 'trace' }
  const first = await start(t, env)
  const { url, output } = first
  t.notMatch(output(), PASSWORD, 'a password that was given is not printed')

  const NEW = 'Fresh-pass-of-zoe-1'
  const alice = await signIn(url)
  const ended = await signIn(url)
  const requestIds: string[] = []
  const note = <T extends { body: { requestId?: string } }>(answer: T) => { if (answer.body?.requestId !== undefined) requestIds.push(answer.body.requestId); return answer }
  t.equal((await ask(url, '/auth/register', { body: { username: 'zoe', email: 'zoe@people.example', password: NEW } })).status, 201)
  note(await ask(url, '/auth/login', { body: { username: 'zoe', password: 'Wrong-secret-1' } }))
  note(await ask(url, '/auth/login', { body: { username: 'My-password-in-the-wrong-field-1', password: 'x' } }))
  note(await ask(url, '/auth/login', { method: 'POST', headers: { 'content-type': 'application/json' }, body: undefined }))
  const malformed = await fetch(new URL('/auth/login', url), { method: 'POST', headers: { 'content-type': 'application/json', cookie: 'session=cookie-of-somebody' }, body: '{"username":"zoe","password":"Broken-json-pass-1' })
  requestIds.push((await malformed.json() as { requestId: string }).requestId)
  const zoe = await signIn(url, 'zoe', NEW)
  t.equal((await ask(url, '/auth/password', { token: zoe.access_token, body: { currentPassword: NEW, newPassword: 'Changed-pass-2' } })).status, 204)
  const stepped = (await ask(url, '/auth/step-up', { token: zoe.access_token, body: { password: 'Changed-pass-2' } })).body
  const refreshed = (await ask(url, '/auth/refresh', { body: { refresh_token: zoe.refresh_token } })).body
  note(await ask(url, '/auth/refresh', { body: { refresh_token: zoe.refresh_token } }))
  note(await ask(url, `/users/me?access_token=${alice.access_token}`, { token: 'forged.token.here', headers: { 'x-api-key': 'sk_live_somekey', 'x-csrf-token': 'csrf-value' } }))
  note(await ask(url, '/nowhere', { token: alice.access_token }))
  const post = (await ask(url, '/posts', { token: alice.access_token, body: { title: 'It stays', content: 'Also after a restart' } })).body
  t.equal((await ask(url, '/auth/logout', { token: ended.access_token, method: 'POST' })).status, 204)
  t.equal((await ask(url, '/users/me/export', { token: alice.access_token })).status, 200)
  const id = (await ask(url, '/users/me', { token: alice.access_token })).body.id
  const order = (await ask(url, `/users/${id}/orders`, { token: alice.access_token })).body.items[0]

  first.child.kill('SIGINT')
  t.equal(await first.ended, 0)

  await t.test('leaves no password, token, secret, cookie or hash in its output', async t => {
    const tokens = [alice, ended, zoe, stepped, refreshed].flatMap(({ access_token: access, refresh_token: refresh }) => refresh === undefined ? [access] : [access, refresh]) as string[]
    t.equal(tokens.length, 9)
    for (const secret of [
      PASSWORD, NEW, 'Changed-pass-2', 'Wrong-secret-1', 'Broken-json-pass', 'My-password-in-the-wrong-field', SECRET, 'forged.token.here', 'sk_live_somekey', 'csrf-value', 'cookie-of-somebody', '$argon2',
      ...tokens, ...tokens.map(token => token.split('.')[1]!), ...tokens.map(token => token.split('.')[2]!),
    ]) t.notOk(output().includes(secret), secret.slice(0, 20))
    t.notMatch(output(), 'zoe@people.example', 'nor an address')
  })

  await t.test('has one line a request, with the id that the problem told', async t => {
    const lines = output().split('\n').filter(line => line.startsWith('{')).map(line => JSON.parse(line))
    t.ok(requestIds.length >= 6)
    for (const requestId of requestIds) {
      const own = lines.filter(line => line.requestId === requestId && line.msg === 'request')
      t.equal(own.length, 1)
      t.match(own[0], { method: String, path: /^\/[^?]*$/, status: Number, ms: Number, address: '127.0.0.1' })
    }
  })

  const again = await start(t, env)

  await t.test('survives a restart: accounts, posts, orders are there, what was revoked is dead', async t => {
    t.notMatch(again.output(), /password of/)
    t.match((await ask(again.url, `/posts/${post.id}`)).body, { title: 'It stays' })
    t.equal((await ask(again.url, '/auth/login', { body: { username: 'zoe', password: 'Changed-pass-2' } })).status, 200)
    t.equal((await ask(again.url, '/auth/login', { body: { username: 'zoe', password: NEW } })).status, 401)
    t.match((await ask(again.url, `/orders/${order.id}`, { token: (await signIn(again.url)).access_token })).body, order)
    for (const token of [ended.access_token, zoe.access_token, refreshed.access_token]) t.equal((await ask(again.url, '/users/me', { token })).status, 401)
    for (const pair of [ended, zoe, refreshed]) t.equal((await ask(again.url, '/auth/refresh', { body: { refresh_token: pair.refresh_token } })).status, 401)
  })

  await t.test('another secret with the same data: no hash fits its pepper any more', async t => {
    again.child.kill('SIGTERM')
    t.equal(await again.ended, 0)
    const other = await start(t, { ...env, APP_SECRET: randomBytes(48).toString('base64url') })
    t.equal((await ask(other.url, '/auth/login', { body: { username: 'alice', password: PASSWORD } })).status, 401)
  })
})

t.test('ending', async t => {
  const DATA_DIR = seededFolder(t)
  const env = { DATA_DIR, DEMO_PASSWORD: PASSWORD, APP_SECRET: SECRET, LOG_LEVEL: 'warn' }

  for (const [what, command, kill] of [
    ['SIGTERM to the server', undefined, (child: ChildProcess) => child.kill('SIGTERM')],
    ['SIGINT to the server', undefined, (child: ChildProcess) => child.kill('SIGINT')],
    ['SIGTERM to npm', ['npm', 'run', 'demo'], (child: ChildProcess) => child.kill('SIGTERM')],
    ['SIGINT to npm and all of its group, as a terminal sends it', ['npm', 'run', 'demo'], (child: ChildProcess) => process.kill(-child.pid!, 'SIGINT')],
    ['SIGTERM to npm and all of its group', ['npm', 'run', 'demo'], (child: ChildProcess) => process.kill(-child.pid!, 'SIGTERM')],
  ] as const) {
    await t.test(`${what}: what is in flight is answered, nothing new is taken, exit code 0`, async t => {
      const { url, child, ended, output } = await start(t, env, command === undefined ? undefined : [...command])
      const slow = await slowLogin(url)
      const hashing = [1, 2, 3].map(() => ask(url, '/auth/login', { body: { username: 'bob', password: PASSWORD } }))
      await pause(100)
      kill(child)
      await pause(500)
      for (const { status } of await Promise.all(hashing)) t.equal(status, 200)
      await t.rejects(fetch(new URL('/health', url), { headers: { connection: 'close' } }), 'the door is closed')
      const answer = await slow.finish()
      t.match(answer, /^HTTP\/1\.1 200 /)
      t.match(answer, 'access_token')
      t.equal(await ended, 0, output())
      t.notOk(readdirSync(DATA_DIR).includes('lock'))
    })
  }

  await t.test('whoever never ends does not hold it', async t => {
    const { url, child, ended } = await start(t, env)
    const { socket } = await slowLogin(url)
    child.kill('SIGTERM')
    t.equal(await ended, 0)
    socket.destroy()
  })

  await t.test('a signal while it starts ends it too', async t => {
    for (const ms of [150, 1500, 2500]) {
      const { child, ended } = launch(t, { ...env, DATA_DIR: folder(t) })
      await pause(ms)
      child.kill('SIGTERM')
      t.ok([0, 'SIGTERM'].includes(await ended), `after ${ms} ms`)
    }
  })
})

t.test('what stops the start, with a message that names it and no secret', async t => {
  const certificates = t.testdir({ 'cert.pem': CERTIFICATE, 'key.pem': KEY })
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const production = { NODE_ENV: 'production' }
  for (const [what, env, message] of [
    ['production without APP_SECRET', production, /APP_SECRET is missing/],
    ['a known APP_SECRET', { ...production, APP_SECRET: 'change-me-change-me-change-me-change-me-change-me' }, /APP_SECRET/],
    ['a short APP_SECRET in development', { APP_SECRET: 'c2hvcnQ' }, /APP_SECRET/],
    ['a port that is taken', { APP_SECRET: SECRET, PORT: String((taken.address() as AddressInfo).port) }, /EADDRINUSE/],
    ['an algorithm without its keys', { JWT_ALGORITHM: 'RS256' }, /JWT_KEYS/],
    ['origins that are none', { CORS_ORIGINS: 'portal.example' }, /origin/],
    ['a database that is away', { DATABASE_URL: 'postgres://portal:hunter2@127.0.0.1:1/portal' }, /ECONNREFUSED/],
    ['a Redis whose URL cannot be read', { REDIS_URL: 'redis://:hunter2/abc@127.0.0.1:6379' }, /state: redis: the URL cannot be read/],
    ['a certificate without its key', { TLS_CERT: join(certificates, 'cert.pem') }, /TLS_KEY/],
    ['a certificate that is not there', { TLS_CERT: '/nowhere/cert.pem', TLS_KEY: '/nowhere/key.pem' }, /cert\.pem/],
  ] as const) {
    const { code, output } = await refused(t, { DATA_DIR: seededFolder(t), ...env })
    t.equal(code, 1, what)
    t.match(output, message, what)
    t.notMatch(output, /hunter2|c2hvcnQ|change-me|listening| {4}at /, what)
  }
})

t.test('production', async t => {
  const env = { DATA_DIR: folder(t), NODE_ENV: 'production', APP_SECRET: SECRET }

  await t.test('seeds nothing without DEMO_PASSWORD, so that nobody is there by default, prints no table, trusts its own origin only [ASVS 6.3.2]', async t => {
    const { url, output, child, ended } = await start(t, { ...env, PUBLIC_ORIGIN: 'http://portal.example' })
    t.notMatch(output(), /│|password of|alice/)
    const host = (name: string) => get(url, '/posts', { host: name })
    t.match(await host('portal.example'), /^HTTP\/1\.1 200[^]*"items":\[\]/)
    for (const name of ['localhost', '127.0.0.1', 'evil.example']) t.match(await host(name), /^HTTP\/1\.1 421/, name)
    t.notMatch(readdirSync(env.DATA_DIR).join(), 'secret', 'and makes no secret')
    for (const [username, password] of [['admin', PASSWORD], ['admin', 'admin'], ['root', 'root'], ['sa', 'sa'], ['postgres', 'postgres'], ['alice', PASSWORD]] as const) {
      t.match(await get(url, '/auth/login', { host: 'portal.example' }, JSON.stringify({ username, password })), /^HTTP\/1\.1 401/, username)
    }
    child.kill('SIGTERM')
    t.equal(await ended, 0)
  })

  await t.test('seeds with DEMO_PASSWORD, and refuses plain HTTP where its origin is HTTPS', async t => {
    const { url, output } = await start(t, { ...env, PUBLIC_ORIGIN: 'https://portal.example', DEMO_PASSWORD: PASSWORD, TRUST_PROXY: '127.0.0.1' })
    t.match(output(), 'alice')
    t.notMatch(output(), PASSWORD)
    const body = JSON.stringify({ username: 'alice', password: PASSWORD })
    const login = (headers: Record<string, string>) => get(url, '/auth/login', { host: 'portal.example', ...headers }, body)
    t.match(await login({}), /^HTTP\/1\.1 403[^]*HTTPS_REQUIRED/)
    const secure = await login({ 'x-forwarded-proto': 'https', 'x-forwarded-for': '203.0.113.9' })
    t.match(secure, /^HTTP\/1\.1 200/)
    t.match(await get(url, '/auth/login', { host: 'portal.example', 'x-forwarded-proto': 'https' }, JSON.stringify({ username: 'admin', password: PASSWORD })), /^HTTP\/1\.1 200/, 'negative control: where they are asked for, admin signs in')
    t.match(secure, /strict-transport-security: max-age=\d+/)
    t.match(await get(url, '/posts', { host: 'portal.example' }), /^HTTP\/1\.1 308[^]*location: https:\/\/portal\.example\/posts/)
    t.match(await get(url, '/health', { host: 'portal.example' }), /^HTTP\/1\.1 200/, 'probes inside a cluster may')
    t.ok(await appears(output, /"address":"203\.0\.113\.9"/), 'the proxy is believed')
    t.match(await get(url, '/posts', { host: 'portal.example', 'x-forwarded-proto': 'https', origin: 'http://localhost:5173' }), /^HTTP\/1\.1 200(?![^]*access-control-allow-origin)/, 'no origin of development')
  })
})

t.test('HTTPS with TLS_CERT and TLS_KEY', async t => {
  const files = t.testdir({ 'cert.pem': CERTIFICATE, 'key.pem': KEY })
  const { url } = await start(t, { DATA_DIR: seededFolder(t), APP_SECRET: SECRET, TLS_CERT: join(files, 'cert.pem'), TLS_KEY: join(files, 'key.pem'), DEMO_PASSWORD: PASSWORD })
  t.match(url, /^https:\/\/127\.0\.0\.1:\d+$/)
  const request = https.get(new URL('/health', url), { ca: CERTIFICATE, servername: 'localhost', headers: { host: 'localhost' } })
  const [answer] = await once(request, 'response')
  t.equal(answer.statusCode, 200)
  t.match(answer.headers['strict-transport-security'], /max-age=\d{7,}/)
  answer.resume()
  await t.rejects(fetch(url.replace('https:', 'http:') + '/health'), 'plain HTTP is not spoken there')

  // A renewal, one file after the other; nothing is restarted.
  const renewed = selfSigned(['localhost'])
  writeFileSync(join(files, 'key.pem'), renewed.key)
  writeFileSync(join(files, 'cert.pem'), renewed.cert)
  let status: number | null = null
  for (let i = 0; i < 200 && status === null; i++) {
    await pause(50)
    status = await statusBy(url, renewed.cert)
  }
  t.equal(status, 200, 'the new certificate is served')
})

t.test('--https: a certificate for development, kept for its owner; production makes none', async t => {
  const env = { DATA_DIR: seededFolder(t), APP_SECRET: SECRET, DEMO_PASSWORD: PASSWORD }
  const command = [...PORTAL, '--https']
  const { url } = await start(t, env, command)
  const made = readFileSync(join(env.DATA_DIR, 'tls/development-cert.pem'), 'utf8')
  t.equal(statSync(join(env.DATA_DIR, 'tls/development-key.pem')).mode & 0o777, 0o600)
  t.match(url, /^https:/)
  t.equal(await statusBy(url, made), 200)
  const production = launch(t, { ...env, DATA_DIR: folder(t), NODE_ENV: 'production' }, command)
  t.equal(await production.ended, 1)
  t.match(production.output(), /a development certificate is not made in production: get one from a CA/)
  t.notMatch(production.output(), /listening|PRIVATE/)
})

/** The status of /health/ready by this certificate and no other; null where it is another's. */
async function statusBy (url: string, ca: string): Promise<number | null> {
  const request = https.get(new URL('/health/ready', url), { ca, servername: 'localhost', headers: { host: 'localhost' }, agent: false })
  try {
    const [answer] = await once(request, 'response')
    answer.resume()
    return answer.statusCode
  } catch {
    return null
  }
}

t.test('TRUST_PROXY: forwarded addresses are believed from there only', async t => {
  const { url, output } = await start(t, { DATA_DIR: seededFolder(t), APP_SECRET: SECRET, TRUST_PROXY: '10.0.0.0/8', DEMO_PASSWORD: PASSWORD })
  await ask(url, '/posts', { headers: { 'x-forwarded-for': '203.0.113.9', 'x-forwarded-host': 'evil.example' } })
  t.ok(await appears(output, /"path":"\/posts"/))
  t.notMatch(output(), '203.0.113.9')
})

t.test('LOG_LEVEL=silent logs nothing', async t => {
  const { url, output, child, ended } = await start(t, { DATA_DIR: seededFolder(t), APP_SECRET: SECRET, LOG_LEVEL: 'silent', DEMO_PASSWORD: PASSWORD })
  await ask(url, '/posts')
  child.kill('SIGTERM')
  t.equal(await ended, 0)
  t.notMatch(output(), '{')
})

t.test('on SIGHUP the keys of JWT_KEYS are read again: nobody is signed out, and a file that is not good changes nothing', async t => {
  const path = join(t.testdir({}), 'keys.json')
  const [older, newer] = [1, 2].map(i => ({ ...generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' }), kid: `key-${i}` }))
  const publish = (...keys: unknown[]) => { writeFileSync(path, JSON.stringify({ keys })) }
  publish(older)
  const { url, child, output, ended } = await start(t, { DATA_DIR: seededFolder(t), DEMO_PASSWORD: PASSWORD, APP_SECRET: SECRET, JWT_ALGORITHM: 'ES256', JWT_KEYS: path })
  const kids = async () => (await ask(url, '/.well-known/jwks.json')).body.keys.map(({ kid }: { kid: string }) => kid)
  const kidOf = (token: string) => JSON.parse(Buffer.from(token.split('.')[0]!, 'base64url').toString()).kid
  const me = async (token: string) => (await ask(url, '/users/me', { token })).status
  const { access_token: before, refresh_token: refresh } = await signIn(url)
  t.strictSame([kidOf(before), await kids()], ['key-1', ['key-1']])

  publish(newer, older)
  child.kill('SIGHUP')
  t.ok(await appears(output, /the keys of tokens were rotated/))
  t.strictSame(await kids(), ['key-2', 'key-1'])
  t.equal(await me(before), 200)
  const { access_token: after } = (await ask(url, '/auth/refresh', { body: { refresh_token: refresh } })).body
  t.equal(kidOf(after), 'key-2')
  t.equal(await me(after), 200)

  for (const [i, bad] of ['{', '{"keys":[]}', JSON.stringify({ keys: [{ ...newer, use: 'enc' }] })].entries()) {
    writeFileSync(path, bad)
    child.kill('SIGHUP')
    t.ok(await appears(output, new RegExp(`(?:were not taken over[^]*){${i + 1}}`)), bad.slice(0, 12))
    t.strictSame(await kids(), ['key-2', 'key-1'])
    t.strictSame([await me(before), await me(after)], [200, 200])
  }
  t.notMatch(output(), newer!.d!, 'no key is in the log')

  publish(newer)
  child.kill('SIGHUP')
  t.ok(await appears(output, /(?:were rotated[^]*){2}/))
  t.strictSame([await me(before), await me(after)], [401, 200], 'what the old key signed is dead once it has left')
  child.kill('SIGTERM')
  t.equal(await ended, 0)
})

t.test('secrets from Vault: keys that change there reach the rings without a restart; nothing of them is in the log [ASVS 13.3.1] [ASVS 13.3.4]', async t => {
  const vault = await vaultServer(t)
  vault.approles.set('portal', 'canary-secret-id')
  const [older, newer] = [1, 2].map(i => ({ ...generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' }), kid: `key-${i}` }))
  const write = (keys: unknown, version: unknown = 1) => { vault.write('kv/team/portal', { APP_SECRET: SECRET, JWT_KEYS: { keys }, JWT_ALGORITHM: 'ES256', ENCRYPTION_VERSION: version }) }
  write([older])
  const secretId = join(t.testdir({ id: 'canary-secret-id\n' }), 'id')
  const { url, child, output, ended } = await start(t, { DATA_DIR: seededFolder(t), DEMO_PASSWORD: PASSWORD, VAULT_ADDR: vault.url, VAULT_SECRET: 'kv/team/portal', VAULT_ROLE_ID: 'portal', VAULT_SECRET_ID_FILE: secretId })
  const kids = async () => (await ask(url, '/.well-known/jwks.json')).body.keys.map(({ kid }: { kid: string }) => kid)
  const { access_token: before } = await signIn(url)
  t.strictSame(await kids(), ['key-1'])

  write([newer, older], 2)
  child.kill('SIGHUP')
  await until(() => /the keys of tokens were rotated[^]*encryption_rotated/.test(output()))
  t.strictSame(await kids(), ['key-2', 'key-1'])
  t.equal((await ask(url, '/users/me', { token: before })).status, 200)

  write([newer, older], 'canary-version')
  child.kill('SIGHUP')
  await until(() => /New settings are refused, the old ones stay: ENCRYPTION_VERSION: expected integer/.test(output()))
  write([], 2)
  child.kill('SIGHUP')
  await until(() => /the keys of JWT_KEYS were not taken over/.test(output()))
  vault.isSealed = true
  child.kill('SIGHUP')
  await until(() => /503: it is sealed, or under maintenance, 4 attempts; what was read last goes on/.test(output()))
  t.strictSame([await kids(), (await ask(url, '/users/me', { token: before })).status], [['key-2', 'key-1'], 200])
  vault.isSealed = false
  child.kill('SIGTERM')
  t.equal(await ended, 0)
  t.equal(vault.tokens.size, 0, 'its token is revoked')
  for (const secret of [SECRET, older!.d!, newer!.d!, 'canary', 'hvs.']) t.notOk(output().includes(secret), 'no secret is in what it said')
})

t.test('on a PostgreSQL server', async t => {
  const service = await postgres(t)
  if (service === null) return
  const { hostname, port, password } = new URL(service.url)
  let isOpen = true
  const sockets = new Set<Socket>()
  // Between the portal and the server stands a door that can be closed.
  const door = createServer(client => {
    if (!isOpen) return client.destroy()
    const server = connect(Number(port), hostname)
    for (const socket of [client, server]) {
      sockets.add(socket)
      socket.on('error', () => {}).on('close', () => { sockets.delete(socket); client.destroy(); server.destroy() })
    }
    client.pipe(server).pipe(client)
  })
  await once(door.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => { for (const socket of sockets) socket.destroy(); door.close() })
  const through = new URL(service.url)
  through.hostname = '127.0.0.1'
  through.port = String((door.address() as AddressInfo).port)
  const env = { DATABASE_URL: through.href, DEMO_PASSWORD: PASSWORD, APP_SECRET: SECRET, LOG_LEVEL: 'trace' }

  const [one, two] = await Promise.all([start(t, { ...env, DATA_DIR: folder(t) }), start(t, { ...env, DATA_DIR: folder(t) })])

  await t.test('two processes that start at once migrate and seed once', async t => {
    const { access_token: token } = await signIn(one.url, 'admin')
    t.equal((await ask(one.url, '/users?limit=100', { token })).body.items.length, 9)
    t.equal((await signIn(two.url)).token_type, 'Bearer', 'and both serve')
    const { id } = (await ask(one.url, '/auth/register', { body: { username: 'shared', email: 's@people.example', password: 'Common-pass-1' } })).body
    t.equal((await ask(two.url, `/users/${id}`, { token: (await signIn(two.url)).access_token })).status, 200)
    const names = await Promise.all([one, two].map(({ url }) => ask(url, '/auth/register', { body: { username: 'twice', email: 't@people.example', password: 'Common-pass-1' } })))
    t.strictSame(names.map(({ status }) => status).sort(), [201, 409])
  })

  await t.test('while the database is away: 503 with Retry-After, alive but not ready, nothing told; and back without a restart', async t => {
    const { access_token: token } = await signIn(one.url)
    t.equal((await ask(one.url, '/health/ready')).status, 200)
    isOpen = false
    for (const socket of sockets) socket.destroy()
    for (const [path, more] of [['/posts', {}], ['/users/me', { token }], ['/auth/login', { body: { username: 'alice', password: PASSWORD } }], ['/health/ready', {}]] as const) {
      const { status, headers, text, body } = await ask(one.url, path, more)
      t.equal(status, 503, path)
      t.match(headers.get('retry-after'), /^\d+$/)
      t.match(headers.get('content-type'), /problem\+json/)
      t.notMatch(text, /postgres|ECONN|127\.0\.0\.1|terminated|pool/i)
      t.match(body, { status: 503, code: /^FST_/ })
    }
    t.equal((await ask(one.url, '/health')).status, 200)
    for (let i = 0; i < 6; i++) await ask(one.url, '/auth/login', { body: { username: 'alice', password: PASSWORD } })
    isOpen = true
    t.equal((await ask(one.url, '/health/ready')).status, 200)
    t.equal((await ask(one.url, '/users/me', { token })).status, 200)
    t.equal((await signIn(one.url)).token_type, 'Bearer', 'and what failed meanwhile locked nobody out')
  })

  await t.test('the password of the database is nowhere', async t => {
    for (const { output } of [one, two]) t.notOk(output().includes(password))
    const { code, output } = await refused(t, { DATA_DIR: folder(t), DATABASE_URL: service.url.replace(password, 'wrong-hunter2') })
    t.equal(code, 1)
    t.notMatch(output, /hunter2/)
    t.match(output, /password authentication failed/)
  })

  await t.test('both end with 0', async t => {
    for (const { child } of [one, two]) child.kill('SIGTERM')
    t.strictSame(await Promise.all([one.ended, two.ended]), [0, 0])
  })
})

/** One request as text, so that Host can be chosen; the whole answer. */
async function get (url: string, path: string, headers: Record<string, string>, body?: string): Promise<string> {
  const { port, hostname } = new URL(url)
  const socket = connect(Number(port), hostname)
  let answer = ''
  socket.setEncoding('utf8').on('data', (text: string) => { answer += text })
  const all = Object.entries({ ...headers, connection: 'close', ...(body !== undefined && { 'content-type': 'application/json', 'content-length': String(body.length) }) })
  socket.write(`${body === undefined ? 'GET' : 'POST'} ${path} HTTP/1.1\r\n${all.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${body ?? ''}`)
  await once(socket, 'close')
  return answer
}
