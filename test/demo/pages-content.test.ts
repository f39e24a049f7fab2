/** The pages of what people write and keep: posts, documents, files, privacy. In a real browser: what each is for, and that nothing that is written there runs. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Locator, Page } from 'playwright-core'
import sharp from 'sharp'
import t, { type Test } from 'tap'
import { webFiles } from '../../demo/routes/web.js'
import { HTML_ALLOWLISTS, htmlCleaner, showHtml } from '../../plugins/html.js'
import { listening } from '../fixtures/listening.js'
import { confirm, isAccessible, open, pages, shown, signIn } from '../fixtures/pages.js'
import { chromium } from '../services.js'
import { formOf, pdf, picture } from '../uploads/forms.js'
import { STRINGS } from './strings.js'

t.setTimeout(600_000)
const NEWCOMER = 'Newcomer-pass-1'
/** Milliseconds after which the portal asks again who it is, and in which the windows of its limits pass. */
const LATER = 301_000
const MIB = 1_048_576
/** What the portal refuses its browser tells, too. */
const REFUSED = /^Failed to load resource: the server responded with a status of 4\d\d /

/** Beside those that are tried in every field: what browsers make of markup that is read twice, of names of elements, of styles, of foreign content. */
const MARKUP = [
  ...STRINGS.html!,
  // Read once as a comment, an attribute or a style, and once as markup.
  '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;/mglyph&gt;&lt;img src=1 onerror=alert(1)&gt;">', '<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>', '<svg></p><style><a id="</style><img src=1 onerror=alert(1)>">',
  '<svg><style><img src=x onerror=alert(1)></style></svg>', '<math><annotation-xml encoding="text/html"><style><img src=x onerror=alert(1)></style></annotation-xml></math>', '<svg><desc><noscript><img title="</noscript><img src=x onerror=alert(1)>"></noscript></desc></svg>',
  '<noembed><img title="</noembed><img src=x onerror=alert(1)>"></noembed>', '<iframe><img title="</iframe><img src=x onerror=alert(1)>"></iframe>', '<select><template><img src=x onerror=alert(1)></template></select>', '<table><td background=javascript:alert(1)><img src=x onerror=alert(1)></table>',
  '<p><a href="https://a.example/&quot; onclick=alert(1) x=&quot;">x</a>', '<a href="https://a.example" title="&quot;><img src=x onerror=alert(1)>">x</a>', '<a title="--><img src=x onerror=alert(1)>">x</a>', '<p>&amp;lt;img src=x onerror=alert(1)&amp;gt;</p>', '<!-- --!><img src=x onerror=alert(1)> -->',
  // Names that scripts of a page look for.
  '<form name=body><input name=childNodes><input name=localName value=p></form>', '<img name=documentElement><img name=body><img name=createElement>', '<a id=alert></a><a id=trustedTypes></a><form id=status></form><p id=outlet>x</p>', '<form id=x tabindex=0 onfocus=alert(1) autofocus><input name=attributes><input name=nodeType></form>',
  // Styles, and what acts by itself.
  '<style>p{background:url(javascript:alert(1))}</style>', '<p style="background:url(//evil.example/x)">x</p>', '<div style="width:expression(alert(1))">x</div>', '<style>@keyframes x{}</style><p style="animation-name:x" onanimationstart=alert(1)>x</p>', '<p onfocusin=alert(1) tabindex=1 autofocus>x</p>', '<video autoplay src=x onerror=alert(1)></video>',
  '<svg><set attributeName=href to=javascript:alert(1)></set><a><text>x</text></a></svg>', '<svg><a xlink:href="javascript:alert(1)"><text y=20>x</text></a></svg>', '<svg><foreignObject><img src=x onerror=alert(1)></foreignObject></svg>', '<svg><image href=x onerror=alert(1)></svg>', '<math href="javascript:alert(1)">x</math>',
  '<dialog open oncancel=alert(1)><img src=x onerror=alert(1)></dialog>', '<p contenteditable autofocus onfocus=alert(1)>x</p>', '<button popovertarget=y>x</button><p popover id=y onbeforetoggle=alert(1)>x</p>', '<object data="data:text/html,<script>alert(1)</script>"></object>', '<iframe srcdoc="&lt;img src=x onerror=parent.alert(1)&gt;"></iframe>',
  // Addresses.
  '<a href="\tjava\nscript:alert(1)">x</a>', '<a href="javascript&colon;alert(1)">x</a>', '<a href="&#x6A&#x61&#x76&#x61script:alert(1)">x</a>', '<a href="https:javascript:alert(1)">x</a>', '<a href="blob:https://a.example/x">x</a>', '<a href="http://user:password@evil.example/">x</a>', '<a href="/session/logout">x</a>', '<a href="https://a.example" target=_blank rel=opener>x</a>',
]

