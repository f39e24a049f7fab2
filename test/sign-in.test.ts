/** Sign-in: the same for every name, locked when it is guessed, and never for nothing. */
import { createHash } from 'node:crypto'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import access from '../plugins/access/index.js'
import errors from '../plugins/errors.js'
import events, { type SecurityEvent } from '../plugins/events.js'
import identity from '../plugins/identity.js'
import passwords, { type HashEngine } from '../plugins/passwords/index.js'
import plan from '../plugins/plan/index.js'
import signIn, { type Account, type Accounts, type SignInOptions } from '../plugins/sign-in.js'
import state, { type StateOptions } from '../plugins/state/index.js'

const MINUTE = 60_000
const RIGHT = 'the right password'

interface Answer { status: number, code: string | undefined, retryAfter: number | undefined }
interface Built {
  app: FastifyInstance
  clock: { ms: number }
  recorded: SecurityEvent[]
  /** Hashes that were computed for sign-ins. */
  seen: { hashes: number, fails: number }
  table: Record<string, Account>
  tryIn: (login: string, password: string, address?: string, url?: string) => Promise<Answer>
  fail: (times: number, login: string, address?: string) => Promise<number[]>
}

const digest = (password: string) => createHash('sha256').update(password).digest('hex')

function account (id: string, more: Partial<Account> = {}): Account {
  return { id, passwordHash: `$test$2$${digest(RIGHT)}`, roles: ['user'], isActive: true, ...more }
}

async function build (t: Test, options: Partial<SignInOptions> = {}, more: { state?: StateOptions, engine?: Partial<HashEngine>, queue?: number, concurrency?: number } = {}): Promise<Built> {
  const clock = { ms: 1_700_000_000_000 }
  const recorded: SecurityEvent[] = []
  const seen = { hashes: 0, fails: 0 }
  const engine: HashEngine = {
    hash: async password => `$test$2$${digest(password)}`,
    async verify (hash, password) {
      seen.hashes += 1
      await new Promise(resolve => { setImmediate(resolve) })
      return hash.split('$').at(-1) === digest(password)
    },
    isOutdated: hash => hash.startsWith('$test$1$'),
    ...more.engine,
  }
  const table: Record<string, Account> = {
    ada: account('ada'), ben: account('ben'), ina: account('ina', { isActive: false }), old: account('old', { passwordHash: `$test$1$${digest(RIGHT)}` }), keyless: account('keyless', { passwordHash: null }),
  }
  const find = (login: string) => {
    const found = table[login.normalize('NFKC').toLowerCase().trim()]
    return found === undefined ? null : { ...found }
  }
  const accounts: Accounts = {
    async findByLogin (login) {
      if (seen.fails > 0) {
        seen.fails -= 1
        throw new Error('postgres://user:secret@db/ is away')
      }
      return find(login)
    },
    findById: async id => find(id),
    async savePassword (id, passwordHash, replaces) {
      if (table[id]!.passwordHash === replaces) table[id]!.passwordHash = passwordHash
    },
  }
  const app = Fastify({ trustProxy: ['127.0.0.1'] })
  t.teardown(() => app.close())
  await app.register(plan)
  await app.register(events)
  await app.register(errors)
  await app.register(state, { now: () => clock.ms, ...more.state })
  await app.register(identity)
  await app.register(access, {})
  await app.register(passwords, { engine, concurrency: more.concurrency ?? 128, queue: more.queue ?? 1000 })
  await app.register(signIn, { accounts, ...options })
  seen.hashes = 0
  app.events.listen(event => { recorded.push(event) })
  const config = { access: 'public' } as const
  app.post('/login', { config }, async request => {
    const { login, password } = request.body as Record<string, string>
    const { id } = await app.signIn.withPassword(login!, password!, request)
    return { id }
  })
  app.post('/confirm', { config }, async request => {
    const { login, password } = request.body as Record<string, string>
    const { id } = await app.signIn.confirmPassword(login!, login!, password!, request)
    return { id }
  })
  await app.ready()

  async function tryIn (login: string, password: string, address = '192.0.2.1', url = '/login'): Promise<Answer> {
    const answer = await app.inject({ method: 'POST', url, payload: { login, password }, remoteAddress: address })
    const { 'retry-after': retryAfter } = answer.headers
    return { status: answer.statusCode, code: answer.json().code, retryAfter: retryAfter === undefined ? undefined : Number(retryAfter) }
  }
  return {
    app,
    clock,
    recorded,
    seen,
    table,
    tryIn,
    async fail (times, login, address) {
      const statuses = []
      for (let i = 0; i < times; i++) statuses.push((await tryIn(login, 'wrong', address)).status)
      return statuses
    },
  }
}

