/** The portal in a real browser: what a person does there from the first sign-in to the passkey, and what pages of others try. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify from 'fastify'
import { TOTP } from 'otpauth'
import type { BrowserContext, Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { browsing, withAuthenticator } from '../fixtures/chromium.js'
import { start } from '../fixtures/portal-process.js'
import { chromium } from '../services.js'

t.setTimeout(600_000)
const PASSWORD = 'Browser-pass-1'
const STEP = 30_000
const FORM = 'application/x-www-form-urlencoded'
const REFUSED = { status: 403, body: { code: 'FST_BASTION_CSRF_REFUSED' } }

async function walk (t: Test, executable: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'portal-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const [portal, { person, faults, ignore }] = await Promise.all([
    start(t, { DATA_DIR: join(folder, 'data'), DEMO_PASSWORD: PASSWORD, LOG_LEVEL: 'warn' }),
    browsing(t, executable),
  ])
  // Passkeys are for a name, and not for an address.
  const origin = `http://localhost:${new URL(portal.url).port}`
  const context = await person()
  const page = await context.newPage()
  const authenticator = await withAuthenticator(page)
  let totp!: TOTP
  let recoveryCodes: string[] = []

  await t.test('a sign-in by the form: no script and no other site can use its cookie [ASVS 3.3.2] [ASVS 3.3.4]', async t => {
    await page.goto(origin)
    await fillSignIn(page, 'Not-the-pass-1')
    await page.getByRole('alert').filter({ hasText: 'The name or the password is wrong' }).waitFor()
    t.strictSame(await sessionCookies(context), [])
    await fillSignIn(page)
    await isSignedIn(page)
    t.equal(await page.locator('[data-field=email]').textContent(), 'alice@portal.example')
    t.match(await sessionCookies(context), [{ name: 'session', httpOnly: true, sameSite: 'Lax', domain: 'localhost', path: '/' }])
    t.match((await context.cookies()).find(({ name }) => name === 'csrf'), { httpOnly: true, sameSite: 'Strict' })
    t.equal(await page.evaluate('document.cookie'), '')
    t.strictSame(await page.evaluate('[Object.keys(localStorage), Object.keys(sessionStorage)]'), [[], []], 'nor is anything kept elsewhere')
    await page.reload()
    await isSignedIn(page)
  })

  await t.test('a change in the profile passes CSRF, and is there after a reload', async t => {
    await saveBio(page, 'Likes long walks.\nAnd the sea.')
    await page.reload()
    await isSignedIn(page)
    t.equal(await bioOf(page), 'Likes long walks.\nAnd the sea.')
  })

  await t.test('the same request without the token, or with another, is refused [ASVS 3.5.1]', async t => {
    const bio = 'Changed without the token'
    t.match(await post(page, '/session/profile', { bio }), REFUSED)
    t.match(await post(page, '/session/profile', { bio }, { 'x-csrf-token': 'x'.repeat(60) }), REFUSED)
    const { csrfToken } = await page.evaluate(async () => (await fetch('/csrf-token')).json()) as { csrfToken: string }
    t.match(await post(page, '/session/profile', { bio }, { 'x-csrf-token': `${csrfToken.slice(0, -5)}AAAAA` }), REFUSED)
    t.not((await profile(page)).bio, bio)
    t.match(await post(page, '/session/profile', { bio: 'With the token' }, { 'x-csrf-token': csrfToken }), { status: 200, body: { bio: 'With the token' } })
  })

  await t.test('pages of others change nothing: by forms and by scripts, on this host or another [ASVS 3.5.1] [ASVS 3.5.2]', async t => {
    const victim = await guestbook(t)
    await context.addCookies([{ name: 'visitor', value: 'alice', url: victim.url, httpOnly: true }])
    for (const host of ['localhost', '127.0.0.1']) {
      const attacker = await attackerAt(t, host)
      const tab = await context.newPage()
      ignore(tab) // what the browser says of requests that it refuses to others is no fault of the portal's page
      await t.test(`from ${host === 'localhost' ? 'another port of the host, where browsers send the cookie' : 'another site'}`, async t => {
        const before = await profile(page)
        const isSent = host === 'localhost'
        for (const [target, type, status] of [
          ['/session/profile', FORM, isSent ? 403 : 401],
          ['/session/profile', 'text/plain', isSent ? 403 : 401],
          ['/session/logout', FORM, isSent ? 403 : 401],
          ['/session/login', FORM, 403], // nobody is signed in as somebody else either
        ] as const) t.equal(await attacker.submit(tab, `${origin}${target}`, type), status, `${target}, ${type}`)
        await attacker.open(tab)
        for (const [mode, type] of [['cors', 'application/json'], ['cors', 'text/plain'], ['no-cors', 'text/plain'], ['no-cors', FORM]] as const) {
          t.equal(await send(tab, `${origin}/session/profile`, mode, type), 'TypeError', `fetch, ${mode}, ${type}: nothing of the answer can be had`)
        }
        t.equal(await tab.evaluate(async url => fetch(url, { credentials: 'include' }).then(() => 'read', error => error.name as string), `${origin}/session/me`), 'TypeError')
        t.strictSame(await profile(page), before, 'nothing is changed, and alice is still signed in')

        victim.entries.length = 0
        t.equal(await attacker.submit(tab, victim.url, FORM), 200)
        await attacker.open(tab)
        t.equal(await send(tab, victim.url, 'no-cors', 'text/plain'), 'opaque')
        t.strictSame(victim.entries, isSent ? ['alice: forged', 'alice: forged'] : ['alice: forged'], 'negative control: the same where nothing asks for more than the cookie')
      })
      await tab.close()
    }
  })

  await t.test('an authenticator is enrolled with a code computed from the secret that is shown', async t => {
    await goTo(page, 'Security')
    await page.getByRole('button', { name: 'Set up an authenticator' }).click()
    await page.locator('#secret:not(:empty)').waitFor()
    t.ok(await page.locator('#qr').evaluate(async image => {
      const qr = image as unknown as { decode: () => Promise<void>, naturalWidth: number }
      await qr.decode()
      return qr.naturalWidth > 0
    }), 'the QR code is shown')
    totp = new TOTP({ secret: (await page.locator('#secret').textContent())! })
    const field = page.getByLabel('Code that the app shows now')
    await field.fill(wrongCode(totp))
    await page.getByRole('button', { name: 'Confirm' }).click()
    await page.getByRole('alert').filter({ hasText: 'The code is wrong or no longer good' }).waitFor()
    await field.fill(totp.generate())
    await page.getByRole('button', { name: 'Confirm' }).click()
    await page.getByRole('button', { name: 'I have kept them' }).waitFor()
    recoveryCodes = await page.locator('#recovery-codes code').allTextContents()
    t.equal(new Set(recoveryCodes).size, 10)
    await page.getByRole('button', { name: 'I have kept them' }).click()
    const left = await page.content()
    for (const secret of [totp.secret.base32, ...recoveryCodes]) t.notOk(left.includes(secret), 'shown once')
  })

  await t.test('after the sign-out nothing of the account is left in the page, and the cookie is dead [ASVS 7.4.1] [ASVS 14.3.1]', async t => {
    await goTo(page, 'Your profile')
    const [cookie] = await sessionCookies(context)
    const bio = await bioOf(page)
    await signOut(page)
    t.equal(await page.evaluate('[...document.querySelectorAll("input, textarea")].map(({ value }) => value).join("")'), '')
    const left = await page.content()
    for (const text of ['alice@portal.example', PASSWORD, bio]) t.notOk(left.includes(text), text)
    t.strictSame(await sessionCookies(context), [])
    const answer = await fetch(`${origin}/session/me`, { headers: { cookie: `session=${cookie!.value}` } })
    t.match({ status: answer.status, body: await answer.json() }, { status: 401, body: { code: 'FST_BASTION_SESSIONS_INVALID' } })
  })

  await t.test('from then on the password opens nothing without a code [ASVS 6.3.3]', async t => {
    await fillSignIn(page)
    const code = page.locator('#second').getByLabel('Code of your authenticator, or a recovery code')
    await code.waitFor()
    t.strictSame(await sessionCookies(context), [])
    t.notOk(await page.locator('#second').getByRole('button', { name: 'Use a passkey' }).isVisible(), 'there is none as yet')
    await code.fill(wrongCode(totp))
    await page.getByRole('button', { name: 'Go on' }).click()
    await page.getByRole('alert').filter({ hasText: 'The code is wrong or no longer good' }).waitFor()
    // That of the next half minute, which is good already: this one's was used to confirm.
    await code.fill(totp.generate({ timestamp: Date.now() + STEP }))
    await page.getByRole('button', { name: 'Go on' }).click()
    await isSignedIn(page)
  })

  await t.test('a passkey is added, and signs in alone', async t => {
    await goTo(page, 'Security')
    await page.getByRole('textbox', { name: 'Name of the new passkey' }).fill('<i>My laptop</i>')
    await page.getByRole('button', { name: 'Add a passkey' }).click()
    const passkey = page.getByRole('listitem').filter({ hasText: '<i>My laptop</i>' })
    await passkey.filter({ hasText: 'not used yet' }).waitFor()
    t.equal(await authenticator.passkeys(), 1)
    await page.getByRole('textbox', { name: 'Name of the new passkey' }).fill('Once more')
    await page.getByRole('button', { name: 'Add a passkey' }).click()
    await page.getByRole('alert').filter({ hasText: 'This device has a passkey of yours already' }).waitFor()
    await signOut(page)

    await page.getByRole('button', { name: 'Sign in with a passkey' }).click()
    await isSignedIn(page)
    await goTo(page, 'Security')
    await passkey.filter({ hasText: 'last used' }).waitFor()
    t.match(await profile(page), { username: 'alice' })
    await signOut(page)
  })

  await t.test('by its address the page says why there are no passkeys', async t => {
    const tab = await (await person()).newPage()
    await tab.goto(portal.url)
    await tab.getByRole('button', { name: 'Sign in with a passkey' }).click()
    await tab.getByRole('alert').filter({ hasText: 'Passkeys are for the name of this service' }).waitFor()
    t.strictSame(await sessionCookies(tab.context()), [])
    await tab.context().close()
  })

  await t.test('a passkey does beside the password, in place of the code', async t => {
    await fillSignIn(page)
    await page.getByRole('button', { name: 'Use a passkey' }).click()
    await isSignedIn(page)
    t.match(await profile(page), { username: 'alice' })
  })

  await t.test('the devices that are signed in are seen, and one is ended [ASVS 7.5.2]', async t => {
    const elsewhere = await (await person()).newPage()
    await elsewhere.goto(origin)
    await fillSignIn(elsewhere)
    await elsewhere.locator('#second').getByLabel('Code of your authenticator, or a recovery code').fill(recoveryCodes[0]!)
    await elsewhere.getByRole('button', { name: 'Go on' }).click()
    await isSignedIn(elsewhere)

    await goTo(page, 'Devices')
    const devices = page.locator('#device-list li')
    const other = devices.filter({ hasText: 'last seen' })
    await other.waitFor()
    t.equal(await devices.count(), 2)
    t.equal(await devices.filter({ hasText: 'this device' }).count(), 1)
    await other.getByRole('button').click()
    await page.getByText('That device is signed out.').waitFor()
    await other.waitFor({ state: 'detached' })

    await elsewhere.getByLabel('About you').fill('Not any more')
    await elsewhere.getByRole('button', { name: 'Save' }).click()
    await elsewhere.getByText('You are signed out. Sign in again.').waitFor()
    t.not((await profile(page)).bio, 'Not any more')
    await elsewhere.context().close()
  })

  await t.test('a passkey that is removed signs in no more', async t => {
    await goTo(page, 'Security')
    await page.getByRole('button', { name: 'Remove: <i>My laptop</i>' }).click()
    await page.getByText('There is none yet.').waitFor()
    await signOut(page)
    await page.getByRole('button', { name: 'Sign in with a passkey' }).click()
    await page.getByRole('alert').filter({ hasText: 'passkey' }).waitFor()
    t.strictSame(await sessionCookies(context), [])
  })

  t.strictSame(faults, [], 'on the whole way the page did nothing that its policy stops, and nothing failed in it')

  await t.test('markup that is slipped into the page is refused by its policy, and said there [ASVS 3.4.3]', async t => {
    await t.rejects(page.evaluate('document.body.innerHTML = "<img src=x onerror=alert(1)>"'), { message: /TrustedHTML/ })
    await page.evaluate('document.body.append(Object.assign(document.createElement("img"), { src: "https://evil.example/" }))')
    t.match(faults, [/TrustedHTML/, /img-src/], 'negative control: faults of the page are heard')
  })
}

/** Fills in the form and sends it. */
async function fillSignIn (page: Page, password = PASSWORD): Promise<void> {
  const form = page.locator('#sign-in')
  await form.getByLabel('Name').fill('alice')
  await form.getByLabel('Password').fill(password)
  await form.getByRole('button', { name: 'Sign in', exact: true }).click()
}