const WRITTEN = [
  '<p>One &amp; <strong>two <em>three</em></strong><br>four &lt;five&gt; "six" \'seven\' &quot;eight&quot; &nbsp; &copy; &euro; &amp;amp;</p><ul><li>a</li><li>b <ol><li>c</li></ol></li></ul>',
  '<p><a href="https://a.example/x?y=1&amp;z=%22#w" title="Say &quot;this&quot; &amp; that">x</a> <a href="mailto:a@a.example">y</a> <a href="https://bücher.example/é">z</a></p>', '<strong>open <em>both', '<li>alone</li></p></ul>', '<em>'.repeat(100) + 'deep',
  '2 < 3 > 1 & 4', '<a href="https://a.example">one <a href="https://b.example">two</a></a>',
]

/** One in so many. */
const every = (n: number) => [...MARKUP.entries()].filter(([i]) => i % n === 0)

const KEPT: Readonly<Record<string, readonly string[]>> = { P: [], BR: [], STRONG: [], EM: [], UL: [], OL: [], LI: [], A: ['href', 'title', 'rel'] }

/** Runs in the page: what it shows of a text that is none of these elements, attributes or addresses. */
function beyond ([selector, kept]: [string, Readonly<Record<string, readonly string[]>>]): string[] {
  const { document } = globalThis as any
  return [...document.querySelectorAll(`${selector} *`)].flatMap((element: any) => [
    ...element.tagName in kept ? [] : [element.tagName],
    ...[...element.attributes].filter(({ name }: { name: string }) => !kept[element.tagName]?.includes(name)).map(({ name }: { name: string }) => `${element.tagName} ${name}`),
    ...element.tagName === 'A' && element.hasAttribute('href') && !/^(?:https?:\/\/[^@/]+(?:\/|$)|mailto:)/.test(element.getAttribute('href')) ? [`A to ${element.getAttribute('href')}`] : [],
    ...element.tagName === 'A' && element.rel !== 'noopener nofollow' ? ['A without rel'] : [],
  ])
}

/** Runs in the page: shows each as markup, and counts those that run. */
async function show (markup: readonly string[]): Promise<number> {
  const { document, window } = globalThis as any
  // As long as they are what they are: some of the markup is named like them.
  const [main, make] = [document.querySelector('main'), document.createElement.bind(document)]
  const ran = new Set<number>()
  window.alert = (which: number) => { ran.add(which) }
  for (const [i, text] of markup.entries()) {
    const place = make('div')
    // What would take the page away, or stop it.
    if (/http-equiv|<plaintext|<base/.test(text)) continue
    place.innerHTML = text.replaceAll('alert(1)', `alert(${i})`)
    main.append(place)
    for (const link of place.querySelectorAll('a')) if (link.protocol === 'javascript:') link.click()
  }
  for (let left = 100, before = -1; left > 0 && (ran.size === 0 || ran.size !== before); left--) {
    before = ran.size
    await new Promise(resolve => { setTimeout(resolve, 200) })
  }
  return ran.size
}

/** Runs in the page: each text as the pages show it, and as the browser reads it. */
async function read (texts: readonly string[]) {
  const { document } = globalThis as any
  const { sanitised } = await import('/web/sanitised.js' as string)
  return texts.map(text => {
    const [shown, parsed] = [document.createElement('div'), document.createElement('template')]
    shown.append(sanitised(text))
    parsed.innerHTML = text
    return [shown, parsed.content].map(place => ({
      text: place.textContent as string,
      // Which paragraph ends where another begins is the browser's own.
      elements: [...place.querySelectorAll('a, strong, em, br, li')].map((element: any) => `${element.tagName} ${element.href ?? ''} ${element.title}`),
    }))
  })
}

