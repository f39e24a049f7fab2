/** Payments: by token, of one's own orders, once; and what people send instead of a token. */
import t from 'tap'
import { build, type Call } from './portal.js'

const { app, call, token, idOf, newcomer, sql, log, signIn } = await build(t)

interface Order { id: string, total: number, currency: string }
const ordersOf = async (username: string) => sql.query<Order>('select id, total, currency from orders where user_id = $1 order by created_at', [await idOf(username)])
const paying = ({ id, total, currency }: Order, more: Record<string, unknown> = {}) => ({ orderId: id, paymentToken: 'tok_visa', amount: total, currency, ...more })
const pay = async (username: string, body: unknown, more: Call = {}) => call('POST', '/payments', { token: await token(username), body, ...more })
const payments = () => sql.query('select * from payments')

/** Test numbers of the brands. */
const CARDS = ['4242424242424242', '4000056655665556', '5555555555554444', '2223003122003222', '378282246310005', '6011111111111117', '3056930009020004', '3566002020360505', '6200000000000005', '4222222222222', '6304000000000000000'.slice(0, 18) + '0']

t.test('an order is paid by a token, and the last four digits are all that is known of the card', async t => {
  const [order] = await ordersOf('alice')
  const { status, body } = await pay('alice', paying(order!))
  t.equal(status, 201)
  t.match(body, { id: /^[\w-]{16}$/, status: 'succeeded', lastFour: '4242' })
  t.same(Object.keys(body).sort(), ['id', 'lastFour', 'status'])
  t.match(await payments(), [{ id: body.id, order_id: order!.id, amount: order!.total, currency: 'EUR', last_four: '4242' }])
  t.equal((await call('GET', `/orders/${order!.id}`, { token: await token('alice') })).body.status, 'paid')
  const again = await pay('alice', paying(order!))
  t.equal(again.status, 409)
  t.equal(again.body.code, 'FST_PORTAL_ALREADY_PAID')
  t.match((await pay('admin', paying((await ordersOf('admin'))[0]!, { paymentToken: 'tok_1N3T00LkdIwHu7ixt44h1F8k' }))).body, { lastFour: /^\d{4}$/ })
})

t.test('two payments of one order at once are one', async t => {
  const [order] = await ordersOf('mona')
  const answers = await Promise.all(Array.from({ length: 5 }, async () => (await pay('mona', paying(order!))).status))
  t.same(answers.sort(), [201, 409, 409, 409, 409])
})

t.test('amount and currency are those of the order, or 409', async t => {
  const [order] = await ordersOf('bob')
  for (const more of [{ amount: order!.total - 1 }, { amount: order!.total + 1 }, { amount: 0 }, { currency: 'USD' }, { amount: 1, currency: 'JPY' }]) {
    const { status, body } = await pay('bob', paying(order!, more))
    t.equal(status, 409, JSON.stringify(more))
    t.equal(body.code, 'FST_PORTAL_PAYMENT_MISMATCH')
  }
  t.equal((await pay('bob', paying(order!))).status, 201)
})

t.test("attack: somebody else's order, as an admin too, is not there [OWASP API1]", async t => {
  const [, order] = await ordersOf('alice')
  for (const name of ['bob', 'gus', 'mona', 'admin']) {
    const foreign = await pay(name, paying(order!))
    t.equal(foreign.status, 404, name)
    const missing = await pay(name, paying({ ...order!, id: 'AAAAAAAAAAAAAAAA' }))
    t.same({ ...missing.body, requestId: 0 }, { ...foreign.body, requestId: 0 }, 'and nothing tells it from one that does not exist')
  }
  const person = await newcomer()
  t.equal((await call('POST', '/payments', { token: person.token, body: paying(order!, { amount: 1 }) })).status, 404, 'whatever the amount')
  t.equal((await call('POST', '/payments', { body: paying(order!) })).status, 401)
  t.equal((await sql.query('select 1 from payments where order_id = $1', [order!.id])).length, 0)
})

t.test('attack: malformed payments', async t => {
  const [, order] = await ordersOf('bob')
  for (const body of [
    {}, paying(order!, { amount: -1 }), paying(order!, { amount: 1.5 }), paying(order!, { amount: String(order!.total) }), paying(order!, { amount: 1e20 }), paying(order!, { currency: 'eur' }), paying(order!, { currency: 'EURO' }),
    paying(order!, { paymentToken: 'visa' }), paying(order!, { paymentToken: 'tok_' }), paying(order!, { paymentToken: ['tok_visa'] }), paying(order!, { status: 'succeeded' }), paying(order!, { lastFour: '4242' }), paying(order!, { orderId: { $ne: null } }), paying(order!, { orderId: "' or 1=1" }), [paying(order!)], null,
  ]) t.equal((await pay('bob', body)).status, 400, JSON.stringify(body))
})

