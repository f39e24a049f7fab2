/** The ways in: those that the documentation names and no others, and each as hard as the others. */
import { Type } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import { Secret, TOTP } from 'otpauth'
import t from 'tap'
import type { OpenApiDocument } from '../../plugins/openapi/index.js'
import { closed, TokenPair } from '../../schemas/index.js'
import { buildOn, freshDatabase, type PortalUnderTest } from './portal.js'

const PASSWORD = 'Newcomer-pass-1'
const WAYS_IN = [
  'POST /auth/login', 'POST /auth/mfa', 'POST /auth/refresh', 'POST /auth/step-up', 'POST /passkeys/login', 'POST /session/login', 'POST /session/mfa', 'POST /session/passkey', 'POST /token',
]
const sql = await freshDatabase(t)
const portal = await buildOn(t, sql, { NODE_ENV: 'development' })
/** A way in that somebody has added for a moment, and told nobody of. */
const careless = await buildOn(t, sql, { NODE_ENV: 'development' }, app => {
  app.post<{ Body: { username: string, password: string } }>('/old/login', {
    schema: { hide: true, body: closed({ username: Type.String({ maxLength: 50 }), password: Type.String({ maxLength: 50 }) }), response: { 200: TokenPair } } as object, config: { access: 'public' },
  }, async ({ body }) => {
    const [{ id, hash }] = await sql.query<{ id: string, hash: string }>('select id, password_hash as hash from users where username = $1', [body.username]) as [{ id: string, hash: string }]
    if (!(await app.passwords.verify(body.password, hash)).valid) throw Object.assign(new Error('no'), { statusCode: 404 })
    return app.tokens.issue({ id, roles: ['user'] })
  })
})

/** The routes whose success makes somebody be signed in, or more so than before. */
function waysInto (app: FastifyInstance): string[] {
  return app.plan.routes.filter(({ kind, options }) => {
    const success = (options.schema?.response as Record<string, { properties?: object }> | undefined)?.[200]?.properties ?? {}
    return kind === 'route' && ('access_token' in success || ('user' in success && 'csrfToken' in success))
  }).map(({ method, url }) => `${method} ${url}`).sort()
}
async function documented ({ call }: PortalUnderTest): Promise<string[]> {
  const { paths } = JSON.parse((await call('GET', '/docs/json')).text) as OpenApiDocument
  return Object.entries(paths).flatMap(([path, methods]) => Object.keys(methods).map(method => `${method.toUpperCase()} ${path}`))
}

type SignIn = (username: string, password: string, address: string) => Promise<boolean>
const byPassword = ({ call }: PortalUnderTest): Record<string, SignIn> => ({
  'POST /auth/login': async (username, password, address) => (await call('POST', '/auth/login', { address, body: { username, password } })).status === 200,
  'POST /session/login': async (username, password, address) => (await call('POST', '/session/login', { address, body: { username, password } })).status === 200,
  'POST /token': async (username, password, address) =>
    (await call('POST', '/token', { address, raw: new URLSearchParams({ grant_type: 'password', username, password }).toString(), type: 'application/x-www-form-urlencoded' })).status === 200,
})
const byOldLogin: SignIn = async (username, password, address) => (await careless.call('POST', '/old/login', { address, body: { username, password } })).status === 200

t.test('there is no way in that is not documented, and whatever one asks for all of them ask for [ASVS 6.3.4]', async t => {
  t.strictSame(waysInto(portal.app), WAYS_IN)
  const told = await documented(portal)
  t.strictSame(WAYS_IN.filter(way => !told.includes(way)), [])
  const { components } = JSON.parse((await portal.call('GET', '/docs/json')).text) as OpenApiDocument
  t.strictSame(Object.keys(components.securitySchemes).sort(), ['bearer', 'csrfToken', 'key', 'session'])

  const ways = Object.values(byPassword(portal))
  for (const [i, signIn] of ways.entries()) t.equal(await signIn((await portal.newcomer()).username, PASSWORD, `198.51.100.${i}`), true, 'each of them signs in')

  const guessed = await portal.newcomer()
  const address = '198.51.100.20'
  for (let i = 0; i < 5; i++) t.equal(await ways[i % ways.length]!(guessed.username, `Guess-pass-${i}`, address), false)
  for (const [way, signIn] of Object.entries(byPassword(portal))) t.equal(await signIn(guessed.username, PASSWORD, address), false, `${way}: guesses by whatever way lock all of them`)

  const enrolled = await portal.newcomer()
  const { body: { secret } } = await portal.call('POST', '/mfa/enroll', { token: enrolled.token })
  t.equal((await portal.call('POST', '/mfa/confirm', { token: enrolled.token, body: { code: new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: portal.now() }) } })).status, 200)
  for (const [way, signIn] of Object.entries(byPassword(portal))) t.equal(await signIn(enrolled.username, PASSWORD, '198.51.100.21'), false, `${way}: the password alone is not enough where there is a second factor`)

  const gone = await portal.newcomer()
  await sql.query('update users set is_active = false where id = $1', [gone.id])
  for (const [way, signIn] of Object.entries(byPassword(portal))) t.equal(await signIn(gone.username, PASSWORD, '198.51.100.22'), false, `${way}: who is switched off`)

  await t.test('negative control: a login that somebody has added by hand is found by it, takes guesses without end, and asks for no second factor', async t => {
    t.strictSame(waysInto(careless.app).filter(way => !WAYS_IN.includes(way)), ['POST /old/login'])
    t.notOk((await documented(careless)).includes('POST /old/login'))
    for (let i = 0; i < 20; i++) t.equal(await byOldLogin(guessed.username, `Guess-pass-${i}`, address), false)
    for (const { username } of [guessed, enrolled, gone]) t.equal(await byOldLogin(username, PASSWORD, address), true)
  })
})
