/** CSRF: what rides on a cookie is done only for a page of ours. */
import { randomBytes } from 'node:crypto'
import { connect, type AddressInfo } from 'node:net'
import { parse as parseForm } from 'node:querystring'
import Fastify, { type FastifyInstance, type InjectOptions } from 'fastify'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import access from '../plugins/access/index.js'
import bastion, { server } from '../plugins/index.js'
import csrf, { type CsrfOptions, type CsrfRule } from '../plugins/csrf/index.js'
import errors from '../plugins/errors.js'
import events, { type SecurityEvent } from '../plugins/events.js'
import exposure from '../plugins/exposure.js'
import identity, { type Principal } from '../plugins/identity.js'
import plan from '../plugins/plan/index.js'
import posture from '../plugins/posture/index.js'
import validation from '../plugins/validation/index.js'
import { closed, noBody } from '../schemas/index.js'

const key = randomBytes(32)
const HOST = 'app.example.com'
const OWN = `https://${HOST}`
const FORM = 'application/x-www-form-urlencoded'
const ADA = 'ada-secret'
const MALLORY = 'mallory-secret'
const STRANGER = 'nobody-secret'
const response = { 200: Type.Object({ ok: Type.Boolean() }) }

interface Answer { status: number, code: string | undefined }
interface Built {
  app: FastifyInstance
  /** The handlers that ran, and the bodies that they saw. */
  ran: { url: string, body: unknown }[]
  recorded: SecurityEvent[]
  /** Sends a request over HTTPS; the status, and the code of a refusal. */
  ask: (request: InjectOptions) => Promise<Answer>
  /** A page of this session: its token, and the cookie that came with it. */
  page: (session: string | null, cookie?: string) => Promise<{ token: string, cookie: string, set: string | undefined }>
}

/** A service with a cookie scheme of its own: `sid` holds the secret of a session, whose first word is who signed in. `false`: without the control. */
async function build (t: Test, options: Partial<CsrfOptions> | false = {}, declare: (app: FastifyInstance, run: (request: { url: string, body: unknown }) => { ok: boolean }) => void = () => {}): Promise<Built> {
  const ran: Built['ran'] = []
  const recorded: SecurityEvent[] = []
  const app = Fastify({ ...server({ logger: false, trustProxy: '127.0.0.1' }) })
  t.teardown(() => app.close())
  for (const plugin of [plan, events, errors, identity]) await app.register(plugin)
  app.events.listen(event => { recorded.push(event) })
  await app.register(access, { roles: { user: {} } })
  if (options !== false) await app.register(csrf, { key, ...options })
  for (const plugin of [validation, exposure, posture]) await app.register(plugin)
  const sid = ({ headers: { cookie = '' } }: { headers: { cookie?: string } }) => /(?:^|; )sid=([^;]+)/.exec(cookie)?.[1] ?? null
  app.identity.reader({
    name: 'sid',
    read (request) {
      const id = sid(request)?.split('-')[0] ?? 'nobody'
      return id === 'nobody' ? null : { principal: principalOf(id, 'session') }
    },
  })
  app.identity.reader({ name: 'bearer', read: ({ headers }) => headers.authorization === 'Bearer ada' ? { principal: principalOf('ada', 'bearer') } : null })
  app.identity.reader({ name: 'key', read: ({ headers }) => headers['x-api-key'] === 'ada' ? { principal: principalOf('ada', 'key') } : null })
  if (options !== false) app.csrf.credential(sid)
  app.addContentTypeParser(FORM, { parseAs: 'string' }, (_request, text, done) => { done(null, parseForm(text as string)) })
  app.addContentTypeParser(['text/plain', 'multipart/form-data'], { parseAs: 'string' }, (_request, text, done) => { done(null, text) })

  const run = ({ url, body }: { url: string, body: unknown }) => { ran.push({ url, body }); return { ok: true } }
  app.get('/page', { schema: { response: { 200: Type.Object({ token: Type.String() }) } }, config: { access: 'public' } }, async (_request, reply) => ({ token: options === false ? '' : reply.generateCsrf() }))
  app.get('/read', { schema: { response }, config: { access: 'public' } }, async request => run(request))
  const body = closed({ to: Type.String() })
  app.post('/transfer', { schema: { body: { content: { 'application/json': { schema: body }, [FORM]: { schema: body } } }, response }, config: { access: 'user' } }, async request => run(request))
  app.post('/loose', { schema: { body: { content: Object.fromEntries(['text/plain', 'multipart/form-data', FORM, 'application/json'].map(type => [type, { schema: Type.Union([Type.String(), closed({ to: Type.Optional(Type.String()) })]) }])) }, response }, config: { access: 'public' } }, async request => run(request))
  app.route({ method: ['PUT', 'PATCH', 'DELETE', 'POST'], url: '/thing', schema: { body: noBody, response }, config: { access: 'public' }, handler: async request => run(request) })
  declare(app, run)
  await app.ready()

  const inject = (request: InjectOptions) => app.inject({ ...request, headers: { host: HOST, 'x-forwarded-proto': 'https', ...request.headers } })
  return {
    app,
    ran,
    recorded,
    async ask (request) {
      const answer = await inject(request)
      return { status: answer.statusCode, code: answer.body !== '' && answer.statusCode !== 200 ? answer.json().code : undefined }
    },
    async page (session, cookie) {
      const answer = await inject({ url: '/page', headers: { cookie: [session === null ? [] : `sid=${session}`, cookie ?? []].flat().join('; ') } })
      const set = answer.headers['set-cookie'] as string | undefined
      return { token: answer.json().token, cookie: cookie ?? set!.split(';')[0]!, set }
    },
  }
}

