/** Overload: what cannot be served is refused early, and what has begun still ends. */
import { once } from 'node:events'
import { get as httpGet, type IncomingHttpHeaders } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { PassThrough } from 'node:stream'
import { mock } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import underPressure from '@fastify/under-pressure'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import access from '../plugins/access/index.js'
import cors from '../plugins/cors.js'
import errors from '../plugins/errors.js'
import events, { type SecurityEvent } from '../plugins/events.js'
import headers from '../plugins/headers/index.js'
import identity from '../plugins/identity.js'
import overload, { type OverloadOptions } from '../plugins/overload.js'
import plan from '../plugins/plan/index.js'
import { server } from '../plugins/server.js'

interface Answer { status: number, code: string | undefined, type: string | undefined, headers: IncomingHttpHeaders }
interface Built {
  app: FastifyInstance
  recorded: SecurityEvent[]
  /** How often the handler of `/work` ran, and who was asked for who they are. */
  seen: { handled: number, identified: number }
  /** Over a real socket of its own. */
  call: (path: string, method?: string, headers?: Record<string, string>) => Promise<Answer>
  open: (text: string) => Promise<Socket>
}

const ORIGIN = 'https://app.example.com'
const open = { access: 'public' } as const
const exempt = { access: 'public', overload: false } as const
/** An event loop that is busy with requests, sampled ten times a second. */
const SENSITIVE: OverloadOptions = { maxEventLoopDelay: 50, sampleInterval: 100 }
/** Memory that is over its limit from the first sample on. */
const FULL: OverloadOptions = { maxHeapUsedBytes: 1, maxEventLoopDelay: false, sampleInterval: 100 }
const REFUSED = { status: 503, code: 'FST_BASTION_OVERLOAD_REFUSED', type: 'https://iana.org/assignments/http-problem-types#temporary-reduced-capacity' }
const PREFLIGHT = { origin: ORIGIN, 'access-control-request-method': 'GET' }
const BUSY_MS = 120

async function build (t: Test, options: OverloadOptions | false = {}, declare: (app: FastifyInstance) => void = () => {}, isOpenToOthers = true, log: string[] = []): Promise<Built> {
  const recorded: SecurityEvent[] = []
  const seen = { handled: 0, identified: 0 }
  const app = Fastify(server({ logger: { level: 'info', stream: { write: (line: string) => { log.push(line) } } } }))
  t.teardown(() => app.close())
  await app.register(plan)
  await app.register(events)
  await app.register(errors)
  await app.register(headers)
  if (isOpenToOthers) await app.register(cors, { origins: [ORIGIN] })
  if (options !== false) await app.register(overload, options)
  await app.register(identity)
  await app.register(access, {})
  app.identity.reader({
    name: 'test',
    read () {
      seen.identified += 1
      return null
    },
  })
  app.events.listen(event => { recorded.push(event) })
  app.get('/work', { config: open }, async () => {
    seen.handled += 1
    return 'done'
  })
  app.get('/busy', { config: open }, async () => {
    for (const until = performance.now() + BUSY_MS; performance.now() < until;);
    return 'done'
  })
  app.get('/health', { config: exempt }, async () => 'alive')
  declare(app)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  return {
    app,
    recorded,
    seen,
    async call (path, method = 'GET', headers = {}) {
      const request = httpGet({ host: '127.0.0.1', port, path, method, headers, agent: false })
      const [answer] = await once(request, 'response')
      const chunks = await answer.toArray()
      let problem: { code?: string, type?: string } = {}
      try { problem = JSON.parse(Buffer.concat(chunks).toString()) } catch {}
      return { status: answer.statusCode, code: problem.code, type: problem.type, headers: answer.headers }
    },
    async open (text) {
      const socket = connect(port, '127.0.0.1').on('error', () => {})
      t.teardown(() => socket.destroy())
      await once(socket, 'connect')
      socket.write(text)
      return socket
    },
  }
}

/** Asks until it is so; a real event loop and a real heap have no clock that could be set. */
async function until (isSo: () => boolean | Promise<boolean>): Promise<boolean> {
  for (const end = Date.now() + 5000; Date.now() < end;) {
    if (await isSo()) return true
    await pause(10)
  }
  return false
}

/** A handler that ends when it is told to. */
function gate () {
  const waiting: (() => void)[] = []
  return {
    waiting,
    handler: async (_request: FastifyRequest) => {
      await new Promise<void>(resolve => waiting.push(resolve))
      return 'done'
    },
    release: () => { for (const resolve of waiting.splice(0)) resolve() },
  }
}

const of = (recorded: SecurityEvent[], type: string) => recorded.filter(event => event.type === type)

