/** The portal's vulnerable twin, and what the attack kit is told of it. */
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { PGlite } from '@electric-sql/pglite'
import type { FastifyInstance } from 'fastify'
import { TOTP } from 'otpauth'
import type { Test } from 'tap'
import { buildTwin } from '../../demo/vulnerable/app.js'
import { openTwinDatabase } from '../../demo/vulnerable/data.js'
import type { AttackOptions, RecordedEvent } from '../../plugins/testing/index.js'

export const POLICY = 'demo/vulnerable/policy.json'
/** Of dora, whose second factor it is. */
export const RECOVERY_CODE = '12345678901'

/** Ready to be attacked; it goes with the test. */
export async function attackedTwin (t: Test): Promise<{ app: FastifyInstance, options: AttackOptions }> {
  const lines: string[] = []
  t.capture(console, 'log', (...words: unknown[]) => { lines.push(words.join(' ')) })
  const directory = await mkdtemp(join(tmpdir(), 'attacked-twin-'))
  const password = `Planted-${randomBytes(6).toString('hex')}`
  const db = await openTwinDatabase(directory, password)
  const app = await buildTwin(db, directory)
  app.log.level = 'silent'
  t.teardown(async () => {
    await app.close()
    await db.close()
    await rm(directory, { recursive: true, force: true })
  })
  await app.ready()
  return { app, options: await optionsOf(app, db, directory, password, lines) }
}

