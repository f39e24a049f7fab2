/** The attack kit on the portal's vulnerable twin, by a policy file alone: each flaw is found by its right name, and nothing that is none. */
import { readdir, readFile } from 'node:fs/promises'
import t from 'tap'
import { attack, type Finding, type FindingId } from '../../plugins/testing/index.js'
import { attackedTwin, POLICY, RECOVERY_CODE } from './attacked-twin.js'

t.setTimeout(600_000)

const { app, options } = await attackedTwin(t)
const { findings: first, requests, duration } = await attack(app, options)
// A second body of what is good once.
const codes = await attack(app, { ...options, only: ['POST /auth/mfa'], families: ['input'], routes: { 'POST /auth/mfa': { body: () => ({ mfaToken: options.values!.mfaToken, code: RECOVERY_CODE }) } } })
const findings: Finding[] = [...first, ...codes.findings.map(one => ({ ...one, got: `${one.got}, with a recovery code` }))]

interface Body { properties: object, required?: string[] }
interface Said { access?: Access, via?: string[], permissions?: string, body?: Body, query?: Body, mediaType?: string, upload?: object }
type Access = 'public' | { via: string[], permissions?: string }

const { routes } = JSON.parse(await readFile(POLICY, 'utf8')) as { routes: Record<string, 'public' | Said> }
const EVERY = Object.keys(routes)
const NO_ROUTE = '*'
const saidOf = (name: string): Said => routes[name] === 'public' ? { access: 'public' } : routes[name]!
const accessOf = (name: string) => (saidOf(name).access ?? saidOf(name)) as Access
const by = (kind: string) => EVERY.filter(name => { const access = accessOf(name); return access !== 'public' && access.via.includes(kind) })
const isGet = (name: string) => name.startsWith('GET ')

const GUARDED = EVERY.filter(name => accessOf(name) !== 'public')
const [BEARER, COOKIE] = [by('bearer'), by('session')]
const BODIES = EVERY.filter(name => saidOf(name).body !== undefined)
const JSON_BODIES = BODIES.filter(name => saidOf(name).mediaType === undefined)
const QUERIES = EVERY.filter(name => saidOf(name).query !== undefined)
/** Where a token is all that is asked for, by the policy or by a flaw. */
const SIGNED_IN = [...BEARER.filter(name => (accessOf(name) as Said).permissions === undefined), 'DELETE /users/:userId', 'GET /posture', 'PATCH /users/:userId/role']
/** Where a row of the users is answered whole. */
const USERS = ['GET /users/me', 'PATCH /users/me', 'GET /users/me/export', 'GET /users', 'GET /users/:userId', 'PATCH /users/:userId/role', 'POST /session/login', 'GET /session/me', 'POST /session/profile']
/** Where what a client sends reaches a handler: in a body, a query, a path or a file, in the claims of a token that nobody verifies, or as a URL that was set before. */
const FAILING = [...EVERY.filter(name => /[:*]/.test(name) || saidOf(name).upload !== undefined), ...BODIES, ...QUERIES, 'GET /users/me/export', 'POST /users/me/webhook/test']
/** Where something is thrown: by what asks who it is, by what fails, and by the parser before any route. */
const TELLING = [...BEARER.filter(name => !['GET /metrics', 'GET /api/v1/users', 'GET /api/v2/users'].includes(name)), ...COOKIE, ...FAILING, NO_ROUTE]
const STACK = /; [45]\d\d, with "at .*\(\//

/** Of a field that the policy declares there, and that the twin does not look at by itself. */
function isUnchecked ({ id, route, expected }: Finding): boolean {
  const { body, query } = saidOf(route)
  const schema = id === 'input.query' ? query! : body!
  const [, name = '', what = ''] = /^400: (?:the )?(\w+) is (.+)$/.exec(expected) ?? []
  if (name === 'website' || name === 'currency' || (name === 'password' && what !== '129 characters')) return false
  if (id === 'input.missing') return what === 'missing' && schema.required?.includes(name) === true
  return name in schema.properties || (id === 'input.type' && /^400: the body is (\[\]|null|a number|a string)$/.test(expected))
}

