/** What the attack kit is told, where it may attack, and what its reports tell: nothing that anybody could sign in with, and commands that do what was done. */
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { promisify } from 'node:util'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { asJson, asSarif, asTap, asText, attack, type AttackOptions, type Policy, type Principal } from '../../plugins/testing/index.js'
import { curlOf } from '../../plugins/testing/curl.js'
import { Mask } from '../../plugins/testing/masking.js'
import type { Sent } from '../../plugins/testing/target.js'
import { selfSigned } from '../wire/certificate.js'
import { PLANTED, plainService, policy, tokenOf } from './plain.js'

t.setTimeout(120_000)

const run = promisify(execFile)
const body = (properties: object, required: string[] = []) => ({ type: 'object', additionalProperties: false, required, properties })
const plain = (): AttackOptions => ({
  policy,
  canaries: [PLANTED],
  principals: { ada: { token: tokenOf('ada', ['user']) }, bob: { token: tokenOf('bob', ['user']) }, root: { token: tokenOf('root', ['admin']) } },
  objects: { orderId: { ada: 'o-1', bob: 'o-2' } },
})

function service (t: Test, build: (app: FastifyInstance) => void, options: object = {}): FastifyInstance {
  const app = Fastify({ logger: false, ...options })
  build(app)
  t.teardown(() => app.close())
  return app
}

t.test('no credential that was brought, nor a part from which one could be made, is in any report', async t => {
  const seen: string[] = []
  const app = service(t, app => {
    app.addHook('preHandler', async (request, reply) => {
      seen.push(`${JSON.stringify(request.headers)} ${String((request.body as { password?: unknown } | undefined)?.password)}`)
      if (!['authorization', 'x-api-key', 'x-auth-token', 'cookie'].some(name => name in request.headers)) return reply.code(401).send({})
    })
    app.get('/me', async ({ headers }) => ({ undeclared: Object.keys(headers) }))
    app.post('/me', async ({ body }) => body)
  })
  const token = tokenOf('ada', ['user'])
  const secrets = { header: 'REAL-HEADER-SECRET-1', basic: 'UkVBTC1CQVNJQy1TRUNSRVQ=', key: 'REAL-API-KEY-SECRET-3', cookie: 'REAL-COOKIE-SECRET-4', csrf: 'REAL-CSRF-SECRET-5', password: 'Geheimes-Wört "6"', gateway: 'REAL-GATEWAY-SECRET-7', revoked: 'REAL-REVOKED-KEY-8' }
  const signed = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.signed-by-the-service-itself'
  const report = await attack(app, {
    headers: { 'x-gateway-secret': secrets.gateway },
    values: { password: secrets.password },
    principals: { h: { headers: { 'x-auth-token': secrets.header } }, a: { headers: { Authorization: `Basic ${secrets.basic}` } }, key: { key: secrets.key, id: 'k' }, web: { cookie: `sid=${secrets.cookie}`, csrf: secrets.csrf, id: 'w' }, ada: { token } },
    refused: { revoked: { key: secrets.revoked } },
    sign: () => signed,
    policy: { routes: { 'GET /me': { access: 'user', answers: { 200: body({}) } }, 'POST /me': { access: 'user', body: body({ password: { type: 'string', maxLength: 30 } }) } } },
  })
  for (const id of ['credentials.several', 'credentials.forged', 'credentials.algorithm', 'credentials.session', 'credentials.revoked', 'exposure.undeclared', 'assignment.undeclared']) t.ok(report.findings.some(finding => finding.id === id), id)
  const [, claims = '', signature = ''] = token.split('.')
  for (const text of [asText(report), asTap(report), asSarif(report), asJson(report)]) {
    for (const [name, value] of Object.entries(secrets)) for (const part of [value, value.slice(0, -1), value.slice(1), value.toUpperCase(), JSON.stringify(value).slice(1, -1)]) t.notOk(text.includes(part), name)
    for (const part of [token, signed, signature.slice(1), `${claims}.`]) t.notOk(text.includes(part), 'token')
  }
  for (const [name, value] of Object.entries(secrets)) t.ok(seen.some(one => one.includes(value)), `${name} was sent`)
})