t.test('by default nothing is refused, and what is promised are a second of delay and nine tenths of the heap', async t => {
  const { app, call, recorded } = await build(t)
  t.match(await call('/work'), { status: 200 })
  t.notOk(app.overload.isUnderPressure())
  t.strictSame(recorded, [])
  const find = (path: string) => app.plan.routes.find(({ url, method }) => url === path && method === 'GET')!
  t.strictSame(find('/work').controls.overload, {
    maxEventLoopDelay: 1000, maxHeapUsedBytes: Math.floor(getHeapStatistics().heap_size_limit * 0.9), retryAfter: 10,
  })
  t.equal(find('/health').controls.overload, false)
  const { order } = find('/work')
  t.strictSame(order.slice(0, 4), ['headers:headers', 'cors:cors', 'overload:overload', 'identify:identity'], 'after what costs nothing, before what does')
  t.notOk(find('/health').order.some(step => step.includes('overload')))
})

t.test('what a service does before it listens is no load: whoever comes first is served', async t => {
  const standStill = () => { for (const until = performance.now() + 400; performance.now() < until;); }
  const served: number[] = []
  const { app, call, recorded } = await build(t, SENSITIVE, app => {
    app.addHook('onReady', async () => {
      for (let i = 0; i < 3; i++) {
        standStill()
        await pause(0)
      }
    })
  })
  for (let i = 0; i < 30; i++) {
    served.push((await call('/work')).status)
    await pause(10)
  }
  t.strictSame([...new Set(served)], [200])
  t.strictSame(of(recorded, 'overload_started'), [])
  t.ok(await until(async () => {
    await call('/busy')
    return app.overload.isUnderPressure()
  }), 'while what comes afterwards counts')
})

t.test('a busy event loop: 503 with Retry-After, security headers and CORS on all but exempt routes, and back without restart [ASVS 15.2.2]', async t => {
  const { app, call, recorded, seen } = await build(t, { ...SENSITIVE, retryAfter: 7 })
  t.match(await call('/work'), { status: 200 })
  const refused: Answer[] = []
  t.ok(await until(async () => {
    await Promise.all([call('/busy'), call('/busy')])
    const { handled, identified } = seen
    const answer = await call('/work', 'GET', { origin: ORIGIN })
    if (answer.status !== 503) return false
    t.strictSame(seen, { handled, identified }, 'neither the handler nor the readers of credentials ran')
    refused.push(answer)
    return true
  }), 'refused')
  t.match(refused[0], {
    ...REFUSED,
    headers: {
      'retry-after': '7',
      'content-type': /^application\/problem\+json/,
      'x-content-type-options': 'nosniff',
      'content-security-policy': /default-src 'none'/,
      'cache-control': 'no-store',
      'access-control-allow-origin': ORIGIN,
      'access-control-expose-headers': /retry-after/,
    },
  })
  t.match(await call('/health'), { status: 200 })
  t.match(of(recorded, 'overload_started'), [{ details: { severity: 'critical', exceeded: 'maxEventLoopDelay', limit: 50, measured: Number, heapUsedBytes: Number, rssBytes: Number, concurrent: null } }])

  t.ok(await until(async () => (await call('/work')).status === 200), 'served again')
  t.notOk(app.overload.isUnderPressure())
  t.match(of(recorded, 'overload_ended'), [{ details: { refused: Number, ms: Number } }])
})

t.test('negative control: without the concern every request is taken, and waits for all those before it', async t => {
  const { call, seen } = await build(t, false)
  for (let round = 0; round < 3; round++) {
    const busy = Array.from({ length: 4 }, () => call('/busy'))
    const began = performance.now()
    t.match(await call('/work'), { status: 200 })
    t.ok(performance.now() - began > BUSY_MS)
    await Promise.all(busy)
  }
  t.equal(seen.handled, 3)
})

t.test('one phase is one event each, however many requests are refused in it', async t => {
  const { app, call, recorded, seen } = await build(t, FULL)
  t.ok(await until(() => app.overload.isUnderPressure()))
  const answers = await Promise.all(Array.from({ length: 50 }, () => call('/work')))
  t.ok(answers.every(({ status, headers }) => status === 503 && headers['retry-after'] === '10'))
  await pause(250)
  t.equal(of(recorded, 'overload_started').length, 1)
  t.match(recorded, [{ type: 'overload_started', details: { exceeded: 'maxHeapUsedBytes', limit: 1, measured: Number } }], 'and nothing else is recorded')
  t.equal(seen.handled, 0)
})

