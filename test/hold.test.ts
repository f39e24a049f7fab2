/** Refusals are held a moment where there are many: who asks without pause asks seldom, and who was refused now and then waits for nothing. */
import Fastify, { type FastifyInstance, type FastifyRequest, type InjectOptions } from 'fastify'
import t, { type Test } from 'tap'
import { makeHold, makeHoldOfMany } from '../plugins/hold.js'
import bastion from '../plugins/index.js'
import { server } from '../plugins/server.js'
import { closed } from '../schemas/closed.js'

const refusal = new Error('refused')
const from = (ip: string) => ({ ip }) as FastifyRequest
const base64url = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

t.test('a refusal is held a moment, and no more than a thousand are', async t => {
  const hold = makeHold()
  const refusal = new Error('refused')
  const began = performance.now()
  const held = Array.from({ length: 1000 }, () => hold(refusal))
  t.equal(hold(refusal), refusal, 'at once')
  t.same(new Set(await Promise.all(held)), new Set([refusal]))
  t.ok(performance.now() - began >= 200)
  const left: number[] = []
  await Promise.all(Array.from({ length: 100 }, async () => {
    await hold(refusal)
    left.push(performance.now())
  }))
  t.ok(left.at(-1)! - left[0]! >= 50, 'what came together does not leave together')
  t.not(hold(refusal), refusal, 'there is room again')
})

t.test('of an address ten refusals in twenty milliseconds leave at once', t => {
  let time = 0
  const hold = makeHoldOfMany(() => time)
  const isHeld = (ip: string) => hold(refusal, from(ip)) instanceof Promise
  t.notOk(Array.from({ length: 10 }, () => isHeld('192.0.2.1')).includes(true))
  t.ok(isHeld('192.0.2.1'))
  t.notOk(isHeld('192.0.2.2'), 'another address does not wait for it')
  time = 19.9
  t.ok(isHeld('192.0.2.1'))
  time = 20
  t.notOk(isHeld('192.0.2.1'))
  t.end()
})

t.test('attack: from many addresses together no more leave at once than fifteen, and one of each', t => {
  const hold = makeHoldOfMany(() => 0)
  const addresses = Array.from({ length: 64 }, (_none, i) => `192.0.2.${i}`)
  const held = Array.from({ length: 5 }, () => addresses.filter(ip => hold(refusal, from(ip)) instanceof Promise).length)
  t.same(held, [0, 64, 64, 64, 64])
  const network = Array.from({ length: 64 }, (_none, i) => `2001:db8::${i}`).filter(ip => hold(refusal, from(ip)) instanceof Promise)
  t.equal(network.length, 63, 'a network of IPv6 is one address')
  t.end()
})

t.test('attack: of more addresses than are counted none is held for another one, and nothing grows', async t => {
  const hold = makeHoldOfMany(() => 0)
  const held = Array.from({ length: 1500 }, (_none, i) => hold(refusal, from(`198.51.${i >> 8}.${i & 255}`)))
  t.notOk(held.some(one => one instanceof Promise))
  t.ok(hold(refusal, from('198.51.0.0')) instanceof Promise, 'who is counted is still')
  t.notOk(hold(refusal, from('198.51.5.200')) instanceof Promise)
})

/** How many of forty requests in the same moment are held. */
function counting (t: Test, app: FastifyInstance) {
  const { now } = performance
  const wait = globalThis.setTimeout
  let held = 0
  let moment = 0
  globalThis.setTimeout = ((then: () => void, ms: number) => {
    if (ms >= 200 && ms <= 300) held++
    return wait(then, ms)
  }) as typeof setTimeout
  t.teardown(() => {
    performance.now = now
    globalThis.setTimeout = wait
  })
  return async (status: number, asked: InjectOptions) => {
    moment += 1000
    performance.now = () => moment
    held = 0
    const answers = await Promise.all(Array.from({ length: 40 }, async () => app.inject(asked)))
    t.same([...new Set(answers.map(({ statusCode }) => statusCode))], [status])
    return held
  }
}

t.test('attack: credentials that nobody could have been given are refused later, once there are many of them; to have none costs nobody anything', async t => {
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion, { tokens: { issuer: 'a', audience: 'a', keys: { access: Buffer.alloc(32, 1), refresh: Buffer.alloc(32, 2) } }, limits: { address: false } })
  app.get('/me', { config: { access: 'user', answers: 'raw' } }, async () => ({}))
  await app.ready()
  const heldOf = counting(t, app)
  const claims = base64url({ iss: 'a', aud: 'a', sub: 'eve', exp: 4e9 })
  for (const [name, authorization] of Object.entries({
    'no algorithm': `Bearer ${base64url({ alg: 'none', typ: 'at+jwt' })}.${claims}.`,
    'an unknown key': `Bearer ${base64url({ alg: 'HS256', typ: 'at+jwt', kid: 'unknown' })}.${claims}.AAAA`,
    'no token': 'Bearer %%%',
    oversize: `Bearer ${'A'.repeat(8000)}`,
  })) t.equal(await heldOf(401, { url: '/me', headers: { authorization } }), 30, name)
  t.equal(await heldOf(401, { url: '/me' }), 0)
})

t.test('attack: who is locked out, and goes on without pause, is told so later', async t => {
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion, {
    limits: { address: false },
    signIn: { accounts: { findByLogin: async () => null, findById: async () => null, savePassword: async () => {} }, perNameAndAddress: 1 },
  })
  app.post('/login', { config: { access: 'public', answers: 'raw' }, schema: { body: closed({}) } }, async request => app.signIn.withPassword('ada', 'wrong', request))
  await app.ready()
  const asked = { method: 'POST', url: '/login', payload: {} } as const
  t.equal((await app.inject(asked)).statusCode, 401)
  t.equal(await counting(t, app)(429, asked), 30)
})