const wrong = { status: 401, code: 'FST_BASTION_SIGN_IN_REFUSED' }
const locked = { status: 429, code: 'FST_BASTION_SIGN_IN_LOCKED' }
const times = (count: number, status: number) => Array(count).fill(status) as number[]

t.test('the right password signs in, a wrong one and an unknown name do not', async t => {
  const { tryIn, recorded } = await build(t)
  t.match(await tryIn('ada', RIGHT), { status: 200 })
  t.match(await tryIn('ada', 'wrong'), wrong)
  t.match(await tryIn('nobody', RIGHT), wrong)
  t.match(await tryIn('keyless', RIGHT), wrong, 'an account without a password has none that is right')
  t.match(await tryIn('keyless', ''), wrong)
  t.match(recorded.map(({ type }) => type), ['login_success', 'login_failure', 'login_failure', 'login_failure', 'login_failure'])
  t.notMatch(JSON.stringify(recorded), /wrong|nobody|right password/, 'no name that failed and no password is in an event')
})

t.test('five failures in fifteen minutes lock a name for that address, for the rest of the window [ASVS 6.3.1]', async t => {
  const { clock, fail, tryIn, seen, recorded } = await build(t)
  t.same(await fail(3, 'ada'), times(3, 401))
  clock.ms += 10 * MINUTE
  t.same(await fail(2, 'ada'), times(2, 401))
  seen.hashes = 0
  const refused = await tryIn('ada', 'wrong')
  t.match(refused, locked)
  t.equal(refused.retryAfter, 5 * 60, 'for the rest of the window')
  t.match(await tryIn('ada', RIGHT), locked, 'the right password too')
  t.equal(seen.hashes, 0, 'and a locked name costs no hash')
  t.match(recorded.at(-1), { type: 'login_locked', details: { locks: ['name for address'], severity: 'warning' } })
  t.match(await tryIn('ben', RIGHT), { status: 200 }, 'other names are free')
  t.match(await tryIn('ada', RIGHT, '192.0.2.2'), { status: 200 }, 'so is the name for other addresses')
  t.match(await tryIn('ada', RIGHT), locked, 'whose success lifts nothing here')
  clock.ms += 5 * MINUTE - 1
  t.match(await tryIn('ada', RIGHT), locked)
  clock.ms += 1
  t.match(await tryIn('ada', RIGHT), { status: 200 })

  t.test('negative control: with the lock as wide as a door, a dictionary passes', async t => {
    const { fail, tryIn } = await build(t, { perNameAndAddress: 1e6, perName: 1e6, perAddress: 1e6 })
    t.same(await fail(200, 'ada'), times(200, 401))
    t.match(await tryIn('ada', RIGHT), { status: 200 })
  })
})

t.test('attempts while locked do not prolong the lock, nor lock anything else', async t => {
  const { app, clock, fail, tryIn } = await build(t)
  await fail(5, 'ada')
  const before = await app.state.size()
  for (let i = 0; i < 14; i++) {
    t.same(await fail(20, 'ada'), times(20, 429))
    clock.ms += MINUTE
  }
  t.match(await tryIn('ben', RIGHT), { status: 200 })
  t.match(await tryIn('ada', RIGHT, '192.0.2.2'), { status: 200 }, 'three hundred refused attempts did not lock the name for others')
  t.same(await app.state.size(), { ...before, entries: before.entries - 1 }, 'and nothing is kept of them')
  clock.ms += MINUTE
  t.match(await tryIn('ada', RIGHT), { status: 200 })
})

