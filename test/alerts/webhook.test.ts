/** The webhook: signed, sent again, bounded, and ended with the service. */
import { createHmac, timingSafeEqual } from 'node:crypto'
import t from 'tap'
import { build, NONE, receiver, type Delivery } from './build.js'

const key = Buffer.alloc(32, 7)
const fast = { key, backoff: 1, timeout: 2000 }
const rules = [{ name: 'each', events: ['csrf_refused' as const], by: 'address' as const, threshold: 1, windowMs: 1000, quietMs: 0 }]

/** As the specification of Standard Webhooks describes a receiver, and without anything of ours. */
function verify ({ headers, body }: Delivery, secret: string, now = Date.now()): { id: string, payload: any } {
  const [id, time, signatures] = ['webhook-id', 'webhook-timestamp', 'webhook-signature'].map(name => String(headers[name]))
  if (Math.abs(now / 1000 - Number(time)) > 300) throw new Error('too old')
  const expected = createHmac('sha256', Buffer.from(secret.slice('whsec_'.length), 'base64')).update(`${id}.${time}.${body}`).digest()
  const isGood = signatures!.split(' ').some(signature => {
    const [version, mac] = signature.split(',')
    const given = Buffer.from(mac!, 'base64')
    return version === 'v1' && given.length === expected.length && timingSafeEqual(given, expected)
  })
  if (!isGood) throw new Error('signature')
  return { id: id!, payload: JSON.parse(body) }
}
const secretOf = (bytes: Buffer) => `whsec_${bytes.toString('base64')}`

t.test('an alert arrives signed: a receiver that knows the secret takes it, and nothing that was changed', async t => {
  const { url, got, came } = await receiver(t)
  const { see, told } = await build(t, { webhook: { url, ...fast }, now: Date.now })
  await see('token_reused', { details: { user: 'u1', family: 'f-s3cret' } })
  await came(1)
  const { id, payload } = verify(got[0]!, secretOf(key))
  t.equal(id, told[0]!.id)
  t.strictSame(payload, { type: 'alert.raised', timestamp: told[0]!.time, data: told[0] })
  t.notMatch(got[0]!.body, 's3cret', 'details do not leave the service')
  t.match(got[0]!.headers, { 'content-type': 'application/json' })
  const { headers, body } = got[0]!
  t.throws(() => verify(got[0]!, secretOf(Buffer.alloc(32, 8))), 'another key')
  t.throws(() => verify({ headers, body: body.replace('u1', 'u2') }, secretOf(key)), 'another body')
  t.throws(() => verify({ headers: { ...headers, 'webhook-id': 'x' }, body }, secretOf(key)), 'another id')
  t.throws(() => verify({ headers: { ...headers, 'webhook-timestamp': String(Number(headers['webhook-timestamp']) + 1) }, body }, secretOf(key)), 'another time')
  t.throws(() => verify(got[0]!, secretOf(key), Date.now() + 600_000), 'a replay, later')
})

t.test('attack: what a client calls itself is in no alert: a filter before the receiver would refuse what tells of the attack', async t => {
  const agent = "<script>alert('x')</script> () { :;}; /bin/sh"
  const { url, got, came } = await receiver(t, response => { response.writeHead(got.at(-1)!.body.includes('/bin/sh') ? 403 : 204).end() })
  const noted: unknown[] = []
  const { app, recorded, log } = await build(t, { builtIn: NONE, rules, webhook: { url, ...fast, attempts: 2 }, notify: (_alert, event) => { noted.push(event.userAgent) }, now: Date.now })
  app.events.record('csrf_refused', { id: 'r1', ip: '192.0.2.1', raw: {}, method: 'POST', headers: { 'user-agent': agent }, routeOptions: { config: {} }, log: app.log } as never)
  await app.alerts.settled()
  await came(1)
  await app.close()
  t.strictSame(recorded.filter(({ type }) => type === 'alert_undelivered'), [])
  t.equal(got.length, 1)
  t.strictSame(noted, [agent], 'the function is told it, and so is the log')
  t.match(log.filter(({ msg }) => msg === 'csrf_refused'), [{ event: { userAgent: agent } }])
})

t.test('a key is replaced without a gap: receivers of the old and of the new one take it', async t => {
  const next = Buffer.alloc(32, 9)
  const { url, got, came } = await receiver(t)
  const { see } = await build(t, { webhook: { url, ...fast, key: [next, key] }, now: Date.now })
  await see('token_reused', { details: { user: 'u1' } })
  await came(1)
  verify(got[0]!, secretOf(key))
  verify(got[0]!, secretOf(next))
  t.throws(() => verify(got[0]!, secretOf(Buffer.alloc(32, 1))))
})

