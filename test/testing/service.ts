/** A small service on the suite, as a team would write it, and what the attack kit is told of it; each test may weaken it in one place. */
import { createHmac } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import { Type } from '@sinclair/typebox'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import type { Test } from 'tap'
import { Forbidden } from '../../plugins/access/index.js'
import { NotFound } from '../../plugins/errors.js'
import bastion, { principalOf, resourceOf, server, type BastionOptions, type ServerOptions } from '../../plugins/index.js'
import type { AttackOptions } from '../../plugins/testing/index.js'
import { closed, noBody } from '../../schemas/index.js'
import { KEY, quotas, type Quotas } from './quotas.js'
import { traced, type Traces } from './traced.js'

const KEYS = { access: Buffer.alloc(32, 'access key of this test'), refresh: Buffer.alloc(32, 'refresh key of this test') }
export const CANARY = 'planted-where-it-must-stay'

interface Note { id: string, owner: string, text: string, secret: string }
interface Person { id: string, name: string, email: string, bio: string, passwordHash: string }

/** One place in which the service is weaker than it should be. */
export interface Weakness {
  /** Config of a route instead of its own, by `GET /notes/:noteId`. */
  config?: Readonly<Record<string, object>>
  suite?: (options: BastionOptions) => BastionOptions
  server?: ServerOptions
  /** Before the suite's routes, after the suite. */
  before?: (app: FastifyInstance) => void
  /** The application is ready. */
  after?: (app: FastifyInstance) => void
  /** What handlers do instead. */
  note?: (request: FastifyRequest, note: Note) => unknown
  reports?: (request: FastifyRequest) => unknown
  person?: (person: Person) => Partial<Person>
  /** Of people, as the route declares it. */
  emailIsOpen?: boolean
  /** Strangers are told that a note is there. */
  tells?: boolean
  /** A ticket is good for ever. */
  ticketsLast?: boolean
  /** Two of the same ticket are looked at before one of them is spent. */
  ticketsRace?: boolean
  quotas?: Quotas
  /** What is left behind where no answer shows it. */
  traces?: Traces
  /** How notes are found. */
  notes?: NonNullable<BastionOptions['access']>['resources']
}

export async function build (t: Test, weak: Weakness = {}): Promise<{ app: FastifyInstance, options: AttackOptions }> {
  const notes = new Map<string, Note>([['note-1', 'ada'], ['note-2', 'bob']].map(([id, owner]) => [id!, { id: id!, owner: owner!, text: 'A note', secret: CANARY }]))
  const people = new Map<string, Person>(['ada', 'bob'].map(id => [id, { id, name: id, email: `${id}@people.example`, bio: 'words', passwordHash: CANARY }]))
  let made = 2
  const findNote = ({ params, principal }: FastifyRequest) => {
    const note = notes.get((params as { noteId: string }).noteId)
    if (weak.tells === true && note !== undefined && note.owner !== principal!.userId) throw new Forbidden()
    return note
  }
  const config = (name: string, own: object) => weak.config?.[name] ?? own
  const lines: string[] = []
  const app = Fastify(server({ logger: { level: 'info', stream: { write: (line: string) => { lines.push(line) } } }, ...weak.server }))
  const suite: BastionOptions = {
    transport: { hosts: ['localhost'] },
    access: {
      roles: { member: { permissions: ['notes:write'] }, auditor: { inherits: ['member'], permissions: ['reports:read', 'people:private'] }, admin: { permissions: ['*'] } },
      resources: {
        note: { load: findNote, owner: note => (note as Note).owner },
        person: { load: request => people.get((request.params as { personId: string }).personId), owner: person => (person as Person).id, rule: () => true, hidden: false },
        ...weak.notes,
      },
    },
    csrf: { key: Buffer.alloc(32, 'csrf key') },
    sessions: { secret: Buffer.alloc(32, 'session key') },
    tokens: { issuer: 'https://api.example', audience: 'https://api.example', keys: KEYS },
    limits: { address: ['60/minute'], principal: ['60/minute'] },
    overload: false,
  }
  await app.register(bastion, weak.suite?.(suite) ?? suite)
  weak.before?.(app)
  const witnesses = traced(app, lines, notes, weak.traces ?? {})

  const NoteShape = closed({ id: Type.String(), owner: Type.String(), text: Type.String() })
  const NoteParams = closed({ noteId: Type.String({ maxLength: 20, pattern: '^[a-z0-9-]+$' }) })
  const NoteBody = closed({ text: Type.String({ minLength: 1, maxLength: 200 }), stars: Type.Optional(Type.Integer({ minimum: 0, maximum: 5 })), color: Type.Optional(Type.Union([Type.Literal('red'), Type.Literal('blue')])) })
  const shown = weak.note ?? ((_request, note) => note)
  const noteConfig = (action: string) => ({ access: { resource: 'note', action } })
  app.get('/notes/:noteId', { schema: { params: NoteParams, response: { 200: NoteShape } }, config: config('GET /notes/:noteId', noteConfig('read')) as never },
    async request => shown(request, (request.resource ?? notes.get((request.params as { noteId: string }).noteId) ?? raiseNotFound()) as Note))
  app.put('/notes/:noteId', { schema: { params: NoteParams, body: NoteBody, response: { 200: NoteShape } }, config: config('PUT /notes/:noteId', noteConfig('write')) as never }, async request => {
    const note = resourceOf(request, 'note' as never) as Note
    note.text = (request.body as { text: string }).text
    return note
  })
  app.delete('/notes/:noteId', { schema: { params: NoteParams, response: { 204: Type.Null() } }, config: config('DELETE /notes/:noteId', noteConfig('write')) as never }, async (request, reply) => {
    notes.delete((request.params as { noteId: string }).noteId)
    reply.code(204)
  })
  app.post('/notes', { schema: { body: NoteBody, response: { 201: NoteShape } }, config: config('POST /notes', { access: { permissions: 'notes:write' } }) as never }, async (request, reply) => {
    const note = { id: `note-${++made}`, owner: principalOf(request).userId, text: (request.body as { text: string }).text, secret: CANARY }
    notes.set(note.id, note)
    reply.code(201)
    return note
  })
  app.get('/people/:personId', {
    schema: { params: closed({ personId: Type.String({ maxLength: 20 }) }), response: { 200: closed({ id: Type.String(), name: Type.String(), bio: Type.String(), email: Type.Optional(weak.emailIsOpen === true ? Type.String() : Type.String({ visibleTo: ['owner', 'people:private'] })) }) } },
    config: config('GET /people/:personId', { access: { resource: 'person' } }) as never,
  }, async request => ({ ...request.resource as Person, ...weak.person?.(request.resource as Person) }) as never)
  app.get('/reports', { schema: { querystring: closed({ from: Type.Optional(Type.Integer({ minimum: 0, maximum: 100 })) }), response: { 200: closed({ total: Type.Integer() }) } }, config: config('GET /reports', { access: { permissions: 'reports:read' } }) as never },
    async request => (weak.reports?.(request) ?? { total: notes.size }) as never)
  app.post('/people/:personId/ban', { schema: { params: closed({ personId: Type.String({ maxLength: 20 }) }), body: noBody, response: { 204: Type.Null() } }, config: config('POST /people/:personId/ban', { access: { roles: 'admin', stepUp: true }, audit: 'data_modification' }) as never },
    async (_request, reply) => { reply.code(204) })
  app.get('/search', { schema: { response: { 200: Type.Array(Type.String()) } }, config: config('GET /search', { access: 'public', limits: ['5/minute'] }) as never }, async () => ['found'])
  app.post('/session', { schema: { body: closed({ name: Type.String({ maxLength: 50 }) }), response: { 200: closed({ csrf: Type.String() }) } }, config: { access: 'public', csrf: 'origin' } as never }, async (request, reply) => {
    await app.sessions.start(request, { id: 'bob', roles: ['member'] })
    return { csrf: reply.generateCsrf() }
  })
  const spent = new Set<string>()
  app.post('/tickets', { schema: { body: closed({ ticket: Type.String({ maxLength: 20 }) }), response: { 204: Type.Null() } }, config: { access: 'public' } as never }, async (request, reply) => {
    const { ticket } = request.body as { ticket: string }
    if (spent.has(ticket)) throw new NotFound()
    if (weak.ticketsRace === true) await setImmediate()
    if (weak.ticketsLast !== true) spent.add(ticket)
    reply.code(204)
  })
  quotas(app, weak.quotas ?? {}, config)
  t.teardown(() => app.close())
  await app.ready()
  weak.after?.(app)
  return { app, options: { ...optionsFor(app, notes), witnesses } }
}