/** By the navigation. */
async function goTo (page: Page, title: string): Promise<void> {
  await page.getByRole('navigation').getByRole('link', { name: title, exact: true }).click()
  await page.getByRole('heading', { level: 1, name: title, exact: true }).waitFor()
}

async function isSignedIn (page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Sign out', exact: true }).waitFor()
}

async function signOut (page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Sign out', exact: true }).click()
  await page.getByText('You are signed out.').waitFor()
}

async function saveBio (page: Page, bio: string): Promise<void> {
  await page.getByLabel('About you').fill(bio)
  await page.getByRole('button', { name: 'Save' }).click()
  await page.getByText('Your profile is saved.').waitFor()
}

const bioOf = (page: Page) => page.getByLabel('About you').inputValue()

const sessionCookies = async (context: BrowserContext) => (await context.cookies()).filter(({ name }) => name === 'session')

/** What a script of the page sends. */
function post (page: Page, path: string, body: object, headers: Record<string, string> = {}): Promise<{ status: number, body: unknown }> {
  return page.evaluate(async ({ path, text, headers }) => {
    const answer = await fetch(path, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: text })
    return { status: answer.status, body: await answer.json() as unknown }
  }, { path, text: JSON.stringify(body), headers })
}

async function profile (page: Page): Promise<Record<string, unknown>> {
  return page.evaluate(async () => (await fetch('/session/me')).json()) as Promise<Record<string, unknown>>
}

