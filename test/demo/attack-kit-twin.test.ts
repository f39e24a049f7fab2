/** The attack kit on the portal's vulnerable twin, by a policy file alone: each flaw is found by its right name, and nothing that is none. */
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { TOTP } from 'otpauth'
import t from 'tap'
import { buildTwin } from '../../demo/vulnerable/app.js'
import { openTwinDatabase } from '../../demo/vulnerable/data.js'
import { attack, type AttackOptions, type Finding, type FindingId, type RecordedEvent } from '../../plugins/testing/index.js'

t.setTimeout(240_000)
const lines: string[] = []
t.capture(console, 'log', (...words: unknown[]) => { lines.push(words.join(' ')) })

const RECOVERY_CODE = '12345678901'
const directory = await mkdtemp(join(tmpdir(), 'attacked-twin-'))
const password = `Planted-${randomBytes(6).toString('hex')}`
const planted = `planted-${randomBytes(6).toString('hex')}`
const db = await openTwinDatabase(directory, password)
const app = await buildTwin(db, directory)
app.log.level = 'silent'
t.teardown(async () => {
  await app.close()
  await db.close()
  await rm(directory, { recursive: true, force: true })
})
await app.ready()
const options = await attackedTwin(app)
const { findings, requests, duration } = await attack(app, options)
// A second body of what is good once.
const codes = await attack(app, { ...options, only: ['POST /auth/mfa'], families: ['input'], routes: { 'POST /auth/mfa': { body: () => ({ mfaToken: options.values!.mfaToken, code: RECOVERY_CODE }) } } })

interface Named { id: FindingId, route: string, says?: string }
const named = (id: FindingId, route: string, says?: string): Named => ({ id, route, ...says !== undefined && { says } })

