/** The pages of the account, and of users and roles, in a real browser: what each is for, by whoever and whatever it is used. */
import type { Page } from 'playwright-core'
import t from 'tap'
import { webFiles } from '../../demo/routes/web.js'
import { confirm, isAccessible, open, pages, shown, signIn } from '../fixtures/pages.js'
import { chromium } from '../services.js'
import { PASSWORD } from './portal.js'

t.setTimeout(600_000)
const NEWCOMERS = 'Newcomer-pass-1'
const NEW = 'Another-pass-2'
const LATER = 301_000
/** What a browser says of forms that the portal did not take, and of what somebody else was to do. */
const INVALID = /^Failed to load resource: the server responded with a status of 4(?:00|09) /
/** Keys that are pressed until what is looked for is reached. */
const PATIENCE = 40

const executable = chromium(t)
if (executable !== null) {
  await t.test('the pages of the account', async t => {
    const { portal, origin, tab, signedIn, faults, ignore } = await pages(t, executable)
    const { call, mails, newcomer, pass, sql } = portal
    const said = (page: Page, text: string) => page.getByRole('status').filter({ hasText: text }).waitFor()
    const mailTo = async (address: string, subject: string) => {
      for (;;) {
        const mail = mails.findLast(({ to, subject: about }) => to === address && about === subject)
        if (mail !== undefined) return mail
        await new Promise(resolve => { setTimeout(resolve, 10) })
      }
    }

    await t.test('by the keyboard alone somebody signs in, and reaches each page and its heading', async t => {
      const page = await tab()
      await page.goto(origin)
      await page.locator('input[name=username]:focus').waitFor()
      await page.keyboard.type('alice')
      await page.keyboard.press('Tab')
      await page.keyboard.type(PASSWORD)
      await page.keyboard.press('Enter')
      await shown(page, 'Your profile')
      const titles = await page.getByRole('navigation').getByRole('link').allTextContents()
      t.match(titles, ['Your profile', 'Security', 'Devices', 'API keys', 'Privacy', 'Posts', 'Documents', 'Files'])
      for (const title of titles) {
        await pressUntil(page, 'Shift+Tab', title)
        await page.keyboard.press('Enter')
        await shown(page, title)
        t.equal(await focused(page), title, 'the screen reader says where it is')
        t.equal(await page.title(), `${title} · Member portal`)
        t.equal(await page.getByRole('navigation').locator('[aria-current=page]').textContent(), title)
      }
      await page.reload()
      await shown(page, titles.at(-1)!)
      await page.keyboard.press('Tab')
      t.equal(await focused(page), 'Skip to the content')
      await page.keyboard.press('Enter')
      t.equal(await page.evaluate('document.activeElement.id'), 'main')
      await pressUntil(page, 'Shift+Tab', 'Sign out')
      await page.keyboard.press('Enter')
      await said(page, 'You are signed out.')
      await page.context().close()
    })

    await t.test('a new account: registered, confirmed by the mail, and its password forgotten and chosen anew', async t => {
      const page = await tab()
      await page.goto(origin)
      await shown(page, 'Sign in')
      await isAccessible(t, page, 'sign-in')
      await open(page, 'Create an account')
      await isAccessible(t, page, 'registration')
      await page.getByLabel('Name').fill('rosa_page')
      await page.getByLabel('E-mail').fill('rosa@people.example')
      await page.getByLabel('Password').fill('short')
      await page.getByRole('button', { name: 'Create the account' }).click()
      await page.getByRole('alert').filter({ hasText: /password/i }).waitFor()
      await page.getByLabel('Password').fill(NEWCOMERS)
      await page.getByRole('button', { name: 'Create the account' }).click()
      await said(page, 'The account is yours')
      await signIn(page, 'rosa_page', NEWCOMERS)
      await page.getByText('not confirmed').waitFor()
      const link = async (subject: string) => /http\S+/.exec((await mailTo('rosa@people.example', subject)).text)![0]
      await page.goto(await link('Confirm your address'))
      await shown(page, 'Confirm your address')
      t.equal(new URL(page.url()).hash, '#confirm', 'the token is not left in the address')
      await isAccessible(t, page, 'confirmation')
      await page.getByRole('button', { name: 'Confirm my address' }).click()
      await said(page, 'Your address is confirmed.')
      await page.reload()
      await page.getByText('confirmed', { exact: true }).waitFor()
      await page.getByRole('button', { name: 'Sign out', exact: true }).click()

      await page.getByRole('link', { name: 'Forgotten your password?' }).click()
      await page.getByLabel('E-mail of your account').fill('rosa@people.example')
      await page.getByRole('button', { name: 'Send the mail' }).click()
      await said(page, 'a mail is on its way')
      await page.goto(await link('Choose a new password'))
      await shown(page, 'Choose a new password')
      await isAccessible(t, page, 'recovery')
      await page.getByLabel('New password').fill(NEW)
      await page.getByRole('button', { name: 'Save' }).click()
      await said(page, 'The new password is yours.')
      await signIn(page, 'rosa_page', NEW)
      await page.context().close()
    })

    await t.test('the profile: changed, with markup that stays text; a new address asks who it is; a new password signs the others out', async t => {
      const { username, token, id } = await newcomer()
      const page = await signedIn(username, NEWCOMERS)
      await isAccessible(t, page, 'profile')
      await page.getByLabel('About you').fill('Likes <em>walks</em>')
      await page.getByLabel('Website').fill('https://people.example/<img src=x onerror=alert(1)>')
      await page.getByLabel('Phone').fill('12')
      await page.getByRole('button', { name: 'Save' }).click()
      await page.getByRole('alert').filter({ hasText: 'phone' }).waitFor()
      await page.getByLabel('Phone').fill('+491701234567')
      await page.getByLabel('Website').fill('https://people.example/me')
      await page.getByRole('textbox', { name: 'Name' }).fill(`${username}_2`)
      await page.getByRole('button', { name: 'Save' }).click()
      await said(page, 'Your profile is saved.')
      await page.getByText(`${username}_2 (user)`).waitFor()
      t.match((await call('GET', '/users/me', { token })).body, { username: `${username}_2`, phone: '+491701234567', website: 'https://people.example/me', bio: 'Likes <em>walks</em>' })

      pass(LATER)
      await page.getByLabel('New address').fill('elsewhere@people.example')
      await page.getByRole('button', { name: 'Change the address' }).click()
      await page.getByRole('dialog').waitFor()
      await isAccessible(t, page, 'the dialog that asks who it is')
      await confirm(page, NEWCOMERS)
      await said(page, 'Confirm it by the mail')
      t.equal(await page.locator('[data-field=email]').textContent(), 'elsewhere@people.example')
      await mailTo('elsewhere@people.example', 'Confirm your address')

      await page.getByLabel('Password until now').fill(NEWCOMERS)
      await page.getByLabel('New password').fill(NEW)
      await page.getByRole('button', { name: 'Change the password' }).click()
      await said(page, 'Your password is changed.')
      t.equal((await call('GET', '/users/me', { token })).status, 401)
      t.equal(await page.getByLabel('New password').inputValue(), '')
      t.equal((await sql.query('select 1 from users where id = $1', [id])).length, 1)
      await page.context().close()
    })

    await t.test('security: what is set up is seen, and a secret that is shown keeps nobody out', async t => {
      const { username } = await newcomer()
      const page = await signedIn(username, NEWCOMERS)
      await open(page, 'Security')
      await page.getByText('not set up').waitFor()
      await page.getByRole('button', { name: 'Set up an authenticator' }).click()
      await page.locator('#secret:not(:empty)').waitFor()
      await isAccessible(t, page, 'security')
      await page.getByRole('button', { name: 'Cancel' }).click()
      t.equal(await page.locator('#secret').count(), 0)
      await page.context().close()
    })

    await t.test('devices: all are signed out at once [ASVS 10.4.9]', async t => {
      const { username, token, refresh_token: stolen } = await newcomer()
      const refresh = (refreshToken: string) => call('POST', '/auth/refresh', { body: { refresh_token: refreshToken } })
      const [page, other] = [await signedIn(username, NEWCOMERS), await signedIn(username, NEWCOMERS)]
      await open(page, 'Devices')
      await isAccessible(t, page, 'devices')
      const { status, body: { refresh_token: next } } = await refresh(stolen)
      t.equal(status, 200, 'negative control: until somebody does so, whoever stole a refresh token goes on')
      await page.getByRole('button', { name: 'Sign out everywhere' }).click()
      await said(page, 'You are signed out everywhere.')
      t.equal((await call('GET', '/users/me', { token })).status, 401)
      t.equal((await refresh(next)).status, 401)
      await other.getByRole('navigation').getByRole('link', { name: 'Devices' }).click()
      await said(other, 'You are signed out. Sign in again.')
      await signIn(other, username, NEWCOMERS)
      await shown(other, 'Devices')
      t.equal(await other.locator('#device-list li').count(), 1, 'and gets to where they wanted')
      for (const one of [page, other]) await one.context().close()
    })

    await t.test('API keys: made for what they may do, shown once, switched off, replaced, deleted', async t => {
      const { username } = await newcomer()
      const page = await signedIn(username, NEWCOMERS)
      const read = (key: string) => call('GET', '/api/data', { headers: { 'x-api-key': key } })
      const shownKey = () => page.locator('#new-key').textContent() as Promise<string>
      await open(page, 'API keys')
      await page.getByText('There are none yet.').waitFor()
      t.strictSame(await page.locator('input[name=scope]').evaluateAll(boxes => boxes.map(box => (box as unknown as { value: string }).value)), ['data:read', 'documents:write', 'posts:read', 'posts:write'])
      await page.getByLabel('Name of the program').fill('<b>Backup</b>')
      await page.getByLabel('data:read').check()
      await page.getByLabel('Addresses it is used from').fill('10.0.0.0/8\n192.0.2.7')
      pass(LATER)
      await page.getByRole('button', { name: 'Make the key' }).click()
      await confirm(page, NEWCOMERS)
      await said(page, 'The key <b>Backup</b> is made.')
      const key = await shownKey()
      await isAccessible(t, page, 'keys')
      t.equal((await read(key)).status, 200)
      const row = page.locator('#key-list li')
      t.match(await row.textContent(), /may data:read; from 10\.0\.0\.0\/8, 192\.0\.2\.7;.*good until/)
      await page.getByRole('button', { name: 'I have kept it' }).click()
      t.notOk((await page.content()).includes(key), 'shown once')
      t.equal(await page.getByLabel('Days until it expires').inputValue(), '90', 'the next one expires, too')

      await row.getByRole('button', { name: 'Switch off: <b>Backup</b>' }).click()
      await said(page, 'is switched off')
      t.equal((await read(key)).status, 403)
      await row.getByRole('button', { name: 'Switch on: <b>Backup</b>' }).click()
      await said(page, 'is switched on')
      await row.getByRole('button', { name: 'Replace: <b>Backup</b>' }).click()
      await said(page, 'is replaced')
      const next = await shownKey()
      t.strictSame([(await read(key)).status, (await read(next)).status], [200, 200], 'for a while both are good')
      await row.getByRole('button', { name: 'Delete: <b>Backup</b>' }).click()
      await row.getByRole('button', { name: 'No' }).click()
      t.equal((await read(next)).status, 200)
      await row.getByRole('button', { name: 'Delete: <b>Backup</b>' }).click()
      await row.getByRole('button', { name: 'Yes, delete' }).click()
      await said(page, 'is deleted')
      t.strictSame([(await read(key)).status, (await read(next)).status], [401, 401])
      await page.context().close()
    })

    await t.test('users and roles: an administrator finds somebody, gives a role, deactivates and deletes; asked who they are', async t => {
      const { username, token, id } = await newcomer()
      const page = await signedIn('admin')
      await open(page, 'Users and roles')
      await isAccessible(t, page, 'users')
      await page.getByLabel('Name').fill(username.toUpperCase())
      await page.getByRole('button', { name: 'Find' }).click()
      await page.locator('tbody tr').filter({ hasNotText: username }).first().waitFor({ state: 'detached' })
      t.equal(await page.locator('tbody tr').count(), 1)
      await page.getByRole('link', { name: username }).click()
      await page.getByRole('combobox', { name: 'Role' }).waitFor()
      await isAccessible(t, page, 'a user')
      pass(LATER)
      await page.getByRole('combobox', { name: 'Role' }).selectOption('moderator')
      await page.getByRole('button', { name: 'Change the role' }).click()
      await confirm(page)
      await said(page, `${username} is moderator now`)
      t.equal((await call('GET', '/users/me', { token })).status, 401, 'signed out')

      const theirs = await signedIn(username, NEWCOMERS)
      await open(theirs, 'Users and roles')
      t.notMatch(await theirs.locator('main').textContent(), /@/, 'who may only read sees no addresses')
      await theirs.getByRole('link', { name: 'alice' }).click()
      await theirs.getByRole('heading', { name: 'alice' }).waitFor()
      t.equal(await theirs.getByRole('heading', { name: 'Delete' }).count(), 0)
      t.notOk((await theirs.getByRole('navigation').getByRole('link').allTextContents()).includes('Audit'))

      await page.getByRole('button', { name: `Deactivate: ${username}` }).click()
      await page.getByRole('button', { name: 'Yes, deactivate' }).click()
      await said(page, 'is deactivated')
      await theirs.getByRole('link', { name: 'All users' }).click()
      await said(theirs, 'You are signed out. Sign in again.')
      await page.getByRole('button', { name: 'Activate', exact: true }).click()
      await said(page, 'is active')
      for (const [name, done] of [['Unlock', 'may try again'], ['End sign-ins', 'is signed out everywhere']] as const) {
        await page.getByRole('button', { name }).click()
        await said(page, done)
        await page.locator('h2:focus').filter({ hasText: 'Access' }).waitFor()
      }
      await page.getByRole('button', { name: 'Delete the account' }).click()
      t.equal((await call('POST', '/auth/login', { body: { username, password: NEWCOMERS } })).status, 200, 'not without their name')
      await page.getByLabel('Their name, to be sure').fill(username)
      await page.getByRole('button', { name: 'Delete the account' }).click()
      await said(page, `The account ${username} is deleted.`)
      t.equal((await call('POST', '/auth/login', { body: { username, password: NEWCOMERS } })).status, 401)
      t.equal((await call('GET', `/users/${id}`, { token: await portal.token('admin') })).body.username === username, false)
      for (const one of [page, theirs]) await one.context().close()
    })

    await t.test('attack: what was begun as one is not done as another who signed in beside it, also where the page was loaded anew before; nor is anything of them shown', async t => {
      const [one, other] = [await newcomer(), await newcomer()]
      const page = await tab()
      // It hears nothing of other tabs: what it believes is wrong.
      await page.addInitScript('BroadcastChannel.prototype.addEventListener = () => {}')
      await page.goto(origin)
      await page.evaluate('globalThis.isSamePage = true')
      await signIn(page, one.username, NEWCOMERS)
      t.equal(await page.evaluate('globalThis.isSamePage'), true, 'signing in loads nothing anew')
      const beside = await page.context().newPage()
      await beside.goto(origin)
      const becomes = async ({ username }: { username: string }) => {
        await beside.reload()
        await beside.getByRole('button', { name: 'Sign out', exact: true }).click()
        await signIn(beside, username, NEWCOMERS)
      }
      const shows = ({ username }: { username: string }) => page.getByText(`${username} (user)`).waitFor()
      const profile = async ({ username }: { username: string }) => call('GET', '/users/me', { token: await portal.token(username, NEWCOMERS) })

      await becomes(other)
      await page.getByLabel('About you').fill('Written by one')
      await page.getByRole('button', { name: 'Save' }).click()
      await shows(other)
      for (const who of [one, other]) t.notMatch((await profile(who)).body, { bio: 'Written by one' })

      await becomes(one)
      await page.reload()
      await shows(one)
      await open(page, 'Privacy')
      await becomes(other)
      await page.getByLabel('Type your name').fill(one.username)
      await page.getByRole('button', { name: 'Delete my account' }).click()
      await shows(other)
      for (const who of [one, other]) t.match(await profile(who), { status: 200, body: { username: who.username } }, 'nobody is erased')

      await becomes(one)
      await page.reload()
      await shows(one)
      await shown(page, 'Privacy')
      await becomes(other)
      const [answer] = await Promise.all([
        page.waitForResponse(response => new URL(response.url()).pathname === '/sessions'),
        page.getByRole('navigation').getByRole('link', { name: 'Devices' }).click(),
      ])
      t.equal(answer.status(), 409)
      await shows(other)
      await page.context().close()
    })

    await t.test('who signs out or in beside it is seen at once', async t => {
      const [one, other] = [await newcomer(), await newcomer()]
      const page = await signedIn(one.username, NEWCOMERS)
      const beside = await page.context().newPage()
      await beside.goto(origin)
      await beside.getByRole('button', { name: 'Sign out', exact: true }).click()
      await shown(page, 'Sign in')
      t.notMatch(await page.content(), one.username)
      await signIn(beside, other.username, NEWCOMERS)
      await page.getByText(`${other.username} (user)`).waitFor()
      await page.context().close()
    })

    await t.test('signing out waits for nothing that the page loads; and what is said is heard meanwhile', async t => {
      const { username } = await newcomer()
      const page = await signedIn(username, NEWCOMERS)
      const held: (() => void)[] = []
      await page.route('**/sessions', async route => {
        await new Promise<void>(resolve => { held.push(resolve) })
        await route.continue().catch(() => {})
      })
      await page.getByRole('navigation').getByRole('link', { name: 'Devices' }).click()
      await page.locator('#outlet[aria-busy=true]').waitFor()
      t.equal(await page.locator('[aria-busy=true] :is(#status, #fault), main[aria-busy]').count(), 0)
      await page.getByRole('button', { name: 'Sign out', exact: true }).click()
      await said(page, 'You are signed out.')
      await shown(page, 'Sign in')
      for (const release of held) release()
      await page.context().close()
    })

    await t.test('who is asked again who they are is told what for, and only as long as they are where they began it', async t => {
      const { username, token } = await newcomer()
      const page = await signedIn(username, NEWCOMERS)
      const dialog = page.getByRole('dialog')
      const change = async () => {
        await page.getByLabel('New address').fill('never@people.example')
        await page.getByRole('button', { name: 'Change the address' }).click()
      }
      pass(LATER)
      let release = () => {}
      const isAsked = new Promise<void>(resolve => {
        page.route('**/passkeys', async route => {
          resolve()
          await new Promise<void>(resolve => { release = resolve })
          await route.continue().catch(() => {})
        }).catch(() => {})
      })
      await change()
      await isAsked
      await page.getByRole('navigation').getByRole('link', { name: 'Devices' }).click()
      await shown(page, 'Devices')
      await page.unroute('**/passkeys')
      release()
      await page.evaluate("(async () => { for (let i = 0; i < 3; i++) await (await fetch('/passkeys')).text(); await new Promise(resolve => setTimeout(resolve, 200)) })()")
      t.equal(await dialog.count(), 0, 'not above another page')

      await open(page, 'Your profile')
      await change()
      await dialog.getByText('You are about to change your address.').waitFor()
      await page.evaluate("window.location.hash = '#devices'")
      await shown(page, 'Devices')
      t.equal(await dialog.count(), 0)
      t.notMatch((await call('GET', '/users/me', { token })).body, { email: 'never@people.example' })
      await page.context().close()
    })

    await t.test('attack: a module that is not what the shell was made with is not run; nor is markup or code made by the builder [ASVS 3.6.1]', async t => {
      const altered = async () => {
        const page = await tab()
        ignore(page)
        const { text, type } = webFiles.get('pages/sign-in.js')!
        await page.route('**/web/pages/sign-in.js', route => route.fulfill({ contentType: type, body: `${text}\nglobalThis.isAltered = true` }))
        return page
      }
      const page = await altered()
      await page.goto(origin)
      await page.getByRole('alert').filter({ hasText: 'Something went wrong' }).waitFor()
      t.equal(await page.evaluate('globalThis.isAltered'), undefined)
      await page.context().close()

      const control = await altered()
      const { text, headers } = await call('GET', '/')
      const body = text.replace(/<script type="importmap".+<\/script>/, '').replaceAll(/ integrity="[^"]+"/g, '')
      await control.route(`${origin}/`, route => route.fulfill({ headers: Object.fromEntries(Object.entries(headers).filter(([name]) => name !== 'content-length').map(([name, value]) => [name, String(value)])), body }))
      await control.goto(origin)
      await shown(control, 'Sign in')
      t.equal(await control.evaluate('globalThis.isAltered'), true, 'negative control: without the hashes it is')
      await control.context().close()

      const clean = await tab()
      await clean.goto(origin)
      await shown(clean, 'Sign in')
      for (const attributes of [{ href: 'javascript:alert(1)' }, { onclick: 'alert(1)' }, { style: 'color:red' }, { srcdoc: '<p>' }, { innerHTML: '<p>' }, { href: '//evil.example' }, { href: '/\t/evil.example' }, { href: '/\n\\evil.example' }, { action: 'blob:https://evil.example/x' }, { src: 'data:text/html,<p>' }]) {
        t.equal(await clean.evaluate(`import('/web/dom.js').then(({ h }) => h('a', ${JSON.stringify(attributes)})).then(() => 'made', error => error.name)`), 'TypeError', JSON.stringify(attributes))
      }
      t.equal(await clean.evaluate("import('/web/dom.js').then(({ h }) => h('p', {}, '<b>x</b>').outerHTML)"), '<p>&lt;b&gt;x&lt;/b&gt;</p>')
      for (const href of ['/files/x', '#posts', 'https://a.example/', 'mailto:a@a.example']) t.equal(await clean.evaluate(`import('/web/dom.js').then(({ h }) => h('a', { href: '${href}' }).getAttribute('href'))`), href)
      t.equal(await clean.evaluate("import('/web/dom.js').then(({ said }) => said(new DOMException('', 'AbortError')))"), '', 'what was stopped is no ceremony')
      await clean.context().close()
    })

    t.strictSame(faults.filter(fault => !INVALID.test(fault)), [], 'no error, no dialog and nothing that the policy stopped, on the whole way')
  })
}

function focused (page: Page): Promise<string> {
  return page.evaluate('document.activeElement.textContent')
}

async function pressUntil (page: Page, key: string, text: string): Promise<void> {
  for (let i = 0; i < PATIENCE; i++) {
    await page.keyboard.press(key)
    if (await focused(page) === text) return
  }
  throw new Error(`${text} is not reached by ${key}`)
}