interface Named { id: FindingId, at: readonly string[], says: string | RegExp | ((one: Finding) => boolean) }
const named = (id: FindingId, at: string | readonly string[], says: Named['says'] = ''): Named => ({ id, at: [at].flat(), says })
const textOf = ({ expected, got }: Finding) => `${expected}; ${got}`
const isOf = ({ id, at, says }: Named) => (one: Finding) => one.id === id && at.includes(one.route) && (typeof says === 'function' ? says(one) : typeof says === 'string' ? textOf(one).includes(says) : says.test(textOf(one)))

/** By flaw: what the kit calls it, where, and what it says where several have one name. Of several routes it is found on some, and on no other. */
const FOUND: Readonly<Record<string, readonly Named[]>> = {
  'any-password': [named('input.password', 'POST /auth/register', 'everybody tries'), named('input.password', 'POST /auth/register', "one's own name"), named('input.password', 'POST /auth/password')],
  'believed-uploads': [named('uploads.content', 'POST /upload/image'), named('uploads.name', 'POST /upload/image'), named('uploads.size', 'POST /upload/image')],
  'cached-answers': [named('answers.cache', GUARDED.filter(isGet), /cache-control: public, max-age=600$/), named('answers.cache', GUARDED.filter(name => !isGet(name)), /cache-control: $/)],
  // Nothing else is checked of any body or query: no route of the twin has a schema. What cannot be used then makes its handler fail.
  'checks-by-content-type': [
    named('mutations.media-type', 'PATCH /users/me', 'website is'), named('mutations.media-type', JSON_BODIES, 'the body is not of the declared form'),
    named('input.type', JSON_BODIES, isUnchecked), named('input.bounds', BODIES, isUnchecked), named('input.missing', BODIES, isUnchecked), named('input.query', QUERIES, isUnchecked), named('leaks.failure', FAILING, '500'),
  ],
  'codes-used-twice': [named('input.replay', 'POST /auth/mfa', /200$/)],
  'codes-without-limit': [named('limits.exceeded', 'POST /auth/mfa')],
  'cookie-open-to-scripts': [named('answers.cookie', 'POST /session/login'), named('answers.cookie', 'GET /csrf-token')],
  'deactivated-account-goes-on': [named('credentials.revoked', SIGNED_IN, 'of an account that is switched off')],
  'disabled-keys-go-on': ['GET /api/data', 'GET /api/v2/users'].map(route => named('credentials.revoked', route, ': that was switched off')),
  'echoing-not-found': [named('answers.markup', NO_ROUTE), named('answers.redirect', NO_ROUTE)],
  'erased-in-name': [named('traces.erased', 'DELETE /users/me', 'PATCH /users/me, POST /api-keys, POST /documents')],
  'errors-told': [named('leaks.internal', 'GET /search', STACK), named('leaks.internal', 'POST /auth/logout', STACK), named('leaks.internal', TELLING, STACK)],
  'everything-returned': USERS.map(route => named('exposure.undeclared', route, /with (\/profile|\/user|\/items\/items)?\/(password|email)$/)),
  'figures-for-everyone': [named('authorization.open', 'GET /metrics'), named('authorization.role', 'GET /metrics')],
  'forms-of-other-sites': [named('credentials.csrf', 'POST /session/profile')],
  'functions-for-everyone': [named('authorization.role', 'DELETE /users/:userId'), named('authorization.role', 'GET /posture')],
  'guards-by-method': [named('authorization.method', 'DELETE /posts/:postId'), named('authorization.unlisted', 'POST /posts/:postId'), named('mutations.path', 'DELETE /posts/:postId')],
  'guards-by-url': [named('mutations.path', 'GET /patients')],
  'half-sign-in-as-whole': [named('credentials.kind', [...SIGNED_IN, 'GET /ping'], 'a token between password and code')],
  'html-as-typed': [named('input.markup', 'POST /posts', 'content')],
  'introspection-by-anybody': [named('authorization.open', 'POST /introspect'), named('authorization.role', 'POST /introspect')],
  'keys-act-for-anyone': [named('credentials.several', 'GET /api/data')],
  'keys-beyond-their-owner': [named('authorization.grant', 'POST /api-keys')],
  'keys-for-everything': [named('authorization.role', 'GET /api/data')],
  // What else is a secret that its owner shows is kept in the same way.
  'keys-in-plain-text': [named('traces.stored', 'POST /api-keys', 'key'), named('traces.stored', 'POST /mfa/enroll', 'secret'), named('traces.stored', 'POST /session/login', 'session'), named('traces.stored', 'GET /csrf-token', 'session')],
  'left-for-debugging': [named('authorization.unlisted', 'GET /debug/settings'), named('authorization.unlisted', 'GET /docs/json')],
  'limits-by-header': [named('limits.variant', 'GET /search', 'a forwarded address'), named('limits.variant', 'GET /search', 'an encoded letter')],
  'lines-in-logs': [named('traces.lines', 'GET /search')],
  'lock-by-name-alone': [named('limits.exceeded', 'POST /session/login', 'each about another name'), named('limits.exceeded', 'POST /session/login')],
  'lock-counted-late': [named('limits.race', 'POST /session/login'), named('limits.retry', 'POST /session/login')],
  'mass-assignment': [named('assignment.undeclared', 'PATCH /users/me'), named('assignment.undeclared', 'POST /auth/register'), named('exposure.undeclared', 'POST /auth/register', 'with /password')],
  'merged-objects': [named('assignment.prototype', 'PUT /users/me/consents/:purpose'), named('mutations.malformed', JSON_BODIES, /half of it.* 500/)],
  'names-as-paths': [named('exposure.canary', 'GET /download/*', 'with plan…')],
  'objects-of-others': [named('authorization.object', 'GET /orders/:orderId'), named('authorization.object', 'GET /documents/:documentId'), named('authorization.object', 'GET /users/:userId/orders'), named('authorization.object', 'GET /files/:name'), named('authorization.object', 'POST /documents/:documentId/shares', "it is somebody else's")],
  'old-version': [named('authorization.open', 'GET /api/v1/users'), named('authorization.role', 'GET /api/v1/users')],
  'origins-by-beginning': [named('answers.cors', EVERY.filter(name => !name.endsWith('/patients')), /allow-origin: (null|https?:\/\/(www\.)?portal\.example.*)$/)],
  'pages-in-frames': [named('answers.headers', [...EVERY, NO_ROUTE], /: undefined$/)],
  'pages-without-end': [named('input.query', 'GET /posts/:postId/comments')],
  'password-changed-unasked': [named('input.missing', 'POST /auth/password', 'currentPassword')],
  'password-grant-unlimited': [named('limits.exceeded', 'POST /token')],
  'password-guessing': [named('limits.exceeded', 'POST /auth/login'), named('leaks.accounts', 'POST /auth/login')],
  'passwords-in-plain-text': [named('traces.stored', ['POST /auth/register', ...USERS], 'its password is'), named('exposure.canary', USERS, 'with Plan…')],
  'payments-as-told': [named('input.bounds', 'POST /payments', 'amount is 0')],
  'planted-session': [named('credentials.fixation', 'POST /session/login')],
  'predictable-reset-token': [named('traces.predictable', 'POST /auth/forgot', 'md5 of "alice@portal.example"')],
  'records-for-all-staff': [named('exposure.hidden', 'GET /patients')],
  'recovery-codes-used-twice': [named('input.replay', 'POST /auth/mfa', '200, with a recovery code')],
  'refresh-token-as-access': [named('credentials.kind', SIGNED_IN, 'a refresh token')],
  'refresh-token-never-spent': [named('input.replay', 'POST /auth/refresh')],
  'reset-link-by-host': [named('mutations.host', 'GET /')],
  'roles-for-oneself': [named('authorization.role', 'PATCH /users/:userId/role')],
  'role-in-token': [named('authorization.role', 'GET /api/v2/users')],
  'session-outlives-sign-out': [named('credentials.revoked', COOKIE, 'after the sign-out in a browser')],
  'shares-for-every-action': [named('authorization.object', 'PUT /documents/:documentId')],
  'shell-commands': [named('input.injection', 'GET /ping')],
  'sign-ins-outlive-password': [named('credentials.revoked', SIGNED_IN, 'after a change of the password')],
  'sign-out-of-nothing': [named('credentials.revoked', SIGNED_IN, /: after the sign-out;/)],
  'slow-patterns': [named('slowness.pattern', 'POST /posts', 'tags')],
  'string-built-sql': [named('input.injection', 'GET /search'), named('input.query', 'GET /posts', 'limit is')],
  'token-brings-key': [named('credentials.algorithm', BEARER, 'brings its own key')],
  'token-decoded-only': [named('credentials.forged', 'GET /users/me/export', 'its signature was changed')],
  'token-key-by-path': [named('credentials.algorithm', BEARER, 'kid is')],
  'token-key-confusion': [named('credentials.algorithm', BEARER, 'public key is the secret')],
  'token-names-key-url': [named('credentials.algorithm', BEARER, 'names where its key is')],
  'token-without-algorithm': [named('credentials.algorithm', BEARER, 'alg is')],
  'told-addresses': [named('leaks.accounts', 'POST /auth/forgot')],
  'two-lengths': [named('framing.lengths', BODIES, 'two answers')],
  'urls-by-text': [named('outbound.reached', 'PUT /users/me/webhook', 'was connected to')],
  'unrecorded-changes': ['DELETE /users/:userId', 'PATCH /users/:userId/role', 'PATCH /users/:userId/active', 'DELETE /posts/:postId'].map(route => named('traces.unrecorded', route)),
  'weak-token-secret': [named('credentials.forged', BEARER, 'signed with the secret "secret"')],
}