/** By flaw: what the kit calls it, where, and what it says where several have one name. `*`: on some route. */
const FOUND: Readonly<Record<string, readonly Named[]>> = {
  'any-password': [named('input.password', 'POST /auth/register', 'everybody tries'), named('input.password', 'POST /auth/register', "one's own name"), named('input.password', 'POST /auth/password')],
  'believed-uploads': [named('uploads.content', 'POST /upload/image'), named('uploads.name', 'POST /upload/image'), named('uploads.size', 'POST /upload/image')],
  'cached-answers': [named('answers.cache', 'GET /users/me')],
  'checks-by-content-type': [named('mutations.media-type', 'PATCH /users/me', 'website')],
  'codes-used-twice': [named('input.replay', 'POST /auth/mfa')],
  'codes-without-limit': [named('limits.exceeded', 'POST /auth/mfa')],
  'cookie-open-to-scripts': [named('answers.cookie', 'POST /session/login'), named('answers.cookie', 'GET /csrf-token')],
  'deactivated-account-goes-on': [named('credentials.revoked', 'GET /users/me', 'switched off')],
  'disabled-keys-go-on': [named('credentials.revoked', 'GET /api/data', 'that was switched off'), named('credentials.revoked', 'GET /api/v2/users', 'that was switched off')],
  'echoing-not-found': [named('answers.markup', '*'), named('answers.redirect', '*')],
  'erased-in-name': [named('traces.erased', 'DELETE /users/me', 'PATCH /users/me, POST /api-keys, POST /documents')],
  'errors-told': [named('leaks.internal', 'GET /search'), named('leaks.internal', 'POST /auth/logout')],
  'everything-returned': [named('exposure.undeclared', 'GET /users/me', '/password'), named('exposure.undeclared', 'GET /users/:userId'), named('exposure.undeclared', 'GET /users')],
  'figures-for-everyone': [named('authorization.open', 'GET /metrics'), named('authorization.role', 'GET /metrics')],
  'forms-of-other-sites': [named('credentials.csrf', 'POST /session/profile')],
  'functions-for-everyone': [named('authorization.role', 'DELETE /users/:userId'), named('authorization.role', 'GET /posture')],
  'guards-by-method': [named('authorization.method', 'DELETE /posts/:postId'), named('authorization.unlisted', 'POST /posts/:postId'), named('mutations.path', 'DELETE /posts/:postId')],
  'guards-by-url': [named('mutations.path', 'GET /patients')],
  'half-sign-in-as-whole': [named('credentials.kind', 'GET /users/me', 'between password and code')],
  'html-as-typed': [named('input.markup', 'POST /posts', 'content')],
  'introspection-by-anybody': [named('authorization.open', 'POST /introspect'), named('authorization.role', 'POST /introspect')],
  'keys-act-for-anyone': [named('credentials.several', 'GET /api/data')],
  'keys-beyond-their-owner': [named('authorization.grant', 'POST /api-keys')],
  'keys-for-everything': [named('authorization.role', 'GET /api/data')],
  // What else is a secret that its owner shows is kept in the same way.
  'keys-in-plain-text': [named('traces.stored', 'POST /api-keys', 'key'), named('traces.stored', 'POST /mfa/enroll', 'secret'), named('traces.stored', 'POST /session/login', 'session'), named('traces.stored', 'GET /csrf-token', 'session')],
  'left-for-debugging': [named('authorization.unlisted', 'GET /debug/settings'), named('authorization.unlisted', 'GET /docs/json')],
  'limits-by-header': [named('limits.variant', 'GET /search', 'a forwarded address'), named('limits.variant', 'GET /search', 'an encoded letter')],
  'lines-in-logs': [named('traces.lines', 'GET /search', 'CRLF')],
  'lock-by-name-alone': [named('limits.exceeded', 'POST /session/login')],
  'lock-counted-late': [named('limits.race', 'POST /session/login')],
  'mass-assignment': [named('assignment.undeclared', 'PATCH /users/me'), named('assignment.undeclared', 'POST /auth/register'), named('exposure.undeclared', 'PATCH /users/me'), named('exposure.undeclared', 'POST /auth/register')],
  'merged-objects': [named('assignment.prototype', 'PUT /users/me/consents/:purpose')],
  'names-as-paths': [named('exposure.canary', 'GET /download/*')],
  'objects-of-others': [named('authorization.object', 'GET /orders/:orderId'), named('authorization.object', 'GET /documents/:documentId'), named('authorization.object', 'GET /users/:userId/orders'), named('authorization.object', 'GET /files/:name')],
  'old-version': [named('authorization.open', 'GET /api/v1/users'), named('authorization.role', 'GET /api/v1/users')],
  'origins-by-beginning': [named('answers.cors', 'GET /users/me')],
  'pages-in-frames': [named('answers.headers', 'GET /')],
  'pages-without-end': [named('input.query', 'GET /posts/:postId/comments')],
  'password-changed-unasked': [named('input.missing', 'POST /auth/password', 'currentPassword')],
  'password-grant-unlimited': [named('limits.exceeded', 'POST /token')],
  'password-guessing': [named('limits.exceeded', 'POST /auth/login'), named('leaks.accounts', 'POST /auth/login')],
  'passwords-in-plain-text': [named('traces.stored', 'POST /auth/register', 'password'), named('traces.stored', 'GET /users', 'password'), named('exposure.canary', 'GET /users/me')],
  'payments-as-told': [named('input.bounds', 'POST /payments', 'amount is 0')],
  'planted-session': [named('credentials.fixation', 'POST /session/login'), named('exposure.undeclared', 'POST /session/login'), named('exposure.undeclared', 'GET /session/me')],
  'predictable-reset-token': [named('traces.predictable', 'POST /auth/forgot', 'md5 of "alice@portal.example"')],
  'records-for-all-staff': [named('exposure.hidden', 'GET /patients')],
  'recovery-codes-used-twice': [named('input.replay', 'POST /auth/mfa', 'its second body')],
  'refresh-token-as-access': [named('credentials.kind', 'GET /users/me', 'a refresh token')],
  'refresh-token-never-spent': [named('input.replay', 'POST /auth/refresh')],
  'reset-link-by-host': [named('mutations.host', 'GET /')],
  'roles-for-oneself': [named('authorization.role', 'PATCH /users/:userId/role')],
  'role-in-token': [named('authorization.role', 'GET /api/v2/users')],
  'session-outlives-sign-out': [named('credentials.revoked', 'GET /session/me', 'in a browser')],
  'shares-for-every-action': [named('authorization.object', 'PUT /documents/:documentId')],
  'shell-commands': [named('input.injection', 'GET /ping')],
  'sign-ins-outlive-password': [named('credentials.revoked', 'GET /users/me', 'change of the password')],
  'sign-out-of-nothing': [named('credentials.revoked', 'GET /users/me', 'after the sign-out')],
  'slow-patterns': [named('slowness.pattern', 'POST /posts', 'tags')],
  'string-built-sql': [named('input.injection', 'GET /search'), named('input.query', 'GET /posts')],
  'token-brings-key': [named('credentials.algorithm', '*', 'brings its own key')],
  'token-decoded-only': [named('credentials.forged', 'GET /users/me/export', 'its signature was changed')],
  'token-key-by-path': [named('credentials.algorithm', '*', 'kid is')],
  'token-key-confusion': [named('credentials.algorithm', '*', 'public key is the secret')],
  'token-names-key-url': [named('credentials.algorithm', '*', 'names where its key is')],
  'token-without-algorithm': [named('credentials.algorithm', '*', 'alg is')],
  'told-addresses': [named('leaks.accounts', 'POST /auth/forgot')],
  // Whichever route takes a body: the parser is one.
  'two-lengths': [named('framing.lengths', '*', 'two answers')],
  'unrecorded-changes': ['DELETE /users/:userId', 'PATCH /users/:userId/role', 'PATCH /users/:userId/active', 'DELETE /posts/:postId'].map(route => named('traces.unrecorded', route)),
  'urls-by-text': [named('outbound.reached', 'PUT /users/me/webhook', 'was connected to')],
  'weak-token-secret': [named('credentials.forged', '*', 'signed with the secret "secret"')],
}

