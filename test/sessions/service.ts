/** A service with browser sessions, and a browser's worth of cookies to ask it with. */
import { randomBytes } from 'node:crypto'
import { Type } from '@sinclair/typebox'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import bastion, { principalOf, server, type BastionOptions } from '../../plugins/index.js'
import type { SecurityEvent } from '../../plugins/events.js'
import type { SessionsOptions } from '../../plugins/sessions/index.js'

declare module 'fastify' {
  interface Session {
    cart?: string[]
    theme?: string
    note?: string
  }
}

export const SECRET = Buffer.alloc(32, 7)
const Anything = Type.Object({ value: Type.Unknown({ open: 'whatever a test asks for' }) }, { additionalProperties: false })
const Body = Type.Object({ value: Type.Optional(Type.String()) }, { additionalProperties: false })
const response = { 200: Anything }

export interface Answer { status: number, code: string | undefined, value: any, cookies: string[], /** How many cookies were given. */ given: number }
export interface Browser {
  /** Its cookies, by name. */
  jar: Map<string, string>
  ask: (method: string, url: string, more?: { value?: string, headers?: Record<string, string> }) => Promise<Answer>
  /** Signs in and answers the cookie. */
  signIn: (user?: string) => Promise<string>
}
export interface Service {
  app: FastifyInstance
  events: SecurityEvent[]
  clock: { ms: number }
  browser: (cookies?: Record<string, string>) => Browser
  /** Whose account is as it is. */
  people: Record<string, { roles: string[], isActive: boolean }>
}

