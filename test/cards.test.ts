/** Card numbers: none comes in by a body, however it is written, and what only looks like one does. */
import { createHash } from 'node:crypto'
import Fastify, { type FastifyInstance, type RouteOptions } from 'fastify'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import cards, { findCard, lastFour, passesLuhn } from '../plugins/cards.js'
import errors from '../plugins/errors.js'
import events, { type SecurityEvent } from '../plugins/events.js'
import plan from '../plugins/plan/index.js'
import { server } from '../plugins/server.js'
import validation from '../plugins/validation/index.js'
import { closed } from '../schemas/closed.js'
import fc from './fixtures/fast-check.js'

const seed = Number(process.env.FAST_CHECK_SEED ?? Date.now() % 2 ** 31)
t.comment(`FAST_CHECK_SEED=${seed}`)
const bounded = { seed, numRuns: 20_000, interruptAfterTimeLimit: 1200 }

interface Built {
  app: FastifyInstance
  seen: unknown[]
  recorded: SecurityEvent[]
  log: string[]
  send: (url: string, body: unknown, type?: string) => Promise<{ status: number, code: string | undefined, text: string }>
}

const Anything = Type.Union([Type.String(), Type.Number(), closed({ deep: Type.Optional(Type.Array(closed({ deeper: Type.Optional(Type.String()) }))) })])

async function build (t: Test, { without = false }: { without?: boolean } = {}): Promise<Built> {
  const log: string[] = []
  const app = Fastify(server({ logger: { level: 'trace', stream: { write: (line: string) => { log.push(line) } } } }))
  t.teardown(() => app.close())
  for (const plugin of without ? [plan, events, errors, validation] : [plan, events, errors, cards, validation]) await app.register(plugin as never)
  const seen: unknown[] = []
  const recorded: SecurityEvent[] = []
  app.events.listen(event => { recorded.push(event) })
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, ((_request: unknown, body: string, done: (error: null, body: unknown) => void) => { done(null, Object.fromEntries(new URLSearchParams(body))) }) as never)
  const take = (url: string, config: RouteOptions['config'] = {} as never) => app.route({
    method: 'POST',
    url,
    config,
    schema: { body: { content: { 'application/json': { schema: Type.Union([closed({ note: Type.Optional(Anything) }), Type.String(), Type.Array(Type.String())]) }, 'application/x-www-form-urlencoded': { schema: closed({ note: Type.String() }) } } } },
    handler: async ({ body }) => { seen.push(body); return { ok: true } },
  })
  take('/usual')
  take('/payments', { cards: 'strict' } as never)
  take('/free', { cards: false } as never)
  return {
    app,
    seen,
    recorded,
    log,
    async send (url, body, type = 'application/json') {
      const answer = await app.inject({ method: 'POST', url, payload: typeof body === 'string' && type !== 'application/json' ? body : JSON.stringify(body), headers: { 'content-type': type } })
      return { status: answer.statusCode, code: answer.json().code, text: answer.body }
    },
  }
}

/** The digits with their check digit. */
const withLuhn = (digits: string) => [...'0123456789'].map(last => digits + last).find(passesLuhn)!

/** Numbers that card brands give to those who test. */
const BRANDED = {
  Visa: '4242424242424242',
  'Visa of 13': '4222222222222',
  Mastercard: '5555555555554444',
  'Mastercard of the 2 series': '2223003122003222',
  'American Express': '378282246310005',
  Discover: '6011111111111117',
  Diners: '30569309025904',
  JCB: '3530111333300000',
  UnionPay: '6200000000000005',
  Maestro: '6759649826438453',
  Mir: '2200000000000004',
  Troy: withLuhn('979200000000000'),
}
const inGroups = (digits: string, separator: string) => digits.length === 15 ? [digits.slice(0, 4), digits.slice(4, 10), digits.slice(10)].join(separator) : digits.length === 14 ? [digits.slice(0, 4), digits.slice(4, 10), digits.slice(10)].join(separator) : digits.match(/.{1,4}/g)!.join(separator)

t.test('test numbers are what they are for', async t => {
  for (const [brand, number] of Object.entries(BRANDED)) t.ok(passesLuhn(number), brand)
})