/** Who calls, whose objects there are, and what may be looked at. */
async function optionsOf (app: FastifyInstance, db: PGlite, directory: string, password: string, lines: readonly string[]): Promise<AttackOptions> {
  const select = async <T>(statement: string, values: unknown[] = []) => (await again(() => db.query<T>(statement, values))).rows
  const users = await select<{ id: number, username: string, role: string }>('select id, username, role from users')
  const idOf = (name: string) => String(users.find(({ username }) => username === name)!.id)
  const sign = (claims: object) => (app as unknown as { jwt: { sign: (claims: object) => string } }).jwt.sign(claims)
  const tokenOf = (name: string, use = 'access', role = 'user') => sign({ sub: idOf(name), use, role })
  const caller = (name: string, role: string, told = role) => ({ token: tokenOf(name, 'access', told), roles: [role] })
  const make = async (statement: string, ...values: unknown[]) => String((await select<{ id: number }>(`${statement} returning id`, values))[0]!.id)
  const freshUser = () => make("insert into users (username, email, password) values ($1, $1, 'x')", randomUUID())
  const order = () => make("insert into orders (user_id, item, total, currency) values ($1, 'Lamp', 1900, 'EUR')", idOf('alice'))
  const shared = async () => {
    const id = await make("insert into documents (owner_id, title, content) values ($1, 'Shared', 'for reading')", idOf('alice'))
    await select("insert into shares (document_id, user_id, actions) values ($1, $2, '{read}')", [Number(id), Number(idOf('bob'))])
    return id
  }
  const planted = `planted-${randomBytes(6).toString('hex')}`
  const factor = new TOTP()
  await db.query('insert into second_factors (user_id, secret, is_confirmed, recovery_codes) values ($1, $2, true, $3)', [Number(idOf('dora')), factor.secret.base32, [RECOVERY_CODE]])
  await db.query("insert into api_keys (user_id, name, key, scopes, is_active) values ($1, 'on', 'sk_live_on', '{users:read}', true), ($1, 'off', 'sk_live_off', '{users:read}', false), ($2, 'data', 'sk_live_data', '{data:read}', true)", [Number(idOf('mona')), Number(idOf('bob'))])
  await db.query("insert into sessions (id, user_id) values ('session-of-bob', $1), ('session-ended', $1)", [Number(idOf('bob'))])
  await mkdir(join(directory, 'uploads'), { recursive: true })
  await writeFile(join(directory, '.env'), `SECRET=${planted}\n`)
  for (const name of ['alice', 'bob']) {
    await writeFile(join(directory, 'uploads', `${name}.txt`), `The file of ${name}`)
    await db.query("insert into files (owner_id, name, type, size) values ($1, $2, 'text/plain', 10)", [Number(idOf(name)), `${name}.txt`])
  }
  await db.query('create table users_kept as select * from users')
  await app.inject({ method: 'POST', url: '/session/logout', headers: { cookie: 'session=session-ended' } })
  const [signedOut, beforePassword] = [tokenOf('gus'), tokenOf('gus')]
  await app.inject({ method: 'POST', url: '/auth/logout', headers: { authorization: `Bearer ${signedOut}` } })
  await app.inject({ method: 'POST', url: '/auth/password', headers: { authorization: `Bearer ${beforePassword}` }, payload: { newPassword: 'another-password' } })

  return {
    policy: POLICY,
    canaries: [password, planted],
    fields: 14,
    principals: {
      alice: caller('alice', 'user'),
      bob: caller('bob', 'user'),
      nora: caller('nora', 'nurse'),
      // Was a moderator when the token was made.
      gus: caller('gus', 'guest', 'moderator'),
      admin: caller('admin', 'admin'),
      key: { key: 'sk_live_on', roles: ['moderator'], scopes: ['users:read'], id: idOf('mona') },
      reader: { key: 'sk_live_data', roles: ['user'], scopes: ['data:read'], id: idOf('bob') },
      browser: { cookie: 'session=session-of-bob', csrf: 'asked-for-by-nobody', roles: ['user'], id: idOf('bob') },
    },
    refused: {
      kind: [{ token: tokenOf('alice', 'refresh'), what: 'a refresh token' }, { token: tokenOf('max', 'mfa'), what: 'a token between password and code' }],
      revoked: [
        { token: signedOut, what: 'after the sign-out' }, { token: beforePassword, what: 'after a change of the password' }, { token: tokenOf('ina'), what: 'of an account that is switched off' },
        { cookie: 'session=session-ended', what: 'after the sign-out in a browser' }, { key: 'sk_live_off', what: 'that was switched off' },
      ],
    },
    objects: {
      userId: { alice: idOf('alice'), bob: idOf('bob') },
      orderId: { alice: order, bob: idOf('bob') },
      documentId: { alice: shared, bob: idOf('bob') },
      name: { alice: 'alice.txt', bob: 'bob.txt' },
      keyId: { '*': '1' },
      postId: { '*': '1' },
      patientId: { '*': '1' },
      purpose: { '*': 'newsletter' },
      '*': { '*': 'alice.txt' },
    },
    // Documents are shared with somebody else, as it is meant.
    values: { userId: idOf('bob'), mfaToken: tokenOf('dora', 'mfa'), orderId: order, username: 'alice', password, email: 'alice@portal.example', website: 'https://example.com/', url: 'https://example.com/', newPassword: 'Another-password-1' },
    routes: {
      'GET /ping': { query: { host: '127.0.0.1' }, skip: { leaks: 'each request starts a program' } },
      'GET /users/:userId': { foreign: 'allow' },
      'DELETE /users/:userId': { objects: { userId: { '*': freshUser } } },
      'PATCH /users/:userId/active': { objects: { userId: { '*': freshUser } } },
      'DELETE /posts/:postId': { objects: { postId: { '*': () => make("insert into posts (author_id, title) values (1, 'x')") } } },
      'POST /auth/register': { body: () => ({ username: randomUUID(), email: `${randomUUID()}@portal.example`, password }) },
      'POST /auth/mfa': { body: () => ({ mfaToken: tokenOf('dora', 'mfa'), code: factor.generate() }) },
      'POST /auth/refresh': { body: { refresh_token: tokenOf('alice', 'refresh') } },
      'POST /mfa/confirm': { skip: { 'authorization.denied': 'the code changes with the secret' } },
      'PUT /users/me/webhook': { connects: 'POST /users/me/webhook/test' },
    },
    witnesses: {
      stored: () => rows(select),
      logged: () => lines,
      recorded: () => select<RecordedEvent>('select * from events'),
      mailed: async () => Promise.all((await readdir(join(directory, 'mail')).catch(() => [])).map(name => readFile(join(directory, 'mail', name), 'utf8'))),
    },
    // What an attack has made of people is undone before the next.
    async reset () {
      await select(`update users set username = kept.username, email = kept.email, password = kept.password, role = kept.role, plan = kept.plan, balance = kept.balance,
        is_active = kept.is_active, phone = kept.phone, website = kept.website, bio = kept.bio from users_kept as kept where users.id = kept.id`)
    },
  }
}

/** All that is stored: each row of each table. */
async function * rows (select: <T>(statement: string) => Promise<T[]>): AsyncGenerator<string> {
  for (const { name } of await select<{ name: string }>("select table_name as name from information_schema.tables where table_schema = 'public' and table_name <> 'users_kept'")) {
    for (const { text } of await select<{ text: string }>(`select row_to_json(t)::text as text from ${name} t`)) yield text
  }
}

/** A statement of the twin with U+0000 in its text makes the database answer the next one with an error, too. */
async function again<T> (ask: () => Promise<T>): Promise<T> {
  return ask().catch(ask)
}