t.test('a flood of attempts on what is locked locks nobody else, also where the state is far away', async t => {
  const { app, fail, tryIn } = await build(t)
  for (const name of ['add', 'join'] as const) {
    const original = app.state[name] as (...parameters: never[]) => unknown
    app.state[name] = (async (...parameters: never[]) => {
      await new Promise(resolve => { setImmediate(resolve) })
      const answer = original(...parameters)
      await new Promise(resolve => { setImmediate(resolve) })
      return answer
    }) as never
  }
  await fail(5, 'ada')
  const flood = { isOver: false, statuses: new Set<number>() }
  const attackers = Array.from({ length: 40 }, async () => {
    while (!flood.isOver) flood.statuses.add((await tryIn('ada', 'wrong')).status)
  })
  for (let i = 0; i < 20; i++) {
    t.match(await tryIn('ada', RIGHT, '192.0.2.2'), { status: 200 }, 'the owner, from elsewhere')
    t.match(await tryIn('ben', RIGHT), { status: 200 }, 'the neighbour of the attacker')
  }
  flood.isOver = true
  await Promise.all(attackers)
  t.same([...flood.statuses], [429])
})

t.test('unknown names lock exactly as known ones [ASVS 6.3.8]', async t => {
  const { fail, tryIn } = await build(t)
  for (const name of ['nobody', 'ada']) {
    t.same(await fail(7, name), [...times(5, 401), 429, 429])
    t.match(await tryIn(name, RIGHT), { ...locked, retryAfter: 900 })
  }
})

t.test('twenty failures from anywhere lock the name', async t => {
  const { clock, fail, tryIn, seen, recorded } = await build(t)
  for (const name of ['ada', 'nobody']) {
    for (let i = 0; i < 20; i++) t.same(await fail(1, name, `198.51.100.${i}`), [401])
    seen.hashes = 0
    t.match(await tryIn(name, RIGHT, '203.0.113.1'), locked, 'from an address that never failed')
    t.equal(seen.hashes, 0)
    t.match(recorded.at(-1), { type: 'login_locked', details: { locks: ['name'] } })
  }
  clock.ms += 15 * MINUTE
  t.match(await tryIn('ada', RIGHT, '203.0.113.1'), { status: 200 })
})

t.test('thirty failures over ten names lock the address, and that is a critical event', async t => {
  const { clock, fail, tryIn, seen, recorded } = await build(t)
  for (let i = 0; i < 10; i++) t.same(await fail(3, `name ${i}`), times(3, 401))
  seen.hashes = 0
  const refused = await tryIn('ada', RIGHT)
  t.match(refused, { ...locked, retryAfter: 900 }, 'for every name')
  t.match(await tryIn('nobody else', 'wrong'), locked)
  t.equal(seen.hashes, 0)
  t.match(recorded.at(-1), { type: 'login_locked', address: '192.0.2.1', details: { locks: ['address'], severity: 'critical' } })
  t.match(await tryIn('ada', RIGHT, '192.0.2.2'), { status: 200 })
  clock.ms += 15 * MINUTE
  t.match(await tryIn('ada', RIGHT), { status: 200 })
})

t.test('thirty failures over fewer names are people who forgot, and lock no address', async t => {
  const { fail, tryIn } = await build(t)
  for (let i = 0; i < 9; i++) t.same(await fail(5, `name ${i}`), times(5, 401))
  t.match(await tryIn('ada', RIGHT), { status: 200 }, 'forty-five over nine')
  t.match(await tryIn('ada', RIGHT), { status: 200 }, 'names that sign in are none that failed')
  t.match(await tryIn('ben', RIGHT), { status: 200 })
  for (let i = 0; i < 20; i++) await fail(1, 'a name that others had locked', `198.51.100.${i}`)
  t.match(await tryIn('a name that others had locked', 'wrong'), locked)
  t.match(await tryIn('ada', RIGHT), { status: 200 }, 'which is none that failed from here')
  t.match(await tryIn('name 9', 'wrong'), wrong)
  t.match(await tryIn('ada', RIGHT), locked, 'a tenth that failed is one too many')
})

t.test('names that sign in do not count towards the names of an address', async t => {
  const { fail, tryIn, table } = await build(t)
  for (let i = 0; i < 40; i++) {
    table[`colleague ${i}`] = account(`colleague ${i}`)
    t.match(await tryIn(`colleague ${i}`, RIGHT), { status: 200 })
  }
  for (let i = 0; i < 7; i++) t.same(await fail(5, `name ${i}`), times(5, 401))
  t.match(await tryIn('ada', RIGHT), { status: 200 }, 'an office of fifty, seven of whom forgot')
})