t.test('the log has a line a request, and no failure', async t => {
  const log: string[] = []
  const { app, call } = await build(t, FULL, () => {}, true, log)
  t.ok(await until(() => app.overload.isUnderPressure()))
  log.length = 0
  for (let i = 0; i < 5; i++) await call('/work')
  t.ok(await until(() => log.length === 5))
  for (const line of log) t.match(JSON.parse(line), { level: 30, status: 503, err: undefined })
})

t.test('unknown routes, HEAD, malformed URLs and OPTIONS that is no preflight are refused too', async t => {
  const { app, call } = await build(t, FULL, app => { app.post('/work', { config: open }, async () => 'done') })
  t.ok(await until(() => app.overload.isUnderPressure()))
  for (const [method, path] of [['GET', '/nowhere'], ['HEAD', '/work'], ['POST', '/work'], ['GET', '/%ZZ'], ['OPTIONS', '/work']] as const) {
    t.match(await call(path, method), { status: 503, headers: { 'retry-after': '10', 'x-content-type-options': 'nosniff' } }, `${method} ${path}`)
  }
  t.match(await call('/health', 'HEAD'), { status: 200 }, 'the HEAD of an exempt route is exempt')
})

t.test('a preflight is answered, so that the page may read the refusal of what follows', async t => {
  const { app, call } = await build(t, FULL)
  t.ok(await until(() => app.overload.isUnderPressure()))
  t.match(await call('/work', 'OPTIONS', PREFLIGHT), { status: 204, headers: { 'access-control-allow-origin': ORIGIN } })
  t.match(await call('/work', 'GET', PREFLIGHT), REFUSED, 'nothing else passes with its headers')
})

t.test('without CORS what looks like a preflight is a request like any other', async t => {
  let handled = 0
  const { app, call } = await build(t, FULL, app => {
    app.options('/work', { config: open }, async () => {
      handled += 1
      return 'done'
    })
  }, false)
  t.ok(await until(() => app.overload.isUnderPressure()))
  t.match(await call('/work', 'OPTIONS', PREFLIGHT), REFUSED)
  t.equal(handled, 0)
})

