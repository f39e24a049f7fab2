/** Webhooks: what is posted to a user's URL and how it is signed; and where nobody has the portal go. Against real servers, which stand on loopback addresses. */
import { createHmac } from 'node:crypto'
import type { RequestListener } from 'node:http'
import t from 'tap'
import { attack } from '../../plugins/testing/index.js'
import { serve, type Visit } from '../outbound/build.js'
import { until } from '../uploads/build.js'
import { buildOn, freshDatabase, type PortalUnderTest } from './portal.js'

/** What names lead to, as a test has it; others are unknown. */
const names: Record<string, string[]> = {}
const outbound = { resolve: async (name: string) => names[name] ?? [], retryAfter: [5, 5], timeout: 500 }
const portal = await buildOn(t, await freshDatabase(t), {}, undefined, { outbound })
const { call, newcomer, token, sql } = portal

const ok: RequestListener = (_request, response) => { response.end('what the receiver says is its own affair') }
const statusOf = (status: number): RequestListener => (_request, response) => { response.writeHead(status, { location: 'http://127.0.0.1:1/' }).end() }

type Person = Awaited<ReturnType<typeof newcomer>>

/** Somebody with a post, and a webhook to this URL where one is given. */
async function author (url?: string, { call, newcomer }: Pick<PortalUnderTest, 'call' | 'newcomer'> = portal) {
  const person: Person = await newcomer()
  const { body: post } = await call('POST', '/posts', { token: person.token, body: { title: 'Told about', content: 'Long enough content' } })
  const set = (to: string) => call('PUT', '/users/me/webhook', { token: person.token, body: { url: to } })
  const made = url === undefined ? null : await set(url)
  const comment = (content = 'A comment', bearer = person.token) => call('POST', `/posts/${post.id}/comments`, { token: bearer, body: { content } })
  const test = () => call('POST', '/users/me/webhook/test', { token: person.token })
  return { ...person, post, set, secret: made?.body.secret as string, made, comment, test }
}