/** What routes, schemas and policies say nothing of. */
const BEYOND: Readonly<Record<string, string>> = {
}

/** Of what runs through the whole twin: the flaw whose defence stands in its way. No route of the twin has a schema, so that nothing is checked but one field. */
const EVERYWHERE: Partial<Record<FindingId, string>> = {
  'answers.cache': 'cached-answers',
  'answers.cors': 'origins-by-beginning',
  'answers.headers': 'pages-in-frames',
  'credentials.forged': 'weak-token-secret',
  'credentials.kind': 'refresh-token-as-access',
  'credentials.revoked': 'sign-out-of-nothing',
  'exposure.canary': 'passwords-in-plain-text',
  'exposure.undeclared': 'everything-returned',
  'input.bounds': 'checks-by-content-type',
  'input.missing': 'checks-by-content-type',
  'input.query': 'checks-by-content-type',
  'input.type': 'checks-by-content-type',
  'leaks.failure': 'checks-by-content-type',
  'leaks.internal': 'errors-told',
  'mutations.malformed': 'merged-objects',
  'mutations.media-type': 'checks-by-content-type',
}
const isOf = ({ id, route, says = '' }: Named) => (one: Finding) => one.id === id && (route === '*' || one.route === route) && `${one.expected} ${one.got}`.includes(says)

t.test('each flaw is found by its right name, or it is said why it cannot be', async t => {
  const flaws = (await readdir('demo/vulnerable/flaws')).map(file => file.slice(0, -'.ts'.length))
  t.strictSame(flaws.filter(flaw => !(flaw in FOUND) && !(flaw in BEYOND)), [], 'every flaw stands in one of the tables')
  t.strictSame(Object.keys({ ...FOUND, ...BEYOND }).filter(flaw => !flaws.includes(flaw) || (flaw in FOUND && flaw in BEYOND)), [], 'and in one alone, while it is there')
  for (const [flaw, names] of Object.entries(FOUND)) {
    for (const name of names) {
      const isSecond = name.says === 'its second body'
      t.ok((isSecond ? codes.findings : findings).some(isOf(isSecond ? named(name.id, name.route) : name)), `${flaw}: ${name.id} ${name.route} ${name.says ?? ''}`)
    }
  }
  t.comment(`${Object.keys(FOUND).length} flaws were found by ${new Set(findings.map(({ id }) => id)).size} kinds of finding, ${Object.keys(BEYOND).length} are beyond the kit; ${requests} requests, ${duration} ms`)
})

t.test('no finding is false: each belongs to a flaw', async t => {
  const all = Object.values(FOUND).flat()
  const strangers = [...findings, ...codes.findings].filter(one => EVERYWHERE[one.id] === undefined && !all.some(name => isOf(name)(one)))
  t.strictSame(strangers.map(({ id, route, expected, got }) => `${id} ${route}: ${expected}; ${got}`), [])
  t.strictSame(Object.values(EVERYWHERE).filter(flaw => !(flaw in FOUND)), [])
})

t.test('what guards its routes as it should has no finding of authorization', async t => {
  const RIGHT = ['GET /audit', 'PATCH /users/:userId/active', 'PATCH /patients/:patientId', 'POST /auth/logout', 'GET /users/me', 'PATCH /users/me', 'GET /documents', 'POST /documents', 'GET /health', 'GET /posts/:postId']
  t.strictSame(findings.filter(({ id, route }) => id.startsWith('authorization') && RIGHT.includes(route)), [])
})

/** What the kit is told of the twin: who calls, and whose objects there are. */
async function attackedTwin (app: FastifyInstance): Promise<AttackOptions> {
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
    policy: 'demo/vulnerable/policy.json',
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
      browser: { cookie: 'session=session-of-bob', csrf: 'none', roles: ['user'], id: idOf('bob') },
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
    values: { mfaToken: tokenOf('dora', 'mfa'), orderId: order, username: 'alice', password, email: 'alice@portal.example', website: 'https://example.com/', url: 'https://example.com/', newPassword: 'Another-password-1' },
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
      stored: () => rows(),
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
async function * rows (): AsyncGenerator<string> {
  for (const { name } of await select<{ name: string }>("select table_name as name from information_schema.tables where table_schema = 'public' and table_name <> 'users_kept'")) {
    for (const { text } of await select<{ text: string }>(`select row_to_json(t)::text as text from ${name} t`)) yield text
  }
}

async function select<T> (statement: string, values: unknown[] = []): Promise<T[]> {
  // A statement of the twin with U+0000 in its text makes the database answer the next one with an error, too.
  return (await db.query<T>(statement, values).catch(() => db.query<T>(statement, values))).rows
}
