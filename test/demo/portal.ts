/** The portal in this process, as its tests ask it: every answer is held to what the contract says of all answers. */
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import argon2 from 'argon2'
import type { Test } from 'tap'
import { buildPortal, type PortalParts } from '../../demo/app.js'
import { migrate, MIGRATIONS, openDatabase } from '../../demo/data/database.js'
import { seed } from '../../demo/data/seed.js'
import type { Mail } from '../../demo/mail.js'
import type { PortalSettings } from '../../demo/settings.js'
import type { HashEngine } from '../../plugins/passwords/index.js'
import type { Sql } from '../../plugins/sql.js'
import { embedded, textOf } from '../fixtures/embedded.js'

export const PASSWORD = 'Seeded-pass-1'
export const APP_SECRET = randomBytes(48).toString('base64url')
export const ORIGIN = 'http://localhost:3000'

export interface Answer {
  status: number
  headers: Record<string, unknown>
  text: string
  // What the contract declares is asserted by the tests themselves.
  body: any
}

export interface Call {
  token?: string
  body?: unknown
  /** The body as it is, with its media type. */
  raw?: string | Buffer
  type?: string
  headers?: Record<string, string>
  /** Whom the request comes from; by default an address of its own, so that no limit is met by accident. */
  address?: string
}

export interface Tokens { access_token: string, refresh_token: string }

export interface PortalUnderTest {
  app: FastifyInstance
  sql: Sql
  /** Every line that was logged, at `trace`. */
  log: string[]
  call: (method: string, url: string, call?: Call) => Promise<Answer>
  /** Its data directory. */
  directory: string
  /** Every mail that was sent. */
  mails: Mail[]
  /** Signs in and answers the tokens. */
  signIn: (username: string, password?: string, call?: Call) => Promise<Tokens>
  /** An access token. */
  token: (username: string, password?: string) => Promise<string>
  /** The id of a user. */
  idOf: (username: string) => Promise<string>
  /** Registers somebody new, with a name of its own, and signs in. */
  newcomer: (role?: string) => Promise<Tokens & { username: string, id: string, token: string }>
  /** Lets time pass. */
  pass: (ms: number) => void
  now: () => number
}

/** What no answer and no line of the log ever holds. */
const NEVER = [/\$argon2/, /password_?hash(?!es|_)/i, /at .{1,200}\.[jt]s:\d+:\d+/, /node_modules/, /\bselect .+ from /i, new RegExp(APP_SECRET)]
const PROBLEM = ['code', 'detail', 'errors', 'factors', 'mfaToken', 'requestId', 'status', 'title', 'type', 'violated-policies']
const HEADERS = {
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'content-security-policy': /default-src 'none'/,
  'permissions-policy': /camera=\(\)/,
  'cross-origin-resource-policy': 'same-origin',
}

/** Argon2id at the least that it can cost: what passwords are kept with is the matter of test/passwords and of production.test.ts. */
const HASHES: HashEngine = {
  hash: password => argon2.hash(password, { memoryCost: 1024, timeCost: 2, parallelism: 1 }),
  verify: (hash, password) => argon2.verify(hash, password),
  isOutdated: () => false,
}

let people = 0

export async function build (t: Test, settings: Partial<PortalSettings> = {}): Promise<PortalUnderTest> {
  const sql = await freshDatabase(t)
  return buildOn(t, sql, settings)
}

