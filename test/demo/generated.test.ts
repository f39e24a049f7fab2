/**
 * Whatever is sent to the portal, by whomever, it answers as its contract says: generated requests to every route (fast-check).
 * `FAST_CHECK_SEED` repeats a run or makes another one, `GENERATED_REQUESTS` makes it longer: in CI it is short.
 */
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import { Type } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { closed } from '../../schemas/index.js'
import fc, { seed, type RunDetails } from '../fixtures/fast-check.js'
import { castOf } from './cast.js'
import { CANARY, requestsTo, TOLD, type Generated } from './generators.js'
import { buildOn, faultsOf, freshDatabase, type Answer, type PortalUnderTest } from './portal.js'

/** From so many on, so large a share of the routes did what they are for, too. */
const { ENOUGH, SHARE } = process.env.CI === 'true' ? { ENOUGH: 5000, SHARE: 0.7 } : { ENOUGH: 10_000, SHARE: 0.8 }
const requests = Number(process.env.GENERATED_REQUESTS ?? ENOUGH)
t.setTimeout(300_000)
t.comment(`FAST_CHECK_SEED=${seed}`)

/** Requests after which everybody and everything is made anew. */
const SEASON = 200
/** Milliseconds that pass between two requests, and that one of them may take. */
const PACE = 50
const PATIENCE = 10_000
const OVERLOAD_PAUSE = 100
/** Milliseconds of a whole run, after which it has failed. */
const LIMIT = 240_000
/** Errors and worse. */
const FAILURE = 50
/** What was sent, but for what may be told. */
const LOGGED = new RegExp(`${CANARY}(?!${TOLD.slice(CANARY.length)})`)

interface Run {
  details: RunDetails<[Generated]>
  /** How often each status was answered, by route. */
  seen: Map<string, Map<number, number>>
}

/** What nobody caught. */
const uncaught: unknown[] = []
const keep = (error: unknown) => { uncaught.push(error) }
process.on('unhandledRejection', keep)
process.on('uncaughtExceptionMonitor', keep)

async function build (t: Test, declare?: (app: FastifyInstance) => void): Promise<PortalUnderTest> {
  const portal = await buildOn(t, await freshDatabase(t), { TRUST_PROXY: '127.0.0.1' }, declare)
  await portal.app.listen({ host: '127.0.0.1', port: 0 })
  return portal
}

/** Sends so many requests, one after the other, until one is answered as none should be. */
async function run (t: Test, portal: PortalUnderTest, numRuns: number, generated = requestsTo(portal.app), endOnFailure = false): Promise<Run> {
  const { app, log, pass } = portal
  const cast = await castOf(portal)
  const agent = new http.Agent({ keepAlive: true })
  t.teardown(() => { agent.destroy() })
  const { port } = app.server.address() as AddressInfo
  const seen: Run['seen'] = new Map()
  let sent = 0

  /** The machine may be busy with something else: who is told to come again does (the contract's 503 under overload). */
  async function sendUntilTaken (request: Generated): Promise<Answer> {
    for (;;) {
      const answer = await send(request)
      if (answer.status !== 503 || !app.overload.isUnderPressure()) return answer
      await setTimeout(OVERLOAD_PAUSE)
    }
  }

  async function send ({ way, method, url, headers, payload }: Generated): Promise<Answer> {
    const address = `10.1.${(sent >> 8) & 255}.${sent & 255}`
    const all = Object.fromEntries(Object.entries({ host: 'localhost:3000', ...headers }).map(([name, value]) => [name, cast.fill(value)]))
    const body = payload === undefined ? undefined : Buffer.from(cast.fill(payload), 'latin1')
    if (way === 'socket') return overSocket(method, cast.fill(url), { 'x-forwarded-for': address, ...all }, body)
    const answer = await app.inject({ method: method as 'GET', url: cast.fill(url), remoteAddress: address, headers: all, ...body !== undefined && { payload: body } })
    return { status: answer.statusCode, headers: answer.headers, text: answer.body, body: readBody(answer.headers['content-type'], answer.body) }
  }

  function overSocket (method: string, path: string, headers: Record<string, string>, body?: Buffer): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const request = http.request({ host: '127.0.0.1', port, agent, method, path, headers: { ...headers, ...body !== undefined && { 'content-length': body.length } } }, response => {
        const chunks: Buffer[] = []
        response.on('data', chunk => chunks.push(chunk))
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString()
          resolve({ status: response.statusCode!, headers: response.headers, text, body: readBody(response.headers['content-type'], text) })
        })
        response.on('error', reject)
      })
      request.on('error', reject)
      request.end(body)
    })
  }

  async function check (request: Generated): Promise<void> {
    if (sent++ % SEASON === 0) await cast.renew()
    pass(PACE)
    log.length = 0
    uncaught.length = 0
    const answer = await inTime(sendUntilTaken(request))
    const { status, headers, text } = answer
    const counts = seen.get(request.route) ?? seen.set(request.route, new Map()).get(request.route)!
    counts.set(status, (counts.get(status) ?? 0) + 1)
    // Whatever a promise of this request left behind.
    await new Promise(resolve => { setImmediate(resolve) })
    const faults = [
      ...faultsOf(`${request.method} ${request.url.replace(/\?.*/s, '')}`, answer, request.method === 'HEAD'),
      ...status >= 500 ? [`status ${status}`] : [],
      ...status >= 400 && text.includes(CANARY) ? [`the answer repeats what was sent: ${text}`] : [],
      ...status >= 400 && JSON.stringify(headers).includes(CANARY) ? [`a header repeats what was sent: ${JSON.stringify(headers)}`] : [],
      ...log.flatMap(faultsOfLine),
      ...uncaught.map(error => `nobody caught ${String(error)}`),
    ]
    if (faults.length > 0) throw new Error(`${request.route} (${status}): ${[...new Set(faults)].join('; ')}`)
    if (status === 401 && request.caller !== undefined) await cast.revive(request.caller)
  }

  const details = await fc.check(fc.asyncProperty(generated, check), { seed, numRuns, endOnFailure, interruptAfterTimeLimit: LIMIT, markInterruptAsFailure: true })
  return { details, seen }
}

