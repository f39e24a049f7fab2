/** The portal as a process: how it starts, what it refuses to start with, and how it ends. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { request as httpsRequest } from 'node:https'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { postgres } from '../services.js'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
/** Milliseconds; far more than a machine with nothing else to do needs. */
const START_MS = 100_000
const PATIENCE = { timeout: 280_000 }
const SEEDED_PASSWORD = 'Seeded-pass-1'

interface Portal { child: ChildProcess, url: string, output: () => string, ended: Promise<number | null> }

function folder (t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'portal-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** Runs the portal until it listens or ends. */
function run (t: Test, env: Record<string, string>, command = [process.execPath, '--import', 'tsx', 'demo/server.ts']): Promise<Portal> {
  const { PATH, HOME } = process.env
  const child = spawn(command[0]!, command.slice(1), { cwd: ROOT, env: { PATH, HOME, PORT: '0', ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  const ended = once(child, 'close').then(([code]) => code as number | null)
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return new Promise((resolve, reject) => {
    const patience = setTimeout(() => reject(new Error(`the portal did not start: ${output}`)), START_MS)
    const settle = (url: string) => {
      clearTimeout(patience)
      resolve({ child, url, output: () => output, ended })
    }
    const hear = (chunk: Buffer) => {
      output += chunk
      const url = /^listening on (https?:\/\/\S+)$/m.exec(output)?.[1]
      if (url !== undefined) settle(url)
    }
    child.stdout!.on('data', hear)
    child.stderr!.on('data', hear)
    ended.then(() => settle(''), reject)
  })
}

async function post (url: string, body: unknown, headers: Record<string, string> = {}): Promise<{ status: number, body: any }> {
  const answer = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) })
  const text = await answer.text()
  return { status: answer.status, body: text === '' ? null : JSON.parse(text) }
}

t.setTimeout(600_000)

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

t.test('a first start tells the accounts, their password once, and then where it listens', PATIENCE, async t => {
  const directory = folder(t)
  const first = await run(t, { DATA_DIR: join(directory, 'data') })
  const said = first.output()
  const password = /shown this once\): (\S+)/.exec(said)?.[1]
  t.ok(password, 'the password was shown')
  t.ok(said.indexOf('dora') < said.indexOf('listening on'), 'the accounts are told before it listens')
  t.match(first.url, /^http:\/\/127\.0\.0\.1:\d+$/)
  t.equal((statSync(join(directory, 'data')).mode & 0o777).toString(8), '700')
  t.equal((statSync(join(directory, 'data', 'app-secret')).mode & 0o777).toString(8), '600')

  const signedIn = await post(`${first.url}/auth/login`, { username: 'alice', password })
  t.equal(signedIn.status, 200)
  const token = signedIn.body.access_token as string
  const written = await post(`${first.url}/posts`, { title: 'Stays', content: '<p>What is written stays.</p>' }, bearer(token))
  t.equal(written.status, 201)
  t.equal((await fetch(`${first.url}/auth/logout`, { method: 'POST', headers: bearer(token) })).status, 204)

  await t.test('a second process on the same directory is refused by name', PATIENCE, async t => {
    const second = await run(t, { DATA_DIR: join(directory, 'data') })
    t.equal(second.url, '')
    t.not(await second.ended, 0)
    t.match(second.output(), /in use by process \d+/)
  })

  first.child.kill('SIGTERM')
  t.equal(await first.ended, 0, 'SIGTERM ends it with 0')

  const again = await run(t, { DATA_DIR: join(directory, 'data') })
  t.notMatch(again.output(), /shown this once/, 'the password is not shown again')
  t.equal((await fetch(`${again.url}/posts/${written.body.id}`)).status, 200, 'the post is still there')
  t.equal((await post(`${again.url}/auth/login`, { username: 'alice', password })).status, 200, 'the account is still there')
  t.equal((await fetch(`${again.url}/users/me`, { headers: bearer(token) })).status, 401, 'a token that was ended stays so')

  again.child.kill('SIGKILL')
  await again.ended
  const third = await run(t, { DATA_DIR: join(directory, 'data') })
  t.not(third.url, '', 'a killed process leaves no lock behind')
})

t.test('SIGTERM and SIGINT let a request in flight finish and end with 0, through npm too', PATIENCE, async t => {
  for (const [signal, command] of [['SIGTERM', undefined], ['SIGINT', undefined], ['SIGTERM', ['npm', 'run', 'demo']]] as const) {
    const portal = await run(t, { DATA_DIR: folder(t), DEMO_PASSWORD: SEEDED_PASSWORD }, command === undefined ? undefined : [...command])
    const body = JSON.stringify({ username: 'alice', password: SEEDED_PASSWORD })
    const socket = connect(Number(new URL(portal.url).port), '127.0.0.1')
    let answer = ''
    socket.on('data', chunk => { answer += chunk })
    await once(socket, 'connect')
    // Half of a request is under way when the signal comes, the other half follows.
    socket.write(`POST /auth/login HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body.slice(0, 10)}`)
    await new Promise(resolve => setTimeout(resolve, 100))
    portal.child.kill(signal)
    await new Promise(resolve => setTimeout(resolve, 100))
    socket.write(body.slice(10))
    await once(socket, 'close')
    t.match(answer, /^HTTP\/1\.1 200 OK[\s\S]*access_token/, `${signal}: the request in flight was answered`)
    t.equal(await portal.ended, 0, `${signal}: exit code 0`)
  }
})