t.test('neither what a service tells of its database, nor links and codes that were given, is in any report', async t => {
  const app = service(t, app => {
    app.get('/links/:token', async () => { throw new Error('cannot reach postgres://portal:REAL-DATABASE-SECRET-1@db.internal/portal') })
    app.post('/codes', async ({ body }) => body)
  })
  const report = await attack(app, {
    values: { code: '73-81-92', recovery_code: 'REAL-RECOVERY-3' },
    objects: { token: { '*': 'REAL-LINK-SECRET-4' } },
    policy: { routes: { 'GET /links/:token': 'public', 'POST /codes': { access: 'public', body: body({ code: { type: 'string', maxLength: 20 }, recovery_code: { type: 'string' } }), answers: { 200: body({}) } } } },
  })
  for (const id of ['leaks.internal', 'exposure.undeclared', 'input.type']) t.ok(report.findings.some(finding => finding.id === id), id)
  for (const text of [asText(report), asTap(report), asSarif(report), asJson(report)]) {
    t.ok(text.includes('postgres://…@db.internal'))
    t.notMatch(text, /REAL-|73-81-92/)
  }
})

t.test('commands do what was done, as soon as the variables are set', async t => {
  const app = plainService('object', 'assignment', 'signature', 'media-type')
  t.teardown(() => app.close())
  await app.listen({ host: '127.0.0.1', port: 0 })
  const options = plain()
  const { findings } = await attack(app, { ...options, over: 'socket', families: ['authorization', 'credentials', 'assignment', 'input', 'mutations'] })
  const variables = Object.fromEntries(Object.entries(options.principals!).map(([name, principal]) => [`${name.toUpperCase()}_AUTHORIZATION`, (principal as Principal).token]))
  const shown = findings.filter(({ reproduce, got }) => /^\d{3}\b/.test(got) && !reproduce.includes('$FORGED'))
  for (const { id, way, got, reproduce } of shown) {
    const { stdout } = await run('bash', ['-c', reproduce.replace('curl ', 'curl -sS -m 60 ')], { env: { ...process.env, ...variables }, encoding: 'latin1' })
    t.equal(/HTTP\/1\.1 (\d{3})/.exec(stdout)?.[1], got.slice(0, 3), `${id} ${way ?? ''}: ${reproduce}`)
  }
  t.ok(shown.some(({ id, reproduce }) => id === 'credentials.forged' && /\$\{ADA_AUTHORIZATION:\d+/.test(reproduce)), 'a token with another signature is made of the right one')
})

t.test('what is odd is sent as it was: brackets, empty and absent headers, bytes, lines, long bodies, names that no variable has', async t => {
  let seen = ''
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => { chunks.push(chunk) })
    request.on('end', () => {
      seen = described(request.method!, request.url!, request.headers, Buffer.concat(chunks))
      response.end()
    })
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => { server.close() })
  const described = (method: string, path: string, headers: Sent['headers'] | IncomingHttpHeaders, body: Buffer) => JSON.stringify([method, path, headers['content-type'], headers.authorization, headers['x-api-key'], body.toString('base64')])
  const [token, key, password] = [tokenOf('ada', []), 'key_Live_0123456789', 'it\'s "6" wörds']
  const mask = new Mask({})
  mask.ofPrincipal('2fa user', { token })
  mask.ofPrincipal('bot', { key })
  mask.ofFields({ nested: { password } })
  const env = { ...process.env, _2FA_USER_AUTHORIZATION: token, BOT_X_API_KEY: key, PASSWORD_JSON: JSON.stringify(password).slice(1, -1) }
  const json = { 'content-type': 'application/json' }
  const odd: Partial<Sent>[] = [
    { path: '/x?q[]=1&q[a]={b}' },
    { method: 'HEAD' },
    { method: 'POST', headers: { 'content-type': '' }, body: '{}' },
    { method: 'POST', body: '@/etc/hostname' },
    { method: 'POST', headers: json, body: Buffer.from([0x7b, 0x22, 0xff, 0x27, 0x5c, 0x0a, 0x7d]) },
    { method: 'POST', headers: json, body: Buffer.concat([Buffer.from("{'%s\\n"), Buffer.alloc(100_000), Buffer.from([0xff])]) },
    { method: 'POST', headers: json, body: JSON.stringify({ a: 'x'.repeat(200_000) }) },
    { method: 'POST', headers: json, body: `${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}` },
    { method: 'POST', headers: { 'content-type': 'multipart/form-data; boundary=b' }, body: '--b\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n' },
    { method: 'POST', headers: json, body: JSON.stringify({ password }) },
    { headers: { authorization: `Bearer ${token}` } },
    { headers: { authorization: `Bearer eyJhbGciOiJub25lIn0${token.slice(token.indexOf('.'))}` } },
    { headers: { 'x-api-key': `${key.slice(0, 12)}!${key.slice(13)}` } },
    { headers: { 'x-api-key': key.toUpperCase() } },
  ]
  for (const one of odd) {
    const sent = { method: 'GET', path: '/', headers: {}, address: '', ...one }
    const command = curlOf(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, sent, mask)
    await run('bash', ['-c', command.replace('curl ', 'curl -sS -m 60 ')], { env })
    t.equal(seen, described(sent.method, sent.path, sent.headers, Buffer.from(sent.body ?? '')), command.slice(0, 300))
    t.ok(command.length < 1000 && !command.includes(token.slice(-20)) && !command.includes(key.slice(5, 12)), 'short, and without credentials')
  }
})