t.test('an IPv6 network is one address', async t => {
  const { tryIn } = await build(t)
  for (let i = 0; i < 5; i++) t.match(await tryIn('ada', 'wrong', `2001:db8::${i}`), wrong)
  t.match(await tryIn('ada', RIGHT, '2001:db8::ffff:5'), locked)
  t.match(await tryIn('ada', RIGHT, '2001:db8:0:1::5'), { status: 200 })
})

t.test('case, width and blanks make no other name', async t => {
  const { tryIn, seen } = await build(t)
  for (const name of ['ada', 'ADA', 'Ada', 'ａｄａ', ' ada ']) t.match(await tryIn(name, 'wrong'), wrong)
  seen.hashes = 0
  for (const name of ['ada', 'aDa', 'ＡＤＡ', 'ada\u00a0']) t.match(await tryIn(name, RIGHT), locked)
  t.equal(seen.hashes, 0)
  for (const name of ['nobody', 'NOBODY', 'ｎｏｂｏｄｙ', 'Nobody', 'noBody']) t.match(await tryIn(name, 'wrong'), wrong)
  t.match(await tryIn('nobody', 'wrong'), locked, 'the same for names that nobody has')

  t.test('negative control: a lock on the text that was typed', async t => {
    const failures = new Map<string, number>()
    const attempts = ['ada', 'ADA', 'Ada', 'ａｄａ', ' ada ', 'aDa', 'adA'].map(name => {
      const count = (failures.get(name) ?? 0) + 1
      failures.set(name, count)
      return count > 5
    })
    t.notOk(attempts.includes(true), 'a name of three letters has eight times five guesses')
  })
})

t.test('parallel guesses count: fifty at once cost five hashes', async t => {
  for (const name of ['ada', 'nobody']) {
    const { seen, tryIn } = await build(t)
    const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => tryIn(name, `guess ${i}`)))
    t.equal(seen.hashes, 5)
    t.equal(answers.filter(({ status }) => status === 401).length, 5)
    t.equal(answers.filter(({ status }) => status === 429).length, 45)
    t.match(await tryIn(name, RIGHT), locked)
  }

  t.test('over many names from one address: thirty', async t => {
    const { seen, tryIn } = await build(t)
    await Promise.all(Array.from({ length: 200 }, (_, i) => tryIn(`name ${i}`, 'wrong')))
    t.equal(seen.hashes, 30)
  })

  t.test('on one name from many addresses: twenty', async t => {
    const { seen, tryIn } = await build(t)
    await Promise.all(Array.from({ length: 200 }, (_, i) => tryIn('ada', 'wrong', `198.51.100.${i}`)))
    t.equal(seen.hashes, 20)
  })

  t.test('negative control: failures that are counted when they have failed', async t => {
    let failures = 0
    let hashes = 0
    await Promise.all(Array.from({ length: 50 }, async () => {
      if (failures >= 5) return
      hashes += 1
      await new Promise(resolve => { setImmediate(resolve) }) // the hash
      failures += 1
    }))
    t.equal(hashes, 50)
  })
})

t.test('a success resets the name, never the address', async t => {
  const { fail, tryIn } = await build(t)
  t.same(await fail(4, 'ada'), times(4, 401))
  t.match(await tryIn('ada', RIGHT), { status: 200 })
  t.same(await fail(4, 'ada'), times(4, 401), 'anew')
  t.match(await tryIn('ada', RIGHT), { status: 200 })
  for (let i = 0; i < 19; i++) t.same(await fail(1, 'ben', `198.51.100.${i}`), [401])
  t.match(await tryIn('ben', RIGHT, '203.0.113.1'), { status: 200 })
  for (let i = 0; i < 19; i++) t.same(await fail(1, 'ben', `198.51.100.${i + 100}`), [401], 'nineteen more from anywhere')

  t.test('who owns an account does not go on guessing others by signing in to it', async t => {
    const { fail, tryIn, seen } = await build(t)
    let failed = 0
    for (let i = 0; i < 30; i++) {
      failed += (await fail(2, `victim ${i}`)).filter(status => status === 401).length
      await tryIn('ada', RIGHT)
    }
    t.equal(failed, 30)
    seen.hashes = 0
    t.match(await tryIn('ada', RIGHT), locked)
    t.equal(seen.hashes, 0)
  })
})