/** As a receiver does it (Standard Webhooks, "Verifying signatures"). */
function isSigned ({ headers, body }: Pick<Visit, 'headers' | 'body'>, secret: string): boolean {
  const content = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`
  return headers['webhook-signature'] === `v1,${createHmac('sha256', Buffer.from(secret.replace('whsec_', ''), 'base64')).update(content).digest('base64')}`
}

/** Longer than any attempt that should not be made would wait. */
const settle = () => new Promise(resolve => { setTimeout(resolve, 60) })

t.test('a user sets a URL, sees it, and takes it away; the secret is shown once', async t => {
  const person = await author()
  t.equal((await call('GET', '/users/me/webhook', { token: person.token })).status, 404)
  t.equal((await person.test()).status, 404)
  t.equal((await call('DELETE', '/users/me/webhook', { token: person.token })).status, 404)
  names['hooks.example'] = ['127.0.0.1']
  const { status, body, headers } = await person.set('https://hooks.example/in?of=me#part')
  t.equal(status, 200)
  t.strictSame(Object.keys(body).sort(), ['createdAt', 'secret', 'url'])
  t.equal(Buffer.from(body.secret.replace(/^whsec_/, ''), 'base64').length, 32)
  t.match(body.secret, /^whsec_[A-Za-z0-9+/]{43}=$/)
  t.equal(headers['cache-control'], 'no-store')
  const got = await call('GET', '/users/me/webhook', { token: person.token })
  t.strictSame(got.body, { url: 'https://hooks.example/in?of=me#part', createdAt: body.createdAt })
  const second = await person.set('https://hooks.example/other')
  t.not(second.body.secret, body.secret, 'another URL has another secret')
  t.not((await person.set('https://hooks.example/other')).body.secret, second.body.secret, 'and so has the same one, anew')
  t.equal((await sql.query('select 1 from webhooks where user_id = $1', [person.id])).length, 1, 'one a user')
  t.equal((await call('DELETE', '/users/me/webhook', { token: person.token })).status, 204)
  t.equal((await call('GET', '/users/me/webhook', { token: person.token })).status, 404)
})

t.test('who comments on a post has its author told, signed as Standard Webhooks do it', async t => {
  const receiver = await serve(t, ok)
  const person = await author(`http://127.0.0.1:${receiver.port}/hook?of=me`)
  const { body: comment } = await person.comment('<b>Well</b> said', await token('bob'))
  t.ok(await until(() => receiver.visits.length === 1))
  const [visit] = receiver.visits as [Visit]
  t.match(visit, { method: 'POST', url: '/hook?of=me', headers: { 'content-type': 'application/json', 'webhook-id': /^msg_[0-9a-f]{32}$/, 'webhook-timestamp': /^\d{10}$/, 'webhook-signature': /^v1,[A-Za-z0-9+/]{43}=$/ } })
  t.equal(visit.headers['webhook-timestamp'], String(Math.floor(portal.now() / 1000)))
  t.strictSame(JSON.parse(visit.body), { type: 'comment.created', timestamp: new Date(portal.now()).toISOString(), data: comment })
  t.ok(isSigned(visit, person.secret))
  for (const [what, forged] of [
    ['another body', { ...visit, body: visit.body.replace('Well', 'Ill') }],
    ['another time', { ...visit, headers: { ...visit.headers, 'webhook-timestamp': '1700000000' } }],
    ['another id', { ...visit, headers: { ...visit.headers, 'webhook-id': 'msg_0' } }],
  ] as const) t.notOk(isSigned(forged, person.secret), what)
  const other = await author(`http://127.0.0.1:${receiver.port}/other`)
  t.notOk(isSigned(visit, other.secret), "nor with another user's secret")
  t.strictSame(Object.keys(visit.headers).filter(name => /authorization|cookie|forwarded/.test(name)), [])

  await call('POST', '/posts', { token: person.token, body: { title: 'No comment', content: 'Long enough content' } })
  const stranger = await author()
  await stranger.comment('on a post of somebody without a webhook')
  await settle()
  t.equal(receiver.visits.length, 1, 'nothing else is told')

  const { body: { secret } } = await person.set(`http://127.0.0.1:${receiver.port}/new`)
  await person.comment()
  t.ok(await until(() => receiver.visits.length === 2))
  t.notOk(isSigned(receiver.visits[1]!, person.secret), 'the old secret is good no more')
  t.ok(isSigned(receiver.visits[1]!, secret))
})

t.test('a test delivers at once and tells whether it arrived, and nothing of what was answered', async t => {
  let answer = ok
  const receiver = await serve(t, (request, response) => answer(request, response))
  const person = await author(`http://127.0.0.1:${receiver.port}/`)
  const { status, body, text } = await person.test()
  t.equal(status, 200)
  t.strictSame(body, { delivered: true, status: 200 })
  t.notMatch(text, 'affair')
  t.match(JSON.parse(receiver.visits[0]!.body), { type: 'webhook.test', data: {} })
  t.ok(isSigned(receiver.visits[0]!, person.secret))
  for (const [status, delivered] of [[204, true], [404, false], [503, false]] as const) {
    answer = statusOf(status)
    t.strictSame((await person.test()).body, { delivered, status })
  }
  t.equal(receiver.visits.length, 4, 'and is not tried again')
  portal.pass(120_000)
  answer = (_request, response) => { response.writeHead(200).end(Buffer.alloc(200_000)) }
  t.strictSame((await person.test()).body, { delivered: false, status: null }, 'an answer that is too long is none')
  for (let i = 1; i < 5; i++) t.equal((await person.test()).status, 200)
  t.equal((await person.test()).status, 429, 'five a minute')
  portal.pass(120_000)
  const { server } = receiver
  server.closeAllConnections()
  await new Promise(resolve => { server.close(resolve) })
  t.strictSame((await person.test()).body, { delivered: false, status: null })
})