function principalOf (id: string, via: Principal['via']): Principal {
  return { kind: 'user', id, userId: id, roles: ['user'], via, authTime: 0, credentialId: `of-${id}` }
}

/** A POST that moves money. */
function transfer (session: string | null, headers: Record<string, string> = {}, cookies: readonly string[] = []): InjectOptions {
  return { method: 'POST', url: '/transfer', payload: { to: 'mallory' }, headers: { cookie: [session === null ? [] : `sid=${session}`, cookies].flat().join('; '), ...headers } }
}

const REFUSED: Answer = { status: 403, code: 'FST_BASTION_CSRF_REFUSED' }
const DONE: Answer = { status: 200, code: undefined }

t.test('by default what changes something and rides on a cookie needs a token of its session [ASVS 3.5.1]', async t => {
  const { ask, page, ran, recorded } = await build(t)
  t.same(await ask(transfer(ADA)), REFUSED)
  t.same(ran, [], 'the handler did not run')
  t.match(recorded, [{ type: 'csrf_refused', route: '/transfer', principal: 'ada', details: { reason: 'no token' } }])
  const { token, cookie } = await page(ADA)
  t.same(await ask(transfer(ADA, { 'x-csrf-token': token }, [cookie])), DONE)
  t.same(ran, [{ url: '/transfer', body: { to: 'mallory' } }])

  for (const method of ['PUT', 'PATCH', 'DELETE', 'POST'] as const) {
    const headers = { cookie: `sid=${ADA}; ${cookie}` }
    t.same(await ask({ method, url: '/thing', headers }), REFUSED, method)
    t.same(await ask({ method, url: '/thing', headers: { ...headers, 'x-csrf-token': token } }), DONE, method)
  }

  const { ask: open } = await build(t, false)
  t.same(await open(transfer(ADA)), DONE, 'negative control: without it the cookie is enough')
})

t.test('an anonymous session is guarded like any other; who has no cookie, reads, or shows a credential of their own is not bothered', async t => {
  const { ask, page } = await build(t)
  t.same(await ask({ method: 'POST', url: '/thing', headers: { cookie: `sid=${STRANGER}` } }), REFUSED)
  const { token, cookie } = await page(STRANGER)
  t.same(await ask({ method: 'POST', url: '/thing', headers: { cookie: `sid=${STRANGER}; ${cookie}`, 'x-csrf-token': token } }), DONE)

  t.same(await ask({ method: 'POST', url: '/thing' }), DONE, 'no cookie')
  t.same(await ask({ method: 'POST', url: '/thing', headers: { cookie: 'theme=dark' } }), DONE, 'a cookie that is no credential')
  for (const method of ['GET', 'HEAD'] as const) t.same(await ask({ method, url: '/read', headers: { cookie: `sid=${ADA}`, 'sec-fetch-site': 'cross-site' } }), DONE, method)
  for (const headers of [{ authorization: 'Bearer ada' }, { 'x-api-key': 'ada' }]) {
    t.same(await ask({ method: 'POST', url: '/thing', headers: { ...headers, cookie: `sid=${STRANGER}` } }), DONE, Object.keys(headers).join())
  }
  t.same(await ask({ method: 'POST', url: '/thing', headers: { authorization: 'Bearer wrong', cookie: `sid=${ADA}` } }), REFUSED, 'a bearer credential that is none excuses nobody')
})

