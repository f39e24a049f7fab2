/** What the pages are made of: served as they were read, and by their hashes; small; and what the portal says of who asks. */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { brotliDecompressSync, gunzipSync } from 'node:zlib'
import t from 'tap'
import { webFiles } from '../../demo/routes/web.js'
import { build, buildOn, freshDatabase } from './portal.js'
import { tabAt } from './tab.js'

const portal = await build(t)
const { call } = portal
const FOLDER = new URL('../../demo/web/', import.meta.url)
const WEIGHT = 150_000

t.test('every file is there as it is, in the coding that is asked for, and with its type', async t => {
  t.ok(webFiles.size > 10)
  for (const [name, { type }] of webFiles) {
    const text = readFileSync(new URL(name, FOLDER), 'utf8')
    const { status, headers, text: plain } = await call('GET', `/web/${name}`)
    t.match({ status, headers }, { status: 200, headers: { 'content-type': type, 'cache-control': 'no-cache', 'x-content-type-options': 'nosniff', vary: /accept-encoding/ } }, name)
    t.equal(plain, text)
    t.notOk('content-encoding' in headers)
  }
})

t.test('the best coding that the browser takes', async t => {
  const ask = (accepted: string) => portal.app.inject({ url: '/web/style.css', headers: { host: 'localhost:3000', 'accept-encoding': accepted } })
  const text = readFileSync(new URL('style.css', FOLDER), 'utf8')
  const tags = new Set<unknown>()
  for (const [accepted, coding, open] of [
    ['gzip, deflate, br, zstd', 'br', brotliDecompressSync], ['br;q=0, GZIP;q=0.1', 'gzip', gunzipSync], ['*', 'br', brotliDecompressSync], ['gzip;q=0, *', 'br', brotliDecompressSync],
    ['identity', undefined, null], ['deflate', undefined, null], ['br;q=0.0, gzip;q=0', undefined, null], ['', undefined, null],
  ] as const) {
    const { headers, rawPayload } = await ask(accepted)
    t.equal(headers['content-encoding'], coding, accepted)
    t.equal((open === null ? rawPayload : open(rawPayload)).toString(), text)
    tags.add(headers.etag)
  }
  t.equal(tags.size, 3, 'each has a tag of its own')
})

t.test('what the browser has is not sent again', async t => {
  const { headers: { etag } } = await call('GET', '/web/portal.js')
  for (const known of [etag, `W/${String(etag)}`, `"other", ${String(etag)}`, '*']) {
    const { status, text, headers } = await call('GET', '/web/portal.js', { headers: { 'if-none-match': String(known) } })
    t.match({ status, text, headers }, { status: 304, text: '', headers: { etag, 'cache-control': 'no-cache' } })
  }
  t.equal((await call('GET', '/web/portal.js', { headers: { 'if-none-match': '"other"' } })).status, 200)
  t.equal((await call('GET', '/web/style.css', { headers: { 'if-none-match': String(etag) } })).status, 200)
})

t.test('nothing else is there [ASVS 5.3.2]', async t => {
  for (const name of [
    '', 'index.html', 'tsconfig.json', 'pages', 'pages/', 'pages/nothing.js', '../app.ts', '..%2fapp.ts', '%2e%2e/app.ts', '..\\app.ts', '/portal.js', 'portal.js%00', 'PORTAL.JS', 'portal.js/', 'portal.js.br', '__proto__', 'constructor',
  ]) t.ok([400, 404].includes((await call('GET', `/web/${name}`)).status), name)
  t.equal((await call('GET', `/web/${'a'.repeat(101)}`)).status, 400)
})

t.test('the shell names every module with its hash, and runs none but by nonce and hash [ASVS 3.6.1]', async t => {
  const { text, headers } = await call('GET', '/')
  const [, nonce] = /'nonce-([^']+)'/.exec(String(headers['content-security-policy']))!
  const [, map] = new RegExp(`<script type="importmap" nonce="${nonce!.replace(/[+/]/g, '\\$&')}">([^<]+)</script>`).exec(text)!
  const { integrity } = JSON.parse(map!) as { integrity: Record<string, string> }
  const modules = readdirSync(FOLDER, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.js'))
  t.strictSame(Object.keys(integrity).sort(), modules.map(name => `/web/${name}`).sort())
  for (const [path, hash] of Object.entries(integrity)) t.equal(hash, `sha384-${createHash('sha384').update((await call('GET', path)).text).digest('base64')}`, path)
  for (const [tag, path] of text.matchAll(/<(?:link|script)[^>]+(?:href|src)="(\/web\/[^"]+)"[^>]*>/g)) {
    t.match(tag, `nonce="${nonce}"`)
    t.match(tag, `integrity="${webFiles.get(path!.slice('/web/'.length))!.integrity}"`)
  }
  for (const name of ['ask.js', 'dom.js', 'pages.js', 'pages/sign-in.js']) t.match(text, `<link rel="modulepreload" nonce="${nonce}" href="/web/${name}"`)
  t.notMatch(text, /\son\w+=|\sstyle=|javascript:/i, 'no code and no style in attributes')
})