t.test('who is away is tried again, a few times, with the same message; who refuses is not', async t => {
  const answers = [500, 429, 200, 200]
  const receiver = await serve(t, (request, response) => { statusOf(answers.shift() ?? 200)(request, response) })
  const person = await author(`http://127.0.0.1:${receiver.port}/`)
  await person.comment('first')
  await person.comment('second')
  t.ok(await until(() => receiver.visits.length === 4))
  const ids = receiver.visits.map(({ headers }) => headers['webhook-id'])
  t.strictSame(ids.slice(0, 3), Array(3).fill(ids[0]))
  t.not(ids[3], ids[0])
  t.strictSame(receiver.visits.map(({ body }) => JSON.parse(body).data.content), ['first', 'first', 'first', 'second'], 'in their order')
  for (const visit of receiver.visits) t.ok(isSigned(visit, person.secret))
  for (const [status, times] of [[500, 3], [408, 3], [400, 1], [401, 1], [404, 1], [410, 1], [301, 1]] as const) {
    const other = await serve(t, statusOf(status))
    await person.set(`http://127.0.0.1:${other.port}/`)
    await person.comment()
    t.ok(await until(() => other.visits.length === times), `${status}: ${other.visits.length} times`)
    await settle()
    t.equal(other.visits.length, times, String(status))
    portal.pass(10_000)
  }
})

t.test('a comment does not wait for its delivery, and stands whatever becomes of it', async t => {
  const hanging = await serve(t, () => {})
  const person = await author(`http://127.0.0.1:${hanging.port}/`)
  const since = performance.now()
  for (let i = 0; i < 5; i++) t.equal((await person.comment()).status, 201)
  t.ok(performance.now() - since < 2000)
  t.equal((await call('GET', `/posts/${person.post.id}/comments`)).body.items.length, 5)
})

t.test('attack: whoever never answers keeps only his own waiting, and no more than some of them', async t => {
  const hanging = await serve(t, () => {})
  const receiver = await serve(t, ok)
  const slow = await author(`http://127.0.0.1:${hanging.port}/`)
  const before = portal.log.length
  await Promise.all(Array.from({ length: 40 }, () => slow.comment()))
  const other = await author(`http://127.0.0.1:${receiver.port}/`)
  await other.comment()
  t.ok(await until(() => receiver.visits.length === 1))
  t.ok(hanging.visits.length < 10, 'one at a time')
  const dropped = portal.log.slice(before).filter(line => line.includes('too many wait')).length
  t.ok(dropped >= 10 && dropped <= 19, `one is under way, twenty wait, ${dropped} others are dropped`)
  await call('DELETE', '/users/me/webhook', { token: slow.token })
  const seen = hanging.visits.length
  portal.pass(120_000)
  await settle()
  t.ok(hanging.visits.length <= seen + 1, 'and who has taken it away has nothing more sent')
})

t.test('attack: whoever comments on himself does not make the portal a hammer: sixty a minute', async t => {
  const receiver = await serve(t, ok)
  const person = await author(`http://127.0.0.1:${receiver.port}/`)
  for (let i = 0; i < 70; i++) {
    t.equal((await person.comment()).status, 201)
    if (i < 60 && !await until(() => receiver.visits.length === i + 1)) t.fail(`the ${i}th did not come`)
  }
  await settle()
  t.equal(receiver.visits.length, 60)
  portal.pass(120_000)
  await person.comment()
  t.ok(await until(() => receiver.visits.length === 61))
})

t.test('setting it wants a step-up, as it gives out a secret; looking, ending and testing it do not', async t => {
  const receiver = await serve(t, ok)
  const person = await author(`http://127.0.0.1:${receiver.port}/`)
  portal.pass(301_000)
  const refused = await person.set(`http://127.0.0.1:${receiver.port}/evil`)
  t.equal(refused.status, 401)
  t.equal(refused.body.code, 'FST_BASTION_STEP_UP_REQUIRED')
  t.equal((await call('GET', '/users/me/webhook', { token: person.token })).body.url, `http://127.0.0.1:${receiver.port}/`)
  t.strictSame((await person.test()).body, { delivered: true, status: 200 })
  t.equal((await call('DELETE', '/users/me/webhook', { token: person.token })).status, 204)
})