/** What a script of another page sends, with the cookies that its browser adds; answers what it sees of the answer. */
function send (tab: Page, url: string, mode: 'cors' | 'no-cors', type: string): Promise<string> {
  return tab.evaluate(({ url, mode, type }) => fetch(url, { method: 'POST', mode, credentials: 'include', headers: { 'content-type': type }, body: 'bio=forged' })
    .then(answer => answer.type as string, error => error.name as string), { url, mode, type })
}

/** A code that is good at no time near. */
function wrongCode (totp: TOTP): string {
  const near = [-2, -1, 0, 1, 2].map(step => totp.generate({ timestamp: Date.now() + step * STEP }))
  return ['000000', '111111', '222222', '333333', '444444', '555555'].find(code => !near.includes(code))!
}

/** A service that believes the cookie alone. */
async function guestbook (t: Test): Promise<{ url: string, entries: string[] }> {
  const app = Fastify()
  t.teardown(() => app.close())
  const entries: string[] = []
  app.addContentTypeParser([FORM, 'text/plain'], { parseAs: 'string' }, (_request, text, done) => { done(null, text) })
  app.post('/', async request => {
    const [, visitor] = /visitor=(\w+)/.exec(request.headers.cookie ?? '') ?? []
    if (visitor !== undefined) entries.push(`${visitor}: ${new URLSearchParams(request.body as string).get('bio')}`)
    return 'thank you'
  })
  const { port } = new URL(await app.listen({ host: '127.0.0.1', port: 0 }))
  return { url: `http://localhost:${port}/`, entries }
}

