/**
 * CORS: what is prepared at boot is what @fastify/cors says itself, header for header, to whatever is asked.
 */
import officialCors from '@fastify/cors'
import Fastify, { type FastifyInstance, type FastifyReply } from 'fastify'
import { request as ask, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { Type } from '@sinclair/typebox'
import cors, { type CorsOptions } from '../plugins/cors.js'
import plan from '../plugins/plan/index.js'
import { server } from '../plugins/server.js'

interface Answer { status: number, said: Record<string, unknown> }
type Older = (reply: FastifyReply) => void

const LISTED = ['https://app.example.com', 'https://admin.example.com', 'http://localhost:5173']
const EXPOSED = ['ratelimit', 'ratelimit-policy', 'x-ratelimit-limit', 'x-ratelimit-remaining', 'x-ratelimit-reset', 'retry-after', 'deprecation', 'sunset', 'link']

/** Routes of every kind that answers differ by. */
function declare (app: FastifyInstance): void {
  const schema = { response: { 200: Type.Object({ ok: Type.Boolean() }) } }
  const config = { access: 'public', answers: 'raw' } as object
  app.get('/', { schema, config }, async () => ({ ok: true }))
  app.post('/', { config }, async (_request, reply) => reply.code(201).send())
  app.get('/varies', { config }, async (_request, reply) => reply.header('vary', 'accept').send('x'))
  app.get('/varies-more', { config }, async (_request, reply) => reply.header('vary', `${String(reply.getHeader('vary') ?? '')}|accept`).send('x'))
  app.get('/says-itself', { config }, async (_request, reply) => reply.header('Access-Control-Allow-Origin', 'https://other.example').send('x'))
  app.get('/takes-back', { config }, async (_request, reply) => reply.removeHeader('access-control-allow-origin').send('x'))
  app.get('/fails', { config }, async () => { throw new Error('no') })
  app.get('/empty', { config }, async (_request, reply) => reply.code(204).send())
  app.get('/off', { config: { ...config, cors: false } as object }, async () => 'x')
  app.route({ method: ['PUT', 'DELETE'], url: '/several', config, handler: async () => 'x' })
}

async function buildOurs (t: Test, options: CorsOptions, older?: Older): Promise<FastifyInstance> {
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  if (older !== undefined) app.addHook('onRequest', async (_request, reply) => { older(reply) })
  await app.register(plan)
  await app.register(cors, options)
  declare(app)
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app
}

/** @fastify/cors alone, with the same options. */
async function buildOfficial (t: Test, { origins = [], credentials = false, methods, allowedHeaders, exposedHeaders = EXPOSED, maxAge = 600 }: CorsOptions, older?: Older): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  if (older !== undefined) app.addHook('onRequest', async (_request, reply) => { older(reply) })
  await app.register(officialCors, {
    origin: origins === '*' ? '*' : origins.length === 0 ? false : [...origins],
    credentials,
    methods: methods ?? ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
    allowedHeaders: allowedHeaders ?? ['authorization', 'content-type', 'x-api-key', 'x-csrf-token'],
    exposedHeaders,
    maxAge,
  })
  declare(app)
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app
}

/** Over the wire and by inject: in the one the headers are prepared, in the other set one by one. */
async function answersOf (app: FastifyInstance, method: string, path: string, headers: Record<string, string>): Promise<Answer[]> {
  const { port } = app.server.address() as AddressInfo
  const wire = await new Promise<{ status: number, headers: IncomingHttpHeaders }>((resolve, reject) => {
    ask({ port, host: '127.0.0.1', method, path, headers }, response => {
      response.resume().on('end', () => resolve({ status: response.statusCode!, headers: response.headers }))
    }).on('error', reject).end()
  })
  const injected = await app.inject({ method: method as 'GET', url: path, headers })
  return [wire, { status: injected.statusCode, headers: injected.headers }].map(answer => ({
    status: answer.status,
    said: Object.fromEntries(Object.entries(answer.headers).filter(([name]) => name === 'vary' || name.startsWith('access-control-')).sort()),
  }))
}

const origins = [
  undefined, ...LISTED, 'null', 'https://evil.example', 'https://app.example.com.evil.example', 'https://app.example.com/', 'https://app.example.com:443',
  'HTTPS://APP.EXAMPLE.COM', 'https://app.example.com, https://evil.example', '*', '__proto__', 'constructor',
]
const questions = [
  ['GET', '/'], ['HEAD', '/'], ['POST', '/'], ['GET', '/varies'], ['GET', '/varies-more'], ['GET', '/says-itself'], ['GET', '/takes-back'], ['GET', '/fails'], ['GET', '/empty'],
  ['GET', '/off'], ['PUT', '/several'], ['GET', '/unknown'], ['DELETE', '/unknown'],
] as const
const variants: Record<string, CorsOptions> = {
  'by default': {},
  'with origins': { origins: LISTED },
  'with one origin': { origins: LISTED.slice(0, 1) },
  'with credentials': { origins: LISTED, credentials: true },
  'with names of its own': { origins: LISTED, methods: ['GET'], allowedHeaders: ['x-mine'], exposedHeaders: ['x-told', 'etag'], maxAge: 5 },
  'exposing nothing': { origins: LISTED, exposedHeaders: [] },
  'for everybody': { origins: '*' },
}
const WITH_OLDER_HOOKS = new Set(['by default', 'with credentials', 'for everybody'])
const olders: Record<string, Older | undefined> = {
  'no older hook': undefined,
  'an older hook that says what it varies with': reply => reply.header('Vary', 'accept'),
  'one that varies with the origin': reply => reply.header('vary', 'Accept, origin'),
  'one that varies with everything': reply => reply.header('vary', '*'),
  'one that reflects': reply => reply.headers({ 'access-control-allow-origin': 'https://evil.example', 'access-control-allow-credentials': 'true' }),
  'one that writes to the raw response': reply => reply.raw.setHeader('Vary', 'accept'),
}

for (const [name, options] of Object.entries(variants)) {
  t.test(`${name}, the same is said as by @fastify/cors`, async t => {
    for (const [older, hook] of Object.entries(olders)) {
      if (hook !== undefined && !WITH_OLDER_HOOKS.has(name)) continue
      const [ours, official] = [await buildOurs(t, options, hook), await buildOfficial(t, options, hook)]
      for (const [method, path] of questions) {
        for (const origin of hook === undefined ? origins : [undefined, LISTED[0], 'https://evil.example']) {
          const headers: Record<string, string> = origin === undefined ? {} : { origin }
          const [[said], both] = [await answersOf(official, method, path, headers), await answersOf(ours, method, path, headers)]
          t.same(both, [said, said], `${older}: ${method} ${path} from ${origin ?? 'nowhere'}`)
        }
      }
    }
  })

  t.test(`${name}, preflights are answered as by @fastify/cors`, async t => {
    const [ours, official] = [await buildOurs(t, options), await buildOfficial(t, options)]
    for (const path of ['/', '/deep/unknown']) {
      for (const origin of origins.filter(origin => origin !== undefined)) {
        for (const asked of ['GET', 'PROPFIND']) {
          const headers = { origin, 'access-control-request-method': asked, 'access-control-request-headers': 'authorization,x-other' }
          const [[said], both] = [await answersOf(official, 'OPTIONS', path, headers), await answersOf(ours, 'OPTIONS', path, headers)]
          // Where no origin is allowed the official plugin has no route for a preflight.
          t.same(both.map(answer => answer.said), [said!.said, said!.said], `${path} from ${origin} for ${asked}`)
          if (said!.status === 204) t.same(both.map(answer => answer.status), [204, 204])
        }
      }
    }
  })
}