t.test('it is for its user alone, and not for keys', async t => {
  const { access_token: bearer } = await portal.signIn('alice')
  const { body: { key } } = await call('POST', '/api-keys', { token: bearer, body: { name: 'reader', scopes: ['data:read', 'posts:write'] } })
  for (const [method, url, body] of [['GET', '/users/me/webhook', undefined], ['PUT', '/users/me/webhook', { url: 'https://hooks.example/' }], ['DELETE', '/users/me/webhook', undefined], ['POST', '/users/me/webhook/test', undefined]] as const) {
    t.equal((await call(method, url, { ...body !== undefined && { body } })).status, 401, `${method} ${url}`)
    t.equal((await call(method, url, { headers: { 'x-api-key': key }, ...body !== undefined && { body } })).status, 403, `${method} ${url} by key`)
  }
})

t.test('what is no http or https URL is a 400, and so is anything beside it', async t => {
  const person = await author()
  for (const body of [
    ...['', 'hooks.example', '/hook', '//hooks.example', 'ftp://hooks.example/', 'file:///etc/passwd', 'javascript:alert(1)', 'data:text/plain,x', 'gopher://hooks.example/', 'https://', 'https://user:pass@hooks.example/', 'https://hooks.example@127.0.0.1/',
      'https://hooks.example/ x', 'https://hooks.example/\r\nX-Injected: 1', 'https://hooks.example:99999/', `https://hooks.example/${'a'.repeat(2048)}`, 'https://[::1]/', 'https://127.1/', 'https://0x7f000001/', 'https://2130706433/'].map(url => ({ url })),
    {}, [], null, { url: null }, { url: ['https://hooks.example/'] }, { url: 'https://hooks.example/', secret: 'whsec_mine' }, { url: 'https://hooks.example/', userId: 'x' },
  ]) {
    const { status, body: { code } } = await call('PUT', '/users/me/webhook', { token: person.token, body })
    t.match({ status, code }, { status: /^(?:400|429)$/ }, JSON.stringify(body).slice(0, 60))
    if (status === 429) t.fail('the limit hides what is tested')
    portal.pass(10_000)
  }
  t.equal((await sql.query('select 1 from webhooks where user_id = $1', [person.id])).length, 0)
})

t.test('attack: a URL that leads inside is refused, by its address and by its name [ASVS 1.3.6]', async t => {
  const person = await author()
  names['private.example'] = ['10.0.0.1']
  names['metadata.example'] = ['169.254.169.254']
  names['some.example'] = ['93.184.215.14', '192.168.0.1']
  names['six.example'] = ['fd00::1']
  names['mapped.example'] = ['::ffff:10.0.0.1']
  names['zero.example'] = ['0.0.0.0']
  for (const host of ['10.0.0.1', '172.16.0.1', '192.168.1.1', '169.254.169.254', '100.64.0.1', '0.0.0.0', '224.0.0.1', '198.18.0.1', 'private.example', 'metadata.example', 'some.example', 'six.example', 'mapped.example', 'zero.example', 'unknown.example']) {
    for (const scheme of ['http', 'https']) {
      const { status, body } = await person.set(`${scheme}://${host}/`)
      t.match({ status, code: body.code, detail: body.detail }, { status: 400, code: 'FST_BASTION_OUTBOUND_REFUSED', detail: 'This address cannot be reached from here' }, `${scheme}://${host}`)
      portal.pass(10_000)
    }
  }
  t.equal((await sql.query('select 1 from webhooks where user_id = $1', [person.id])).length, 0)
})