t.test('the same seed writes the same report at another time; each way is a finding of its own for code scanning', async t => {
  const reports: string[] = []
  for (const offset of [0, 3600]) {
    const app = plainService('object', 'signature', 'decoded', 'checks')
    t.teardown(() => app.close())
    // The letter that is changed in a signature is an A, and a B in each 64th, which begins with an A: the command that does it again says which.
    const at = (id: string, role: string) => {
      for (let later = offset; ; later++) {
        const token = tokenOf(id, [role], later)
        if (!token.split('.')[2]!.startsWith('A')) return { token }
      }
    }
    const report = await attack(app, { ...plain(), seed: 5, over: offset === 0 ? 'socket' : 'inject', families: ['authorization', 'credentials', 'input', 'mutations'], principals: { ada: at('ada', 'user'), bob: at('bob', 'user'), root: at('root', 'admin') } })
    t.ok(report.findings.length > 5)
    reports.push(asJson(report))
    const prints = (JSON.parse(asSarif(report)) as { runs: { results: { partialFingerprints: object }[] }[] }).runs[0]!.results.map(one => JSON.stringify(one.partialFingerprints))
    t.equal(new Set(prints).size, report.findings.length)
  }
  t.equal(reports[0], reports[1])
})

t.test('another machine is attacked by whoever says so alone; with safe, by nothing that changes anything', async t => {
  const methods = new Set<string>()
  const app = service(t, app => {
    app.addHook('onRequest', async ({ method }) => { methods.add(method) })
    app.get('/a', async () => ({}))
    app.post('/a', async () => ({}))
    app.delete('/a', async () => ({}))
  })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const given: Policy = { routes: { 'GET /a': 'user', 'POST /a': 'user' } }
  for (const place of ['https://api.example.com', 'http://10.0.0.1:3000', 'http://127.0.0.1.example.com', 'http://localhost.example.com']) await t.rejects(attack(place, { policy: given }), { code: 'FST_BASTION_TESTING_MISCONFIGURED', message: /is not this machine: say destructive: true .* safe: true/ }, place)
  const report = await attack(url, { policy: given, principals: { ada: { token: 'a token' } }, safe: true })
  t.strictSame([...methods].filter(method => !['GET', 'HEAD', 'OPTIONS'].includes(method)), [])
  t.ok(report.findings.some(({ id, route }) => id === 'authorization.open' && route === 'GET /a'))
  t.match(report.skipped, [{ route: 'POST /a', what: 'all', reason: /safe/ }])
  await attack(url, { policy: given, principals: { ada: { token: 'a token' } } })
  t.ok(methods.has('POST') && methods.has('DELETE'), 'without it all is tried')
})

t.test('a URL is attacked as it says: below its path, by its host, over TLS with its certificate', async t => {
  const hosts = new Set<string | undefined>()
  const build = (app: FastifyInstance) => {
    app.addHook('onRequest', async ({ headers: { host } }) => { hosts.add(host) })
    app.get('/v1/a', async () => ({}))
  }
  const { key, cert } = selfSigned(['localhost'])
  for (const [options, scheme] of [[{}, 'http'], [{ https: { key, cert } }, 'https']] as const) {
    const app = service(t, build, options)
    await app.listen({ host: '127.0.0.1', port: 0 })
    const { port } = app.server.address() as AddressInfo
    const { findings } = await attack(`${scheme}://127.0.0.1:${port}/v1/`, { policy: { routes: { 'GET /a': 'user' } }, families: ['authorization'] })
    t.match(findings, [{ id: 'authorization.open', reproduce: new RegExp(`'${scheme}://127\\.0\\.0\\.1:${port}/v1/a'`) }])
    t.strictSame([...hosts], [`127.0.0.1:${port}`])
    hosts.clear()
  }
})

t.test('what no socket can ask is refused with the way out', async t => {
  const both = service(t, app => { app.get('/a', async () => ({})) }, { http2: true })
  await t.rejects(attack(both, { over: 'socket', policy: { routes: {} } }), { message: /HTTP\/2 alone is attacked by inject/ })
})