t.test('attack: a card number anywhere in a body is refused, and an event', async t => {
  for (const url of ['/usual', '/payments']) {
    await t.test(url, async t => {
      const { seen, recorded, log, send } = await build(t)
      for (const [brand, number] of Object.entries(BRANDED)) {
        const written = [
          number, ` ${number} `, `My card is ${number}.`, `card:${number};`, `"${number}"`, `(${number})`, `pan=${number}&x`, `a\n${number}\nb`, `${number} 12/30 987`,
          number.replace(/\d/g, digit => String.fromCharCode(0xff10 + Number(digit))), number.replace(/\d/g, digit => String.fromCharCode(0x0660 + Number(digit))), number.replace(/\d/g, digit => String.fromCodePoint(0x1d7d8 + Number(digit))), number.replace(/\d/g, digit => String.fromCharCode(0x0966 + Number(digit))),
          `${number.slice(0, 5)}\u200b${number.slice(5)}`, `${number.slice(0, 4)}\u00ad${number.slice(4)}`, `<b>${number.slice(0, 6)}</b>${number.slice(6)}`, `&#${number.charCodeAt(0)};${number.slice(1)}`, `&#x3${number[0]};${number.slice(1)}`,
          `&#0000000000${number.charCodeAt(0)};${number.slice(1)}`, `&#x0000000003${number[0]};${number.slice(1)}`, `${number.slice(0, 5)}&shy;${number.slice(5)}`, `${number.slice(0, 5)}\ufe0f${number.slice(5)}`, `${number.slice(0, 5)}\u3164${number.slice(5)}`,
          ...number.length === 13 ? [] : [' ', '-', '.', '\u00a0', '\u2011', '\u2009', '/', ' - '.slice(1), ' - ', '&nbsp;', '&ndash;'].map(separator => inGroups(number, separator)),
        ]
        for (const text of written) {
          for (const body of [{ note: text }, text, ['a', text], { note: { deep: [{ deeper: text }] } }, { [text]: 1 }, { note: { deep: [{ [text]: 'x' }] } }]) {
            const { status, code } = await send(url, body)
            if (status !== 400 || code !== 'FST_BASTION_CARDS_REFUSED') t.fail(`${brand} ${JSON.stringify(body)}: ${status} ${code}`)
          }
        }
        if (Number.isSafeInteger(Number(number))) t.equal((await send(url, { note: Number(number) })).code, 'FST_BASTION_CARDS_REFUSED', 'as a number')
        t.equal((await send(url, `note=${number}`, 'application/x-www-form-urlencoded')).code, 'FST_BASTION_CARDS_REFUSED', 'in a form')
      }
      t.strictSame(seen, [], 'no handler saw it')
      t.ok(recorded.length > 500)
      for (const { type, route, details } of recorded) if (type !== 'card_refused' || route !== url || details.kind !== 'number') t.fail(type)
      t.same(recorded.filter(({ details }) => /\d/.test(String(details.place))), [], 'the place is told, without what could be a number in it')
      t.ok(recorded.some(({ details }) => details.place === '/note/deep/*/deeper'))
      for (const number of Object.values(BRANDED)) t.notOk(log.join('\n').includes(number) || JSON.stringify(recorded).includes(number), 'it is in no log')
    })
  }

  await t.test('while without the concern they come in', async t => {
    const { seen, send } = await build(t, { without: true })
    for (const number of Object.values(BRANDED)) t.equal((await send('/usual', { note: number })).status, 200)
    t.equal(seen.length, Object.keys(BRANDED).length)
    const answer = await send('/usual', { [BRANDED.Visa]: 1 })
    t.ok(answer.text.includes(BRANDED.Visa), 'and an unknown field is named in the answer')
  })
})

t.test('attack: a security code is refused by its name, whatever its value', async t => {
  const { seen, recorded, send } = await build(t)
  const names = ['cvv', 'CVV', 'cvv2', 'CVC', 'cvc2', 'cvn', 'c_v_v', 'cVv', 'card_cvv', 'cardCvc', 'cvv-code', 'cvcNumber', 'securityCode', 'security_code', 'card-security-code', 'cardVerificationValue', 'verification code', 'cardCode', 'csc', 'ｃｖｖ', 'cv\u200bv', 'billing.card.cvv']
  for (const name of names) {
    for (const value of ['123', 123, '', null, { a: 1 }]) {
      for (const body of [{ [name]: value }, { note: { deep: [{ [name]: value }] } }, { card: { [name]: value } }]) {
        const { status, code } = await send('/usual', body)
        if (status !== 400 || code !== 'FST_BASTION_CARDS_REFUSED') t.fail(`${JSON.stringify(body)}: ${status} ${code}`)
      }
    }
  }
  t.same([...new Set(recorded.map(({ details }) => details.kind))], ['security-code'])
  for (const name of ['code', 'note2', 'security', 'cv', 'cvs', 'discvver', 'verification', 'recoveryCode', 'mfaCode']) t.equal((await send('/usual', { [name]: '123' })).code, 'FST_BASTION_VALIDATION_REFUSED', name)
  t.strictSame(seen, [])
})

