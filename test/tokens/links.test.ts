/** Links: signed, timed, for one purpose, once. */
import { randomBytes } from 'node:crypto'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import errors from '../../plugins/errors.js'
import events from '../../plugins/events.js'
import identity from '../../plugins/identity.js'
import plan from '../../plugins/plan/index.js'
import state, { type StateOptions } from '../../plugins/state/index.js'
import tokens, { LinkInvalid, type Links } from '../../plugins/tokens/index.js'
import { ownRedis } from '../services.js'

interface Built { links: Links, clock: { ms: number } }

async function build (t: Test, refresh: Buffer | Buffer[] = randomBytes(32), stateOptions: StateOptions = {}): Promise<Built> {
  const clock = { ms: 1_700_000_000_000 }
  const app = Fastify()
  t.teardown(() => app.close())
  for (const plugin of [plan, events, errors]) await app.register(plugin)
  await app.register(state, { now: () => clock.ms, ...stateOptions })
  await app.register(identity)
  await app.register(tokens, { issuer: 'https://a.test', audience: 'https://a.test', keys: { access: randomBytes(32), refresh }, now: () => clock.ms })
  return { links: app.tokens.links, clock }
}

const refused = { code: 'FST_BASTION_TOKENS_LINK_INVALID', statusCode: 400 }

t.test('a link is good until its time is over, and once [ASVS 6.6.1]', async t => {
  const { links, clock } = await build(t)
  const text = links.issue({ purpose: 'reset', subject: 'ada', lifetime: 60 })
  t.match(text, /^[\w-]+\.[\w-]{43}$/, 'fit for a URL')
  clock.ms += 59_999
  t.equal(await links.read('reset', text), 'ada')
  t.equal(await links.read('reset', text), 'ada', 'to read it spends nothing')
  t.equal(await links.redeem('reset', text), 'ada')
  await t.rejects(links.redeem('reset', text), refused)
  const late = links.issue({ purpose: 'reset', subject: 'ada', lifetime: 60 })
  clock.ms += 60_000
  await t.rejects(links.redeem('reset', late), refused)
  await t.rejects(links.read('reset', late), refused)
})

t.test('of two hundred at once one spends it', async t => {
  const { links } = await build(t)
  const text = links.issue({ purpose: 'reset', subject: 'ada' })
  const outcomes = await Promise.allSettled(Array.from({ length: 200 }, () => links.redeem('reset', text)))
  t.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1)
})

t.test('negative control: who reads it, works, and only then remembers it, spends it twice', async t => {
  const { links } = await build(t)
  const used = new Set<string>()
  const text = links.issue({ purpose: 'reset', subject: 'ada' })
  const redeem = async () => {
    if (used.has(text)) throw new LinkInvalid()
    await links.read('reset', text)
    used.add(text)
  }
  const outcomes = await Promise.allSettled([redeem(), redeem()])
  t.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 2)
})

t.test('a link for one purpose is none for another', async t => {
  const { links } = await build(t)
  const text = links.issue({ purpose: 'confirm', subject: 'ada' })
  await t.rejects(links.redeem('reset', text), refused)
  t.equal(await links.redeem('confirm', text), 'ada', 'which did not spend it')
})

t.test('a link ends with what it is bound to', async t => {
  const { links } = await build(t)
  const text = links.issue({ purpose: 'reset', subject: 'ada', bound: 'hash 1' })
  await t.rejects(links.redeem('reset', text, () => 'hash 2'), refused)
  await t.rejects(links.redeem('reset', text, () => null), refused, 'the subject is gone')
  await t.rejects(links.redeem('reset', text), refused, 'what is bound must be asked')
  const asked: string[] = []
  t.equal(await links.redeem('reset', text, async subject => {
    asked.push(subject)
    return 'hash 1'
  }), 'ada')
  t.strictSame(asked, ['ada'])
  const free = links.issue({ purpose: 'reset', subject: 'ada' })
  await t.rejects(links.redeem('reset', free, () => 'hash 1'), refused, 'and a link that is bound to nothing does not pass for one that is')
})