interface Attacker {
  /** Opens a page of theirs. */
  open: (tab: Page) => Promise<void>
  /** Opens a page whose form is sent at once; answers the status. */
  submit: (tab: Page, action: string, type: string) => Promise<number>
}

async function attackerAt (t: Test, host: string): Promise<Attacker> {
  const app = Fastify()
  t.teardown(() => app.close())
  app.get<{ Querystring: { action?: string, type?: string } }>('/', async ({ query: { action, type } }, reply) => {
    reply.type('text/html')
    // As plain text the one field is JSON: its name, `=`, its value.
    const field = type === 'text/plain' ? '<input name=\'{"bio":"forged","website":"https://evil.example/?\' value=\'"}\'>' : '<input name="bio" value="forged">'
    return `<link rel="icon" href="data:,">${action === undefined ? '' : `<form method="post" action="${action}" enctype="${type}">${field}</form><script>document.forms[0].submit()</script>`}`
  })
  const { port } = new URL(await app.listen({ host: '127.0.0.1', port: 0 }))
  const url = `http://${host}:${port}/`
  return {
    open: async tab => { await tab.goto(url) },
    async submit (tab, action, type) {
      const answered = tab.waitForResponse(answer => answer.request().method() === 'POST' && answer.url() === action)
      await tab.goto(`${url}?${new URLSearchParams({ action, type }).toString()}`, { waitUntil: 'commit' })
      const answer = await answered
      await answer.finished()
      return answer.status()
    },
  }
}

const executable = chromium(t)
if (executable !== null) await walk(t, executable)