t.test('a route that is switched off is asked nothing, whichever attack it is for', async t => {
  const charged: string[] = []
  const build = (app: FastifyInstance) => {
    app.post('/cards/:cardId', async ({ url }) => { charged.push(url) })
    app.get('/cards/:cardId', async () => ({ id: 'c' }))
    app.get('/cards/all', async () => ([]))
  }
  const options: AttackOptions = { principals: { ada: { token: 'a token' } }, objects: { cardId: { ada: 'c-1' } }, policy: { routes: { 'POST /cards/:cardId': { access: 'user', body: body({ a: { type: 'string' } }) }, 'GET /cards/:cardId': 'user', 'GET /cards/all': 'public' } } }
  const report = await attack(service(t, build), { ...options, routes: { 'POST /cards/:cardId': { skip: 'charges a card' } } })
  t.strictSame(charged, [])
  t.match(report.skipped, [{ route: 'POST /cards/:cardId', what: 'all', reason: 'charges a card' }])
  t.notOk(report.routes.includes('POST /cards/:cardId'))
  await attack(service(t, build), options)
  t.ok(charged.length > 0)
})

t.test('what is misspelt is refused by its name, with what is right', async t => {
  const app = plainService()
  t.teardown(() => app.close())
  const given = plain()
  const route = (rule: unknown) => ({ ...given, policy: { routes: { 'GET /me': rule } } })
  for (const [wrong, message] of [
    [{ ...given, principal: {} }, /principal: unexpected property: known are /],
    [{ ...given, families: [] }, /families: /],
    [{ ...given, families: ['limit'] }, /there is no "limit": there are authorization, .*limits/],
    [{ ...given, only: [] }, /only: /],
    [{ ...given, principals: { ada: { tokn: 'x' } } }, /principals\.ada\.tokn: unexpected property: known are token, key/],
    [{ ...given, principals: { ada: 'x' } }, /principals\.ada: expected object or function/],
    [{ ...given, principals: { ada: null } }, /principals\.ada: expected object or function/],
    [{ ...given, principals: { ...given.principals, eve: () => undefined } }, /principals\.eve: options: expected object/],
    [{ ...given, objects: { orderId: { ada: 1 } } }, /objects\.orderId\.ada: expected string or function/],
    [{ ...given, objects: { ordreId: { ada: 'o-1' } } }, /objects\.ordreId: no route has such/],
    [{ ...given, objects: { id: 'o-1' } }, /objects\.id: expected object/],
    [{ ...given, values: 7 }, /values: expected object/],
    [{ ...given, refused: { expird: { token: 'x' } } }, /refused\.expird: unexpected property: known are garbage, forged, expired/],
    [{ ...given, refused: { expired: { tokn: 'x' } } }, /refused\.expired\.tokn: unexpected property/],
    [{ ...given, routes: { 'GET /me': { bdoy: {} } } }, /routes\["GET \/me"\]\.bdoy: unexpected property: known are .*body/],
    [{ ...given, routes: { 'GET /me': { skip: '' } } }, /routes\["GET \/me"\]\.skip: /],
    [{ ...given, routes: { 'GET /me': { skip: { limit: 'why' } } } }, /skip: there is no "limit": there are .*limits/],
    [{ ...given, policy: null }, /policy: expected string or object/],
    [{ ...given, policy: { routes: null } }, /policy: routes: expected object/],
    [{ ...given, policy: '/nowhere.json' }, /policy: "\/nowhere\.json" is no file of JSON: ENOENT/],
    [{ ...given, policy: { routes: { 'get /b': 'user' } } }, /"get \/b" is no route: write it as "GET \/orders\/:orderId"/],
    [route('users'), /routes\["GET \/me"\]: expected "public" or "user" or object/],
    [route({ acces: 'user' }), /routes\["GET \/me"\]\.acces: unexpected property: known are /],
    [route({ roles: 'admin', limits: ['5/minute'] }), /routes\["GET \/me"\]\.(?:roles|limits): unexpected property/],
    [route({ limits: ['5 per minute'] }), /limits\.0: expected string to match/],
    [{ ...given, safe: true, destructive: true }, /one of them/],
  ] as const) await t.rejects(attack(app, wrong as AttackOptions), { code: 'FST_BASTION_TESTING_MISCONFIGURED', message }, String(message))
  for (const place of [undefined, 7, {}, 'not a url']) await t.rejects(attack(place as never, given), { message: /an application, or a URL such as/ })
  for (const place of ['ftp://127.0.0.1/', 'http://ada:secret@127.0.0.1/', 'http://127.0.0.1/?a=1']) await t.rejects(attack(place, given), { message: /http or https, with a host and the path/ })
})