t.test('a link that is bound to one sign-in completes that one, and none before or after it, of the same subject [ASVS 6.6.2]', async t => {
  const { links } = await build(t)
  const requests = ['the first request', 'the second request', 'the third request']
  const sent = requests.map(bound => links.issue({ purpose: 'sign-in', subject: 'ada', lifetime: 600, bound }))
  for (const [i, text] of sent.entries()) {
    for (const other of requests) if (other !== requests[i]) await t.rejects(links.redeem('sign-in', text, () => other), refused, `that of ${requests[i]!} for ${other}`)
  }
  for (const [i, text] of sent.entries()) t.equal(await links.redeem('sign-in', text, () => requests[i]!), 'ada')

  const free = () => links.issue({ purpose: 'sign-in', subject: 'ada', lifetime: 600 })
  for (const request of requests) t.equal(await links.redeem('sign-in', free()), 'ada', `negative control: one that is bound to nothing completes ${request} too`)
})

t.test('every change of a link is refused, and asks for nobody', async t => {
  const { links } = await build(t)
  const text = links.issue({ purpose: 'reset', subject: 'ada', bound: 'x' })
  const [body, signature] = text.split('.') as [string, string]
  const boundOf = () => t.fail('a forged link was looked up')
  const forged = Buffer.from(Buffer.from(body, 'base64url').toString().replace('ada', 'bob')).toString('base64url')
  for (const wrong of [`${forged}.${signature}`, `${body}.${signature.slice(1)}A`, `${body}.`, `.${signature}`, body, '', `${text}.x`, ` ${text}`, 'a'.repeat(2000), `${body}.${'A'.repeat(43)}`]) {
    await t.rejects(links.redeem('reset', wrong, boundOf as never), refused)
  }
  for (const wrong of [null, undefined, 7, {}, [text]]) await t.rejects(links.redeem('reset', wrong as never), refused)
  const { links: others } = await build(t)
  await t.rejects(others.redeem('reset', text), refused, 'nor is one of another service good')
})

t.test('keys rotate: the first signs, all verify', async t => {
  const [one, two] = [randomBytes(32), randomBytes(32)]
  const before = await build(t, one)
  const during = await build(t, [two, one])
  const after = await build(t, two)
  const old = before.links.issue({ purpose: 'p', subject: 'ada', bound: 'x' })
  const fresh = during.links.issue({ purpose: 'p', subject: 'ada', bound: 'x' })
  t.equal(await during.links.read('p', old, () => 'x'), 'ada')
  t.equal(await after.links.read('p', fresh, () => 'x'), 'ada')
  await t.rejects(after.links.read('p', old, () => 'x'), refused)
})

t.test('what was spent at one process is spent at all, and nothing is spent while Redis is away', async t => {
  const server = await ownRedis(t)
  if (server === null) return
  const key = randomBytes(32)
  const shared = { redis: server.url, secret: 'a secret of at least thirty-two bytes', now: undefined, deadline: 1000 }
  const [one, two] = [await build(t, key, shared), await build(t, key, shared)]
  const text = one.links.issue({ purpose: 'p', subject: 'ada' })
  const outcomes = await Promise.allSettled(Array.from({ length: 100 }, (_redeem, i) => (i % 2 === 0 ? one : two).links.redeem('p', text)))
  t.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1)
  const another = one.links.issue({ purpose: 'p', subject: 'ada' })
  await server.stop()
  await t.rejects(two.links.redeem('p', another), { code: 'FST_BASTION_STATE_UNAVAILABLE', statusCode: 503 })
})

t.test('a lifetime or a subject that cannot be is a mistake of the service', async t => {
  const { links } = await build(t)
  for (const lifetime of [0, -1, NaN]) t.throws(() => links.issue({ purpose: 'p', subject: 's', lifetime }), TypeError)
  t.throws(() => links.issue({ purpose: 'p', subject: 's'.repeat(2000) }), TypeError)
})
