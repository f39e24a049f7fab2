/** API keys on real sockets: two processes of the portal with one PostgreSQL and one Redis. */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import t from 'tap'
import { TYPESCRIPT } from '../fixtures/typescript.js'
import { ownRedis, postgres } from '../services.js'

t.setTimeout(300_000)
const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const PASSWORD = 'Process-pass-1'
const APP_SECRET = randomBytes(48).toString('base64url')

interface Answer { status: number, body: any }
interface Portal { ask: (method: string, path: string, more?: { body?: object, headers?: Record<string, string> }) => Promise<Answer>, output: () => string, end: () => Promise<void> }

async function portal (env: Record<string, string>): Promise<Portal> {
  const folder = mkdtempSync(join(tmpdir(), 'portal-'))
  const child = spawn(process.execPath, [...TYPESCRIPT, 'demo/server.ts'], {
    cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: process.env.PATH, PORT: '0', LOG_LEVEL: 'trace', DATA_DIR: join(folder, 'data'), DEMO_PASSWORD: PASSWORD, APP_SECRET, ...env },
  })
  const ended = once(child, 'close')
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => { output += text })
  async function end (): Promise<void> {
    child.kill('SIGTERM')
    await ended
    rmSync(folder, { recursive: true, force: true })
  }
  t.teardown(end)
  let url: string | undefined
  while (url === undefined) {
    if (child.exitCode !== null) throw new Error(output)
    await pause(50)
    url = /^listening on (\S+)$/m.exec(output)?.[1]
  }
  const origin = url
  return {
    output: () => output,
    end,
    async ask (method, path, { body, headers } = {}) {
      const answer = await fetch(new URL(path, origin), { method, headers: { ...headers, ...body && { 'content-type': 'application/json' } }, body: body && JSON.stringify(body) })
      const text = await answer.text()
      return { status: answer.status, body: text === '' ? undefined : JSON.parse(text) }
    },
  }
}

const database = await postgres(t)
const state = database === null ? null : await ownRedis(t)
if (database !== null && state !== null) {
  const env = { DATABASE_URL: database.url, REDIS_URL: state.url, PUBLIC_ORIGIN: 'http://localhost:3000' }
  const here = await portal(env)
  const there = await portal(env)
  const signIn = async (username: string) => {
    const { body } = await here.ask('POST', '/auth/login', { body: { username, password: PASSWORD } })
    return { authorization: `Bearer ${body.access_token}` }
  }
  const alice = await signIn('alice')
  const make = async () => (await here.ask('POST', '/api-keys', { headers: alice, body: { name: 'Nightly', scopes: ['data:read'] } })).body as { id: string, key: string }
  const read = (at: Portal, key: string) => at.ask('GET', '/api/data', { headers: { 'x-api-key': key } })
  const told: string[] = []
  /** Where a flood keeps the machine busy, shared state may be late; what cannot be checked is refused. */
  const LATE = 503
  const statusesOf = (answers: readonly { status: number }[]) => [...new Set(answers.map(({ status }) => status))]

  t.test('a key that one process made, changed or ended is so at the other with its very next request', async t => {
    const { id, key } = await make()
    told.push(key)
    t.match(await read(there, key), { status: 200, body: { posts: 2, documents: 1, orders: 2 } })
    for (let i = 0; i < 20; i++) {
      t.equal((await here.ask('PATCH', `/api-keys/${id}`, { headers: alice, body: { isActive: false } })).status, 200)
      t.equal((await read(there, key)).status, 403)
      t.equal((await here.ask('PATCH', `/api-keys/${id}`, { headers: alice, body: { isActive: true } })).status, 200)
      t.equal((await read(there, key)).status, 200)
    }
    t.equal((await here.ask('DELETE', `/api-keys/${id}`, { headers: alice })).status, 204)
    t.equal((await read(there, key)).status, 401)
  })

  t.test('two hundred requests at once, on both, around the moment at which the key is disabled', async t => {
    const { id, key } = await make()
    told.push(key)
    const flood = () => Promise.all(Array.from({ length: 200 }, (_none, i) => read(i % 2 === 0 ? here : there, key)))
    t.ok((await flood()).every(({ status }) => status === 200 || status === LATE))
    const during = flood()
    t.equal(await disable(), 200)
    t.strictSame(statusesOf(await flood()).filter(status => status !== LATE), [403], 'none that came after')
    t.ok((await during).every(({ status }) => status === 200 || status === 403 || status === LATE))

    async function disable (): Promise<number> {
      const { status } = await here.ask('PATCH', `/api-keys/${id}`, { headers: alice, body: { isActive: false } })
      return status === LATE ? disable() : status
    }
  })

  t.test('with its user the key ends at the other process', async t => {
    const admin = await signIn('admin')
    const bob = await signIn('bob')
    const { body: { key } } = await here.ask('POST', '/api-keys', { headers: bob, body: { name: 'Of Bob', scopes: ['data:read'] } })
    told.push(key)
    const { body: { id } } = await here.ask('GET', '/users/me', { headers: bob })
    t.equal((await read(there, key)).status, 200)
    t.equal((await here.ask('PATCH', `/users/${id}/active`, { headers: admin, body: { isActive: false } })).status, 204)
    t.equal((await read(there, key)).status, 401)
    t.equal((await here.ask('PATCH', `/users/${id}/active`, { headers: admin, body: { isActive: true } })).status, 204)
    t.equal((await read(there, key)).status, 200)
  })

  t.test('a process that ends has written when its keys were last used; and no key is in a log or a table', async t => {
    const { id, key } = await make()
    told.push(key)
    t.equal((await read(there, key)).status, 200)
    const client = new pg.Client({ connectionString: database.url })
    await client.connect()
    t.teardown(() => client.end())
    const lastUsed = async () => (await client.query('select last_used_at from api_keys where id = $1', [id])).rows[0].last_used_at
    t.equal(await lastUsed(), null, 'not with the request')
    await there.end()
    t.ok(await lastUsed())
    const { rows: tables } = await client.query("select table_name as name from information_schema.tables where table_schema = 'public'")
    let dump = ''
    for (const { name } of tables) dump += JSON.stringify((await client.query(`select * from "${name}"`)).rows)
    t.match(dump, id)
    for (const text of told) {
      for (const [where, all] of [['the database', dump], ['a log', here.output() + there.output()]] as const) t.notOk(all.includes(text.slice(24, 44)), where)
    }
  })
}
