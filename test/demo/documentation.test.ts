/** What the portal says of itself: versions of its routes, the OpenAPI document, the page that shows it. */
import type { AddressInfo } from 'node:net'
import { Validator } from '@seriousme/openapi-schema-validator'
import t from 'tap'
import type { OpenApiDocument } from '../../plugins/openapi/index.js'
import { browsing } from '../fixtures/chromium.js'
import { chromium } from '../services.js'
import { buildOn, freshDatabase, ORIGIN } from './portal.js'

t.setTimeout(300_000)
const portal = await buildOn(t, await freshDatabase(t), { NODE_ENV: 'development' })
const { call, token } = portal
const { status, text } = await call('GET', '/docs/json')
const document = JSON.parse(text) as OpenApiDocument
const GONE = {
  status: 410,
  body: { code: 'FST_BASTION_VERSIONS_GONE', detail: 'This is no longer served: use /api/v2/users' },
  headers: { deprecation: '@1735689600', sunset: 'Tue, 01 Jul 2025 00:00:00 GMT', link: '</api/v2/users>; rel="successor-version"' },
}

t.test('GET /api/v1/users is gone, for everybody, and names its successor; GET /api/v2/users is for users:read', async t => {
  for (const bearer of [undefined, await token('alice'), await token('admin')]) t.match(await call('GET', '/api/v1/users?limit=1', { token: bearer }), GONE)
  t.match(await call('HEAD', '/api/v1/users'), { status: 410, headers: GONE.headers })
  const { status, body, headers } = await call('GET', '/api/v2/users?limit=2', { token: await token('mona') })
  t.match({ status, items: body.items.length, cursor: body.nextCursor }, { status: 200, items: 2, cursor: String })
  t.notOk('deprecation' in headers)
  t.equal((await call('GET', '/api/v2/users')).status, 401)
  t.equal((await call('GET', '/api/v2/users', { token: await token('alice') })).status, 403)
  t.same((await call('GET', '/users?limit=2', { token: await token('mona') })).body, body)
})

t.test('who still calls what is gone is known, and in the trail once an hour', async t => {
  t.match(portal.app.versions.uses().filter(({ route }) => route === '/api/v1/users').map(({ kind, uses }) => [kind, uses]), [['anonymous', 2], ['user', 1], ['user', 1]])
  const { body } = await call('GET', '/audit?type=deprecated_use', { token: await token('admin') })
  t.equal(body.items.length, 3)
  t.match(await call('GET', '/metrics', { token: await token('admin') }).then(({ text }) => text), 'bastion_deprecated_requests_total{route="/api/v1/users",method="GET",caller="anonymous",status="gone"} 2')
})

t.test('GET /docs/json is a valid document of OpenAPI 3.1', async t => {
  t.equal(status, 200)
  const { valid, errors } = await new Validator().validate(JSON.parse(text) as Record<string, unknown>)
  t.ok(valid, JSON.stringify(errors))
  t.match(document, { openapi: '3.1.0', info: { title: 'Member portal' } })
  t.same(Object.keys(document.components.securitySchemes).sort(), ['bearer', 'csrfToken', 'key', 'session'])
  t.match(document.paths['/api/v1/users'], { get: { deprecated: true, 'x-sunset': '2025-07-01T00:00:00.000Z', 'x-successor': '/api/v2/users', responses: { 410: {} } } })
  t.match(document.paths['/api/v2/users']!.get!.security, [{ bearer: ['users:read'] }, { session: ['users:read'] }, { key: ['users:read'] }])
  t.equal((await call('GET', '/docs/yaml')).text.slice(0, 15), 'openapi: 3.1.0\n')
})

t.test('it says of every route what the wire does: who is asked for a credential, and that refusals are declared', async t => {
  let asked = 0
  for (const [path, operations] of Object.entries(document.paths)) {
    for (const [method, { security, responses }] of Object.entries(operations)) {
      const isPost = method !== 'get'
      const { status } = await call(method.toUpperCase(), path.replaceAll(/\{[^}]+\}/g, 'x'), isPost ? { body: {} } : {})
      const what = `${method} ${path}`
      if (path === '/api/v1/users') t.equal(status, 410)
      else t.equal(status === 401, security!.length > 0 && security!.every(one => Object.keys(one).some(name => name !== 'csrfToken')), `${what} answers ${status}`)
      t.ok(responses[status] ?? responses[`${String(status)[0]}XX`], `${what} declares ${status}`)
      asked += 1
    }
  }
  t.ok(asked > 90)
})

t.test('no secret, no version of anything and no path of this machine is in it [ASVS 13.4.6]', async t => {
  for (const version of [process.versions.node, portal.app.version]) t.notOk(text.includes(version), version)
  t.notMatch(text, /node_modules|fastify\/|postgres:|redis:/i)
  const examples = [...text.matchAll(/"(password|[a-z_]*token|secret)":\{[^{}]*\}/g)].filter(([property]) => /"(?:examples?|default)":/.test(property))
  t.same(examples.map(([property]) => property), [])
})

t.test('GET /docs needs the nonce of its policy for every script', async t => {
  const page = await call('GET', '/docs')
  t.match(page, { status: 200, headers: { 'content-type': 'text/html; charset=utf-8' } })
  const [, nonce] = /'nonce-([^']+)'/.exec(String(page.headers['content-security-policy']))!
  t.equal(page.text.split('<script ').length, page.text.split(`<script nonce="${nonce}" `).length)
  t.notMatch(page.headers['content-security-policy'], /unsafe|https:|\*/)
  t.match(await call('GET', '/docs/static/nothing.js'), { status: 404 })
  t.match(await call('GET', '/docs/static/%2e%2e/index.js'), { status: 404 })
})

const executable = chromium(t)
if (executable !== null) {
  t.test('in a real browser the page works under the strict policy of pages, and complains of nothing', async t => {
    await portal.app.listen({ host: '127.0.0.1', port: 0 })
    const { port } = portal.app.server.address() as AddressInfo
    const { person, faults } = await browsing(t, executable, { [new URL(ORIGIN).host]: `127.0.0.1:${port}` })
    const page = await (await person()).newPage()
    await page.goto(`${ORIGIN}/docs`)
    const health = page.locator('.opblock', { hasText: '/health/ready' })
    await health.locator('.opblock-summary-control').click()
    await health.getByRole('button', { name: 'Try it out' }).click()
    await health.getByRole('button', { name: 'Execute' }).click()
    await health.locator('.live-responses-table .response-col_status', { hasText: '200' }).waitFor()
    await page.getByRole('button', { name: 'Authorize' }).first().click()
    await page.getByRole('heading', { name: 'bearer' }).waitFor()
    t.same(faults, [])
  })
}