function readBody (type: unknown, text: string): unknown {
  return /json/.test(String(type)) && text !== '' ? JSON.parse(text) : undefined
}

async function inTime<Value> (work: Promise<Value>): Promise<Value> {
  const over = new AbortController()
  const late = setTimeout(PATIENCE, undefined, { signal: over.signal }).then(() => { throw new Error(`no answer in ${PATIENCE} ms`) })
  late.catch(() => {})
  return Promise.race([work, late]).finally(() => { over.abort() })
}

/** A line is one JSON object, and nothing in it says that the portal failed. What was sent is in none, but for what may be told. */
function faultsOfLine (line: string): string[] {
  if (!/^\{[^\n]*\}\n$/.test(line)) return [`no line of the log: ${line}`]
  const { path, ...entry } = JSON.parse(line)
  return [
    // That somebody guesses is worth an alert.
    ...entry.level >= FAILURE && entry.alert === undefined ? [`the log says ${line}`] : [],
    ...LOGGED.test(JSON.stringify(entry)) ? [`the log repeats what was sent: ${line.slice(0, 2000)}`] : [],
  ]
}

t.test(`${requests} generated requests: each is answered by its contract, none by a failure [ASVS 2.2.1] [ASVS 16.5.1]`, async t => {
  const portal = await build(t)
  const started = performance.now()
  const { details, seen } = await run(t, portal, requests)
  t.comment(`${details.numRuns} requests in ${((performance.now() - started) / 1000).toFixed(1)} s; FAST_CHECK_SEED=${seed}`)
  for (const [route, counts] of [...seen].sort()) t.comment(`${route}: ${[...counts].sort().map(([status, count]) => `${status}×${count}`).join(' ')}`)
  if (details.failed) t.fail(`${String(details.errorInstance)}\n${fc.defaultReportMessage(details) as string}`)
  t.equal(details.numRuns, requests)
  const routes = portal.app.plan.routes.filter(({ url }) => url !== '*')
  const done = [...seen.values()].filter(counts => [...counts.keys()].some(status => status < 300))
  if (requests >= ENOUGH) t.ok(done.length >= SHARE * routes.length, `${done.length} of ${routes.length} routes did what they are for, too`)
})

t.test('while a route that fails on some input is found by the same run', async t => {
  const Text = Type.String({ maxLength: 100 })
  const answer = { response: { 200: closed({ length: Type.Integer() }) } }
  const faults: Record<string, { says: RegExp, handler: (text: string) => unknown }> = {
    'by throwing what is no refusal': { says: /status 500/, handler: text => { if (text.length > 40) throw new TypeError('too long for me') } },
    'by repeating what was sent': { says: /the answer repeats what was sent/, handler: text => { if (text.length > 40) throw Object.assign(new Error(`no ${text}`), { statusCode: 400 }) } },
    'by logging it': { says: /the log repeats what was sent/, handler: text => { if (text.length > 40) app.log.info({ text }) } },
    'by a promise that nobody waits for': { says: /nobody caught/, handler: text => { if (text.length > 40) Promise.reject(new Error('left behind')) } },
    'by the log of a failure': { says: /the log says/, handler: text => { if (text.length > 40) app.log.error('failed') } },
    'by an answer that is none': { says: /the problem has|not a problem|content-type/, handler: (text) => { if (text.length > 40) return 'raw' } },
  }
  let app: FastifyInstance
  const portal = await build(t, declared => {
    app = declared
    for (const [i, { handler }] of Object.values(faults).entries()) {
      declared.post(`/control/${i}`, { schema: { body: closed({ text: Text }), ...answer }, config: { access: 'public' } }, async (request, reply) => {
        const { text } = request.body as { text: string }
        if (handler(text) === 'raw') return reply.hijack().raw.writeHead(400).end('raw')
        return { length: text.length }
      })
    }
  })
  for (const [i, [how, { says }]] of Object.entries(faults).entries()) {
    const { details } = await run(t, portal, 1000, requestsTo(portal.app, route => route.url === `/control/${i}` || /^\/(?:health|posts)/.test(route.url)), true)
    t.ok(details.failed, `${how}, after ${details.numRuns}`)
    t.match(String(details.errorInstance), says, how)
    t.equal(details.counterexample?.[0].route, `POST /control/${i}`)
  }
})