t.test('what fails is sent again under the same id until it is taken; what follows comes after it', async t => {
  const { url, got, came } = await receiver(t, (response, n) => { response.writeHead(n === 1 ? 500 : n === 2 ? 429 : n === 3 ? 302 : 204, { location: '/elsewhere' }).end() })
  const { see, told, recorded } = await build(t, { builtIn: NONE, rules, webhook: { url, ...fast }, now: Date.now })
  await see('csrf_refused', { address: '192.0.2.1' })
  await see('csrf_refused', { address: '192.0.2.2' })
  await came(5)
  const [first, second] = told.map(({ id }) => id)
  t.strictSame(got.map(({ headers }) => headers['webhook-id']), [first, first, first, first, second], 'a redirect is not followed, and no success')
  for (const delivery of got) verify(delivery, secretOf(key))
  t.notOk(recorded.some(({ type }) => type === 'alert_undelivered'))
})

t.test('after the last attempt it is given up, and an event says so without the URL', async t => {
  const { url, got, came } = await receiver(t, response => { response.writeHead(503).end() })
  const { app, see, recorded, log, told } = await build(t, { builtIn: NONE, rules, webhook: { url, ...fast, attempts: 3 } })
  await see('csrf_refused')
  await came(3)
  await app.close()
  t.equal(got.length, 3)
  t.match(recorded.filter(({ type }) => type === 'alert_undelivered'), [{ details: { alert: told[0]!.id, rule: 'each', reason: 'answered 503' } }])
  t.notMatch(JSON.stringify(log), 's3cret-path')
})

t.test('410: the receiver is gone, and is asked once', async t => {
  const { url, got, came } = await receiver(t, response => { response.writeHead(410).end() })
  const { app, see, recorded } = await build(t, { builtIn: NONE, rules, webhook: { url, ...fast } })
  await see('csrf_refused')
  await came(1)
  await app.close()
  t.equal(got.length, 1)
  t.match(recorded.at(-1), { type: 'alert_undelivered', details: { reason: 'answered 410' } })
})

t.test('a receiver that hangs is left after the timeout, and one that never ends its answer has taken it', async t => {
  const { url, got, came } = await receiver(t, (response, n) => {
    if (n === 2) response.writeHead(200).write('the rest never comes') // it was taken: nothing of the body is read
  })
  const { app, see, recorded } = await build(t, { builtIn: NONE, rules, webhook: { url, ...fast, timeout: 50 } })
  await see('csrf_refused')
  await came(2)
  await app.close()
  t.equal(got.length, 2)
  t.notOk(recorded.some(({ type }) => type === 'alert_undelivered'))
})

t.test('nobody listens: what it was is told', async t => {
  const { app, see, recorded } = await build(t, { builtIn: NONE, rules, webhook: { url: 'http://127.0.0.1:1/', ...fast, attempts: 2 } })
  await see('csrf_refused')
  await app.close()
  t.match(recorded.at(-1), { type: 'alert_undelivered', details: { reason: /ECONNREFUSED|bad port|TypeError/ } })
})

t.test('the queue is bounded: what does not fit is told to log and function all the same', async t => {
  let open = () => {}
  const isOpen = new Promise<void>(resolve => { open = resolve })
  const { url, got, came } = await receiver(t, response => { isOpen.then(() => response.writeHead(204).end()) })
  const { app, see, recorded, told } = await build(t, { builtIn: NONE, rules, webhook: { url, ...fast, queue: 3 } })
  for (let i = 0; i < 10; i++) await see('csrf_refused', { address: `192.0.2.${i}` })
  t.equal(told.length, 10)
  t.equal(recorded.filter(({ type, details }) => type === 'alert_undelivered' && details.reason === 'the queue is full').length, 7)
  open()
  await came(3)
  await app.close()
  t.equal(got.length, 3)
})

t.test('closing brings there what waits, without the pauses', async t => {
  const { url, got, came } = await receiver(t, (response, n) => { response.writeHead(n === 1 ? 500 : 204).end() })
  const { app, see, recorded } = await build(t, { builtIn: NONE, rules, webhook: { url, key, backoff: 60_000 } })
  for (let i = 0; i < 4; i++) await see('csrf_refused', { address: `192.0.2.${i}` })
  await came(1)
  app.events.record('csrf_refused', { id: 'r', ip: '192.0.2.99' }) // not counted yet
  await app.close()
  t.equal(got.length, 6, 'the first twice, the others once')
  t.match(JSON.parse(got.at(-1)!.body), { data: { subject: '192.0.2.99' } })
  t.notOk(recorded.some(({ type }) => type === 'alert_undelivered'))
})

t.test('closing waits no longer than drainMs for a receiver that hangs', async t => {
  const { url, came } = await receiver(t, () => {})
  const { app, see, recorded } = await build(t, { builtIn: NONE, rules, webhook: { url, key, timeout: 60_000 }, drainMs: 50 })
  for (let i = 0; i < 3; i++) await see('csrf_refused', { address: `192.0.2.${i}` })
  await came(1)
  const began = performance.now()
  await app.close()
  t.ok(performance.now() - began < 2000)
  t.strictSame(recorded.filter(({ type }) => type === 'alert_undelivered').map(({ details }) => details.reason), ['the service ended', 'the service ended', 'the service ended'])
})