/** What would be false: there the twin does as it should. */
const FALSE: readonly (readonly [FindingId, route: string, expected: string, got: string])[] = [
  ['answers.cache', 'GET /health', 'Cache-Control: no-store', '200, cache-control: public, max-age=600'],
  ['answers.cache', 'POST /auth/logout', 'Cache-Control: no-store', '204, cache-control: no-store'],
  ['answers.cors', 'GET /patients', 'no leave for null', '404, access-control-allow-origin: null'],
  ['answers.cors', 'GET /users/me', 'no leave for https://attacker.example', '404, access-control-allow-origin: https://attacker.example'],
  ['answers.headers', 'GET /', 'x-content-type-options: nosniff', '200, x-content-type-options: nosniff'],
  ['answers.headers', 'GET /debug/settings', 'x-content-type-options: nosniff', '200, x-content-type-options: undefined'],
  ['authorization.object', 'POST /documents/:documentId/shares', "403 or 404: userId is somebody else's", '201'],
  ['credentials.algorithm', 'GET /session/me', '401: alg is "none"', '200'],
  ['credentials.algorithm', 'GET /users/me', '401: it is compressed', '200'],
  ['credentials.forged', 'GET /users/me', '401: its signature was changed', '200'],
  ['credentials.forged', 'GET /users/me', '401: signed with the secret "changeme"', '200'],
  ['credentials.forged', 'GET /session/me', '401: signed with the secret "secret"', '200'],
  ['credentials.kind', 'GET /audit', '401: a refresh token', '200'],
  ['credentials.kind', 'GET /ping', '401: a refresh token', '200'],
  ['credentials.kind', 'GET /api/v2/users', '401: a token between password and code', '200'],
  ['credentials.revoked', 'GET /audit', '401: after the sign-out', '200'],
  ['credentials.revoked', 'GET /api/v2/users', '401: of an account that is switched off', '200'],
  ['credentials.revoked', 'GET /users/me', '401: after the sign-out in a browser', '200'],
  ['exposure.canary', 'GET /orders/:orderId', 'nothing of what was planted', '200, with Plan…'],
  ['exposure.canary', 'GET /users/me', 'nothing of what was planted', '200, with plan…'],
  ['exposure.undeclared', 'GET /api/v2/users', 'declared fields alone', '200, with /items/items/password'],
  ['exposure.undeclared', 'GET /users', 'declared fields alone', '200, with /nextCursor'],
  ['framing.lengths', 'GET /health', 'one answer', '200, and two answers'],
  ['input.bounds', 'POST /auth/register', '400: password is 7 characters', '201'],
  ['input.bounds', 'POST /users/me/webhook/test', '400: url is 2001 characters', '200'],
  ['input.missing', 'PATCH /users/me', '400: phone is missing', '200'],
  ['input.missing', 'POST /auth/login', '400: password is missing', '200'],
  ['input.query', 'GET /posts', '400: cursor is a number', '200'],
  ['input.query', 'GET /health', '400: limit is a number', '200'],
  ['input.type', 'PATCH /users/me', '400: website is a number', '200'],
  ['input.type', 'POST /payments', '400: currency is an object', '201'],
  ['input.type', 'POST /introspect', '400: token is an object', '200'],
  ['leaks.failure', 'GET /health', 'a refusal', '500'],
  ['leaks.failure', 'GET /metrics', 'a refusal', '500'],
  ['leaks.internal', 'GET /.well-known/jwks.json', 'nothing of what is inside', '500, with "at app.ts (/srv/app.ts:1:1)"'],
  ['leaks.internal', 'GET /users/me', 'nothing of what is inside', '401, with "postgres://portal:5432"'],
  ['mutations.malformed', 'POST /introspect', '400: half of it', '500'],
  ['mutations.malformed', 'GET /users/me', '400: half of it', '500'],
  ['mutations.media-type', 'POST /auth/logout', '400 or 415: the body is not of the declared form', '204'],
  ['traces.stored', 'POST /auth/refresh', 'its refresh_token is stored nowhere', '"refresh_token" is stored as it is'],
  ['traces.stored', 'POST /session/login', 'its csrfToken is stored nowhere', '"csrfToken" is stored as it is'],
]