t.test('maxHeapUsedBytes: refused while the heap is full, served once it is not', async t => {
  setFlagsFromString('--expose_gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  const { app, call, recorded } = await build(t, { maxHeapUsedBytes: process.memoryUsage().heapUsed + 64e6, maxEventLoopDelay: false, sampleInterval: 100 })
  t.match(await call('/work'), { status: 200 })
  let held: object[] | null = Array.from({ length: 1e6 }, (_none, i) => ({ i, a: [i] }))
  t.ok(await until(() => app.overload.isUnderPressure()))
  t.match(await call('/work'), REFUSED)
  t.equal(held.length, 1e6)
  held = null
  collect()
  t.ok(await until(async () => (await call('/work')).status === 200))
  t.match(recorded.map(({ type }) => type), ['overload_started', 'overload_ended'])
})

t.test('maxRssBytes', async t => {
  const { app, call, recorded } = await build(t, { maxRssBytes: 1, maxEventLoopDelay: false, sampleInterval: 100 })
  t.ok(await until(() => app.overload.isUnderPressure()))
  t.match(await call('/work'), REFUSED)
  t.match(recorded, [{ details: { exceeded: 'maxRssBytes', limit: 1 } }])
})

t.test('maxEventLoopUtilization', async t => {
  const { call, recorded } = await build(t, { maxEventLoopUtilization: 0.95, maxEventLoopDelay: false, sampleInterval: 100 })
  t.ok(await until(async () => {
    await Promise.all([call('/busy'), call('/busy')])
    return (await call('/work')).status === 503
  }))
  t.match(recorded, [{ details: { exceeded: 'maxEventLoopUtilization', limit: 0.95 } }])
  t.ok(await until(async () => (await call('/work')).status === 200), 'an idle loop serves')
})

t.test('a single stall of an interval is measured by its length, and refuses only where that is over the limit', async t => {
  const { app, call } = await build(t, { maxEventLoopDelay: 1000, sampleInterval: 100 })
  const delays: number[] = []
  for (let i = 0; i < 5; i++) {
    await Promise.all([call('/busy'), call('/busy')])
    delays.push(app.overload.usage().eventLoopDelay)
    t.match(await call('/work'), { status: 200 })
  }
  t.ok(Math.max(...delays) > 10 && Math.max(...delays) < 1000, delays.join(' '))
})

t.test('usage tells operators what was sampled last', async t => {
  const { app } = await build(t, { sampleInterval: 100, maxConcurrent: 5 })
  t.strictSame(app.overload.usage(), { eventLoopDelay: 0, eventLoopUtilization: 0, heapUsedBytes: 0, rssBytes: 0, concurrent: 0 }, 'before the first sample')
  t.ok(await until(() => app.overload.usage().rssBytes > 0))
  const usage = app.overload.usage()
  t.ok(usage.heapUsedBytes > 1e6 && usage.rssBytes > usage.heapUsedBytes)
  t.ok(usage.eventLoopUtilization >= 0 && usage.eventLoopUtilization <= 1)
})

t.test('maxConcurrent: as many handlers at work as allowed, the next one is refused before it runs [ASVS 15.2.2]', async t => {
  const { waiting, handler, release } = gate()
  const { app, call, recorded, seen } = await build(t, { maxConcurrent: 3, maxEventLoopDelay: false, sampleInterval: 100 }, app => { app.get('/slow', { config: open }, handler) })
  const working = Array.from({ length: 3 }, () => call('/slow'))
  t.ok(await until(() => waiting.length === 3))
  t.ok(app.overload.isUnderPressure())
  const { identified } = seen
  for (let i = 0; i < 20; i++) t.match(await call('/slow'), { ...REFUSED, headers: { 'retry-after': '10' } })
  t.match(await call('/work'), REFUSED, 'on every route')
  t.equal(seen.identified, identified, 'nobody is asked who they are')
  t.match(await call('/health'), { status: 200 })
  t.equal(waiting.length, 3, 'no further handler ran')
  t.match(recorded, [{ type: 'overload_started', details: { exceeded: 'maxConcurrent', limit: 3, measured: 3, concurrent: 3, severity: 'critical' } }], 'once')
  release()
  t.strictSame((await Promise.all(working)).map(({ status }) => status), [200, 200, 200])
  t.match(await call('/work'), { status: 200 }, 'at once, without a sample')
  t.ok(await until(() => of(recorded, 'overload_ended').length === 1))
  t.match(of(recorded, 'overload_ended'), [{ details: { refused: 21, concurrent: 0 } }])
})

t.test('a burst that arrives at once takes no more places than there are', async t => {
  const { waiting, handler, release } = gate()
  const { call } = await build(t, { maxConcurrent: 3 }, app => {
    app.addHook('onRequest', async () => { await pause(20) }) // they all pass the first look before anyone is at work
    app.get('/slow', { config: open }, handler)
  })
  const burst = Array.from({ length: 12 }, () => call('/slow'))
  t.ok(await until(() => waiting.length === 3))
  const refused = await Promise.all(burst.map(answer => Promise.race([answer, pause(500, null)])))
  t.equal(refused.filter(answer => answer?.status === 503).length, 9)
  release()
  t.equal((await Promise.all(burst)).filter(({ status }) => status === 200).length, 3)
})

t.test('whoever sends his body slowly holds no place', async t => {
  const { app, call, open: send } = await build(t, { maxConcurrent: 2 }, app => { app.post('/slow', { config: open }, async () => 'done') })
  for (let i = 0; i < 5; i++) await send('POST /slow HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{')
  await pause(50)
  t.equal(app.overload.usage().concurrent, 0)
  t.match(await call('/work'), { status: 200 })
})

t.test('a handler whose client is gone is still at work: hanging up makes no room (CVE-2023-44487)', async t => {
  const { waiting, handler, release } = gate()
  const { app, call, open: send } = await build(t, { maxConcurrent: 2 }, app => { app.get('/slow', { config: open }, handler) })
  for (let i = 0; i < 2; i++) {
    const socket = await send('GET /slow HTTP/1.1\r\nHost: a\r\n\r\n')
    t.ok(await until(() => waiting.length === i + 1))
    socket.destroy()
  }
  await pause(50)
  t.match(await call('/slow'), REFUSED)
  t.equal(waiting.length, 2)
  release()
  t.ok(await until(() => app.overload.usage().concurrent === 0))
  t.match(await call('/work'), { status: 200 })
})

t.test('a handler that never answers who is gone gives its place back in the end', async t => {
  const { waiting, handler } = gate()
  const { app, open: send } = await build(t, { maxConcurrent: 1 }, app => { app.get('/slow', { config: open }, handler) })
  const closed = new Promise<void>(resolve => { app.server.once('request', (_request, response) => response.once('close', () => resolve())) })
  const socket = await send('GET /slow HTTP/1.1\r\nHost: a\r\n\r\n')
  t.ok(await until(() => waiting.length === 1))
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  socket.destroy()
  await closed
  await new Promise(setImmediate)
  mock.timers.tick(29_999)
  t.equal(app.overload.usage().concurrent, 1)
  mock.timers.tick(1)
  t.equal(app.overload.usage().concurrent, 0)
})

t.test('a place is given back once, however the answer comes about', async t => {
  const { app, call, open: send } = await build(t, { maxConcurrent: 1 }, app => {
    app.get('/throws', { config: open }, async () => { throw new Error('no') })
    app.get('/unknown', { config: open }, (_request, reply) => { reply.callNotFound() })
    app.get('/stream', { config: { access: 'public', answers: 'raw' } as never }, (_request, reply) => { reply.send(new PassThrough().end('done')) })
    app.get('/raw', { config: open }, (_request, reply) => {
      reply.hijack()
      reply.raw.end('done')
    })
    app.get('/events', { config: open }, (_request, reply) => {
      reply.hijack()
      reply.raw.writeHead(200, { 'content-type': 'text/event-stream' }).write(': hello\n\n')
    })
    app.get('/fails-late', { config: open, onSend: async () => { throw new Error('no') } }, async () => 'done')
  })
  const free = () => until(() => app.overload.usage().concurrent === 0)
  for (const [path, status] of [['/work', 200], ['/throws', 500], ['/unknown', 404], ['/stream', 200], ['/raw', 200], ['/fails-late', 500], ['/work', 200]] as const) {
    t.equal((await call(path)).status, status, path)
    t.ok(await free(), `${path}: free`)
    t.equal(app.overload.usage().concurrent, 0, 'and not below')
  }
  const events = await send('GET /events HTTP/1.1\r\nHost: a\r\n\r\n')
  await once(events, 'data')
  t.match(await call('/work'), REFUSED, 'a stream of events is at work while it is open')
  events.destroy()
  t.ok(await free())
  t.match(await call('/work'), { status: 200 })
})

t.test('negative control: without maxConcurrent every handler is begun', async t => {
  const { waiting, handler, release } = gate()
  const { call } = await build(t, {}, app => { app.get('/slow', { config: open }, handler) })
  const working = Array.from({ length: 30 }, () => call('/slow'))
  t.ok(await until(() => waiting.length === 30))
  release()
  t.ok((await Promise.all(working)).every(({ status }) => status === 200))
})

t.test('negative control: @fastify/under-pressure as its documentation shows it refuses health checks too, without security headers', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(underPressure, { maxHeapUsedBytes: 1, sampleInterval: 100 })
  app.get('/health', async () => 'alive')
  await app.ready()
  t.ok(await until(() => app.isUnderPressure()))
  const { statusCode, headers } = await app.inject('/health')
  t.match({ statusCode, sniffed: headers['x-content-type-options'] }, { statusCode: 503, sniffed: undefined })
})