t.test('attack: a name that leads inside only later is refused when it is delivered (DNS rebinding) [ASVS 1.3.6]', async t => {
  const receiver = await serve(t, ok)
  names['rebound.example'] = ['127.0.0.1']
  const person = await author(`http://rebound.example:${receiver.port}/`)
  t.strictSame((await person.test()).body, { delivered: true, status: 200 })
  t.equal(receiver.visits[0]!.headers.host, `rebound.example:${receiver.port}`)
  names['rebound.example'] = ['10.0.0.1']
  const before = portal.log.length
  t.strictSame((await person.test()).body, { delivered: false, status: null })
  await person.comment()
  t.ok(await until(() => portal.log.slice(before).filter(line => line.includes('outbound_refused')).length === 2))
  await settle()
  t.equal(portal.log.slice(before).filter(line => line.includes('outbound_refused')).length, 2, 'a refusal is not tried again')
  t.equal(receiver.visits.length, 1)
})

t.test('attack: a redirect to the inside is not followed; a plain fetch follows it [ASVS 15.3.2]', async t => {
  const inside = await serve(t, ok)
  for (const status of [301, 302, 303, 307, 308]) {
    const receiver = await serve(t, (_request, response) => { response.writeHead(status, { location: `http://127.0.0.1:${inside.port}/admin` }).end() })
    const person = await author(`http://127.0.0.1:${receiver.port}/`)
    t.strictSame((await person.test()).body, { delivered: false, status })
    await person.comment()
    t.ok(await until(() => receiver.visits.length === 2))
    await settle()
    t.equal(inside.visits.length, 0, String(status))
    await (await fetch(`http://127.0.0.1:${receiver.port}/`, { method: 'POST', body: 'x' })).text()
    t.equal(inside.visits.splice(0).length, 1, 'negative control: plain fetch gets there')
  }
})

t.test('attack: in production loopback, plain http and other ports are refused, also where they were set before', async t => {
  const inside = await serve(t, ok)
  const production = await buildOn(t, await freshDatabase(t), { NODE_ENV: 'production' }, undefined, { outbound })
  names['hooks.example'] = ['93.184.215.14']
  names['localhost'] = ['127.0.0.1', '::1']
  const person = await author('https://hooks.example/', production)
  t.equal(person.made!.status, 200)
  for (const url of [`http://127.0.0.1:${inside.port}/`, 'https://127.0.0.1/', 'https://127.0.0.2/', 'https://localhost/', `https://localhost:${inside.port}/`, 'http://hooks.example/', 'https://hooks.example:8443/', 'https://hooks.example:22/']) {
    const { status, body } = await person.set(url)
    t.match({ status, code: body.code }, { status: 400, code: 'FST_BASTION_OUTBOUND_REFUSED' }, url)
    production.pass(10_000)
  }
  for (const url of [`http://127.0.0.1:${inside.port}/`, `http://localhost:${inside.port}/`, 'https://127.0.0.1/']) {
    await production.sql.query('update webhooks set url = $2 where user_id = $1', [person.id, url])
    t.strictSame((await person.test()).body, { delivered: false, status: null }, url)
    await person.comment()
    await settle()
  }
  t.strictSame(inside.visits, [])
  await (await fetch(`http://127.0.0.1:${inside.port}/`, { method: 'POST', body: 'x' })).text()
  t.equal(inside.visits.length, 1, 'negative control: plain fetch gets there')
  const developing = await author(`http://127.0.0.1:${inside.port}/`)
  t.strictSame((await developing.test()).body, { delivered: true, status: 200 }, 'and so does a portal that somebody develops')
  const attacked = async ({ app }: typeof portal, { token }: { token: string }) => {
    const { findings, checks } = await attack(app, { principals: { person: { token } }, only: ['PUT /users/me/webhook'], families: ['outbound'], routes: { 'PUT /users/me/webhook': { connects: 'POST /users/me/webhook/test' } } })
    return [...findings.map(({ id, route }) => `${id} ${route}`), ...checks.map(({ tried }) => tried > 10)]
  }
  t.strictSame(await attacked(production, person), [true], 'the attack kit, which listens there, is connected to by no spelling')
  t.strictSame(await attacked(portal, developing), ['outbound.reached PUT /users/me/webhook', true], 'and is by the other portal')
})