t.test('what only looks like a card number comes in, where a route is not about payments', async t => {
  const { seen, send } = await build(t)
  const passing = [
    '4242424242424241', '1234567890123456', '1700000000000', '1700000000000000', '+4915112345678901', '+424242424242424242'.slice(0, 16), '00424242424242', '9780306406157', '2024-02-29T10:00:00.123456Z', '424242424242', '42424242424242424242',
    'a4242424242424242', '4242424242424242a', 'id_4242424242424242', 'x-4242424242424242_1', '8f3b1c1e-4242-4242-4242-424242424242', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MjQyNDI0MjQyNDI0MjQyIn0.x',
    '42 42 42 42 42 42 42 42', '4242\n4242\n4242\n42', '1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14', '3.14159265358979323846', withLuhn('123456789012345'), withLuhn('700000000000000'), withLuhn('80000000000000'), '0000000000000000', '192.168.100.100 192.168.100.101',
  ]
  for (const text of passing) t.equal((await send('/usual', { note: text })).status, 200, text)
  for (const number of [1700000000000, 424242, 4242424242424241, 1e15 / 3, -1, 0]) t.equal((await send('/usual', { note: number })).status, 200, String(number))
  t.equal(seen.length, passing.length + 6)

  const numbers = Array.from({ length: 20_000 }, (_none, i) => String((BigInt(i) * 7_919_717_921_323n) % 10_000_000_000_000_000n).padStart(16, '0'))
  const taken = numbers.filter(number => findCard(number) === null).length
  t.ok(taken > 18_500, `of ids of 16 digits ${(100 - taken / 200).toFixed(1)} of a hundred would be refused: such a route says cards: false`)
})

t.test('strict: whatever 13 to 19 digits have the check digit of a card', async t => {
  const { seen, send } = await build(t)
  for (const digits of ['123456789012', '70000000000000', '9999999999999999', '000000000000000001']) {
    const number = withLuhn(digits)
    for (const text of [number, [...number].join(' '), [...number].join('--'), `id_${number}x`, `+${number}`]) {
      t.equal((await send('/payments', { note: text })).code, 'FST_BASTION_CARDS_REFUSED', text)
      t.equal((await send('/usual', { note: text })).status, 200)
    }
  }
  seen.length = 0
  for (const text of ['00004242424242424242', '42 42 42 42 42 42 42 42', '4-2-4-2-4-2-4-2-4-2-4-2-4-2-4-2', '424242_424242_4242', `${'9'.repeat(5)}4242424242424242${'9'.repeat(20)}`]) t.equal((await send('/payments', { note: text })).code, 'FST_BASTION_CARDS_REFUSED', text)
  t.strictSame(seen, [])
  for (const text of ['tok_visa', 'tok_1N3T00LkdIwHu7ixt44h1F8k', '4242424242424241', '1234', '2024-02-29']) t.equal((await send('/payments', { note: text })).status, 200, text)
})

t.test('strict: what is paid for has an id, in whose digits hardly ever a card number is seen', async t => {
  const ids = Array.from({ length: 20_000 }, (_none, i) => createHash('sha256').update(`${seed} ${i}`).digest('hex'))
  const refused = (shape: (hex: string) => string) => ids.filter(id => findCard(shape(id), { strict: true }) !== null).length / ids.length
  const uuid = (hex: string) => hex.slice(0, 32).replace(/^(.{8})(.{4}).(.{3}).(.{3})/, '$1-$2-4$3-a$4-')
  t.equal(refused(uuid), 0, 'of UUIDs none')
  t.equal(findCard('42424242-4242-4242-8242-424242424242', { strict: true }), 'number', 'unless it has no letter')
  t.ok(refused(hex => `o-${hex.slice(0, 16)}`) < 0.003, 'of 16 hexadecimal digits')
})

