/** The portal's pages where time passes: step-up, and what is over. In a real browser; the walk from the first sign-in on is in test/wire/browser.test.ts. */
import { TOTP } from 'otpauth'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { withAuthenticator } from '../fixtures/chromium.js'
import { open, pages } from '../fixtures/pages.js'
import { chromium } from '../services.js'
import type { PortalUnderTest } from './portal.js'

t.setTimeout(600_000)
const PASSWORD = 'Newcomer-pass-1'
const LATER = 301_000

/** A page at which somebody new has signed in. */
async function withNewcomer (t: Test, executable: string): Promise<{ portal: PortalUnderTest, page: Page, faults: string[] }> {
  const { portal, signedIn, faults } = await pages(t, executable)
  const { username } = await portal.newcomer()
  return { portal, page: await signedIn(username, PASSWORD), faults }
}

async function cookieOf (page: Page): Promise<string | undefined> {
  return (await page.context().cookies()).find(({ name }) => name === 'session')?.value
}

const executable = chromium(t)
if (executable !== null) {
  t.test('what is sensitive asks again who it is, five minutes after the sign-in [ASVS 7.5.1] [ASVS 7.5.3]', async t => {
    const { portal, page, faults } = await withNewcomer(t, executable)
    const { passkeys } = await withAuthenticator(page)
    const dialog = page.getByRole('dialog', { name: 'Confirm that it is you' })
    const setUp = page.getByRole('button', { name: 'Set up an authenticator' })
    const refused = (text: string) => page.getByRole('alert').filter({ hasText: text }).waitFor()
    await open(page, 'Security')
    let totp!: TOTP
    const code = (step = 0) => totp.generate({ timestamp: portal.now() + step * 30_000 })

    await t.test('who does not say changes nothing', async t => {
      portal.pass(LATER)
      await setUp.click()
      await dialog.waitFor()
      t.equal(await page.evaluate('document.activeElement.name'), 'password')
      await page.keyboard.press('Escape')
      await refused('Not confirmed: nothing was changed')
      t.equal(await page.locator('#secret').count(), 0)
    })

    await t.test('by the password: what was begun goes on, in a session with a new id [ASVS 7.2.4]', async t => {
      const before = await cookieOf(page)
      await setUp.click()
      await dialog.getByLabel('Password').fill('Not-the-pass-1')
      await page.keyboard.press('Enter')
      await dialog.getByRole('alert').filter({ hasText: /wrong/ }).waitFor()
      await dialog.getByLabel('Password').fill(PASSWORD)
      await page.keyboard.press('Enter')
      await page.locator('#secret:not(:empty)').waitFor()
      t.ok(before)
      t.not(await cookieOf(page), before)
      totp = new TOTP({ secret: (await page.locator('#secret').textContent())! })
      await page.getByLabel('Code that the app shows now').fill(code())
      await page.getByRole('button', { name: 'Confirm' }).click()
      await page.getByRole('button', { name: 'I have kept them' }).click()
    })

    await t.test('by a passkey', async t => {
      await page.getByRole('button', { name: 'Add a passkey' }).click()
      await page.getByText('The passkey is added.').waitFor()
      t.equal(await passkeys(), 1)
      portal.pass(LATER)
      await page.getByRole('button', { name: 'Remove: Passkey' }).click()
      await dialog.getByRole('button', { name: 'Use a passkey' }).click()
      await page.getByText('There is none yet.').waitFor()
    })

    await t.test('where there is a second factor the password does not do, a code does', async t => {
      portal.pass(LATER)
      await page.getByRole('button', { name: 'Remove it' }).click()
      t.notOk(await dialog.getByRole('button', { name: 'Use a passkey' }).isVisible(), 'there is none any more')
      await dialog.getByLabel('Password').fill(PASSWORD)
      await page.keyboard.press('Enter')
      await dialog.getByLabel('Code of your authenticator').fill(code())
      t.notOk(await dialog.getByLabel('Password').isVisible())
      await page.keyboard.press('Enter')
      await page.getByText('There is no authenticator now.').waitFor()
    })
    t.strictSame(faults, [])
  })

  t.test('a session that is over is told, and nothing of the account is left in the page [ASVS 7.3.1] [ASVS 14.3.1]', async t => {
    const { portal, page, faults } = await withNewcomer(t, executable)
    portal.pass(1_801_000)
    await page.getByLabel('About you').fill('Too late')
    await page.getByRole('button', { name: 'Save' }).click()
    await page.getByText('You are signed out. Sign in again.').waitFor()
    await page.locator('input[name=username]:focus').waitFor()
    t.notMatch(await page.content(), /people\.example/)
    t.strictSame(faults, [])
  })

  t.test('on a narrow screen nothing is wider than it', async t => {
    const { page } = await withNewcomer(t, executable)
    await open(page, 'Security')
    await page.setViewportSize({ width: 320, height: 700 })
    await page.getByRole('button', { name: 'Set up an authenticator' }).click()
    await page.locator('#secret:not(:empty)').waitFor()
    t.equal(await page.evaluate('document.documentElement.scrollWidth'), 320)
  })
}