t.test('an inactive user is sent nothing', async t => {
  const receiver = await serve(t, ok)
  const person = await author(`http://127.0.0.1:${receiver.port}/`)
  t.equal((await call('PATCH', `/users/${person.id}/active`, { token: await token('admin'), body: { isActive: false } })).status, 204)
  t.equal((await person.comment('said to nobody', await token('bob'))).status, 201)
  await settle()
  t.equal(receiver.visits.length, 0)
})

t.test('it is in the export, without its secret, and is erased with the account; the secret is stored and logged nowhere', async t => {
  const receiver = await serve(t, ok)
  const person = await author(`http://127.0.0.1:${receiver.port}/private-path`)
  const { body, text } = await call('GET', '/users/me/export', { token: person.token })
  t.match(body.webhook, { url: `http://127.0.0.1:${receiver.port}/private-path`, createdAt: String })
  t.notOk(text.includes(person.secret))
  await person.comment()
  t.ok(await until(() => receiver.visits.length === 1))
  const bare = person.secret.replace('whsec_', '')
  for (const form of [bare, Buffer.from(bare, 'base64').toString('hex'), Buffer.from(bare, 'base64').toString('base64url')]) {
    t.notOk(JSON.stringify(await sql.query('select * from webhooks')).includes(form))
    t.notOk(portal.log.join('').includes(form))
  }
  t.notOk(portal.log.join('').includes('private-path'), 'nor is the path, which may be a secret of its own')
  t.equal((await call('GET', '/users/me/export', { token: (await newcomer()).token })).body.webhook, null)
  t.equal((await call('DELETE', '/users/me', { token: person.token })).status, 204)
  t.equal((await sql.query('select 1 from webhooks where user_id = $1', [person.id])).length, 0)
})

t.test('what an erased person said is sent to nobody any more', async t => {
  const hanging = await serve(t, () => {})
  const person = await author(`http://127.0.0.1:${hanging.port}/`)
  const ada = await newcomer()
  await person.comment('the first keeps the others waiting')
  await person.comment('said by ada', ada.token)
  await person.comment('said by bob', await token('bob'))
  t.equal((await call('DELETE', '/users/me', { token: ada.token })).status, 204)
  const said = () => hanging.visits.map(({ body }) => JSON.parse(body).data.content as string)
  t.ok(await until(() => said().includes('said by bob')), 'negative control: that of others is')
  t.notOk(said().includes('said by ada'))
})

t.test('attack: many whose receivers never answer do not keep the portal from its end', async t => {
  const hanging = await serve(t, () => {})
  const closing = await buildOn(t, await freshDatabase(t), {}, undefined, { outbound })
  const people = []
  for (let i = 0; i < 12; i++) people.push(await author(`http://127.0.0.1:${hanging.port}/`, closing))
  for (const { comment } of people) await comment()
  t.ok(await until(() => hanging.visits.length === 8))
  await closing.app.close()
  t.equal(hanging.visits.length, 8, 'who waited for a turn gets none')
})

t.test('at its end the portal waits for what is under way, and drops what waits', async t => {
  const hanging = await serve(t, () => {})
  const closing = await buildOn(t, await freshDatabase(t), {}, undefined, { outbound: { ...outbound, retryAfter: [60_000] } })
  const person = await author(`http://127.0.0.1:${hanging.port}/`, closing)
  for (let i = 0; i < 3; i++) await person.comment()
  t.ok(await until(() => hanging.visits.length === 1))
  const since = performance.now()
  await closing.app.close()
  t.ok(performance.now() - since < 3000, `${Math.round(performance.now() - since)} ms`)
  t.match(closing.log.join(''), 'webhooks that wait are dropped')
  await settle()
  t.equal(hanging.visits.length, 1)
})
