/** A service that takes API keys, with its table of keys in a real database that counts what it is asked. */
import Fastify, { type FastifyInstance } from 'fastify'
import { Type } from '@sinclair/typebox'
import type { Test } from 'tap'
import bastion, { server, type Principal } from '../../plugins/index.js'
import { API_KEYS_TABLE, sqlApiKeys, type ApiKeysOptions, type IssuedApiKey, type KeyOwner, type NewApiKey } from '../../plugins/api-keys/index.js'
import type { SecurityEvent } from '../../plugins/events.js'
import { type Sql } from '../../plugins/sql.js'
import type { StateOptions } from '../../plugins/state/index.js'
import { embedded } from '../fixtures/embedded.js'

export const SECRET = Buffer.from('0123456789abcdef0123456789abcdef')

export interface Answer { status: number, code: string | undefined, principal: Principal | null | undefined, headers: Record<string, unknown> }
export interface Service {
  app: FastifyInstance
  clock: { ms: number }
  /** The users, who may be changed. */
  people: Record<string, KeyOwner>
  events: SecurityEvent[]
  log: string[]
  /** Statements so far, and how often an owner was asked for. */
  asked: { statements: string[], owners: number }
  handled: string[]
  make: (key?: Partial<NewApiKey>, user?: string) => Promise<IssuedApiKey>
  ask: (url: string, key: string | Record<string, string>, address?: string) => Promise<Answer>
}

export async function database (t: Test): Promise<Sql> {
  const sql = await embedded()
  t.teardown(() => sql.close())
  await sql.script(API_KEYS_TABLE)
  return sql
}

export function person (id: string, roles: readonly string[]): Principal {
  return { kind: 'user', id, userId: id, roles, via: 'bearer', authTime: 0, credentialId: `of ${id}` }
}

interface More { state?: StateOptions, limits?: object, onClose?: () => Promise<void> }

export async function service (t: Test, sql: Sql, options: Partial<ApiKeysOptions> = {}, more: More = {}): Promise<Service> {
  const clock = { ms: Date.parse('2026-01-01') }
  const people: Record<string, KeyOwner> = {
    ada: { isActive: true, roles: ['editor'], plan: 'pro' }, ben: { isActive: true, roles: ['reader'] },
  }
  const events: SecurityEvent[] = []
  const log: string[] = []
  const handled: string[] = []
  const asked: Service['asked'] = { statements: [], owners: 0 }
  const counted: Sql = {
    ...sql,
    query: (text, values) => {
      asked.statements.push(text)
      return sql.query(text, values)
    },
  }
  const app = Fastify(server({ trustProxy: ['127.0.0.1'], logger: { level: 'trace', stream: { write: (line: string) => { log.push(line) } } } as never }))
  t.teardown(() => app.close())
  await app.register(bastion, {
    state: { now: () => clock.ms, ...more.state },
    limits: { flood: false, ...more.limits },
    access: { roles: { reader: { permissions: ['things:read'] }, editor: { inherits: ['reader'], permissions: ['things:write'] } }, permissions: ['things:delete'], now: () => clock.ms },
    tokens: { issuer: 'https://api.example.com', audience: 'https://api.example.com', keys: { access: Buffer.alloc(32, 1), refresh: Buffer.alloc(32, 2) } },
    apiKeys: {
      secret: SECRET,
      store: sqlApiKeys(counted),
      async owner (id) {
        asked.owners += 1
        return people[id] ?? null
      },
      now: () => clock.ms,
      ...options,
    },
  })
  if (more.onClose !== undefined) app.addHook('onClose', more.onClose)
  app.events.listen(event => { events.push(event) })
  const schema = { response: { 200: Type.Object({ principal: Type.Union([Type.Null(), Type.Unknown({ open: 'a test looks at all of it' })]) }, { additionalProperties: false }) } }
  const handler = async ({ url, principal }: { url: string, principal: Principal | null }) => {
    handled.push(url)
    return { principal }
  }
  app.get('/read', { schema, config: { access: { permissions: 'things:read' } } }, handler)
  app.get('/write', { schema, config: { access: { permissions: 'things:write' } } }, handler)
  app.get('/public', { schema, config: { access: 'public' } }, handler)
  app.get('/user', { schema, config: { access: 'user' } }, handler)
  app.get('/key', { schema, config: { access: { via: ['key'] } } }, handler)
  app.get('/stepped', { schema, config: { access: { via: ['key'], stepUp: true } } }, handler)
  app.get('/budget', { schema, config: { access: 'public', limits: { windows: ['5/minute'], by: 'key' } } }, handler)
  app.get('/poison', { schema, config: { access: { via: ['key'] } } }, async ({ principal }) => {
    Object.assign(principal!, { userId: 'ben', plan: 'free' })
    for (const list of [principal!.scopes, principal!.roles]) {
      try {
        (list as string[]).push('things:write', 'editor')
      } catch {} // frozen
    }
    return { principal: null }
  })
  await app.ready()

  return {
    app,
    clock,
    people,
    events,
    log,
    asked,
    handled,
    make: (key = {}, user = 'ada') => app.apiKeys.create(person(user, people[user]!.roles), { name: 'Nightly', scopes: ['things:read'], ...key }),
    async ask (url, key, address = '192.0.2.1') {
      const headers = typeof key === 'string' ? { 'x-api-key': key } : key
      const answer = await app.inject({ url, headers: { host: 'localhost', ...headers }, remoteAddress: address })
      const { code, principal } = answer.json() as { code?: string, principal?: Principal | null }
      return { status: answer.statusCode, code, principal, headers: answer.headers }
    },
  }
}

/** `sk_live_…` with one character changed. */
export function typo (text: string, at: number): string {
  return `${text.slice(0, at)}${text[at] === 'a' ? 'b' : 'a'}${text.slice(at + 1)}`
}

export const INVALID = { status: 401, code: 'FST_BASTION_API_KEYS_INVALID' }
export const DISABLED = { status: 403, code: 'FST_BASTION_API_KEYS_DISABLED' }