function raiseNotFound (): never {
  throw new NotFound()
}

function optionsFor (app: FastifyInstance, notes: Map<string, Note>): AttackOptions {
  let fresh = 100
  const note = (owner: string) => () => {
    const id = `note-${++fresh}`
    notes.set(id, { id, owner, text: 'A note', secret: CANARY })
    return id
  }
  const token = (id: string, role: string, more: { authTime?: number, plan?: string } = {}) => async () => ({ token: (await app.tokens.issue({ id, roles: [role], ...more })).access_token })
  return {
    canaries: [CANARY],
    values: { scopes: ['notes:write'], name: 'bob', email: 'bob@people.example', password: 'Sent-as-1-password', ticket: () => `ticket-${++fresh}` },
    principals: {
      ada: token('ada', 'member'),
      bob: token('bob', 'member'),
      carl: token('carl', 'auditor', { plan: 'free' }),
      root: token('root', 'admin'),
      // Was seen a day ago.
      stale: token('stale', 'admin', { authTime: Math.floor(Date.now() / 1000) - 86_400 }),
      fay: token('fay', 'member', { plan: 'free' }),
      program: { key: KEY, id: 'key-1', roles: ['member'], scopes: ['notes:write'] },
      browser: async () => {
        const { headers, json } = await app.inject({ method: 'POST', url: '/session', headers: { host: 'localhost' }, payload: { name: 'bob' } })
        return { cookie: ([headers['set-cookie']].flat() as string[]).map(line => line.split(';')[0]).join('; '), csrf: (json as () => { csrf: string })().csrf, id: 'bob', roles: ['member'], authTime: Math.floor(Date.now() / 1000) }
      },
    },
    objects: { noteId: { ada: note('ada'), bob: note('bob') }, personId: { ada: 'ada', bob: 'bob' } },
    routes: { 'GET /people/:personId': { foreign: 'allow' }, 'DELETE /me': { erases: true }, 'POST /forgot': { mails: true } },
    sign: (claims, header) => {
      const text = [header, claims].map(part => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
      return `${text}.${createHmac('sha256', KEYS.access).update(text).digest('base64url')}`
    },
  }
}

export const ACCESS_KEY = KEYS.access
export const REFRESH_KEY = KEYS.refresh