t.test('the cookie cannot be set by other hosts, read by scripts or sent by other sites; over plain HTTP it has another name [ASVS 3.3.2] [TRAP 31]', async t => {
  const { page } = await build(t)
  const { set, cookie } = await page(ADA)
  t.match(set, /^__Host-csrf=[\w-]{32}; Path=\/; HttpOnly; SameSite=Strict; Secure$/)
  t.equal((await page(ADA, cookie)).set, undefined, 'a browser that has one keeps it')
  t.match((await page(ADA, '__Host-csrf=short')).set, /^__Host-csrf=[\w-]{32};/, 'what is none of ours is replaced')

  const { page: plain, ask } = await build(t, { secure: false })
  const made = await plain(ADA)
  t.match(made.set, /^csrf=[\w-]{32}; Path=\/; HttpOnly; SameSite=Strict$/)
  t.same(await ask(transfer(ADA, { 'x-csrf-token': made.token }, [made.cookie])), DONE)
  t.same(await ask(transfer(ADA, { 'x-csrf-token': made.token }, [`__Host-${made.cookie}`])), REFUSED)
})

t.test('a token is another at each call, so that compressed pages give none away, and all of them are good', async t => {
  const { ask, page, app } = await build(t, {}, app => {
    app.get('/two', { schema: { response: { 200: Type.Array(Type.String()) } }, config: { access: 'public' } }, async (request, reply) => [app.csrf.issue(request, reply), reply.generateCsrf()])
  })
  const one = await page(ADA)
  const other = await page(ADA, one.cookie)
  t.not(one.token, other.token)
  t.not(one.token.split('.')[2], other.token.split('.')[2])
  for (const { token } of [one, other, one]) t.same(await ask(transfer(ADA, { 'x-csrf-token': token }, [one.cookie])), DONE)

  const two = await app.inject({ url: '/two', headers: { host: HOST, cookie: `sid=${ADA}` } })
  t.equal([two.headers['set-cookie']].flat().length, 1, 'two tokens of one answer share a cookie')
  const cookie = String(two.headers['set-cookie']).split(';')[0]!
  for (const token of two.json()) t.same(await ask(transfer(ADA, { 'x-csrf-token': token }, [cookie])), DONE)
})

t.test('a form or JSON may hold the token instead: it is taken out before the closed body is validated', async t => {
  const { ask, page, ran } = await build(t)
  const { token, cookie } = await page(ADA)
  const headers = { cookie: `sid=${ADA}; ${cookie}` }
  const form = (text: string) => ask({ method: 'POST', url: '/transfer', headers: { ...headers, 'content-type': FORM }, payload: text })
  t.same(await form(`to=bob&_csrf=${token}`), DONE)
  t.same(await ask({ method: 'POST', url: '/transfer', headers, payload: { to: 'bob', _csrf: token } }), DONE)
  t.same(ran.map(({ body }) => ({ ...body as object })), [{ to: 'bob' }, { to: 'bob' }], 'the handler never sees it')
  t.same(await ask({ method: 'POST', url: '/thing', headers, payload: { _csrf: token } }), DONE, 'where there is no other body, too')

  t.same(await form('to=bob'), REFUSED)
  t.same(await form(`to=bob&_csrf=${token}x`), REFUSED)
  t.same(await form(''), REFUSED)
  t.same(await form(`to=bob&_csrf=${token}&_csrf=${token}`), REFUSED, 'a list is no token')
  t.same(await ask({ method: 'POST', url: '/transfer', headers: { ...headers, 'x-csrf-token': 'wrong' }, payload: { to: 'bob', _csrf: token } }), REFUSED, 'a wrong header is not made good by the body')
  t.equal(ran.length, 3)

  const { page: pageAs, ask: askAs } = await build(t, { field: 'token' })
  const other = await pageAs(ADA)
  t.same(await askAs(transfer(ADA, {}, [other.cookie])), REFUSED)
  t.same(await askAs({ ...transfer(ADA, {}, [other.cookie]), payload: { to: 'bob', token: other.token } }), DONE, 'the field has the name that the option gives it')
})