t.test('no module makes markup or code of text, and none keeps anything in the browser', async t => {
  for (const [name, { text }] of webFiles) {
    t.notMatch(text, /\.(?:innerHTML|outerHTML)\b|insertAdjacentHTML|setHTMLUnsafe|createContextualFragment|DOMParser|createPolicy|document\.write/, name)
    t.notMatch(text, /\beval\(|new Function|localStorage|sessionStorage|indexedDB|document\.cookie/, name)
  }
})

t.test('all pages together weigh little', async t => {
  const shell = (await call('GET', '/')).text.length
  const sum = [...webFiles.values()].reduce((sum, { bodies }) => sum + bodies.br.length, shell)
  t.comment(`${webFiles.size} files: ${sum} bytes by brotli, ${[...webFiles.values()].reduce((sum, { bodies }) => sum + bodies.gzip.length, shell)} by gzip`)
  t.ok(sum < WEIGHT, `${sum} bytes`)
})

t.test('README shows the pictures that there are, and each is small', async t => {
  const pictures = readdirSync(new URL('../../docs/screenshots/', import.meta.url)).sort()
  const shown = [...readFileSync(new URL('../../README.md', import.meta.url), 'utf8').matchAll(/\(docs\/screenshots\/([\w-]+\.png)\)/g)].map(([, name]) => name!)
  t.strictSame(shown.sort(), pictures)
  for (const name of pictures) t.ok(statSync(new URL(`../../docs/screenshots/${name}`, import.meta.url)).size < 100_000, name)
})

t.test('GET /portal.json says who asks and what the portal has, to anybody', async t => {
  const nobody = { user: null, permissions: [], registration: 'open', mail: true, docs: false }
  t.match(await call('GET', '/portal.json'), { status: 200, body: nobody, headers: { 'cache-control': 'no-store' } })
  const tab = tabAt(portal)
  await tab.signIn('alice', 'Seeded-pass-1')
  const { body } = await tab.ask('GET', '/portal.json')
  t.match(body, { ...nobody, user: { username: 'alice', role: 'user', email: 'alice@portal.example' }, permissions: ['data:read', 'documents:write', 'posts:read', 'posts:write'] })
  await tab.ask('POST', '/session/logout')
  t.match((await tab.ask('GET', '/portal.json')).body, nobody)
  const admin = await call('GET', '/portal.json', { token: await portal.token('admin') })
  for (const permission of ['audit:read', 'posture:read', 'users:read:private']) t.ok(admin.body.permissions.includes(permission))
  const { body: { key } } = await call('POST', '/api-keys', { token: await portal.token('alice'), body: { name: 'Reader', scopes: ['posts:read'] } })
  t.match(await call('GET', '/portal.json', { headers: { 'x-api-key': key } }), { status: 200, body: nobody }, 'a key is told nothing of its owner')
})

t.test('attack: a page that was opened as one does and shows nothing as another who signed in since', async t => {
  const tab = tabAt(portal)
  await tab.signIn('bob', 'Seeded-pass-1')
  const [alice, bob] = [await portal.idOf('alice'), await portal.idOf('bob')]
  const refused = { status: 409, body: { code: 'FST_PORTAL_OTHER_USER' } }
  const asked = (expected: string, method = 'GET', url = '/session/me', body?: object) => tab.copy().ask(method, url, { headers: { 'x-expected-user': expected }, body })
  const change = (expected: string, bio: string) => asked(expected, 'POST', '/session/profile', { bio })
  for (const url of ['/session/me', '/portal.json', '/csrf-token', '/sessions', '/users/me/export']) t.match(await asked(alice, 'GET', url), refused, url)
  t.match(await change(alice, 'As alice'), refused)
  t.match(await change(`${alice}, ${bob}`, 'As both'), refused)
  t.match(await asked(alice, 'POST', '/session/logout'), refused)
  t.match(await asked(alice, 'DELETE', '/users/me'), refused)
  t.notMatch((await tab.ask('GET', '/session/me')).body, { bio: /As/ })
  t.match(await change(bob, 'As bob'), { status: 200, body: { bio: 'As bob' } })
  t.match(await tab.ask('POST', '/session/profile', { body: { bio: 'As whoever it is' } }), { status: 200 }, 'negative control: who does not say whom they act for acts for whoever it is')
  t.match(await call('GET', '/users/me', { token: await portal.token('bob'), headers: { 'x-expected-user': alice } }), { status: 200 }, 'a token is sent by who means it')

  const admin = tabAt(portal)
  await admin.signIn('admin', 'Seeded-pass-1')
  t.match(await admin.ask('GET', `/audit/stream?expectedUser=${alice}`), refused, 'streams, too, which send no headers')
  t.match(await tabAt(portal).ask('GET', '/posts', { headers: { 'x-expected-user': alice } }), { status: 200 }, 'nobody does nothing as somebody else')
})

t.test('what the pages ask of users is private where it should be [OWASP API3]', async t => {
  const id = await portal.idOf('ina')
  const asked = async (username: string) => (await call('GET', `/users/${id}`, { token: await portal.token(username) })).body
  t.match(await asked('admin'), { username: 'ina', role: 'user', isActive: false })
  for (const username of ['mona', 'alice']) t.strictSame(Object.keys(await asked(username)).sort(), ['createdAt', 'id', 'username'], username)
  t.strictSame(await call('GET', '/mfa', { token: await portal.token('alice') }).then(({ body }) => body), { factors: [] })
  t.equal((await call('GET', '/mfa')).status, 401)
})

t.test('a session that is over is nobody, and no fault', async t => {
  const tab = tabAt(portal)
  await tab.signIn('bob', 'Seeded-pass-1')
  portal.pass(13 * 3_600_000)
  t.match(await tab.ask('GET', '/portal.json'), { status: 200, body: { user: null } })
})

t.test('the documentation is told of where it is', async t => {
  const { call } = await buildOn(t, await freshDatabase(t), { NODE_ENV: 'development' })
  t.match((await call('GET', '/portal.json')).body, { docs: true })
})
