/** The portal's passkeys in a real browser: Chromium, with the virtual authenticator that it brings for tests. */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { delimiter, join } from 'node:path'
import { chromium } from 'playwright-core'
import t from 'tap'
import { buildPortal } from '../../demo/app.js'
import { seed } from '../../demo/data/seed.js'
import { folderOf, freshDatabase, PASSWORD } from './portal.js'

t.setTimeout(180_000)
/** A page of the portal's origin that brings no policy of its own. */
const PAGE = '/page-of-this-test'

/** Runs in the page, with what browsers bring for JSON. */
async function ask ([method, path, token, body]: [string, string, string | null, unknown]) {
  const headers = { ...body !== null && { 'content-type': 'application/json' }, ...token !== null && { authorization: `Bearer ${token}` } }
  const answer = await fetch(path, { method, headers, ...body !== null && { body: JSON.stringify(body) } })
  return { status: answer.status, body: await answer.json() as any }
}
async function create (options: object) {
  const browser = globalThis as any
  return (await browser.navigator.credentials.create({ publicKey: browser.PublicKeyCredential.parseCreationOptionsFromJSON(options) })).toJSON()
}
async function get (options: object) {
  const browser = globalThis as any
  return (await browser.navigator.credentials.get({ publicKey: browser.PublicKeyCredential.parseRequestOptionsFromJSON(options) })).toJSON()
}

const executablePath = ['chromium', 'chromium-browser', 'google-chrome'].flatMap(name => (process.env.PATH ?? '').split(delimiter).map(folder => join(folder, name))).find(path => existsSync(path))

t.test('a person makes a passkey, signs in with it alone, beside the password, and steps up with it', async t => {
  if (executablePath === undefined) {
    t.pass('a browser', { skip: 'no Chromium on this machine' })
    return
  }
  const probe = createServer()
  await new Promise<void>(resolve => { probe.listen(0, '127.0.0.1', resolve) })
  const { port } = probe.address() as AddressInfo
  await new Promise(resolve => { probe.close(resolve) })
  const origin = `http://localhost:${port}`
  const sql = await freshDatabase(t)
  const app = await buildPortal({
    settings: {
      HOST: '127.0.0.1', PORT: port, NODE_ENV: 'test', DATA_DIR: folderOf(t), JWT_ALGORITHM: 'HS256', PASSWORD_POLICY: 'composition', LOG_LEVEL: 'silent', MAIL_FROM: 'portal@localhost',
    } as never,
    secret: randomBytes(48).toString('base64url'),
    sql,
    origin,
    mail: async () => {},
  })
  t.teardown(() => app.close())
  await app.ready()
  await seed(sql, app, PASSWORD)
  await app.listen({ host: '127.0.0.1', port })

  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--host-resolver-rules=MAP localhost 127.0.0.1'] })
  t.teardown(() => browser.close())
  const page = await browser.newPage()
  await page.route(`**${PAGE}`, route => route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>Portal</title>' }))
  await page.goto(origin + PAGE)
  const cdp = await page.context().newCDPSession(page)
  await cdp.send('WebAuthn.enable')
  const { authenticatorId } = await cdp.send('WebAuthn.addVirtualAuthenticator', {
    options: { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true },
  })
  const call = (method: string, path: string, body: unknown = null, token: string | null = null) => page.evaluate(ask, [method, path, token, body] as [string, string, string | null, unknown])

  const { body: { access_token: token } } = await call('POST', '/auth/login', { username: 'alice', password: PASSWORD })
  const options = await call('POST', '/passkeys/register/options', null, token)
  t.equal(options.status, 200)
  const made = await page.evaluate(create, options.body)
  const registered = await call('POST', '/passkeys/register', { ...made, name: 'This computer' }, token)
  t.match(registered, { status: 201, body: { name: 'This computer' } })
  const again = await call('POST', '/passkeys/register/options', null, token)
  await t.rejects(page.evaluate(create, again.body), /InvalidStateError|excludeCredentials|already/i, 'the authenticator that has one makes no second')

  const shown = await page.evaluate(get, (await call('POST', '/passkeys/login/options')).body)
  const signedIn = await call('POST', '/passkeys/login', shown)
  t.equal(signedIn.status, 200)
  t.match((await call('GET', '/users/me', null, signedIn.body.access_token)).body, { username: 'alice' })
  t.match(await call('POST', '/passkeys/login', shown), { status: 401, body: { code: 'FST_BASTION_PASSKEYS_REFUSED' } }, 'once')

  const asked = await call('POST', '/auth/login', { username: 'alice', password: PASSWORD })
  t.match(asked, { status: 401, body: { code: 'FST_BASTION_MFA_REQUIRED', factors: ['passkey'] } })
  const { mfaToken } = asked.body
  const second = await page.evaluate(get, (await call('POST', '/passkeys/login/options', { mfaToken })).body)
  const completed = await call('POST', '/auth/mfa', { mfaToken, passkey: second })
  t.equal(completed.status, 200)
  const fresh = completed.body.access_token
  const proof = await page.evaluate(get, (await call('POST', '/passkeys/login/options', { stepUp: true }, fresh)).body)
  const steppedUp = await call('POST', '/auth/step-up', { passkey: proof }, fresh)
  t.equal(steppedUp.status, 200)
  t.match(await call('POST', '/session/passkey', await page.evaluate(get, (await call('POST', '/passkeys/login/options')).body)), { status: 200, body: { user: { username: 'alice' } } })

  await cdp.send('WebAuthn.setUserVerified', { authenticatorId, isUserVerified: false })
  await t.rejects(page.evaluate(get, (await call('POST', '/passkeys/login/options')).body), /NotAllowedError/, 'an authenticator that does not know its user shows nothing')
})