t.test('false: a route whose ids look like card numbers takes them', async t => {
  const { app, seen, send } = await build(t)
  t.equal((await send('/free', { note: BRANDED.Visa })).status, 200)
  t.same(seen, [{ note: BRANDED.Visa }])
  const rules = Object.fromEntries(app.plan.routes.map(({ url, controls }) => [url, controls.cards]))
  t.match(rules, { '/usual': 'cards', '/payments': 'strict', '/free': false }, 'and the plan says so')
})

t.test('attack: what is no JSON, or is too much, is refused without a word of it in the log', async t => {
  const { app, log, seen } = await build(t)
  const ask = async (payload: string) => (await app.inject({ method: 'POST', url: '/usual', payload, headers: { 'content-type': 'application/json' } })).statusCode
  t.equal(await ask(`{"note":"${BRANDED.Visa}"`), 400)
  t.equal(await ask(`{"note":${BRANDED.Visa}x}`), 400)
  t.equal(await ask(`{"note":1,"note":"${BRANDED.Visa}"}`), 400)
  t.equal(await ask('{"note":4242424242424242424}'), 400, 'a number that would be read as another one')
  t.equal(await ask(JSON.stringify({ note: BRANDED.Visa, more: 'x'.repeat(300_000) })), 413)
  t.notOk(log.join('\n').includes('42424242'))
  t.strictSame(seen, [])
})

t.test('generated cards are found, and their last four digits are all that is told (fast-check)', async t => {
  const digits = (length: number) => fc.array(fc.constantFrom(...'0123456789'), { minLength: length, maxLength: length }).map(parts => parts.join(''))
  const branded = fc.constantFrom<[string, number]>(['4', 16], ['51', 16], ['2221', 16], ['2720', 16], ['34', 15], ['6011', 16], ['62', 19], ['36', 14], ['3528', 16], ['50', 18], ['4', 19]).chain(([first, length]) => digits(length - 1 - first.length).map(rest => withLuhn(first + rest)))
  const around = fc.constantFrom('', ' ', 'x ', '\n', '"', '漢 ', '<p>', '. ')
  fc.assert(fc.property(branded, around, around, (number, before, after) => {
    const text = `${before}${number}${after.split('').reverse().join('')}`
    return findCard(text) === 'number' && findCard({ a: [{ [text]: 1 }] }, { strict: true }) === 'number' && findCard(number.slice(0, -1) + String((Number(number.at(-1)) + 1) % 10)) === null && lastFour(number) === number.slice(-4)
  }), bounded)
  fc.assert(fc.property(fc.integer({ min: 12, max: 18 }).chain(digits), fc.constantFrom('', ' ', '-', '.', '\u2003', '\u200b', '\u00ad', ' - '), (rest, separator) => findCard([...withLuhn(rest)].join(separator), { strict: true }) === 'number'), bounded)
  fc.assert(fc.property(fc.jsonValue({ maxDepth: 6 }), value => ['number', 'security-code', null].includes(findCard(value, { strict: true }))), bounded)
  t.pass()
})

t.test('lastFour is for card numbers only', async t => {
  t.equal(lastFour('4242 4242 4242 4242'), '4242')
  t.equal(lastFour('3782-822463-10005'), '0005')
  for (const text of ['', '4242', '4242424242424241', '424242424242424242424242', 'x4242424242424242', '4242 4242 4242 4242 x', '٤٢٤٢٤٢٤٢٤٢٤٢٤٢٤٢']) t.equal(lastFour(text), null, text)
})

t.test('no text makes the search slow (CWE-1333)', async t => {
  for (const piece of ['4', '42 ', '4242 ', '4--', '4242-4242-', 'a4', '<', '&#', '&#52;', '<b>4</b>', '\u0664', '4\u200b', ' ', '9'.repeat(19) + 'x ']) {
    const text = piece.repeat(100_000 / piece.length)
    for (const strict of [false, true]) {
      const start = process.cpuUsage()
      findCard(text, { strict })
      const ms = process.cpuUsage(start).user / 1000
      // What looks again at each place takes minutes.
      t.ok(ms < 3000, `${JSON.stringify(piece)} ${strict}: ${ms.toFixed(0)} ms`)
    }
  }
})

t.test('misconfiguration stops boot', async t => {
  for (const rule of [true, 'on', 'Strict', null, {}]) {
    const { app } = await build(t)
    app.post('/wrong', { schema: { body: closed({}) }, config: { cards: rule } as never }, async () => ({}))
    await t.rejects(async () => { await app.ready() }, { message: /POST \/wrong: .*cards: write 'cards', 'strict' or false/ }, String(rule))
  }
})