t.test('production starts only with a secret that is one', PATIENCE, async t => {
  for (const [name, secret, said] of [
    ['none', undefined, /APP_SECRET is missing/],
    ['a well-known one', 'changeme', /APP_SECRET/],
    ['a short one', randomBytes(8).toString('base64url'), /APP_SECRET/],
    ['one without entropy', 'ab'.repeat(32), /APP_SECRET/],
  ] as const) {
    const portal = await run(t, { DATA_DIR: folder(t), NODE_ENV: 'production', ...(secret !== undefined && { APP_SECRET: secret }) })
    t.equal(portal.url, '', `${name}: does not start`)
    t.equal(await portal.ended, 1)
    t.match(portal.output(), said)
    if (secret !== undefined) t.notOk(portal.output().includes(secret), 'and does not repeat it')
  }

  const portal = await run(t, { DATA_DIR: folder(t), NODE_ENV: 'production', APP_SECRET: randomBytes(48).toString('base64url') })
  t.notMatch(portal.output(), /dora|shown this once/, 'nothing is seeded without a password that was asked for')
  t.equal((await fetch(`${portal.url}/health`)).status, 421, 'loopback names are no trusted hosts in production')
})

t.test('the output of a session holds no password, token or secret, and one line a request', PATIENCE, async t => {
  const portal = await run(t, { DATA_DIR: folder(t), DEMO_PASSWORD: SEEDED_PASSWORD, LOG_LEVEL: 'trace' })
  const { body: tokens } = await post(`${portal.url}/auth/login`, { username: 'alice', password: SEEDED_PASSWORD })
  await post(`${portal.url}/auth/login`, { username: 'Wrong-name-9', password: 'Wrong-pass-9' })
  await post(`${portal.url}/auth/refresh?secret=Query-secret-9`, { refresh_token: tokens.refresh_token })
  await fetch(`${portal.url}/users/me`, { headers: { ...bearer(tokens.access_token), cookie: 'session=Cookie-secret-9', 'x-api-key': 'Key-secret-9' } })
  portal.child.kill('SIGTERM')
  await portal.ended
  const output = portal.output()
  const secrets = [SEEDED_PASSWORD, 'Wrong-pass-9', 'Wrong-name-9', 'Query-secret-9', 'Cookie-secret-9', 'Key-secret-9', tokens.access_token, tokens.refresh_token, '$argon2']
  t.same(secrets.filter(secret => output.includes(secret)), [])
  const requests = output.split('\n').filter(line => line.startsWith('{')).map(line => JSON.parse(line)).filter(line => line.msg === 'request')
  t.equal(requests.length, 4)
  t.ok(requests.every(line => typeof line.requestId === 'string' && typeof line.status === 'number'))
})

t.test('with a certificate it serves HTTPS and says so for two years', PATIENCE, async t => {
  const directory = folder(t)
  const cert = join(directory, 'cert.pem')
  const key = join(directory, 'key.pem')
  const made = spawnSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-keyout', key, '-out', cert])
  if (made.status !== 0) return t.fail('openssl is needed to make the certificate of this test')
  const portal = await run(t, { DATA_DIR: join(directory, 'data'), TLS_CERT: cert, TLS_KEY: key })
  t.match(portal.url, /^https:/)
  const answer = await new Promise<{ status?: number, hsts?: string }>((resolve, reject) => {
    httpsRequest(`${portal.url}/health`, { rejectUnauthorized: false, headers: { host: 'localhost' } }, response => {
      response.resume()
      resolve({ status: response.statusCode, hsts: response.headers['strict-transport-security'] })
    }).on('error', reject).end()
  })
  t.equal(answer.status, 200)
  t.match(answer.hsts, /max-age=63072000/)
})

t.test('settings that contradict themselves stop it with a sentence', PATIENCE, async t => {
  const directory = folder(t)
  writeFileSync(join(directory, 'cert.pem'), '')
  for (const [env, said] of [
    [{ TLS_CERT: join(directory, 'cert.pem') }, /TLS_KEY/],
    [{ PORT: 'eighty' }, /PORT/],
    [{ JWT_ALGORITHM: 'none' }, /JWT_ALGORITHM/],
    [{ JWT_ALGORITHM: 'RS256' }, /JWT_KEYS/],
    [{ DATABASE_URL: 'postgres://someone:Secret-of-db-9@127.0.0.1:1/none' }, /database|connect/i],
  ] as [Record<string, string>, RegExp][]) {
    const portal = await run(t, { DATA_DIR: join(directory, 'data'), ...env })
    t.equal(portal.url, '')
    t.equal(await portal.ended, 1)
    t.match(portal.output(), said)
    t.notMatch(portal.output(), /Secret-of-db-9/)
  }
})

t.test('two processes that start at once on one PostgreSQL migrate and seed it once', PATIENCE, async t => {
  const server = await postgres(t)
  if (server === null) return
  const env = { DATABASE_URL: server.url, DEMO_PASSWORD: SEEDED_PASSWORD, APP_SECRET: randomBytes(48).toString('base64url') }
  const [one, two] = await Promise.all([run(t, { ...env, DATA_DIR: folder(t) }), run(t, { ...env, DATA_DIR: folder(t) })])
  t.not(one.url, '', one.output())
  t.not(two.url, '', two.output())
  const { body: tokens } = await post(`${one.url}/auth/login`, { username: 'admin', password: SEEDED_PASSWORD })
  const page = await (await fetch(`${one.url}/users?limit=100`, { headers: bearer(tokens.access_token) })).json() as { items: unknown[] }
  t.equal(page.items.length, 9)
  t.equal((await post(`${two.url}/auth/login`, { username: 'alice', password: SEEDED_PASSWORD })).status, 200)
})
