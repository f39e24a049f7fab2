/** Identity: one principal from whatever was offered, or nobody. */
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { createError, type FastifyError } from '@fastify/error'
import t, { type Test } from 'tap'
import access from '../plugins/access/index.js'
import errors from '../plugins/errors.js'
import events from '../plugins/events.js'
import identity, { principalOf, type CredentialReader, type Principal, type Reading } from '../plugins/identity.js'
import limits from '../plugins/limits/index.js'
import plan from '../plugins/plan/index.js'
import state from '../plugins/state/index.js'

const Bad = createError('FST_TEST_BAD', 'bad credential', 401)
const Revoked = createError('FST_TEST_REVOKED', 'revoked', 401)

const ada: Principal = { kind: 'user', id: 'ada', userId: 'ada', roles: ['user'], via: 'bearer', authTime: 0, credentialId: 'c1' }

/** A reader of one header: the header's value says how it answers. */
function reader (name: string, readings: Record<string, () => unknown>): CredentialReader {
  return {
    name,
    read ({ headers }) {
      const value = headers[`x-${name}`]
      return value === undefined ? null : readings[value as string]!() as Reading
    },
  }
}

interface Built { app: FastifyInstance, handled: string[], ask: (url: string, headers?: Record<string, string>) => Promise<{ status: number, code?: string, who?: string | null, headers: Record<string, unknown> }> }

async function build (t: Test, readers: CredentialReader[], more: (app: FastifyInstance) => void = () => {}): Promise<Built> {
  const handled: string[] = []
  const unhandled: unknown[] = []
  const listen = (reason: unknown) => { unhandled.push(reason) }
  process.on('unhandledRejection', listen)
  const app = Fastify()
  t.teardown(async () => {
    process.off('unhandledRejection', listen)
    await app.close()
  })
  await app.register(plan)
  await app.register(events)
  await app.register(errors)
  await app.register(state, {})
  await app.register(identity)
  await app.register(limits, { address: ['5/minute'], principal: ['5/minute'] })
  await app.register(access, { roles: { user: { permissions: ['things:read'] } } })
  for (const one of readers) app.identity.reader(one)
  const answer = (request: FastifyRequest) => {
    handled.push(request.url)
    return { who: request.principal?.id ?? null }
  }
  app.get('/public', { config: { access: 'public' } }, answer)
  app.get('/user', { config: { access: 'user' } }, answer)
  app.get('/permission', { config: { access: { permissions: 'things:read' } } }, answer)
  app.get('/role', { config: { access: { roles: 'user' } } }, answer)
  more(app)
  await app.ready()
  return {
    app,
    handled,
    async ask (url, headers = {}) {
      const answer = await app.inject({ url, headers })
      await new Promise(resolve => { setImmediate(resolve) })
      if (unhandled.length > 0) throw new Error('a rejection went unhandled', { cause: unhandled[0] })
      const { code, who } = answer.json() as { code?: string, who?: string | null }
      return { status: answer.statusCode, code, who, headers: answer.headers }
    },
  }
}

const GUARDED = ['/user', '/permission', '/role']
const good = () => ({ principal: ada })
const bad = () => ({ failure: new Bad() })

t.test('every scheme ends in one principal', async t => {
  const { ask } = await build(t, [reader('a', { good }), reader('b', { good: () => ({ principal: { ...ada, id: 'ben' } }) })])
  for (const url of ['/public', ...GUARDED]) {
    t.match(await ask(url, { 'x-a': 'good' }), { status: 200, who: 'ada' })
  }
  t.match(await ask('/public', { 'x-b': 'good' }), { status: 200, who: 'ben' })
  t.match(await ask('/public'), { status: 200, who: null })
})

t.test('no credential is a 401 with a challenge, and the handler does not run', async t => {
  const { ask, handled } = await build(t, [reader('a', { good })])
  for (const url of GUARDED) {
    const { status, code, headers } = await ask(url)
    t.match({ status, code }, { status: 401, code: 'FST_BASTION_ACCESS_UNAUTHENTICATED' })
    t.match(headers['www-authenticate'], /^Bearer/)
  }
  t.same(handled, [])
})

t.test('a bad credential is refused where one is needed, ignored where none is, and counted everywhere [TRAP 1]', async t => {
  const { ask, handled } = await build(t, [reader('a', { bad })])
  t.match(await ask('/user', { 'x-a': 'bad' }), { status: 401, code: 'FST_TEST_BAD' })
  t.match(await ask('/permission', { 'x-a': 'bad' }), { status: 401, code: 'FST_TEST_BAD' })
  t.match(await ask('/public', { 'x-a': 'bad' }), { status: 200, who: null })
  t.match(await ask('/public', { 'x-a': 'bad' }), { status: 200, who: null })
  t.match(await ask('/nowhere', { 'x-a': 'bad' }), { status: 404 })
  for (const url of ['/public', '/user', '/nowhere']) t.match(await ask(url, { 'x-a': 'bad' }), { status: 429 })
  t.same(handled, ['/public', '/public'])
})