t.test('unlock lifts the locks of a name everywhere, as often as it is needed', async t => {
  const { app, clock, fail, tryIn } = await build(t)
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 4; i++) await fail(5, 'ada', `192.0.2.${i}`)
    for (let i = 0; i < 5; i++) t.match(await tryIn('ada', RIGHT, `192.0.2.${i}`), locked)
    await app.signIn.unlock(' ADA')
    for (let i = 0; i < 4; i++) t.match(await tryIn('ada', 'wrong', `192.0.2.${i}`), wrong)
    t.match(await tryIn('ada', RIGHT, '192.0.2.1'), { status: 200 })
    clock.ms += 13 * MINUTE
    for (let i = 0; i < 4; i++) await app.signIn.unlock('ada')
  }
  const late = await build(t)
  await late.app.signIn.unlock('ada')
  late.clock.ms += 29 * MINUTE
  await late.fail(5, 'ada')
  late.clock.ms += 2 * MINUTE
  await late.fail(5, 'ada')
  await late.app.signIn.unlock('ada')
  t.match(await late.tryIn('ada', RIGHT), { status: 200 }, 'no lock of an earlier time comes back')
  const other = await build(t)
  for (let i = 0; i < 10; i++) await other.fail(3, `name ${i}`)
  await other.app.signIn.unlock('ada')
  t.match(await other.tryIn('ada', RIGHT), locked, 'the lock of an address stays')
})

t.test('a success says how many failures of the name there were before it, from wherever; then they are forgotten', async t => {
  const { fail, tryIn, recorded } = await build(t)
  t.match(await tryIn('ada', RIGHT), { status: 200 })
  await fail(2, 'ada')
  await fail(1, 'ada', '192.0.2.7')
  t.match(await tryIn('ada', RIGHT, '192.0.2.9'), { status: 200 })
  t.match(await tryIn('ada', RIGHT, '192.0.2.9'), { status: 200 })
  t.same(recorded.filter(({ type }) => type === 'login_success').map(({ details }) => details), [{ user: 'ada' }, { user: 'ada', failures: 3 }, { user: 'ada' }])
})

t.test('inactive is told only after the right password', async t => {
  const { fail, tryIn, recorded } = await build(t)
  t.match(await tryIn('ina', 'wrong'), wrong)
  t.match(await tryIn('ina', RIGHT), { status: 403, code: 'FST_BASTION_SIGN_IN_INACTIVE' })
  t.match(recorded.at(-1), { type: 'login_failure', details: { user: 'ina', reason: 'inactive' } })
  t.same(await fail(6, 'ina'), [...times(5, 401), 429])
  t.match(await tryIn('ina', RIGHT), locked)
})

t.test('passwords that are asked for elsewhere count the same', async t => {
  const { fail, tryIn, seen } = await build(t)
  t.same(await fail(3, 'ada'), times(3, 401))
  for (let i = 0; i < 2; i++) t.match(await tryIn('ada', 'wrong', undefined, '/confirm'), wrong)
  seen.hashes = 0
  t.match(await tryIn('ada', RIGHT, undefined, '/confirm'), locked)
  t.match(await tryIn('ada', RIGHT), locked)
  t.equal(seen.hashes, 0)
  t.match(await tryIn('ben', RIGHT, undefined, '/confirm'), { status: 200 })
  t.match(await tryIn('ina', RIGHT, undefined, '/confirm'), { status: 403, code: 'FST_BASTION_SIGN_IN_INACTIVE' })
})

t.test('an overloaded hash queue and a database that is away lock nobody out', async t => {
  const held: (() => void)[] = []
  const { tryIn, app, seen } = await build(t, {}, {
    concurrency: 1,
    queue: 0,
    engine: { verify: async (hash, password) => { if (password === 'slow') await new Promise<void>(resolve => { held.push(resolve) }); return hash.split('$').at(-1) === digest(password) } },
  })
  const slow = tryIn('somebody', 'slow', '192.0.2.9')
  const late = tryIn('ada', 'slow')
  while (held.length === 0) await new Promise(resolve => { setImmediate(resolve) })
  t.match(await late, { status: 503 }, 'who was counted already when the place was taken is not counted any more')
  seen.fails = 1
  const began = performance.now()
  const flood = Array.from({ length: 40 }, (_none, i) => tryIn(i % 2 === 0 ? 'ada' : `name ${i}`, 'wrong'))
  t.match(await Promise.all(flood), Array(40).fill({ status: 503, code: 'FST_BASTION_PASSWORDS_BUSY', retryAfter: 2 }))
  t.ok(performance.now() - began >= 200, 'who asks without pause waits for the refusal')
  t.equal(seen.fails, 1, 'and nobody is looked up for it')
  seen.fails = 0
  held[0]!()
  t.match(await slow, wrong)
  t.match(await tryIn('ada', RIGHT), { status: 200 })
  t.equal((await app.state.size()).entries, 4, 'all that is left is the failure of somebody')

  const other = await build(t)
  other.seen.fails = 40
  for (let i = 0; i < 40; i++) t.match(await other.tryIn('ada', RIGHT), { status: 500, code: 'FST_BASTION_HTTP_500' })
  t.match(await other.tryIn('ada', RIGHT), { status: 200 })
})