/** `declare` adds routes of the test's own. */
export async function buildOn (t: Test, sql: Sql, settings: Partial<PortalSettings> = {}, declare: (app: FastifyInstance) => void = () => {}, parts: Partial<Pick<PortalParts, 'breached' | 'hashes' | 'outbound' | 'overload' | 'tls'>> = {}): Promise<PortalUnderTest> {
  const log: string[] = []
  const mails: Mail[] = []
  let time = Date.now()
  let addresses = 0
  const directory = settings.DATA_DIR ?? folderOf(t)
  const app = await buildPortal({
    settings: {
      HOST: '127.0.0.1', PORT: 3000, NODE_ENV: 'test', DATA_DIR: directory, JWT_ALGORITHM: 'HS256', PASSWORD_POLICY: 'composition', REGISTRATION: 'open', LOG_LEVEL: 'trace', MAIL_FROM: 'portal@localhost', ...settings,
    },
    secret: APP_SECRET,
    mail: async mail => { mails.push(mail) },
    sql,
    origin: ORIGIN,
    // The machine may be busy with other tests.
    overload: { maxEventLoopDelay: 60_000 },
    hashes: HASHES,
    logger: { level: 'trace', stream: { write: (line: string) => { log.push(line) } } },
    // On Redis the time is the server's: then `pass` does nothing.
    ...(settings.REDIS_URL === undefined && { now: () => time }),
    ...parts,
  })
  t.teardown(() => app.close())
  declare(app)
  await app.ready()
  await seed(sql, app, PASSWORD)

  async function call (method: string, url: string, { token, body, raw, type, headers = {}, address = addressOf(++addresses) }: Call = {}): Promise<Answer> {
    const payload = raw ?? (body === undefined ? undefined : JSON.stringify(body))
    const answer = await app.inject({
      method: method as 'GET',
      url,
      remoteAddress: address,
      headers: {
        host: 'localhost:3000',
        ...(payload !== undefined && { 'content-type': type ?? 'application/json' }),
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...headers,
      },
      ...(payload !== undefined && { payload }),
    })
    const isJson = /json/.test(String(answer.headers['content-type'])) && answer.body !== ''
    const given: Answer = { status: answer.statusCode, headers: answer.headers, text: answer.body, body: isJson ? answer.json() : undefined }
    const faults = faultsOf(`${method} ${url}`, given, method === 'HEAD')
    if (faults.length > 0) t.fail(`${method} ${url} (${given.status}): ${faults.join('; ')}`)
    return given
  }

  async function signIn (username: string, password = PASSWORD, more: Call = {}): Promise<Tokens> {
    const { status, body } = await call('POST', '/auth/login', { body: { username, password }, ...more })
    if (status !== 200) throw new Error(`${username} cannot sign in: ${status}`)
    return body
  }

  const token = async (username: string, password?: string) => (await signIn(username, password)).access_token
  const idOf = async (username: string) => {
    const [user] = await sql.query<{ id: string }>('select id from users where username = $1', [username])
    return user!.id
  }

  async function newcomer (role = 'user') {
    const username = `person_${++people}`
    const { body } = await call('POST', '/auth/register', { body: { username, email: `${username}@people.example`, password: 'Newcomer-pass-1' } })
    if (role !== 'user') await sql.query('update users set role = $1 where id = $2', [role, body.id])
    const tokens = await signIn(username, 'Newcomer-pass-1')
    return { ...tokens, username, id: body.id as string, token: tokens.access_token }
  }

  return { app, sql, log, directory, mails, call, signIn, token, idOf, newcomer, pass: ms => { time += ms }, now: () => time }
}

/** A data directory of its own. */
export function folderOf (t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'portal-'))
  t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
  return folder
}

/** A database of its own: in memory, or on the PostgreSQL server that the environment names. */
export async function freshDatabase (t: Test): Promise<Sql> {
  const server = process.env.PORTAL_TEST_DATABASE_URL
  const sql = server === undefined ? await embedded(await textOf(MIGRATIONS), migrate) : await openDatabase({ url: await createDatabase(server) })
  t.teardown(() => sql.close())
  return sql
}

async function createDatabase (server: string): Promise<string> {
  const { default: pg } = await import('pg')
  const client = new pg.Client({ connectionString: server })
  await client.connect()
  const name = `portal_${randomBytes(6).toString('hex')}`
  await client.query(`create database ${name}`)
  await client.end()
  const url = new URL(server)
  url.pathname = `/${name}`
  return url.href
}

/** What is wrong with an answer by what the contract says of every answer, whatever it is. */
export function faultsOf (what: string, { status, headers, text, body }: Answer, isHead: boolean): string[] {
  const faults: string[] = []
  for (const [name, expected] of Object.entries(HEADERS)) {
    const value = String(headers[name])
    if (typeof expected === 'string' ? value !== expected : !expected.test(value)) faults.push(`header ${name} is ${value}`)
  }
  if (headers['x-powered-by'] !== undefined || headers.server !== undefined) faults.push('the server names itself')
  for (const pattern of NEVER) if (pattern.test(text)) faults.push(`the answer holds ${String(pattern)}`)
  if (status >= 400) {
    const isOAuth = what === 'POST /token' // the one place with OAuth's form (RFC 6749, 5.2)
    if (!(isOAuth ? /^application\/json/ : /^application\/problem\+json/).test(String(headers['content-type']))) faults.push(`content-type is ${String(headers['content-type'])}`)
    if (headers['cache-control'] !== 'no-store') faults.push('a refusal may be cached')
    if (status === 401 && headers['www-authenticate'] === undefined) faults.push('401 without a challenge')
    if ((status === 429 || status === 503) && !/^[1-9]\d*$/.test(String(headers['retry-after']))) faults.push(`${status} without Retry-After`)
    if (isOAuth) {
      if (!/^[a-z_]+$/.test(body?.error) || Object.keys(body).some(key => !['error', 'error_description'].includes(key))) faults.push(`not OAuth's form: ${text}`)
    } else if (!isHead) {
      const unknown = Object.keys(body ?? {}).filter(key => !PROBLEM.includes(key))
      if (unknown.length > 0) faults.push(`the problem has ${unknown.join(', ')}`)
      if (body?.status !== status || !/^FST_[A-Z0-9_]+$/.test(body?.code) || typeof body?.requestId !== 'string' || typeof body?.title !== 'string') faults.push(`not a problem: ${text}`)
    }
  }
  if (isHead && text !== '') faults.push('HEAD has a body')
  if (status === 423 || (status >= 500 && status !== 503)) faults.push(`status ${status}`)
  return faults
}

function addressOf (n: number): string {
  return `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`
}