t.test('a route says what it needs: the token of everybody, in a field of its own; only the origin; or nothing', async t => {
  const { ask, page, ran, app } = await build(t, {}, (app, run) => {
    const body = closed({ to: Type.Optional(Type.String()) })
    const route = (url: string, rule: CsrfRule) => app.post(url, { schema: { body, response }, config: { access: 'public', csrf: rule } }, async request => run(request))
    route('/token', 'token')
    route('/field', { check: 'token', field: 'proof' })
    route('/origin', 'origin')
    route('/off', false)
    app.get('/leave', { schema: { response }, config: { access: 'public', csrf: 'token' } }, async request => run(request))
  })
  const { token, cookie } = await page(null)
  const post = (url: string, headers: Record<string, string> = {}, payload: object = {}) => ask({ method: 'POST', url, payload, headers: { cookie, ...headers } })
  t.same(await post('/token'), REFUSED, 'without a session, too')
  t.same(await post('/token', { 'x-csrf-token': token }), DONE)
  t.same(await post('/token', { 'x-csrf-token': token, 'sec-fetch-site': 'cross-site' }), REFUSED)
  t.same(await post('/token', { authorization: 'Bearer ada' }), REFUSED, 'whatever the credential')
  t.same(await post('/field', {}, { proof: token }), DONE)
  t.same(await post('/field', {}, { _csrf: token }), REFUSED)
  t.same(await post('/origin'), DONE, 'a client that is no browser')
  t.same(await post('/origin', { origin: OWN }), DONE)
  t.same(await post('/origin', { origin: 'https://evil.example' }), REFUSED)
  t.same(await post('/origin', { 'sec-fetch-site': 'cross-site', cookie: `sid=${ADA}` }), REFUSED)
  t.same(await post('/origin', { 'sec-fetch-site': 'same-origin', cookie: `sid=${ADA}` }), DONE)
  t.same(await post('/off', { cookie: `sid=${ADA}`, 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' }), DONE)
  for (const method of ['GET', 'HEAD'] as const) {
    t.equal((await ask({ method, url: '/leave', headers: { cookie } })).status, 403, method)
    t.same(await ask({ method, url: '/leave', headers: { cookie, 'x-csrf-token': token } }), DONE, method)
  }
  t.equal(ran.length, 8)

  const controls = (url: string) => app.plan.routes.find(route => route.url === url && route.method === 'POST')?.controls.csrf
  t.same(controls('/token'), { check: 'token', of: 'all', origins: [], sameSite: false, field: '_csrf' })
  t.match(controls('/field'), { check: 'token', of: 'all', field: 'proof' })
  t.same(controls('/origin'), { check: 'origin', of: 'all', origins: [], sameSite: false })
  t.match(controls('/transfer'), { check: 'token', of: 'cookies' })
  t.equal(app.plan.routes.find(({ url }) => url === '/read')!.controls.csrf, undefined)
  t.match(app.posture().findings.filter(({ message }) => message.includes('csrf')), [{ route: 'POST /off', severity: 'medium' }], 'posture warns of what is switched off')
})

t.test('a token ages by option; else it is good as long as its session', async t => {
  let time = 1_000_000
  const now = () => time
  const { ask, page } = await build(t, { lifetime: 60, now })
  const { ask: ageless, page: agelessPage } = await build(t, { now })
  const [short, long] = [await page(ADA), await agelessPage(ADA)]
  time += 59_000
  t.same(await ask(transfer(ADA, { 'x-csrf-token': short.token }, [short.cookie])), DONE)
  time += 1_000
  t.same(await ask(transfer(ADA, { 'x-csrf-token': short.token }, [short.cookie])), REFUSED)
  time += 31_536_000_000
  t.same(await ageless(transfer(ADA, { 'x-csrf-token': long.token }, [long.cookie])), DONE)
  const [, random, mac] = short.token.split('.')
  t.same(await ask(transfer(ADA, { 'x-csrf-token': `${Math.floor(time / 1000).toString(36)}.${random}.${mac}` }, [short.cookie])), REFUSED, 'its age is part of what is signed')
})

t.test('keys rotate: the first makes, all verify, and what is no longer listed is over', async t => {
  const next = randomBytes(32)
  const [before, during, after] = [await build(t, { key }), await build(t, { key: [next, key] }), await build(t, { key: next })]
  const [old, fresh] = [await before.page(ADA), await during.page(ADA)]
  const status = async ({ ask }: Built, { token, cookie }: { token: string, cookie: string }) => (await ask(transfer(ADA, { 'x-csrf-token': token }, [cookie]))).status
  t.same([await status(before, old), await status(during, old), await status(after, old)], [200, 200, 403])
  t.same([await status(before, fresh), await status(during, fresh), await status(after, fresh)], [403, 200, 200])
})

t.test('attack: a page of another site is refused, whatever it makes the browser send [ASVS 3.5.1, 3.5.2]', async t => {
  const { ask, page, ran, recorded } = await build(t)
  const { token, cookie } = await page(ADA)
  const good = { cookie: `sid=${ADA}; ${cookie}`, 'x-csrf-token': token }
  const off = await build(t, false)
  const attacks: [string, Record<string, string>][] = [
    ['another site', { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' }],
    ['another site, without Origin', { 'sec-fetch-site': 'cross-site' }],
    ['another site that claims our origin', { 'sec-fetch-site': 'cross-site', origin: OWN }],
    ['a sibling of the same site', { 'sec-fetch-site': 'same-site', origin: 'https://blog.example.com' }],
    ['a word that Sec-Fetch-Site does not have', { 'sec-fetch-site': 'Same-Origin' }],
    ['two values', { 'sec-fetch-site': 'same-origin, cross-site' }],
    ['an empty value', { 'sec-fetch-site': '' }],
    ['an older browser, another origin', { origin: 'https://evil.example' }],
    ['an opaque origin', { origin: 'null' }],
    ['our name as a prefix', { origin: `${OWN}.evil.example` }],
    ['our name as a user', { origin: `${OWN}@evil.example` }],
    ['our name as a suffix', { origin: `https://evil${HOST}` }],
    ['our host over plain HTTP', { origin: `http://${HOST}` }],
    ['our host at another port', { origin: `${OWN}:8443` }],
    ['our origin with a path', { origin: `${OWN}/` }],
    ['two origins', { origin: `${OWN}, https://evil.example` }],
    ['an empty origin', { origin: '' }],
  ]
  for (const [name, headers] of attacks) {
    t.same(await ask(transfer(ADA, { ...good, ...headers })), REFUSED, name)
    t.same(await off.ask(transfer(ADA, { ...good, ...headers })), DONE, `negative control: ${name}`)
  }
  t.same(ran, [])
  t.equal(recorded.filter(({ type }) => type === 'csrf_refused').length, attacks.length)
  for (const headers of [{ 'sec-fetch-site': 'same-origin', origin: OWN }, { 'sec-fetch-site': 'none' }, { 'sec-fetch-site': 'same-origin', origin: 'null' }, { origin: OWN }, {}]) {
    t.same(await ask(transfer(ADA, { ...good, ...headers as Record<string, string> })), DONE, JSON.stringify(headers))
  }
  t.same(await ask(transfer(ADA, { ...good, host: `${HOST}:443`, origin: OWN })), DONE, 'a proxy that writes the default port')
})

t.test('attack: header fields that come twice, on the wire', async t => {
  const { app, page, ran } = await build(t)
  const { token, cookie } = await page(ADA)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  const send = async (...lines: string[]): Promise<string> => {
    const socket = connect(port, '127.0.0.1')
    t.teardown(() => socket.destroy())
    socket.end([
      'POST /thing HTTP/1.1', `Host: ${HOST}`, 'X-Forwarded-Proto: https', 'Connection: close', 'Content-Length: 0', ...lines, '', '',
    ].join('\r\n'))
    const chunks: Buffer[] = []
    for await (const chunk of socket) chunks.push(chunk as Buffer)
    return Buffer.concat(chunks).toString().split(' ')[1]!
  }
  const good = [`Cookie: sid=${ADA}; ${cookie}`, `X-CSRF-Token: ${token}`]
  t.equal(await send(...good, 'Sec-Fetch-Site: same-origin'), '200')
  t.equal(await send(...good, 'Sec-Fetch-Site: same-origin', 'Sec-Fetch-Site: cross-site'), '403')
  t.equal(await send(...good, 'Sec-Fetch-Site: same-origin', 'Sec-Fetch-Site: same-origin'), '403')
  t.equal(await send(...good, `Origin: ${OWN}`, 'Origin: https://evil.example'), '403')
  t.equal(await send(...good, `X-CSRF-Token: ${token}`), '403')
  t.equal(await send(...good, `Cookie: ${cookie}`), '403', 'cookies, in two fields')
  t.equal(ran.length, 1)
})

t.test('origins that are listed may send requests, and by option those of the same site; a token they need all the same', async t => {
  const { ask, page } = await build(t, { origins: ['https://spa.example.com', 'https://partner.example'] })
  const { token, cookie } = await page(ADA)
  const send = (headers: Record<string, string>) => ask(transfer(ADA, { 'x-csrf-token': token, ...headers }, [cookie]))
  t.same(await send({ 'sec-fetch-site': 'same-site', origin: 'https://spa.example.com' }), DONE)
  t.same(await send({ 'sec-fetch-site': 'cross-site', origin: 'https://partner.example' }), DONE)
  t.same(await send({ origin: 'https://partner.example' }), DONE)
  t.same(await send({ 'sec-fetch-site': 'same-site', origin: 'https://blog.example.com' }), REFUSED)
  t.same(await send({ 'sec-fetch-site': 'bogus', origin: 'https://partner.example' }), REFUSED)
  t.same(await send({ origin: 'https://partner.example', 'x-csrf-token': '' }), REFUSED)

  const { ask: ofSite, page: pageOfSite } = await build(t, { sameSite: true })
  const made = await pageOfSite(ADA)
  const sendOfSite = (site: string) => ofSite(transfer(ADA, { 'x-csrf-token': made.token, 'sec-fetch-site': site, origin: 'https://blog.example.com' }, [made.cookie]))
  t.same(await sendOfSite('same-site'), DONE)
  t.same(await sendOfSite('cross-site'), REFUSED)
})

t.test('attack: forms of another site, in each form that needs no preflight [ASVS 3.5.2]', async t => {
  const { ask, ran } = await build(t)
  const { ask: open, ran: done } = await build(t, false)
  const forms: [string, string][] = [
    ['text/plain', '{"to":"mallory","x=":"y"}'],
    [FORM, 'to=mallory'],
    ['multipart/form-data; boundary=x', '--x\r\nContent-Disposition: form-data; name="_csrf"\r\n\r\nx\r\n--x--'],
    ['', 'to=mallory'],
  ]
  for (const [type, payload] of forms) {
    // An old browser: neither Sec-Fetch-Site nor Origin.
    const request: InjectOptions = { method: 'POST', url: '/loose', payload, headers: { cookie: `sid=${ADA}`, ...type !== '' && { 'content-type': type } } }
    t.same(await ask(request), REFUSED, type)
    if (type !== '') t.same(await open(request), DONE, `negative control: ${type}`)
  }
  t.same(ran, [])
  t.equal(done.length, 3)
})

t.test('attack: a token of another session, cookie or time is refused (GHSA-qrgf-9gpc-vrxw)', async t => {
  const { ask, page, ran, recorded } = await build(t)
  const [ada, mallory, nobody] = [await page(ADA), await page(MALLORY), await page(null)]
  const send = (token: string, ...cookies: string[]) => ask(transfer(ADA, { 'x-csrf-token': token }, cookies))
  t.same(await send(mallory.token, mallory.cookie), REFUSED, "Mallory's token, and her cookie, which a sibling host planted")
  t.same(await send(mallory.token, ada.cookie), REFUSED, "Mallory's token alone")
  t.same(await send(ada.token, mallory.cookie), REFUSED, 'a cookie that was replaced')
  t.same(await send(ada.token), REFUSED, 'no cookie')
  t.same(await send(nobody.token, nobody.cookie), REFUSED, 'a token from before the sign-in')
  t.same(await ask(transfer(MALLORY, { 'x-csrf-token': ada.token }, [ada.cookie])), REFUSED, 'after another sign-in')
  t.same(await send(ada.token, ada.cookie, mallory.cookie), REFUSED, 'two cookies of the name')
  t.same(await send(mallory.token, mallory.cookie, ada.cookie), REFUSED, 'two, the other way round')
  t.same(await send(ada.cookie.split('=')[1]!, ada.cookie), REFUSED, 'the cookie is no token')
  t.same(ran, [])
  t.same(new Set(recorded.map(({ details: { reason } }) => reason)), new Set(['token of another session, cookie or key', 'no cookie', 'several cookies', 'malformed token']))
  t.notOk(JSON.stringify(recorded).includes(ada.token.split('.')[2]!), 'no token is in an event')
  t.same(await send(ada.token, ada.cookie), DONE)
  t.same(await send((await page(ADA, ada.cookie)).token, 'sid2=x', ada.cookie, 'X__Host-csrf=y'), DONE, 'other cookies do not disturb')

  const naive = Fastify()
  t.teardown(() => naive.close())
  naive.post('/transfer', async ({ headers }, reply) => {
    if (headers['x-csrf-token'] === undefined || !headers.cookie?.includes(`csrf=${String(headers['x-csrf-token'])}`)) return reply.code(403).send()
    return { ok: true }
  })
  t.equal((await naive.inject({ method: 'POST', url: '/transfer', headers: { cookie: `sid=${ADA}; csrf=planted`, 'x-csrf-token': 'planted' } })).statusCode, 200,
    'negative control: a double submit that is bound to nothing takes a cookie that was planted')
})

t.test('attack: what is no token is refused, and is no failure of the service', async t => {
  const { ask, page, ran } = await build(t)
  const { token, cookie } = await page(ADA)
  const [issued, random, mac] = token.split('.') as [string, string, string]
  const last = mac.at(-1)!
  const wrong = [
    '', ' ', token.slice(0, -1), `${token}A`, `${token}=`, `${issued}.${random}`, `${issued}.${random}.${mac}.`, `${issued}.${random}.${'A'.repeat(43)}`, `${random}.${mac}`,
    Buffer.from(mac, 'base64url').toString('base64').padEnd(44, '='), `${issued}.${random}.${Buffer.from(mac, 'base64url').toString('hex')}`, token.toUpperCase(), `${token}, ${token}`, 'undefined', 'null',
    // The same bytes, written with other bits in what is left of the last character.
    `${issued}.${random}.${mac.slice(0, -1)}${'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'[('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'.indexOf(last)) ^ 1]!}`,
    'x'.repeat(10_000),
  ]
  for (const text of wrong) t.same(await ask(transfer(ADA, { 'x-csrf-token': text }, [cookie])), REFUSED, text.slice(0, 80))
  const inBody = (payload: unknown) => ask({ method: 'POST', url: '/loose', payload: JSON.stringify(payload), headers: { cookie: `sid=${ADA}; ${cookie}`, 'content-type': 'application/json' } })
  for (const payload of [null, [], [token], 'x', 7, { _csrf: [token] }, { _csrf: { toString: token } }, { _csrf: null }, { _csrf: 7 }, { _csrf: true }, { to: { _csrf: token } }, { _CSRF: token }]) {
    t.same(await inBody(payload), REFUSED, JSON.stringify(payload).slice(0, 40))
  }
  const polluted = await ask({ method: 'POST', url: '/loose', payload: `{"__proto__":{"_csrf":"${token}"}}`, headers: { cookie: `sid=${ADA}; ${cookie}`, 'content-type': 'application/json' } })
  t.equal(polluted.status, 400, 'a prototype is no JSON here')
  t.same(await ask({ method: 'POST', url: '/loose', payload: `__proto__=${token}&constructor=x`, headers: { cookie: `sid=${ADA}; ${cookie}`, 'content-type': FORM } }), REFUSED)
  t.same(ran, [])
  t.same(await inBody({ _csrf: token }), DONE)
})

t.test('attack: a token in the URL is none, and no header makes a POST a GET', async t => {
  const { ask, page, ran } = await build(t)
  const { token, cookie } = await page(ADA)
  t.same(await ask({ ...transfer(ADA, {}, [cookie]), url: `/transfer?_csrf=${token}&x-csrf-token=${token}` }), REFUSED)
  for (const header of ['x-http-method-override', 'x-http-method', 'x-method-override']) t.same(await ask(transfer(ADA, { [header]: 'GET' }, [cookie])), REFUSED, header)
  t.same(await ask({ ...transfer(ADA, {}, [cookie]), url: '/transfer?_method=GET' }), REFUSED)
  t.same(ran, [])
})

t.test('attack: what changes something is not done by what links, pictures and other pages can send: no safe method reaches it, and where one must it says whence it comes [ASVS 3.5.3]', async t => {
  const leave = (csrf: CsrfRule) => (app: FastifyInstance, run: (request: { url: string, body: unknown }) => { ok: boolean }) => {
    app.get('/leave', { schema: { response }, config: { access: 'user', csrf } }, async request => run(request))
  }
  const { ask, page, ran } = await build(t, {}, leave('origin'))
  const { token, cookie } = await page(ADA)
  const signedIn = { cookie: `sid=${ADA}; ${cookie}`, 'x-csrf-token': token }
  for (const method of ['GET', 'HEAD', 'OPTIONS', 'TRACE'] as const) {
    for (const url of ['/transfer?to=mallory', '/thing', `/transfer?to=mallory&_method=POST&_csrf=${token}`]) {
      for (const header of ['x-http-method-override', 'x-http-method', 'x-method-override']) t.equal((await ask({ method: method as 'GET', url, headers: { ...signedIn, [header]: 'POST' } })).status, 404, `${method} ${url}`)
    }
  }
  const foreign: Record<string, string>[] = [
    { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'image' }, { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document', 'sec-fetch-user': '?1' },
    { 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'script' }, { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty', origin: 'https://evil.example' },
  ]
  for (const headers of foreign) t.same(await ask({ url: '/leave', headers: { ...signedIn, ...headers } }), REFUSED, JSON.stringify(headers))
  t.same(ran, [])
  t.same(await ask({ url: '/leave', headers: { ...signedIn, 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty' } }), DONE)

  const off = await build(t, {}, leave(false))
  for (const headers of foreign) t.same(await off.ask({ url: '/leave', headers: { cookie: `sid=${ADA}`, ...headers } }), DONE, 'negative control: with the rule off a picture of another page does it')
})

t.test('a credential that fails, or answers no text, lets nothing pass', async t => {
  for (const [answer, status] of [[() => { throw new Error('away') }, 500], [() => '', 500], [() => undefined, 500], [() => true, 500], [() => 'secret', 403], [() => null, 200]] as const) {
    const { ask, ran } = await build(t, {}, app => { app.csrf.credential(answer as never) })
    t.equal((await ask({ method: 'POST', url: '/thing' })).status, status, String(answer))
    t.equal(ran.length, status === 200 ? 1 : 0)
  }
})

t.test('with several kinds of cookie credential a token is bound to all of them', async t => {
  const { ask, page } = await build(t, {}, app => { app.csrf.credential(({ headers }) => /device=([^;]+)/.exec(headers.cookie ?? '')?.[1] ?? null) })
  const { token, cookie } = await page(`${ADA}; device=one`)
  t.same(await ask(transfer(ADA, { 'x-csrf-token': token }, ['device=one', cookie])), DONE)
  t.same(await ask(transfer(ADA, { 'x-csrf-token': token }, ['device=two', cookie])), REFUSED)
  t.same(await ask(transfer(ADA, { 'x-csrf-token': token }, [cookie])), REFUSED)
  t.same(await ask({ method: 'POST', url: '/thing', headers: { cookie: 'device=one' } }), REFUSED)
})

t.test('the suite has it where it is given a key, before the body is read and after it is known who asks', async t => {
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion, { csrf: { key } })
  app.csrf.credential(() => 'secret')
  app.post('/', { schema: { body: noBody, response }, config: { access: 'public' } }, async () => ({ ok: true }))
  await app.ready()
  const { order } = app.plan.routes.find(({ method }) => method === 'POST')!
  const at = (name: string) => order.indexOf(name)
  t.ok(at('limit:limits') < at('csrf:csrf') && at('authorize:identity') < at('csrf:csrf') && at('csrf:csrf') < at('csrf:validation') && at('csrf:csrf') < at('body:csrf'), String(order))
  t.equal((await app.inject({ method: 'POST', url: '/' })).json().code, REFUSED.code)
  t.equal((await app.inject({ method: 'POST', url: '/', payload: '<x/>', headers: { 'content-type': 'text/xml' } })).json().code, REFUSED.code, 'who is forged learns nothing of the form')
})

t.test('misconfiguration stops boot', async t => {
  const wrong: [object, RegExp][] = [
    [{}, /key: must be a Buffer of at least 32 bytes/],
    [{ key: 'secret' }, /key/],
    [{ key: randomBytes(31) }, /key/],
    [{ key: [] }, /key/],
    [{ key: [key, randomBytes(8)] }, /key/],
    [{ key, origins: ['*'] }, /origins: "\*" is not an exact origin/],
    [{ key, origins: ['null'] }, /origins/],
    [{ key, origins: ['https://app.example.com/'] }, /origins/],
    [{ key, origins: 'https://app.example.com' }, /origins/],
    [{ key, field: '__proto__' }, /field/],
    [{ key, field: '' }, /field/],
    [{ key, lifetime: 0 }, /lifetime/],
    [{ key, lifetime: '60' }, /lifetime/],
    [{ key, secure: 'auto' }, /secure/],
    [{ key, cookie: 'csrf' }, /cookie/],
  ]
  for (const [options, message] of wrong) {
    const app = Fastify()
    t.teardown(() => app.close())
    await t.rejects(async () => { await app.register(bastion, { csrf: options as CsrfOptions }) }, { code: 'FST_BASTION_CSRF_MISCONFIGURED', message }, String(message))
  }
  for (const rule of ['Token', true, null, 'off', {}, { check: 'origin' }, { check: 'token', field: 'constructor' }, { check: 'token', fields: 'x' }]) {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(bastion, { csrf: { key } })
    app.post('/', { schema: { body: noBody, response }, config: { access: 'public', csrf: rule as never } }, async () => ({ ok: true }))
    await t.rejects(async () => { await app.ready() }, { code: 'FST_BASTION_PLAN_REFUSED', message: /POST \/: csrf: config\.csrf must be/ }, JSON.stringify(rule))
  }
  const { app } = await build(t)
  t.throws(() => app.csrf.credential('sid' as never), { code: 'FST_BASTION_CSRF_MISCONFIGURED' })
  t.throws(() => app.csrf.credential(() => null), { code: 'FST_BASTION_CSRF_MISCONFIGURED', message: /before the application is ready/ })
})