const executable = chromium(t)
if (executable !== null) {
  const site = await pages(t, executable)
  const { portal, origin, faults } = site
  const { call, newcomer, sql } = portal
  const [alice, bob] = [await newcomer(), await newcomer()]
  const hers = await site.signedIn(alice.username, NEWCOMER)
  const his = await site.signedIn(bob.username, NEWCOMER)

  const button = (place: Page | Locator, name: string) => place.getByRole('button', { name, exact: true })
  const card = (page: Page, name: string) => page.getByRole('region', { name, exact: true })
  const told = (page: Page, text: string) => page.getByRole('status').filter({ hasText: text }).first().waitFor()
  const refused = (place: Page | Locator, text: string | RegExp) => place.getByRole('alert').filter({ hasText: text }).first().waitFor()
  const visit = async (page: Page, address: string, title: string) => {
    await page.evaluate(`window.location.hash = ${JSON.stringify(address)}`)
    await page.waitForFunction(hash => (globalThis as any).location.hash === hash, `#${address}`)
    await shown(page, title)
  }
  /** Nobody complained: no error, no dialog, nothing that the policy had to stop. */
  const isQuiet = (t: Test) => { t.strictSame(faults.splice(0).filter(text => !REFUSED.test(text)), []) }

  t.test('posts: written, read by everybody, changed by their author, talked about, deleted by moderators', async t => {
    await open(hers, 'Posts')
    await hers.getByRole('link', { name: 'Write a post' }).click()
    await card(hers, 'New').waitFor()
    await hers.getByLabel('Title').fill('A day at the <b>sea</b>')
    await hers.getByLabel('Content').fill('<h1>Big</h1><p>Sand &amp; <strong>wind</strong>, <a href="https://sea.example/x">see</a></p>')
    await hers.getByLabel('Tags').fill('sea, sun  sea')
    await isAccessible(t, hers, 'the form of a post')
    await button(hers, 'Publish').click()
    await told(hers, 'Your post is there.')
    const address = new URL(hers.url()).hash.slice(1)
    t.equal(await hers.getByRole('main').getByRole('heading', { level: 2 }).first().textContent(), 'A day at the <b>sea</b>')
    t.equal(await hers.locator('.written').innerHTML(), 'Big<p>Sand &amp; <strong>wind</strong>, <a href="https://sea.example/x" rel="noopener nofollow">see</a></p>')
    await hers.getByText('#sea #sun', { exact: true }).waitFor()
    t.equal(await button(hers, 'Delete').count(), 0, 'no moderator')

    await t.test('others read it and say something, which is text', async t => {
      await visit(his, address, 'Posts')
      await his.getByText(new RegExp(`^${alice.username} · `)).first().waitFor()
      t.equal(await his.getByRole('link', { name: 'Edit' }).count(), 0)
      const comments = card(his, 'Comments')
      await comments.getByText('There are none yet.').waitFor()
      await comments.getByLabel('Your comment').fill('First line\n\nSecond <b>line</b>')
      await button(comments, 'Comment').click()
      await told(his, 'Your comment is there.')
      t.equal(await comments.locator('.comment .lines').innerText(), 'First line\n\nSecond <b>line</b>')
      t.equal(await comments.getByText('There are none yet.').count(), 0)
      await isAccessible(t, his, 'a post')
    })

    await t.test('its author changes it', async t => {
      await hers.getByRole('link', { name: 'Edit' }).click()
      await card(hers, 'Change it').waitFor()
      t.equal(await hers.getByLabel('Content').inputValue(), 'Big<p>Sand &amp; <strong>wind</strong>, <a href="https://sea.example/x">see</a></p>')
      await hers.getByLabel('Title').fill('   ')
      await button(hers, 'Save').click()
      await refused(hers, 'title')
      await hers.getByLabel('Title').fill('Another day')
      await button(hers, 'Save').click()
      await told(hers, 'Your post is changed.')
      await hers.getByRole('heading', { level: 2, name: 'Another day' }).waitFor()
      await card(hers, 'Comments').getByText('Second <b>line</b>').waitFor()
    })

    await t.test('whoever is not signed in reads', async t => {
      const page = await site.tab()
      await page.goto(`${origin}/#posts`)
      await page.getByRole('link', { name: 'Another day' }).click()
      await card(page, 'Comments').getByText('Second <b>line</b>').waitFor()
      t.equal(await page.getByRole('textbox').count(), 0)
      t.notMatch(await page.locator('main').textContent(), alice.username, 'and is not told who wrote it')
      await page.close()
    })

    await t.test('a moderator deletes it, and is asked first', async t => {
      const moderator = await newcomer('moderator')
      const page = await site.signedIn(moderator.username, NEWCOMER)
      await visit(page, address, 'Posts')
      await button(page, 'Delete').click()
      await page.getByText('Delete this post and its comments?').waitFor()
      await button(page, 'No').click()
      t.equal(await page.evaluate('document.activeElement.textContent'), 'Delete')
      await page.keyboard.press('Enter')
      await page.keyboard.press('Enter')
      await told(page, 'The post is deleted.')
      t.equal(await page.getByRole('link', { name: 'Another day' }).count(), 0)
      await page.close()
    })

    await t.test('the list goes on where a page of it ends', async t => {
      await sql.query("insert into posts (id, author_id, title, title_upper, content, created_at) select 'many-' || n, $1, 'Many ' || n, 'MANY ' || n, '<p>x</p>', now() - n * interval '1 hour' from generate_series(1, 30) as n", [alice.id])
      await open(hers, 'Devices')
      await open(hers, 'Posts')
      for (let left = 3; left > 1; left--) {
        const before = await card(hers, 'Newest').getByRole('listitem').count()
        await button(hers, 'Show more').click()
        await hers.waitForFunction(count => (globalThis as any).document.querySelectorAll('#outlet li').length > count, before)
      }
      await hers.getByRole('link', { name: 'Many 30', exact: true }).waitFor()
      t.equal(await button(hers, 'Show more').count(), 0)
      t.match(await hers.evaluate('document.activeElement.textContent'), /^Many/, 'the keyboard is where the list goes on')
      await isAccessible(t, hers, 'the list of posts')
    })
    isQuiet(t)
  })

  t.test('documents: made, shared by name to read, then to write, taken back, deleted', async t => {
    await open(hers, 'Documents')
    await card(hers, 'Yours').getByText('There are none yet.').waitFor()
    await hers.getByLabel('Title').fill('Plans')
    await hers.getByLabel('Text').fill('One\n  two <i>three</i>')
    await button(hers, 'Create').click()
    await told(hers, 'Your document is there.')
    const address = new URL(hers.url()).hash.slice(1)
    const shares = card(hers, 'Shared with')
    const share = async (name: string, isForWriting = false) => {
      await shares.getByLabel('Name').fill(name)
      if (isForWriting) await shares.getByLabel('Write to it').check()
      await button(shares, 'Share').click()
    }
    await share('nobody_at_all')
    await refused(shares, 'There is no such user to share with')
    await share(bob.username)
    await told(hers, `The document is shared with ${bob.username}.`)
    t.match(await shares.getByRole('listitem').allTextContents(), [new RegExp(`^${bob.username}\\s*to read`)])
    await isAccessible(t, hers, 'a document')

    await open(his, 'Documents')
    await card(his, 'Shared with you').getByRole('link', { name: 'Plans' }).click()
    t.equal(await card(his, 'Plans').locator('.lines').innerText(), 'One\n  two <i>three</i>')
    t.equal(await his.getByRole('textbox').count(), 0)
    t.equal(await card(his, 'Shared with').count(), 0)

    await share(bob.username, true)
    await shares.getByText('to read and write').waitFor()
    await visit(his, 'documents', 'Documents')
    await isAccessible(t, his, 'the list of documents')
    await card(his, 'Shared with you').getByRole('link', { name: 'Plans' }).click()
    // The list that was left has a field of this name too.
    await card(his, 'Plans').getByLabel('Text').fill('Four')
    await button(his, 'Save').click()
    await told(his, 'The document is saved.')
    t.equal((await call('GET', `/${address}`, { token: alice.token })).body.content, 'Four')

    await shares.getByRole('button', { name: `Take back from ${bob.username}` }).click()
    await told(hers, `The document is not shared with ${bob.username} any more.`)
    await shares.getByText('Nobody but you has it.').waitFor()
    t.equal(await hers.evaluate('document.activeElement.textContent'), 'Shared with', 'the keyboard is where the button was')
    await button(his, 'Save').click()
    await refused(his, 'There is nothing here')
    await his.reload()
    await his.locator('#fault').filter({ hasText: 'There is nothing here' }).waitFor()
    t.equal(await his.locator('#outlet').innerText(), '')
    await open(his, 'Devices')
    await open(his, 'Documents')
    await card(his, 'Shared with you').getByText('Nobody shares one with you.').waitFor()

    await button(hers, 'Delete').click()
    await button(hers, 'Yes, delete').click()
    await told(hers, 'The document is deleted.')
    await card(hers, 'Yours').getByText('There are none yet.').waitFor()
    isQuiet(t)
  })

  t.test('documents: who may write without reading gets no form that would wipe what is there', async t => {
    const { body: { id } } = await call('POST', '/documents', { token: alice.token, body: { title: 'Letter box', content: 'What others wrote' } })
    t.equal((await call('POST', `/documents/${id}/shares`, { token: alice.token, body: { userId: bob.id, actions: ['write'] } })).status, 201)
    await visit(his, `documents/${id}`, 'Documents')
    await card(his, 'Letter box').getByText('You may write to it, but not read it').waitFor()
    t.equal(await his.getByRole('textbox').count(), 0)
    t.equal(await button(his, 'Save').count(), 0)
    await call('DELETE', `/documents/${id}`, { token: alice.token })
    isQuiet(t)
  })

  t.test('documents: of very many as many are shown as the page can hold, and it says so', async t => {
    await sql.query("insert into documents (id, owner_id, title, content) select 'flood-' || lpad(n::text, 4, '0'), $1, 'Flood ' || n, 'x' from generate_series(1, 1050) as n", [alice.id])
    await sql.query("insert into document_shares (document_id, user_id, actions) select id, $1, array['read'] from documents where id like 'flood-%'", [bob.id])
    const asked: string[] = []
    his.on('request', request => { if (/\/documents\?/.test(request.url())) asked.push(request.url()) })
    await open(his, 'Devices')
    await open(his, 'Documents')
    await his.getByText('There are more than these 1000: they are not shown here.').waitFor()
    t.equal(asked.length, 10)
    await sql.query("delete from documents where id like 'flood-%'")
    await visit(his, 'devices', 'Devices')
    isQuiet(t)
  })

  t.test('files: looked at, sent with progress, refused in clear words, kept, taken back, deleted', async t => {
    const page = hers
    const sender = card(page, 'Send one')
    const row = (name: string) => page.getByRole('listitem').filter({ hasText: name })
    const choose = (name: string, buffer: Buffer, mimeType = '') => sender.getByLabel('File').setInputFiles({ name, mimeType, buffer })
    /** What begins so, and is so many bytes longer. */
    const drop = async (name: string, content: Buffer, more = 0) => {
      const dataTransfer = await page.evaluateHandle(([name, base64, more]: [string, string, number]) => {
        const { DataTransfer, File } = globalThis as any
        const transfer = new DataTransfer()
        transfer.items.add(new File([Uint8Array.from(atob(base64), sign => sign.charCodeAt(0)), new Uint8Array(more)], name))
        return transfer
      }, [name, content.toString('base64'), more] as [string, string, number])
      await sender.dispatchEvent('drop', { dataTransfer })
    }
    const png = await picture('png', 60, 40)
    await open(page, 'Files')

    await t.test('by choice: an image is seen before it is sent', async t => {
      await choose('Mein Fötö.png', png)
      await sender.getByRole('img', { name: 'Preview of Mein Fötö.png' }).waitFor()
      await sender.getByText('60 × 40').waitFor()
      await told(page, 'Mein Fötö.png is stored.')
      const { body: { items: [stored] } } = await call('GET', '/files', { token: alice.token })
      t.match(await row('Mein Fötö.png').textContent(), new RegExp(`PNG, 60 × 40, \\d+ KiB, stored .*SHA-256: ${stored.sha256}`))
      await isAccessible(t, page, 'files')
    })

    await t.test('by drop: a document', async t => {
      const content = pdf()
      await drop('Report.pdf', content)
      await told(page, 'Report.pdf is stored.')
      await row('Report.pdf').getByText(createHash('sha256').update(content).digest('hex')).waitFor()
    })

    await t.test('comes back whole, under its own name', async t => {
      const [download] = await Promise.all([page.waitForEvent('download'), row('Report.pdf').getByRole('link', { name: 'Download Report.pdf' }).click()])
      t.equal(download.suggestedFilename(), 'Report.pdf')
      t.ok(readFileSync(await download.path()).equals(pdf()))
    })

    await t.test('what is not taken is said before it is sent, and leaves nothing', async t => {
      const asked: string[] = []
      page.on('request', request => { if (request.method() === 'POST') asked.push(request.url()) })
      const flat = (width: number, height: number) => sharp({ create: { width, height, channels: 3, background: '#336699' } }).png().toBuffer()
      for (const [name, content, text, more] of [
        ['setup.exe', Buffer.from('MZ'), /Only files of these kinds are taken: jpg/], ['image.svg', Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'), /Only files of these kinds/], ['noextension', png, /Only files of these kinds/],
        ['large.png', png, /An image has 5 MiB at most, and this one has 5\.1 MiB/, 5 * MIB], ['large.pdf', pdf(), /A document has 10 MiB at most/, 10 * MIB],
        ['wide.png', await flat(4001, 10), /at most 4000 × 4000, and this one is 4001 × 10/], ['broken.png', Buffer.from('no image'), /This browser can make no image of it/],
      ] as const) {
        await drop(name, content, more)
        await refused(sender, text)
        t.equal(await sender.getByRole('img').count(), 0, name)
      }
      t.strictSame(asked, [])
    })

    await t.test('what the portal itself refuses is said in its words', async t => {
      await choose('other.png', await picture('gif'))
      await refused(sender, /content|type/i)
      await choose('script.pdf', pdf({ catalog: '/OpenAction<</S/JavaScript/JS(app.alert(1))>>' }))
      await refused(sender, /runs|active|script/i)
      t.equal((await call('GET', '/files', { token: alice.token })).body.items.length, 2)
    })

    await t.test('a slow one shows how far it is, and is cancelled', async t => {
      const client = await page.context().newCDPSession(page)
      await client.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: 300_000 })
      await drop('Long.pdf', pdf(), 3 * MIB)
      const bar = sender.getByRole('progressbar', { name: 'Sending Long.pdf' })
      await page.waitForFunction(() => { const { value } = (globalThis as any).document.querySelector('progress') ?? {}; return value > 0 && value < 1 })
      t.match(await sender.locator('[role=status]').textContent(), /^\d+ %$/)
      t.equal(await page.evaluate('document.activeElement.textContent'), 'Cancel')
      await page.keyboard.press('Enter')
      await refused(sender, 'Cancelled: nothing of it is stored')
      await client.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: -1 })
      await client.detach()
      t.equal(await bar.count(), 0)
      t.equal((await call('GET', '/files', { token: alice.token })).body.items.length, 2)
      await choose('Again.png', png)
      await told(page, 'Again.png is stored.')
    })

    await t.test('is deleted, after a question', async t => {
      await row('Report.pdf').getByRole('button', { name: 'Delete: Report.pdf' }).click()
      await button(row('Report.pdf'), 'Yes, delete').click()
      await told(page, 'Report.pdf is deleted.')
      t.equal(await page.evaluate('document.activeElement.textContent'), 'Yours', 'the keyboard is where the button was')
      t.equal(await row('Report.pdf').count(), 0)
      t.equal((await call('GET', '/files', { token: alice.token })).body.items.length, 2)
    })
    isQuiet(t)
  })

  t.test('privacy: what is held, to see and to take away, consents, and the end of it', async t => {
    const person = await newcomer()
    const page = await site.signedIn(person.username, NEWCOMER)
    await call('POST', '/documents', { token: person.token, body: { title: 'Held', content: 'Held content' } })
    await open(page, 'Privacy')

    await t.test('what is held is shown to who confirms that it is them', async t => {
      portal.pass(LATER)
      await button(page, 'Show what is held').click()
      await confirm(page, NEWCOMER)
      const held = page.getByRole('row').filter({ hasText: 'Documents' })
      await held.waitFor()
      t.match(await held.getByRole('cell').allTextContents(), ['1', /GDPR Art\. 6\(1\)\(b\)/, 'until you end it'])
      t.match(await page.getByRole('row').filter({ hasText: 'Orders' }).getByRole('cell').allTextContents(), ['0', /tax/, '3653 days'])
      await isAccessible(t, page, 'privacy')
    })

    await t.test('and is a file', async t => {
      portal.pass(LATER)
      const [download] = await Promise.all([page.waitForEvent('download'), button(page, 'Download it').click().then(() => confirm(page, NEWCOMER))])
      t.equal(download.suggestedFilename(), 'export.json')
      t.match(JSON.parse(readFileSync(await download.path(), 'utf8')), { profile: { username: person.username }, documents: [{ title: 'Held', content: 'Held content' }] })
    })

    await t.test('consents are given, and withdrawn as easily', async t => {
      const given = async () => (await call('GET', '/users/me/consents', { token: person.token })).body.items.find(({ purpose }: { purpose: string }) => purpose === 'newsletter').given
      const row = page.getByRole('listitem').filter({ hasText: 'A mail a month' })
      await row.getByText('Not decided').waitFor()
      await row.getByRole('button', { name: 'Agree: newsletter', exact: true }).click()
      await row.getByText(/^Agreed/).waitFor()
      t.equal(await given(), true)
      t.equal(await row.getByRole('button', { name: 'Agree: newsletter', exact: true }).getAttribute('aria-pressed'), 'true')
      await row.getByRole('button', { name: 'Do not agree: newsletter' }).click()
      await row.getByText(/^Not agreed/).waitFor()
      t.equal(await given(), false)
    })

    await t.test('the account ends for who types its name and confirms that it is them', async t => {
      const end = card(page, 'Delete your account')
      portal.pass(LATER)
      await end.getByRole('textbox').fill(alice.username)
      await button(end, 'Delete my account').click()
      await refused(end, 'This is not your name: nothing was deleted')
      await end.getByRole('textbox').fill(person.username)
      await button(end, 'Delete my account').click()
      await page.getByRole('dialog').waitFor()
      await page.keyboard.press('Escape')
      await refused(end, 'Not confirmed: nothing was changed')
      t.equal((await sql.query('select 1 from users where id = $1', [person.id])).length, 1)
      await button(end, 'Delete my account').click()
      await confirm(page, NEWCOMER)
      await told(page, 'Your account is deleted.')
      t.equal((await sql.query('select 1 from users where id = $1', [person.id])).length, 0)
      t.notMatch(await page.content(), 'people.example')
      await signIn(page, alice.username, NEWCOMER)
      await page.close()
    })
    isQuiet(t)
  })

  t.test(`${MARKUP.length} ways to have something run, written wherever people write: seen by others, none runs [ASVS 1.2.1] [ASVS 1.3.1]`, async t => {
    const [attacker, reader] = [await newcomer(), await newcomer()]
    const write = (method: string, url: string, body: unknown) => call(method, url, { token: attacker.token, body })
    /** What was taken as it is; where a field does not take it, in the other fields. */
    const taken = { title: 0, content: 0, comment: 0, document: 0, file: 0, bio: 0, website: 0 }
    const made = async (kind: keyof typeof taken, method: string, url: string, body: unknown) => {
      const answer = await write(method, url, body)
      if (answer.status < 300) taken[kind]++
      else t.equal(answer.status, 400, `${kind}: ${answer.text}`)
      return answer.status < 300 ? answer.body : null
    }
    const image = await picture('png', 4, 4)
    const { id: discussed } = await made('content', 'POST', '/posts', { title: 'Discussed', content: 'Long enough content' })
    for (const text of MARKUP) {
      const content = `Long enough: ${text}` // also where nothing of it is kept
      if (await made('title', 'POST', '/posts', { title: text, content }) === null) await made('content', 'POST', '/posts', { title: 'x', content })
    }
    for (const [, text] of every(2)) await made('comment', 'POST', `/posts/${discussed}/comments`, { content: text })
    for (const [i, text] of every(3)) {
      t.equal((await write('POST', '/posts', { title: 'x', content: 'Long enough content', tags: [text] })).status, 400, `a tag: ${text}`)
      const document = await made('document', 'POST', '/documents', { title: text, content: text }) ?? await made('document', 'POST', '/documents', { title: 'x', content: text })
      t.equal((await write('POST', `/documents/${document.id}/shares`, { userId: reader.id, actions: i % 2 === 0 ? ['read'] : ['read', 'write'] })).status, 201)
      const { body, type } = formOf([{ filename: `${text.replaceAll('"', '%22').replace(/[\r\n\t\0]/g, ' ')}.png`, type: 'image/png', content: image }])
      const { status } = await call('POST', '/upload/image', { token: attacker.token, raw: body, type })
      if (status === 201) taken.file++
      else t.ok([400, 415].includes(status), `as a file: ${text}`)
    }
    t.comment(`taken: ${JSON.stringify(taken)} of ${MARKUP.length}`)
    for (const [where, least] of Object.entries({ title: 100, comment: 50, document: 30, file: 30 })) t.ok(taken[where as keyof typeof taken] >= least, where)

    const page = await site.signedIn(reader.username, NEWCOMER)
    const isUntouched = async (what: string) => {
      t.strictSame(await page.evaluate(beyond, ['.written', KEPT] as [string, typeof KEPT]), [], what)
      t.strictSame(faults.splice(0), [], what)
    }
    /** Everything of a list that goes on. */
    const all = async (place: Locator) => {
      for (let before = -1; await button(place, 'Show more').count() > 0 && before !== await place.getByRole('listitem').count();) {
        before = await place.getByRole('listitem').count()
        await button(place, 'Show more').click()
        await page.waitForFunction(count => (globalThis as any).document.querySelectorAll('#outlet li').length > count, before)
      }
    }

    await t.test('as titles and contents of posts', async t => {
      await open(page, 'Posts')
      await all(card(page, 'Newest'))
      const shownTitles = await card(page, 'Newest').getByRole('link').allTextContents()
      const posts = await sql.query<{ id: string, title: string }>('select id, title from posts where author_id = $1', [attacker.id])
      for (const { title } of posts) t.ok(shownTitles.includes(title), `as text: ${title}`)
      for (const { id } of posts.filter((_post, i) => i % 8 === 0)) await visit(page, `posts/${id}`, 'Posts')
      await isUntouched('posts')
    })

    await t.test('as contents that came around the portal\'s own cleaning', async t => {
      const posts = await sql.query<{ id: string }>('select id from posts where author_id = $1 limit 23', [attacker.id])
      for (const [i, { id }] of posts.entries()) {
        const some = MARKUP.filter((_text, n) => n % posts.length === i).join('\n')
        await sql.query('update posts set content = $2 where id = $1', [id, some])
        await visit(page, `posts/${id}`, 'Posts')
        await isUntouched(some)
      }
    })

    await t.test('as comments', async t => {
      await visit(page, `posts/${discussed}`, 'Posts')
      await all(card(page, 'Comments'))
      t.equal(await page.locator('.comment').count(), taken.comment)
      t.equal(await page.locator('.comment .lines *').count(), 0, 'text')
      await isUntouched('comments')
    })

    await t.test('as documents, to read and to write', async t => {
      await open(page, 'Documents')
      for (const address of await card(page, 'Shared with you').getByRole('link').evaluateAll((links: any[]) => links.map(({ hash }) => hash.slice(1)).filter((_address, i) => i % 3 === 0))) await visit(page, address, 'Documents')
      t.equal(await page.locator('.lines *, bdi *').count(), 0)
      await isUntouched('documents')
    })

    await t.test('as names of files, and in a profile', async t => {
      const own = await site.signedIn(attacker.username, NEWCOMER)
      await open(own, 'Files')
      t.equal(await own.getByRole('link', { name: /^Download/ }).count(), taken.file)
      t.equal(await own.locator('.lines *').count(), 0)
      await open(own, 'Your profile')
      for (const [, text] of every(12)) {
        await made('bio', 'PATCH', '/users/me', { bio: text })
        await made('website', 'PATCH', '/users/me', { website: text })
        await made('website', 'PATCH', '/users/me', { website: `https://a.example/${encodeURIComponent(text)}` })
        await own.reload()
        await shown(own, 'Your profile')
      }
      await isUntouched('files and profile')
      await own.close()
    })
    await page.close()
  })

  t.test('while the same runs on a page that shows it as markup, without a policy', async t => {
    const url = await listening(t, ({ url: path = '/' }, response) => {
      const file = webFiles.get(path.slice('/web/'.length))
      response.setHeader('content-type', file?.type ?? 'text/html; charset=utf-8').end(file?.text ?? '<!doctype html><title>Plain</title><main></main>')
    })
    const page = await (await site.person()).newPage()
    site.ignore(page)
    await page.goto(url)
    const ran = await page.evaluate(show, MARKUP)
    t.comment(`${ran} of ${MARKUP.length} run`)
    t.ok(ran >= 25)

    await t.test('and what the portal has cleaned reads as it does there', async t => {
      await page.reload()
      const clean = htmlCleaner(HTML_ALLOWLISTS.post)
      const texts = [...MARKUP, ...WRITTEN].map(text => showHtml(clean(text)))
      for (const [i, [shown, parsed]] of (await page.evaluate(read, texts)).entries()) t.strictSame(shown, parsed, texts[i]!)
    })

    await t.test('and what has another form than it writes is text', async t => {
      const odd = ['<P>x</P>', '<p >x</p >', '<p\nid="x">', '<a href=https://a.example>x', "<a href='https://a.example'>x", '<a  href="https://a.example">', '</>', '<>', '< p>', '<p', '<img src="x">', '<script>x</script>']
      for (const [i, [shown]] of (await page.evaluate(read, odd)).entries()) {
        t.strictSame(shown, { text: odd[i], elements: [] })
      }
    })
    await page.close()
  })
}