t.test('a service that uses @fastify/under-pressure itself boots with it, before and after', async t => {
  for (const isBefore of [true, false]) {
    const app = Fastify(server({ logger: false }))
    t.teardown(() => app.close())
    if (isBefore) await app.register(underPressure, {})
    await app.register(plan)
    await app.register(events)
    await app.register(overload, {})
    if (!isBefore) await app.register(underPressure, {})
    await app.ready()
    t.type(app.memoryUsage().heapUsed, 'number')
  }
})

t.test('misconfiguration stops boot, and names what is wrong', async t => {
  for (const [options, message] of [
    [{ maxEventLoopDelay: 0 }, /maxEventLoopDelay/],
    [{ maxEventLoopDelay: '1s' }, /maxEventLoopDelay/],
    [{ maxHeapUsedBytes: -1 }, /maxHeapUsedBytes/],
    [{ maxHeapUsedBytes: getHeapStatistics().heap_size_limit + 1 }, /maxHeapUsedBytes: V8 ends the process at \d+ bytes/],
    [{ maxRssBytes: null }, /maxRssBytes/],
    [{ maxEventLoopUtilization: 1 }, /maxEventLoopUtilization/],
    [{ maxEventLoopUtilization: 98 }, /maxEventLoopUtilization/],
    [{ maxConcurrent: 0 }, /maxConcurrent/],
    [{ sampleInterval: 5 }, /sampleInterval/],
    [{ retryAfter: 0 }, /retryAfter/],
    [{ maxDelay: 100 }, /maxDelay/],
    [{ maxEventLoopDelay: false, maxHeapUsedBytes: false }, /every limit is off/],
  ] as const) {
    await t.rejects(build(t, options as never), { code: 'FST_BASTION_OVERLOAD_MISCONFIGURED', message }, JSON.stringify(options))
  }
  await t.rejects(build(t, {}, app => { app.get('/x', { config: { access: 'public', overload: true } as never }, async () => 'x') }),
    { code: 'FST_BASTION_PLAN_REFUSED', message: /GET \/x: overload: a route can only be exempt/ })
})
