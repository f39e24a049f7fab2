/** The pages of administration in a real browser: attack lab, live audit, posture, limits. */
import type { Page } from 'playwright-core'
import { Type } from '@sinclair/typebox'
import t from 'tap'
import { closed } from '../../schemas/index.js'
import { isAccessible, open, pages, shown } from '../fixtures/pages.js'
import { chromium } from '../services.js'

t.setTimeout(600_000)
/** What the browser says of a burst that is refused, as it should be. */
const LIMITED = /responded with a status of 429/
/** Milliseconds that two servers take to start, on a machine that is busy. */
const SLOW = 240_000
const TITLES = ['Attack lab', 'Audit', 'Posture', 'Limits']

const executable = chromium(t)
if (executable !== null) {
  /** Streams of events that are open at the portal. */
  const streams = new Set<unknown>()
  const { portal, faults, signedIn, origin } = await pages(t, executable, {}, app => {
    app.addHook('onRequest', async (request, reply) => {
      if (!request.url.startsWith('/audit/stream?')) return
      streams.add(request)
      reply.raw.on('close', () => streams.delete(request))
    })
    app.post('/planted', {
      schema: { body: closed({ a: Type.String() }), response: { 200: closed({ ok: Type.Boolean() }) } },
      config: { access: 'public', limits: false },
    }, async () => ({ ok: true }))
  })
  const page = await signedIn('admin')
  const number = async (row: string) => Number(await page.locator('dl').first().locator(`dt:text-is("${row}") + dd`).textContent())

  t.test('posture: what is searched for is found, and a gap is red and says what to do', async t => {
    await open(page, 'Posture')
    const rows = page.locator('tbody tr:visible')
    await page.getByRole('searchbox', { name: 'Search' }).fill('/posture posture:read')
    t.match(await rows.allTextContents(), [/^GET \/posture.*permission posture:read/, /^GET \/posture\/table.*permission posture:read/])
    await page.getByRole('searchbox', { name: 'Search' }).fill('')
    await page.getByRole('combobox', { name: 'Who may' }).selectOption('anybody')
    await page.getByRole('checkbox', { name: 'Only those with gaps' }).check()
    t.match(await rows.allTextContents(), [/^POST \/planted.*high.*public, changes something, and has no limit\. Take limits: false out of its config/])
    const [red, ink] = await page.evaluate("['.gap', 'body'].map(place => getComputedStyle(document.querySelector(place)).color)") as string[]
    t.match(red, /^rgb\(1\d\d, \d\d, \d\d\)$/)
    t.not(red, ink)
    t.match(await page.locator('.counts').textContent(), /1 gaps, high/)
    await page.getByRole('searchbox', { name: 'Search' }).fill('no such route')
    await page.getByText('No route is like that.').waitFor()
    await page.getByRole('checkbox', { name: 'Only those with gaps' }).uncheck()
    await page.getByRole('searchbox', { name: 'Search' }).fill('')
    await page.getByRole('combobox', { name: 'Who may' }).selectOption('')
    await isAccessible(t, page, 'posture')
  })

  t.test('posture as one page: the same table, without a script', async t => {
    await page.getByRole('link', { name: 'The same as one page' }).click()
    await page.getByRole('heading', { name: 'What protects each route' }).waitFor()
    t.match(await page.locator('tr', { hasText: 'POST /planted' }).textContent(), /public, changes something, and has no limit/)
    await isAccessible(t, page, 'posture as a page')
    await page.goBack()
    await shown(page, 'Posture')
  })

  t.test('limits: a burst is allowed and then refused, and the numbers add up', async t => {
    await open(page, 'Limits')
    await page.getByRole('combobox', { name: 'Route' }).selectOption('/limits/bucket')
    await page.getByLabel('Requests a second').fill('30')
    await page.getByLabel('Seconds').fill('1')
    await page.getByRole('button', { name: 'Start' }).click()
    await page.getByText('The burst is over: 30 sent, 10 allowed, 20 refused.').waitFor()
    t.same([await number('Sent'), await number('Allowed'), await number('Refused'), await number('Left at the end')], [30, 10, 20, 0])
    t.match(await page.locator('dl').first().textContent(), /Policy"10\/10s";q=10;w=10/)
    const columns = await page.locator('tbody tr').evaluateAll((rows: any[]) => rows.map(row => [...row.children].slice(1, 4).map(cell => Number(cell.textContent))))
    t.same([0, 1, 2].map(i => columns.reduce((sum, row) => sum + row[i]!, 0)), [30, 10, 20], 'second by second, too')
    t.ok(await page.locator('svg .allowed').count() > 0)
    t.ok(await page.locator('svg .refused').count() > 0)
    t.equal(await page.getByRole('img', { name: '30 requests answered: 10 allowed, 20 refused.' }).count(), 1)
    await isAccessible(t, page, 'limits')
  })

  t.test('limits: a burst that is stopped ends at once', async t => {
    await page.getByRole('combobox', { name: 'Route' }).selectOption('/limits/multi')
    await page.getByLabel('Requests a second').fill('20')
    await page.getByLabel('Seconds').fill('30')
    await page.getByRole('button', { name: 'Start' }).click()
    await page.locator('svg .refused').first().waitFor()
    t.equal(await page.evaluate('document.activeElement.textContent'), 'Start', 'the keyboard stays where it was')
    const table = page.getByRole('region', { name: 'Second by second' })
    await table.focus()
    const before = await number('Sent')
    await page.waitForFunction(before => Number((globalThis as any).document.querySelector('dl dd').textContent) > before + 5, before)
    t.equal(await page.evaluate("document.activeElement.getAttribute('role')"), 'region', 'and who reads the table is not thrown out of it')
    await page.getByRole('button', { name: 'Stop' }).click()
    await page.getByText('The burst is over').waitFor()
    t.equal(await page.evaluate('document.activeElement.textContent'), 'Stop')
    t.ok(await number('Sent') < 600)
    t.equal(await number('Sent'), await number('Allowed') + await number('Refused'))
    t.equal(await number('Allowed'), 5, 'as many as a second has')
  })

  const events = page.locator('tr.event')
  const isLive = () => page.getByText('live', { exact: true }).waitFor()

  t.test('audit: what happens elsewhere appears by itself, and opens in place', async t => {
    await open(page, 'Audit')
    await isLive()
    await page.getByText('The chain is whole.').waitFor()
    await portal.call('POST', '/auth/login', { body: { username: 'alice', password: 'wrong' }, address: '192.0.2.41' })
    const row = events.filter({ hasText: '192.0.2.41' })
    await row.waitFor()
    t.match(await row.textContent(), /login_failure.*failure.*POST \/auth\/login/)
    await row.getByRole('button', { name: 'login_failure' }).click()
    t.match(await page.locator('tr.more').textContent(), /vocabularyauthn_login_fail/)
    await isAccessible(t, page, 'audit')
    await row.getByRole('button', { name: 'login_failure' }).click()
    t.equal(await page.locator('tr.more').count(), 0)
  })

  t.test('audit: paused nothing comes; resumed it is there', async t => {
    await page.getByRole('button', { name: 'Pause' }).click()
    await page.getByText('paused', { exact: true }).waitFor()
    await portal.call('POST', '/auth/login', { body: { username: 'alice', password: 'wrong' }, address: '192.0.2.42' })
    const beside = await page.context().newPage()
    await beside.goto(`${origin}/#audit`)
    await beside.locator('tr.event').filter({ hasText: '192.0.2.42' }).waitFor()
    // Longer than events gather.
    await page.evaluate('new Promise(resolve => setTimeout(resolve, 500))')
    t.equal(await events.filter({ hasText: '192.0.2.42' }).count(), 0)
    t.equal(streams.size, 1, 'that of the other page')
    await beside.close()
    await page.getByRole('button', { name: 'Resume' }).click()
    await events.filter({ hasText: '192.0.2.42' }).waitFor()
    await isLive()
  })

  t.test('audit: by type, user and outcome, of what was and of what comes', async t => {
    await page.getByRole('textbox', { name: 'User' }).fill('bob')
    await page.getByRole('combobox', { name: 'Outcome' }).selectOption('failure')
    await page.getByRole('button', { name: 'Filter' }).click()
    await page.getByText('No event is like that.').waitFor()
    await isLive()
    await portal.call('POST', '/auth/login', { body: { username: 'alice', password: 'wrong' }, address: '192.0.2.43' })
    await portal.call('GET', '/audit', { token: await portal.token('bob'), address: '192.0.2.44' })
    await events.filter({ hasText: '192.0.2.44' }).waitFor()
    t.match(await events.allTextContents(), [/access_denied.*failure.*bob.*GET \/audit/])
    await page.getByRole('button', { name: 'Clear' }).click()
    await events.filter({ hasText: '192.0.2.43' }).waitFor()
    await page.getByRole('combobox', { name: 'Type' }).fill('access_denied')
    await page.getByRole('button', { name: 'Filter' }).click()
    await page.getByText(/^\d+ events shown\.$/).waitFor()
    t.ok((await events.allTextContents()).every(text => text.startsWith('access_denied')))
    await page.getByRole('button', { name: 'Clear' }).click()
    await events.filter({ hasText: '192.0.2.43' }).waitFor()
  })

  t.test('audit: older events follow, page by page, and no more rows are kept than the page can hold', async t => {
    await events.last().getByRole('button').focus()
    for (let i = 0; i < 260; i++) portal.app.events.record('logout', null, { i })
    await portal.app.audit.flush()
    const [{ newest }] = await portal.sql.query<{ newest: number }>('select max(seq)::int as newest from audit_events') as [{ newest: number }]
    await page.locator(`tr.event[data-seq="${newest}"]`).waitFor()
    t.equal(await events.count(), 200)
    t.equal(await page.evaluate('document.activeElement.textContent'), 'Events', 'the keyboard does not go with the row where it was')
    const last = Number(await events.last().getAttribute('data-seq'))
    await page.getByRole('button', { name: 'Older events' }).click()
    await page.locator(`tr.event[data-seq="${last - 1}"]`).waitFor()
    t.equal(await events.count(), 200)
    await page.getByText('paused while older events are read').waitFor()
    const seqs = await events.evaluateAll((rows: any[]) => rows.map(row => Number(row.dataset.seq)))
    t.same(seqs, Array.from({ length: 200 }, (_none, i) => seqs[0]! - i), 'none of them twice, and none left out')
    await page.getByRole('button', { name: 'Resume' }).click()
    await isLive()
  })

  t.test('audit: a row that somebody changed in the database breaks the chain, in red, with its place', async t => {
    await portal.app.audit.flush()
    const [row] = await portal.sql.query<{ seq: number, content: string }>("select seq, content from audit_events where type = 'access_denied' order by seq limit 1")
    await portal.sql.query("update audit_events set content = replace(content, 'failure', 'success') where seq = $1", [row!.seq])
    await page.getByRole('button', { name: 'Verify' }).click()
    const told = page.getByText(`The chain is broken at event ${row!.seq}, which was changed.`)
    await told.waitFor()
    t.equal(await told.locator('xpath=ancestor::div[contains(@class, "note bad")]').count(), 1)
    await page.getByRole('button', { name: 'Show that place' }).click()
    await page.locator(`tr.event.broken[data-seq="${row!.seq}"]`).waitFor()
    await isAccessible(t, page, 'audit, broken')
    await portal.sql.query('update audit_events set content = $2 where seq = $1', [row!.seq, row!.content])
    await page.getByRole('button', { name: 'Verify' }).click()
    await page.getByText('The chain is whole.').waitFor()
    t.equal(await page.locator('tr.broken').count(), 0)
    await page.getByRole('button', { name: 'Resume' }).click()
    await isLive()
  })

  t.test('audit: whoever leaves the page leaves no stream open', async t => {
    t.equal(streams.size, 1)
    await open(page, 'Posture')
    for (let left = 200; left > 0 && streams.size > 0; left--) await new Promise(resolve => { setTimeout(resolve, 50) })
    t.equal(streams.size, 0)
  })

  t.test('lab: an attack is run, and both sides are there to read, side by side', async t => {
    await open(page, 'Attack lab')
    await page.getByText('None of it goes against the portal that you are using.').waitFor()
    const row = page.locator('#attack-read-order-of-another')
    await row.getByRole('button', { name: /^Run: / }).click()
    await row.getByText('succeeds').waitFor({ timeout: SLOW })
    t.same((await row.locator('td').allTextContents()).slice(1, 3), ['succeeds', 'refused'])
    t.match(await page.evaluate('document.activeElement.ariaLabel'), /^Run: /, 'the keyboard is where it was')
    t.match(await page.getByRole('status').allTextContents(), [String, /on the twin it succeeds, on the portal it is refused/])
    await row.getByRole('button', { expanded: false }).first().click()
    const sides = page.locator('.sides > section')
    t.equal(await sides.count(), 2)
    for (const [side, answer] of [['The unguarded twin', '200 OK'], ['The portal', '404 Not Found']] as const) {
      const area = page.getByRole('region', { name: side, exact: true })
      const decisive = area.locator('details.decisive')
      t.ok((await area.locator('.evidence').textContent())!.length > 10)
      t.match(await decisive.locator('pre').allTextContents(), [/^GET \/orders\/[^]*authorization: Bearer/, new RegExp(`^HTTP/1\\.1 ${answer}`)])
    }
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write'], { origin })
    await sides.last().locator('details.decisive').getByRole('button', { name: /^Copy/ }).click()
    await page.getByRole('button', { name: /^Copied/ }).waitFor()
    t.match(await page.evaluate('navigator.clipboard.readText()'), /^GET \/orders\/[^]*HTTP\/1\.1 404 Not Found/)
    await isAccessible(t, page, 'lab')
  })

  t.test('lab: all of them run one after the other, until somebody stops it', async t => {
    await page.getByRole('button', { name: /^Run all/ }).click()
    await page.getByText(/^2 of \d+: /).waitFor()
    await page.getByRole('button', { name: 'Stop' }).click()
    await page.getByText(/^[1-9]\d* of \d+ run: /).waitFor()
    t.ok(await page.locator('tr .badge').count() < 2 * await page.getByRole('button', { name: /^Run: / }).count())
    t.notOk(await page.getByRole('button', { name: /^Run all/ }).isDisabled())
  })

  t.test('a session that is over is told where events come live', async t => {
    await open(page, 'Audit')
    await isLive()
    await portal.call('POST', '/auth/logout-all', { token: await portal.token('admin') })
    await page.getByText('You are signed out. Sign in again.').waitFor()
    t.equal(await page.locator('tr.event').count(), 0)
  })

  t.test('who is no admin has none of these pages, and their routes are refused', async t => {
    const other: Page = await signedIn('alice')
    for (const title of TITLES) t.equal(await other.getByRole('navigation').getByRole('link', { name: title, exact: true }).count(), 0, title)
    for (const name of ['lab', 'audit', 'posture', 'limits']) {
      await other.goto(`${origin}/#${name}`)
      await shown(other, 'There is no such page')
    }
    const answers = await other.evaluate("Promise.all(['/lab/attacks', '/audit', '/audit/verify', '/audit/stream', '/posture', '/posture/table', '/posture?format=html'].map(async url => (await fetch(url)).status))")
    t.same(answers, [403, 403, 403, 403, 403, 403, 403])
  })

  t.test('no page complained of anything', async t => {
    t.same(faults.filter(fault => !LIMITED.test(fault)), [])
  })
}