t.test('a full state refuses, computes nothing, and takes nothing back that was never counted [TRAP 7]', async t => {
  const { app, fail, tryIn, seen, recorded } = await build(t, {}, { state: { maxEntries: 100 } })
  t.same(await fail(4, 'ada'), times(4, 401))
  t.same(await fail(5, 'locked', '192.0.2.7'), times(5, 401))
  for (let i = 0; i < 30; i++) try { await app.state.add(`flood:${i}`, 1, 1e6) } catch {}
  seen.hashes = 0
  for (let i = 0; i < 40; i++) t.match(await tryIn(`fresh ${i}`, RIGHT), { status: 503, code: 'FST_BASTION_STATE_FULL', retryAfter: 10 })
  t.match(await tryIn('ada', RIGHT, '192.0.2.2'), { status: 503 }, 'who has no place yet')
  t.equal(seen.hashes, 0)
  t.ok(recorded.some(({ type }) => type === 'state_full'))
  t.match(await tryIn('locked', RIGHT, '192.0.2.7'), locked, 'who is locked stays so')
  t.same(await fail(2, 'ada'), [401, 429], 'the fifth and the sixth: forty refusals gave nothing back')
})

t.test('a hash that is outdated is made anew, and a password that was changed meanwhile stays', async t => {
  const { tryIn, table } = await build(t)
  t.match(await tryIn('old', 'wrong'), wrong)
  t.match(table.old!.passwordHash, /^\$test\$1\$/)
  t.match(await tryIn('old', RIGHT), { status: 200 })
  t.equal(table.old!.passwordHash, `$test$2$${digest(RIGHT)}`)
  t.match(await tryIn('old', RIGHT), { status: 200 })

  const changed = `$test$2$${digest('changed meanwhile')}`
  let change = () => {}
  const other = await build(t, {}, {
    engine: {
      async hash (password) {
        change()
        return `$test$2$${digest(password)}`
      },
    },
  })
  change = () => { other.table.old!.passwordHash = changed }
  t.match(await other.tryIn('old', RIGHT), { status: 200 })
  t.equal(other.table.old!.passwordHash, changed)
})

t.test('a hash that cannot be saved keeps nobody out', async t => {
  const { tryIn } = await build(t, {
    accounts: {
      findByLogin: async () => account('old', { passwordHash: `$test$1$${digest(RIGHT)}` }), findById: async () => null, savePassword: async () => { throw new Error('read-only') },
    },
  })
  t.match(await tryIn('old', RIGHT), { status: 200 })
})