t.test('two credentials are a 400, whatever they are', async t => {
  const b = reader('b', { good, bad, pending: () => ({ principal: ada, standing: Promise.resolve(null) }), rejects: () => ({ principal: ada, standing: Promise.reject(new Error('away')) }) })
  for (const [a, other] of [['good', 'good'], ['good', 'bad'], ['bad', 'good'], ['bad', 'bad'], ['good', 'pending'], ['good', 'rejects']] as const) {
    const { ask, handled } = await build(t, [reader('a', { good, bad }), b])
    for (const url of GUARDED) t.match(await ask(url, { 'x-a': a, 'x-b': other }), { status: 400, code: 'FST_BASTION_IDENTITY_TWO_CREDENTIALS' }, `${a} and ${other}`)
    t.match(await ask('/public', { 'x-a': a, 'x-b': other }), { status: 200, who: null }, 'nobody, where nobody is needed')
    t.same(handled, ['/public'])
  }

  t.test('one reader that finds several is as two that find one each', async t => {
    const { ask, handled } = await build(t, [reader('a', { several: () => 'several', good })])
    for (const url of GUARDED) t.match(await ask(url, { 'x-a': 'several' }), { status: 400, code: 'FST_BASTION_IDENTITY_TWO_CREDENTIALS' })
    t.match(await ask('/public', { 'x-a': 'several' }), { status: 200, who: null })
    t.same(handled, ['/public'])
    t.match(await ask('/user', { 'x-a': 'good' }), { status: 200, who: 'ada' })
  })

  t.test('negative control: two authentication hooks, as one writes them by hand, and the last one wins', async t => {
    const app = Fastify()
    t.teardown(() => app.close())
    app.decorateRequest('user' as never, null as never)
    for (const header of ['x-a', 'x-b']) {
      app.addHook('onRequest', async request => {
        if (request.headers[header] !== undefined) (request as unknown as { user: unknown }).user = request.headers[header]
      })
    }
    app.get('/', async request => ({ who: (request as unknown as { user: unknown }).user }))
    t.match((await app.inject({ url: '/', headers: { 'x-a': 'ada', 'x-b': 'ben' } })).json(), { who: 'ben' })
  })
})

t.test('a reader takes bearer credentials of its form for its own', async t => {
  const { app } = await build(t, [{ ...reader('a', { good }), takesBearer: text => text.startsWith('a_') }, reader('b', { good })])
  t.strictSame(['a_1', 'b_1', ''].map(app.identity.isTaken), [true, false, false])
})

t.test('a reader that throws, answers nonsense or is asynchronous makes nobody, and tells the client nothing', async t => {
  const faults: Record<string, () => unknown> = {
    throws: () => { throw new Error('postgres://user:secret@db/') },
    undefined: () => ({}),
    'null principal': () => ({ principal: null }),
    'no object': () => ({ principal: 'ada' }),
    promise: async () => ({ principal: ada }),
    rejection: async () => { throw new Error('away') },
    'no reading': () => undefined,
  }
  for (const [name, fault] of Object.entries(faults)) {
    const { ask, handled } = await build(t, [reader('a', { fault })])
    for (const url of GUARDED) {
      const { status, code, headers } = await ask(url, { 'x-a': 'fault' })
      t.match({ status, code }, { status: 503, code: 'FST_BASTION_IDENTITY_UNCHECKED' }, name)
      t.equal(headers['retry-after'], '2')
    }
    t.match(await ask('/public', { 'x-a': 'fault' }), { status: 200, who: null }, `${name}: a public route goes on`)
    t.same(handled, ['/public'])
  }
})

t.test('a standing that is known at once', async t => {
  const { ask, handled } = await build(t, [reader('a', {
    stands: () => ({ principal: ada, standing: null }),
    revoked: () => ({ principal: ada, standing: new Revoked() as FastifyError }),
  })])
  t.match(await ask('/user', { 'x-a': 'stands' }), { status: 200, who: 'ada' })
  t.match(await ask('/user', { 'x-a': 'revoked' }), { status: 401, code: 'FST_TEST_REVOKED' })
  t.match(await ask('/public', { 'x-a': 'revoked' }), { status: 200, who: null })
  t.same(handled, ['/user', '/public'])
})

/** A state that is far away: answers in another turn of the loop. */
function later<T> (settle: () => T): Promise<T> {
  return new Promise(resolve => { setImmediate(resolve) }).then(settle)
}

const waiting = () => reader('a', {
  stands: () => ({ principal: ada, standing: later(() => null) }),
  nothing: () => ({ principal: ada, standing: later(() => undefined) }),
  revoked: () => ({ principal: ada, standing: later(() => new Revoked()) }),
  away: () => ({ principal: ada, standing: later(() => { throw new Error('redis://user:secret@away/') }) }),
  'away at once': () => ({ principal: ada, standing: Promise.reject(new Error('away')) }),
})

