/** The attack lab: who may use it, what it tells, and that nothing of it is left running. */
import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { attacks } from '../../demo/lab/range.js'
import { IDLE_MS } from '../../demo/lab/lab.js'
import { build } from './portal.js'

t.setTimeout(300_000)
const NAME = 'read-order-of-another'

/** Processes of a range that this one has started. */
function servers (): string[] {
  return readdirSync('/proc').filter(name => /^\d+$/.test(name)).flatMap(pid => {
    try {
      const parent = /^\d+ \(.*\) \S (\d+)/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))![1]
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      return Number(parent) === process.pid && command.includes('demo/lab/parent.ts') ? [command.split('\0').at(-2)!] : []
    } catch {
      return [] // it has ended meanwhile
    }
  }).sort()
}

async function until (holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise(resolve => { setTimeout(resolve, 50) })
}

const { app, call, token, newcomer, pass } = await build(t)
const admin = await token('admin')

t.test('admins alone see and run attacks, and only those that there are', async t => {
  const { status, body } = await call('GET', '/lab/attacks', { token: admin })
  t.equal(status, 200)
  t.same(body.items.map(({ name }: { name: string }) => name).sort(), [...(await attacks()).keys()])
  t.match(body.items.find(({ name }: { name: string }) => name === NAME), { risk: 'API1', riskName: 'Broken object level authorization', cwe: 639, concern: 'access', story: /\w/, defence: /\w/ })
  for (const who of [await token('mona'), await token('max'), (await newcomer()).token]) {
    t.match(await call('GET', '/lab/attacks', { token: who }), { status: 403, body: { code: 'FST_BASTION_ACCESS_FORBIDDEN' } })
    t.equal((await call('POST', `/lab/attacks/${NAME}`, { token: who })).status, 403)
  }
  t.equal((await call('GET', '/lab/attacks')).status, 401)
  t.equal((await call('POST', `/lab/attacks/${NAME}`)).status, 401)
  t.equal((await call('POST', '/lab/attacks/no-such-attack', { token: admin })).status, 404)
  t.equal((await call('POST', '/lab/attacks/..%2Frange', { token: admin })).status, 400)
  t.equal((await call('POST', `/lab/attacks/${NAME}`, { token: admin, body: { side: 'portal' } })).status, 400)
  t.same(servers(), [], 'none of it has started anything')
})

t.test('in production there is no lab', async t => {
  const portal = await build(t, { NODE_ENV: 'production' })
  const token = await portal.token('admin')
  t.equal((await portal.call('GET', '/lab/attacks', { token })).status, 404)
  t.equal((await portal.call('POST', `/lab/attacks/${NAME}`, { token })).status, 404)
})

t.test('a run tells what both sides were asked and answered; two at once run one after the other, on the same servers', async t => {
  const running = [NAME, NAME].map(name => call('POST', `/lab/attacks/${name}`, { token: admin }))
  await until(() => servers().length === 2)
  pass(IDLE_MS)
  const [one, two] = await Promise.all(running)
  for (const { status, body } of [one!, two!]) {
    t.equal(status, 200)
    t.match(body, { name: NAME, shown: true, twin: { verdict: 'succeeded', evidence: /\w/ }, portal: { verdict: 'refused', evidence: /\w/ } })
    for (const side of ['twin', 'portal']) {
      const { exchanges, decisive } = body[side]
      t.match(exchanges[decisive], { request: /^GET \/orders\/\S+ HTTP\/1\.1\nhost: localhost:\d+\n[^]*authorization: Bearer /, response: side === 'twin' ? /^HTTP\/1\.1 200 OK\n[^]*\n\n\{/ : /^HTTP\/1\.1 404 Not Found\n[^]*\n\n\{/ })
    }
  }
  const port = ({ body }: typeof one & object) => /host: (localhost:\d+)/.exec(body.portal.exchanges[0].request)![1]
  t.equal(port(one!), port(two!), 'in use they are not idle')
  t.same(servers(), ['demo/server.ts', 'demo/vulnerable/server.ts'])
})

t.test('the servers end when nobody has used them for five minutes', async () => {
  pass(IDLE_MS)
  await until(() => servers().length === 0)
})

// The last one.
t.test('they end with the portal, while they start too', async t => {
  const starting = call('POST', `/lab/attacks/${NAME}`, { token: await token('admin') })
  await until(() => servers().length === 2)
  await app.close()
  t.same(servers(), [])
  t.match(await starting, { status: 409, body: { code: 'FST_PORTAL_LAB_BUSY' } })
})