t.test('answers for known and unknown names are equal to the byte, headers included [ASVS 6.3.8]', async t => {
  const { app } = await build(t)
  const ask = async (login: string, password = 'wrong') => {
    const { statusCode, headers, body } = await app.inject({ method: 'POST', url: '/login', payload: { login, password } })
    const { date, ...rest } = headers
    return { statusCode, headers: rest, body: body.replace(/"requestId":"[^"]*"/, '"requestId":""') }
  }
  for (let i = 0; i < 7; i++) {
    const [known, unknown, keyless, inactive] = [await ask('ada'), await ask('nobody'), await ask('keyless'), await ask('ina')]
    t.equal(known.statusCode, i < 5 ? 401 : 429)
    for (const other of [unknown, keyless, inactive]) t.same(other, known)
    t.equal(Buffer.byteLength(known.body), Buffer.byteLength(unknown.body))
  }
})

/** A quarter of the samples lies below: what else the machine does only ever adds time. */
const quartile = (samples: number[]) => samples.sort((a, b) => a - b)[Math.floor(samples.length / 4)]!

t.test('a wrong password takes the same time for known and unknown names [ASVS 6.3.8]', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(plan)
  await app.register(events)
  await app.register(state, {})
  await app.register(passwords, {})
  const known = account('ada', { passwordHash: await app.passwords.hash(RIGHT) })
  const keyless = account('keyless', { passwordHash: null })
  const legacy = account('legacy', { passwordHash: '$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy' })
  const accounts: Accounts = {
    findByLogin: async login => login.startsWith('known') ? known : login.startsWith('keyless') ? keyless : login.startsWith('legacy') ? legacy : null,
    findById: async () => null,
    savePassword: async () => {},
  }
  await app.register(signIn, { accounts, perAddress: 1e6 })
  const request = { ip: '192.0.2.1', id: 'r', method: 'POST', log: app.log } as never

  async function time (run: () => Promise<unknown>): Promise<number> {
    const began = process.hrtime.bigint()
    await run().catch(() => {})
    return Number(process.hrtime.bigint() - began) / 1e6
  }
  /** The skipping one is what many write: no account, no hash. */
  const skipping = async (login: string) => {
    const found = await accounts.findByLogin(login)
    return found?.passwordHash != null && (await app.passwords.verify('wrong', found.passwordHash)).valid
  }
  const kinds = ['known', 'unknown', 'keyless', 'legacy'] as const

  /** Interleaved and in changing order, so that whatever else the machine does falls on all of them alike. */
  async function measure (round: number): Promise<Record<string, number>> {
    const samples: Record<string, number[]> = { known: [], unknown: [], keyless: [], legacy: [], 'skipping, known': [], 'skipping, unknown': [] }
    for (let i = 0; i < 24; i++) {
      const shift = (i * 3 + round) % kinds.length
      for (const kind of [...kinds.slice(shift), ...kinds.slice(0, shift)]) samples[kind]!.push(await time(() => app.signIn.withPassword(`${kind} ${round}.${i}`, 'wrong', request)))
      for (const kind of ['known', 'unknown']) samples[`skipping, ${kind}`]!.push(await time(() => skipping(kind)))
    }
    return Object.fromEntries(Object.entries(samples).map(([kind, values]) => [kind, quartile(values)]))
  }

  const isEqual = (measured: Record<string, number>) => kinds.every(kind => measured[kind]! / measured.known! > 0.75 && measured[kind]! / measured.known! < 1.33)
  let measured = await measure(0)
  for (let round = 1; round < 4 && !isEqual(measured); round++) measured = await measure(round) // a busy machine has quieter moments
  const told = kinds.map(kind => `${kind} ${measured[kind]!.toFixed(1)} ms`).join(', ')
  t.ok(isEqual(measured), `within a third of each other: ${told}`)
  const skipped = measured['skipping, known']! / measured['skipping, unknown']!
  t.ok(skipped > 20, `negative control: without verifyNothing the ratio is ${skipped.toFixed(0)}`)
})

t.test('other numbers', async t => {
  const { clock, fail, tryIn } = await build(t, { windowMs: 1000, perNameAndAddress: 2, perName: 3, perAddress: 4, namesPerAddress: 2 })
  t.same(await fail(3, 'ada'), [401, 401, 429])
  t.same(await fail(2, 'ada', '192.0.2.2'), [401, 429])
  t.match(await tryIn('ada', RIGHT, '192.0.2.3'), { ...locked, retryAfter: 1 })
  clock.ms += 1000
  t.same(await fail(2, 'a'), [401, 401])
  t.same(await fail(2, 'b'), [401, 401])
  t.match(await tryIn('ada', RIGHT), locked)
})

t.test('wrong options stop boot, and the message names them', async t => {
  for (const [options, message] of [
    [{ perName: 0 }, /sign-in: perName/],
    [{ windowMs: '15m' }, /windowMs/],
    [{ perNmae: 5 }, /perNmae/],
    [{ accounts: undefined }, /accounts/],
    [{ accounts: { findByLogin: async () => null } }, /accounts/],
  ] as [Partial<SignInOptions>, RegExp][]) await t.rejects(build(t, options), { code: 'FST_BASTION_SIGN_IN_MISCONFIGURED', message })
})