/** `wait` holds handlers of `/slow` until it is called. */
export async function service (t: Test, sessions: Partial<SessionsOptions> = {}, more: BastionOptions = {}): Promise<Service & { wait: { in: () => Promise<void>, go: () => void } }> {
  const clock = { ms: Date.UTC(2026, 0, 1) }
  const now = () => clock.ms
  const events: SecurityEvent[] = []
  const people: Service['people'] = { ada: { roles: ['user'], isActive: true }, bob: { roles: ['user'], isActive: true } }
  const load = async (id: string) => people[id]?.isActive === true ? { id, roles: people[id].roles } : null
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion, {
    state: { now },
    access: { roles: { user: { permissions: ['things:read'] }, admin: { inherits: ['user'], permissions: ['things:write'] } }, now },
    tokens: { issuer: 'i', audience: 'a', keys: { access: Buffer.alloc(32, 1), refresh: Buffer.alloc(32, 2) }, now },
    csrf: { key: Buffer.alloc(32, 9) },
    sessions: { secret: SECRET, now, ...sessions },
    ...more,
  } as BastionOptions)
  app.events.listen(event => { events.push(event) })

  let entered = () => {}
  let release = () => {}
  const inside = new Promise<void>(resolve => { entered = resolve })
  const gate = new Promise<void>(resolve => { release = resolve })

  app.post('/login', { schema: { body: Body, response }, config: { access: 'public', csrf: false } }, async request => {
    const id = (request.body as { value: string }).value
    await app.sessions.start(request, { id, roles: [], amr: ['pwd'] }, { load, keep: ['cart'] })
    return { value: 'in' }
  })
  app.get('/me', { schema: { response }, config: { access: 'user' } }, async request => ({ value: principalOf(request) }))
  app.get('/news', { schema: { response }, config: { access: 'user', activity: false } }, async request => ({ value: principalOf(request) }))
  app.get('/write', { schema: { response }, config: { access: { permissions: 'things:write' } } }, async () => ({ value: 'written' }))
  app.get('/public', { schema: { response }, config: { access: 'public' } }, async request => ({ value: request.principal?.id ?? null }))
  app.get('/look', { schema: { response }, config: { access: 'public' } }, async request => ({ value: { cart: request.session.get('cart') ?? null, theme: request.session.get('theme') ?? null } }))
  app.post('/cart', { schema: { body: Body, response }, config: { access: 'public', csrf: false } }, async request => {
    request.session.set('cart', [...request.session.get('cart') ?? [], (request.body as { value: string }).value])
    return { value: request.session.get('cart') }
  })
  app.post('/theme', { schema: { body: Body, response }, config: { access: 'public', csrf: false } }, async request => {
    request.session.set('theme', (request.body as { value: string }).value)
    return { value: null }
  })
  app.post('/slow', { schema: { body: Body, response }, config: { access: 'public', csrf: false } }, async request => {
    request.session.set('note', 'written late')
    entered()
    await gate
    return { value: null }
  })
  app.post('/renew', { schema: { body: Body, response }, config: { access: 'user', csrf: false } }, async request => {
    await app.sessions.renew(request, { load, authTime: Math.floor(now() / 1000), amr: ['pwd', 'otp', 'mfa'] })
    return { value: 'fresh' }
  })
  app.post('/slow-renew', { schema: { body: Body, response }, config: { access: 'user', csrf: false } }, async request => {
    entered()
    await gate
    await app.sessions.renew(request)
    return { value: 'fresh' }
  })
  app.post('/logout', { schema: { body: Body, response }, config: { access: 'user', csrf: false } }, async request => {
    await app.sessions.end(request)
    return { value: 'out' }
  })
  app.post('/reload', { schema: { body: Body, response }, config: { access: 'public', csrf: false } }, async request => {
    await request.session.reload()
    if ((request.body as { value?: string }).value !== undefined) request.session.set('theme', 'reloaded')
    return { value: request.session.get('theme') ?? null }
  })
  app.post('/slow-twice', { schema: { body: Body, response }, config: { access: 'public', csrf: false } }, async request => {
    const { session } = request
    session.set('note', 'once')
    entered()
    await gate
    await session.save()
    session.set('note', 'twice')
    await session.save()
    session.set('note', 'three times')
    return { value: null }
  })
  app.post('/write-after', { schema: { body: Body, response }, config: { access: 'user', csrf: false } }, async request => {
    const { session } = request
    if ((request.body as { value: string }).value === 'end') await app.sessions.end(request)
    else if ((request.body as { value: string }).value === 'renew') await app.sessions.renew(request)
    else await app.sessions.start(request, { id: 'ada', roles: ['user'] })
    for (const note of ['a', 'b', 'c']) {
      session.set('note', note)
      await session.save()
    }
    return { value: null }
  })
  app.post('/slow-logout', { schema: { body: Body, response }, config: { access: 'user', csrf: false } }, async request => {
    entered()
    await gate
    await app.sessions.end(request)
    return { value: 'out' }
  })
  app.post('/ended-login', { schema: { body: Body, response }, config: { access: 'public', csrf: false } }, async request => {
    await app.sessions.start(request, { id: 'ada', roles: [] }, {
      load: async () => {
        await app.sessions.endAll('ada')
        return { id: 'ada', roles: ['admin'] }
      },
    })
    return { value: 'in' }
  })
  await app.ready()

  function browser (cookies: Record<string, string> = {}): Browser {
    const jar = new Map(Object.entries(cookies))
    const ask: Browser['ask'] = async (method, url, { value, headers = {} } = {}) => {
      const cookie = [...jar].map(([name, text]) => `${name}=${text}`).join('; ')
      const answer = await app.inject({
        method: method as 'GET', url, headers: { host: 'localhost', ...cookie !== '' && { cookie }, ...headers }, ...method === 'POST' && { payload: value === undefined ? {} : { value } },
      })
      const set = [answer.headers['set-cookie'] ?? []].flat()
      for (const line of set) {
        const [, name, text] = /^([^=]+)=([^;]*)/.exec(line)!
        if (/max-age=0|expires=thu, 01 jan 1970/i.test(line)) jar.delete(name!)
        else jar.set(name!, text!)
      }
      const body = answer.body === '' ? {} : answer.json()
      return { status: answer.statusCode, code: body.code, value: body.value, cookies: set, given: set.length }
    }
    return {
      jar,
      ask,
      async signIn (user = 'ada') {
        const answer = await ask('POST', '/login', { value: user })
        if (answer.status !== 200) throw new Error(`sign-in: ${answer.status} ${answer.code}`)
        return [...jar.values()].at(-1)!
      },
    }
  }
  return { app, events, clock, browser, people, wait: { in: () => inside, go: release } }
}

/** A prefix of its own on a Redis that others use too. */
export const onRedis = (url: string, more: object = {}) => ({ state: { redis: url, secret: Buffer.alloc(32, 3), prefix: `t${randomBytes(6).toString('hex')}`, deadline: 5000, ...more } })
