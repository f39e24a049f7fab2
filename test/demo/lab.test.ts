/** The attack lab: who may use it, what it tells, that nothing of the developer's reaches it, and that nothing of it is left. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { search, tail } from '../../demo/lab/backup.js'
import { attacks, openRange } from '../../demo/lab/range.js'
import { IDLE_MS } from '../../demo/lab/lab.js'
import { build } from './portal.js'

t.setTimeout(300_000)
const NAME = 'read-order-of-another'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const TSX = import.meta.resolve('tsx')

interface Server { pid: number, program: string }

/** Processes of a range that a process has started, this one unless told otherwise. */
function startedBy (starter: number): Server[] {
  return readdirSync('/proc').filter(name => /^\d+$/.test(name)).flatMap(pid => {
    try {
      const parent = /^\d+ \(.*\) \S (\d+)/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))![1]
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      return Number(parent) === starter && command.includes('demo/lab/parent.ts') ? [{ pid: Number(pid), program: command.split('\0').at(-2)!.replace(ROOT, '') }] : []
    } catch {
      return [] // it has ended meanwhile
    }
  })
}
const servers = () => startedBy(process.pid).map(({ program }) => program).sort()

function isRunning (pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
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

t.test('a run tells what both sides were asked and answered; two at once run one after the other, on the same servers, whatever the developer has set', async t => {
  const before = process.cwd()
  process.chdir(t.testdir({ '.env': 'DATABASE_URL=postgres://nobody:nothing@127.0.0.1:1/nothing\nVAULT_ADDR=http://127.0.0.1:1\nHOST=192.0.2.1\n' }))
  process.env.DATABASE_URL = 'postgres://nobody:nothing@127.0.0.1:1/nothing'
  t.teardown(() => {
    process.chdir(before)
    delete process.env.DATABASE_URL
  })
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
  for (const { pid, program } of startedBy(process.pid)) {
    const folder = readlinkSync(`/proc/${pid}/cwd`)
    t.match(folder, new RegExp(`^${tmpdir()}/range-${process.pid}-(twin|portal)-\\w+$`), `${program} runs where no \`.env\` of the developer lies`)
    t.same(readdirSync(folder), ['data'])
    const names = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').map(line => line.split('=')[0]!).filter(name => name !== '')
    t.notOk(names.includes('DATABASE_URL'), `${program} has no variable of the developer`)
  }
})

t.test('the servers end when nobody has used them for five minutes', async () => {
  pass(IDLE_MS)
  await until(() => servers().length === 0)
})

t.test('nothing is left of a range whose process is killed, while it starts too: neither its servers nor, after the next one, its folders', async t => {
  const starter = spawn(process.execPath, ['--import', TSX, join(ROOT, 'demo/lab/command.ts'), NAME], { stdio: 'ignore' })
  await until(() => startedBy(starter.pid!).length === 2)
  const started = startedBy(starter.pid!)
  starter.kill('SIGKILL')
  await once(starter, 'close')
  t.teardown(() => { for (const { pid } of started) if (isRunning(pid)) process.kill(pid, 'SIGKILL') })
  await until(() => !started.some(({ pid }) => isRunning(pid)))
  const ofRanges = () => readdirSync(tmpdir()).filter(name => name.startsWith('range-'))
  const left = ofRanges().filter(name => name.startsWith(`range-${starter.pid}-`))
  t.equal(left.length, 2)
  const other = join(tmpdir(), `range-${process.pid}-twin-abcdef`)
  const unrelated = t.testdir({ name: '' })
  mkdirSync(other)
  writeFileSync(join(other, 'data'), unrelated)
  await t.rejects(openRange(AbortSignal.abort()), /did not start/)
  t.same(ofRanges().filter(name => left.includes(name)), [])
  t.ok(existsSync(other), 'what belongs to a process that runs is left alone')
})

t.test('a backup is searched piece by piece: what lies across two is found once, and others have their turn meanwhile', async t => {
  const PIECE = 1024 * 1024
  const folder = t.testdir({ inner: { file: `${'x'.repeat(PIECE - 3)}canary-1 ${'x'.repeat(3 * PIECE)}canary-2`, empty: '' } })
  const log = tail()
  log.add(`${'y'.repeat(PIECE - 3)}canary-3\n`)
  let turns = 0
  const timer = setInterval(() => { turns++ }, 0)
  const found = await search(folder, log, /canary-(\d)/)
  clearInterval(timer)
  t.same(found, [['canary-1', '1'], ['canary-2', '2'], ['canary-3', '3']])
  t.ok(turns > 0, 'the event loop turns')
})

t.test('of a log the end is kept, however long it gets', async t => {
  const log = tail(1000)
  for (let i = 0; i < 10_000; i++) log.add(`line ${i}\n`)
  t.ok(log.text().length >= 1000 && log.text().length <= 2000)
  t.ok(log.text().endsWith('line 9998\nline 9999\n'))
})

// The last one.
t.test('they end with the portal, while they start too', async t => {
  const starting = call('POST', `/lab/attacks/${NAME}`, { token: await token('admin') })
  await until(() => servers().length === 2)
  await app.close()
  t.same(servers(), [])
  t.match(await starting, { status: 409, body: { code: 'FST_PORTAL_LAB_BUSY' } })
})
