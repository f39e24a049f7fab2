/** Four processes, one Redis and one PostgreSQL: each code passes once, wrong ones are counted by all, and without state nobody passes. */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { Agent, get } from 'node:http'
import { fileURLToPath } from 'node:url'
import { Secret, TOTP } from 'otpauth'
import pg from 'pg'
import t, { type Test } from 'tap'
import { MFA_TABLES } from '../../plugins/mfa/index.js'
import { TYPESCRIPT } from '../fixtures/typescript.js'
import { ownRedis, postgres } from '../services.js'
import { STEP } from './build.js'

const SERVICE = fileURLToPath(new URL('../fixtures/mfa-service.ts', import.meta.url))
const PROCESSES = 4

interface Answer { status: number, body: any, headers: Record<string, unknown> }
type Call = (what: string, query?: Record<string, string>) => Promise<Answer>

/** Asks one of the processes after the other. */
async function processes (t: Test, env: Record<string, string>): Promise<Call> {
  const agent = new Agent({ keepAlive: true, maxSockets: 16 })
  t.teardown(() => agent.destroy())
  const ports = await Promise.all(Array.from({ length: PROCESSES }, async () => {
    const child = spawn(process.execPath, [...TYPESCRIPT, SERVICE], { stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, ...env } })
    t.teardown(async () => {
      child.stdin.end()
      if (child.exitCode === null) await once(child, 'exit')
    })
    return Number((await once(child.stdout.setEncoding('utf8'), 'data'))[0])
  }))
  let next = 0
  return (what, query = {}) => new Promise((resolve, reject) => {
    get({ agent, host: '127.0.0.1', port: ports[next++ % PROCESSES], path: `/${what}?${new URLSearchParams(query)}` }, answer => {
      let text = ''
      answer.setEncoding('utf8').on('data', chunk => { text += chunk }).on('error', reject)
        .on('end', () => resolve({ status: answer.statusCode!, body: text === '' ? null : JSON.parse(text), headers: answer.headers }))
    }).on('error', reject)
  })
}

t.test('the second factor of a service of four processes', async t => {
  const redis = await ownRedis(t)
  const database = await postgres(t)
  if (redis === null || database === null) return
  const client = new pg.Client({ connectionString: database.url })
  await client.connect()
  await client.query(MFA_TABLES)
  await client.end()

  const call = await processes(t, { REDIS_URL: redis.url, DATABASE_URL: database.url, KEY: randomBytes(32).toString('hex') })
  const { body: { secret } } = await call('enroll')
  const codeOf = (steps: number) => new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: Date.now() + steps * STEP })
  const count = (answers: Answer[], status: number) => answers.filter(answer => answer.status === status).length
  const confirmations = await Promise.all(Array.from({ length: 40 }, (_none, i) => call('confirm', { code: codeOf(i % 2 - 1) })))
  t.equal(count(confirmations, 200), 1, 'of forty confirmations one gives recovery codes')
  const recoveryCodes: string[] = confirmations.find(({ status }) => status === 200)!.body

  await t.test('of two hundred parallel uses of one code one passes, and none of them counts', async t => {
    for (const code of [codeOf(1), recoveryCodes[0]!]) {
      const answers = await Promise.all(Array.from({ length: 200 }, () => call('verify', { code })))
      t.equal(count(answers, 200), 1)
      t.equal(count(answers, 401), 199)
    }
  })

  await t.test('of parallel uses of one sign-in with all good codes one signs in', async t => {
    const { body: { token } } = await call('challenge')
    const answers = await Promise.all(recoveryCodes.slice(1, 6).map(code => call('redeem', { token, code })))
    t.equal(count(answers, 200), 1)
    t.equal(count(answers, 401), 4)
  })

  await t.test('of five hundred parallel guesses five are answered, by all processes together', async t => {
    const answers = await Promise.all(Array.from({ length: 500 }, () => call('verify', { code: 'AAAA-AAAA-AAAA-AAAA-AAAA-AAAA' })))
    t.ok(count(answers, 401) <= 5, `${count(answers, 401)} were answered`)
    t.equal(count(answers, 401) + count(answers, 429), 500)
    while ((await call('verify', { code: 'nonsense' })).status === 401);
    for (let i = 0; i < PROCESSES; i++) {
      const { status, headers } = await call('verify', { code: recoveryCodes[6]! })
      t.equal(status, 429, 'the right code too, everywhere')
      t.ok(Number(headers['retry-after']) > 800)
    }
    await call('unlock')
    t.equal((await call('verify', { code: recoveryCodes[6]! })).status, 200)
  })

  await t.test('while Redis is away nobody passes, and when it is back what was used is used', async t => {
    const { body: { token } } = await call('challenge')
    await redis.stop()
    const calls = [['verify', { code: recoveryCodes[7]! }], ['redeem', { token, code: recoveryCodes[7]! }], ['challenge'], ['demand'], ['enroll'], ['confirm', { code: codeOf(0) }], ['unlock']] as const
    for (const [what, query] of calls) {
      const { status, body, headers } = await call(what, query)
      t.equal(status, 503, what)
      t.equal(body.code, 'FST_BASTION_STATE_UNAVAILABLE')
      t.ok(headers['retry-after'])
      t.notOk('mfaToken' in body)
    }
    await redis.resume()
    for (let good = 0; good < 2 * PROCESSES;) good = (await call('challenge')).status === 503 ? 0 : good + 1
    t.equal((await call('verify', { code: recoveryCodes[0]! })).status, 401)
    t.equal((await call('redeem', { token, code: recoveryCodes[7]! })).status, 200, 'no code was lost')
  })
})