t.test('attack: a card number or a security code anywhere in a body is a 400, an event, and nowhere else [ASVS 14.2.4]', async t => {
  const [, order] = await ordersOf('bob')
  const events: unknown[] = []
  t.teardown(app.events.listen(event => { if (event.type === 'card_refused') events.push(event) }))
  const before = { log: log.length, payments: (await payments()).length }
  const { access_token: bob } = await signIn('bob')
  const secrets = new Set<string>()
  const send = async (raw: string, secret: string) => {
    secrets.add(secret)
    const recorded = events.length
    const { status, body, text } = await call('POST', '/payments', { token: bob, raw })
    t.equal(status, 400, raw)
    t.equal(body.code, 'FST_BASTION_CARDS_REFUSED', raw)
    t.equal(events.length, recorded + 1)
    t.notMatch(text, secret)
  }
  for (const card of CARDS) {
    const [a, b, c, d] = [card.slice(0, 4), card.slice(4, 8), card.slice(8, 12), card.slice(12)]
    for (const written of [card, `${a} ${b} ${c} ${d}`, `${a}-${b}-${c}-${d}`, `${a}.${b}.${c}.${d}`, [...card].join(' '), `card ${card}!`, `x${card}y`]) {
      await send(JSON.stringify(paying(order!, { paymentToken: written })), written)
      secrets.add(card)
    }
    await send(JSON.stringify(paying(order!, { note: card })), card)
    await send(JSON.stringify(paying(order!, { card: { deep: [{ number: card }] } })), card)
    await send(JSON.stringify(paying(order!, { [card]: 1 })), card)
    if (Number.isSafeInteger(Number(card))) await send(`{"amount":${card}}`, card)
  }
  for (const name of ['cvv', 'CVV', 'cvc', 'cvv2', 'CVC2', 'cardCvv', 'card_cvc', 'cvvCode', 'security_code', 'cardSecurityCode', 'card-verification-value', 'csc', 'c.v.v']) await send(JSON.stringify(paying(order!, { [name]: '987' })), '"987"')
  await send(JSON.stringify(paying(order!, { card: { cvv: 987 } })), '"cvv":987')

  const lines = log.slice(before.log).join('\n')
  for (const secret of secrets) t.notOk(lines.includes(secret), `the log does not hold ${secret.slice(0, 6)}…`)
  for (const secret of secrets) t.notOk(JSON.stringify(events).includes(secret))
  for (const event of events) t.match(event, { type: 'card_refused', route: '/payments', details: { kind: /^(?:number|security-code)$/ } })
  t.equal((await payments()).length, before.payments)
  t.equal((await pay('bob', paying(order!))).status, 201, 'while the token passes')
})

t.test('attack: a card number in a body that is no JSON, too large or of another type is not logged either', async t => {
  const [card] = CARDS
  const before = log.length
  const { access_token: bob } = await signIn('bob')
  const ask = async (raw: string, type?: string) => (await call('POST', '/payments', { token: bob, raw, ...type !== undefined && { type } })).status
  t.equal(await ask(`{"card":"${card}"`), 400)
  t.equal(await ask(`{"card":${card}}}`), 400)
  t.equal(await ask(`${card}`), 400)
  t.equal(await ask(`{"card":1,"card":"${card}"}`), 400)
  t.equal(await ask('{"card":4242424242424242424}'), 400, 'a number that no reader would read as it is')
  t.equal(await ask(`card=${card}`, 'application/x-www-form-urlencoded'), 415)
  t.equal(await ask(JSON.stringify({ card, more: 'x'.repeat(300_000) })), 413)
  t.notOk(log.slice(before).join('\n').includes('4242424242424242'))
})

t.test('attack: a card number in a comment, a post or a bio is refused too', async t => {
  const { access_token: bob } = await signIn('bob')
  const [post] = await sql.query<{ id: string }>('select id from posts limit 1')
  for (const [method, url, body] of [
    ['POST', `/posts/${post!.id}/comments`, { content: 'It is 4242 4242 4242 4242, do not tell' }],
    ['POST', '/posts', { title: '5555555555554444', content: 'Long enough content' }],
    ['POST', '/posts', { title: 'x', content: '<p>3782 822463 10005, 12/30</p>' }],
    ['PATCH', '/users/me', { bio: '4242-4242-4242-4242' }],
  ] as const) {
    const answer = await call(method, url, { token: bob, body })
    t.equal(answer.status, 400)
    t.equal(answer.body.code, 'FST_BASTION_CARDS_REFUSED')
  }
  t.equal((await call('POST', `/posts/${post!.id}/comments`, { token: bob, body: { content: 'Call +4915112345678, order 1234567890123456, at 1700000000000' } })).status, 201, 'while numbers that are none pass')
  t.notOk(log.join('\n').includes('4242 4242'))
})