/** Of every flaw. */
const ALL = Object.values(FOUND).flat()
const strangersOf = (some: readonly Finding[]) => some.filter(one => !ALL.some(name => isOf(name)(one))).map(one => `${one.id} ${one.route}: ${textOf(one)}`)

t.test('each flaw is found by its right name', async t => {
  const flaws = (await readdir('demo/vulnerable/flaws')).map(file => file.slice(0, -'.ts'.length))
  t.strictSame(Object.keys(FOUND).sort(), flaws.sort(), 'every flaw that is there stands in the table')
  for (const [flaw, names] of Object.entries(FOUND)) {
    for (const name of names) t.ok(findings.some(isOf(name)), `${flaw}: ${name.id} ${name.at.join(', ')} ${name.says}`)
  }
  t.comment(`${flaws.length} flaws were found by ${new Set(findings.map(({ id }) => id)).size} kinds of finding; ${requests} requests, ${duration} ms`)
})

t.test('no finding is false: each belongs to a flaw, on its own routes', async t => {
  t.strictSame(strangersOf(findings), [])
})

t.test('a finding would be noticed where the twin is right, of each kind that is found on many routes', async t => {
  const wrong = FALSE.map(([id, route, expected, got]): Finding => ({ id, route, expected, got, severity: 'low', principal: null, reproduce: '' }))
  t.strictSame(wrong.filter(one => ALL.some(name => isOf(name)(one))).map(({ id, route }) => `${id} ${route}`), [])
  t.strictSame([...new Set(ALL.filter(({ at }) => at.length > 1).map(({ id }) => id))].filter(id => !wrong.some(one => one.id === id)), [], 'every such kind was tried')
  for (const one of wrong) t.ok(findings.some(({ id }) => id === one.id), `${one.id} is found elsewhere`)
})

t.test('what guards its routes as it should has no finding of authorization', async t => {
  const RIGHT = ['GET /audit', 'PATCH /users/:userId/active', 'PATCH /patients/:patientId', 'POST /auth/logout', 'GET /users/me', 'PATCH /users/me', 'GET /documents', 'POST /documents', 'GET /health', 'GET /posts/:postId']
  t.strictSame(findings.filter(({ id, route }) => id.startsWith('authorization') && RIGHT.includes(route)), [])
})