t.test('a standing that is a promise is awaited before the handler, on guarded routes', async t => {
  for (const url of GUARDED) {
    const { ask, handled } = await build(t, [waiting()])
    t.match(await ask(url, { 'x-a': 'stands' }), { status: 200, who: 'ada' })
    t.match(await ask(url, { 'x-a': 'revoked' }), { status: 401, code: 'FST_TEST_REVOKED' })
    const { status, code, headers } = await ask(url, { 'x-a': 'away' })
    t.match({ status, code }, { status: 503, code: 'FST_BASTION_IDENTITY_UNCHECKED' })
    t.equal(headers['retry-after'], '2')
    t.match(await ask(url, { 'x-a': 'away at once' }), { status: 503 })
    t.same(handled, [url])
  }
})

t.test('and on public ones, where a revoked credential is nobody', async t => {
  const { ask } = await build(t, [waiting()])
  t.match(await ask('/public', { 'x-a': 'stands' }), { status: 200, who: 'ada' })
  t.match(await ask('/public', { 'x-a': 'nothing' }), { status: 200, who: 'ada' })
  t.match(await ask('/public', { 'x-a': 'revoked' }), { status: 200, who: null })
  t.match(await ask('/public', { 'x-a': 'away' }), { status: 200, who: null })
  t.match(await ask('/public', { 'x-a': 'away at once' }), { status: 200, who: null })
})

t.test('negative control: a check that nobody awaits lets the revoked in', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.decorateRequest('who' as never, null as never)
  app.addHook('onRequest', (request, _reply, done) => {
    const mine = request as unknown as { who: string | null }
    mine.who = 'ada'
    later(() => new Revoked()).then(() => { mine.who = null })
    done()
  })
  app.get('/', async request => ({ who: (request as unknown as { who: string | null }).who }))
  t.match((await app.inject('/')).json(), { who: 'ada' })
})

t.test('a request that is refused by its budget does not wait, and its rejection disturbs nobody', async t => {
  const { ask } = await build(t, [waiting()])
  for (let i = 0; i < 5; i++) await ask('/public', { 'x-a': 'stands' })
  for (const standing of ['revoked', 'away', 'away at once']) t.match(await ask('/user', { 'x-a': standing }), { status: 429 })
})

t.test('settle may be called as often as one likes', async t => {
  let settled: unknown[] = []
  const { ask } = await build(t, [waiting()], app => {
    app.addHook('preHandler', async request => {
      settled = await Promise.all([app.identity.settle(request), app.identity.settle(request)])
    })
  })
  await ask('/public', { 'x-a': 'revoked' })
  t.match(settled, [{ code: 'FST_TEST_REVOKED' }, { code: 'FST_TEST_REVOKED' }])
  await ask('/public', { 'x-a': 'stands' })
  t.same(settled, [null, null])
})

t.test('a standing that is a function is asked once, after the limits, and not where they refuse', async t => {
  let asked = 0
  const asking = (answer: () => unknown) => () => ({ principal: ada, standing: () => { asked += 1; return answer() } })
  const readings = {
    stands: asking(() => null),
    later: asking(async () => null),
    revoked: asking(() => new Revoked()),
    throws: asking(() => { throw new Error('away') }),
    rejects: asking(async () => { throw new Error('away') }),
  }
  for (const [how, expected] of Object.entries({
    stands: { status: 200, who: 'ada' },
    later: { status: 200, who: 'ada' },
    revoked: { status: 401, code: 'FST_TEST_REVOKED' },
    throws: { status: 503, code: 'FST_BASTION_IDENTITY_UNCHECKED' },
    rejects: { status: 503, code: 'FST_BASTION_IDENTITY_UNCHECKED' },
  })) {
    const { ask, handled } = await build(t, [reader('a', readings)], app => {
      app.addHook('preHandler', async request => { await Promise.all([app.identity.settle(request), app.identity.settle(request)]) })
    })
    asked = 0
    for (let i = 0; i < 5; i++) t.match(await ask('/user', { 'x-a': how }), expected, how)
    t.equal(asked, 5)
    for (let i = 0; i < 5; i++) t.match(await ask('/user', { 'x-a': how }), { status: 429 })
    t.equal(asked, 5, 'what a limit refuses is not asked about')
    t.equal(handled.length, expected.status === 200 ? 5 : 0)
  }
})

t.test('principalOf has no null: where nobody is identified it throws a 401', async t => {
  const { ask } = await build(t, [reader('a', { good })], app => {
    app.get('/careless', { config: { access: 'public' } }, request => ({ who: principalOf(request).id }))
  })
  t.match(await ask('/careless', { 'x-a': 'good' }), { status: 200, who: 'ada' })
  t.match(await ask('/careless'), { status: 401, code: 'FST_BASTION_IDENTITY_NO_PRINCIPAL' })
})

t.test('requests do not see each other\'s principal', async t => {
  const { ask } = await build(t, [waiting()], app => {
    app.get('/slow', { config: { access: 'public', limits: false } }, async request => later(() => ({ who: request.principal?.id ?? null })))
  })
  const answers = await Promise.all(Array.from({ length: 40 }, (_, i) => ask('/slow', i % 2 === 0 ? { 'x-a': 'stands' } : {})))
  t.ok(answers.every(({ who }, i) => who === (i % 2 === 0 ? 'ada' : null)))
})
