/** The audit trail: pages of it, whether it is whole, and what happens now. */
import { Readable } from 'node:stream'
import { Type, type Static } from '@sinclair/typebox'
import type { FastifyRequest } from 'fastify'
import type { AuditEvent, AuditOptions, Verdict } from '../../plugins/audit/index.js'
import { closed, IsoDateTime, page, PageQuery } from '../../schemas/index.js'
import type { Portal } from '../app.js'

/** Events for which an answer waits until they are kept. */
export const DURABLE: NonNullable<AuditOptions['durable']> = ['permission_change', 'account_unlocked', 'password_change', 'mfa_disabled', 'key_created', 'data_erased', 'data_exported']
/** Days: six years, as HIPAA wants the records of access to health data (45 CFR 164.316), a year of what is seen most. */
export const AUDIT_DAYS = { '*': 2192, access_denied: 366, rate_limited: 366, malformed_request: 366 }

const maybe = <Part extends Parameters<typeof Type.Optional>[0]>(part: Part) => Type.Union([part, Type.Null()])
const Text = Type.String()
const Outcome = Type.Union([Type.Literal('success'), Type.Literal('failure'), Type.Literal('unknown')])
const EventShape = closed({
  seq: Type.Integer(),
  id: Text,
  time: IsoDateTime,
  type: Text,
  vocabulary: maybe(Type.String({ description: "Its name in OWASP's Logging Vocabulary" })),
  outcome: Outcome,
  person: maybe(Type.String({ description: 'Who did it, by pseudonym' })),
  subject: maybe(Type.String({ description: 'To whom, where that is somebody else' })),
  userId: maybe(Type.String({ description: 'Null where nobody is behind the pseudonym any more' })),
  subjectId: maybe(Text),
  via: Type.Optional(Text),
  keyId: Type.Optional(Text),
  address: Type.Optional(Text),
  userAgent: Type.Optional(Text),
  requestId: Type.Optional(Text),
  method: Type.Optional(Text),
  route: Type.Optional(Text),
  resource: Type.Optional(closed({ type: Text, id: Type.Optional(Text) })),
  status: Type.Optional(Type.Integer()),
  details: Type.Record(Text, Type.Unknown({ open: 'each event has details of its own; they were redacted before they were kept' })),
})
/** In the chain. */
const Place = Type.String({ pattern: '^[0-9]{1,15}$' })
const AuditQuery = closed({
  ...PageQuery.properties,
  type: Type.Optional(Type.String({ maxLength: 64, pattern: '^[a-z][a-z0-9_]*$' })),
  userId: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
  outcome: Type.Optional(Outcome),
  from: Type.Optional(IsoDateTime),
  to: Type.Optional(IsoDateTime),
  cursor: Type.Optional(Place),
})
const Break = closed({ seq: Type.Integer(), kind: Text, reason: Text })
const VerdictShape = closed({ whole: Type.Boolean(), events: Type.Integer(), purged: Type.Integer(), seq: Type.Integer(), break: maybe(Break) })

const StreamQuery = closed({
  after: Type.Optional({ ...Place, description: 'The place of the last event that was read: it goes on from there. Who connects again says it by Last-Event-ID' }),
  expectedUser: Type.Optional(Type.String({ maxLength: 64, description: 'The id of the user whose page asks: refused where another one is signed in by now' })),
  named: Type.Optional(Type.Boolean({ default: true, description: 'Whether each event goes by the name of its type; without names a page hears all of them as `message`' })),
})

/** Milliseconds after which a reader is looked at again, also where nothing happens. */
const RECHECK_MS = 3000
/** More than streams ask, each of them at most five times a second; and no place to guess credentials without end. */
const READER_LIMITS = ['1000/minute']
/** What a reader is known by. */
const CREDENTIALS = ['host', 'authorization', 'cookie', 'x-api-key', 'dpop', 'user-agent'] as const

export function auditRoutes ({ app }: Portal): void {
  const access = { permissions: 'audit:read' } as const
  const open = new Set<AbortController>()
  let walk: Promise<Verdict> | null = null
  app.addHook('preClose', async () => { for (const reader of open) reader.abort() })

  app.get('/audit', {
    schema: { querystring: AuditQuery, response: { 200: page(EventShape) } },
    config: { access },
  }, async request => await app.audit.read(request.query) as { items: Static<typeof EventShape>[], nextCursor: string | null })

  app.get('/audit/verify', {
    schema: { response: { 200: VerdictShape } },
    config: { access },
  }, async () => {
    // A walk along all of it: who asks meanwhile gets the same answer.
    walk ??= app.audit.verify().finally(() => { walk = null })
    return walk
  })

  app.get('/audit/stream', {
    schema: { headers: Type.Object({ 'last-event-id': Type.Optional(Place) }), querystring: StreamQuery },
    // A page that is left open asks by itself: nobody need be there.
    config: { access, answers: 'raw', overload: false, activity: false },
    exposeHeadRoute: false,
  }, async (request, reply) => {
    const { named = true, after: begin } = request.query
    const after = request.headers['last-event-id'] ?? begin
    const reader = new AbortController()
    open.add(reader)
    reply.raw.on('close', () => {
      open.delete(reader)
      reader.abort()
    })
    reply.headers({ 'content-type': 'text/event-stream', 'x-accel-buffering': 'no' })
    return Readable.from(streamTo(request, reader.signal, named, after === undefined ? undefined : Number(after)))
  })

  // Asked by the stream, with the credential of its reader: all that guards the stream guards this.
  app.get('/audit/stream/reader', {
    schema: { response: { 204: Type.Null() } },
    config: { access, limits: READER_LIMITS, https: false, overload: false, activity: false },
    exposeHeadRoute: false,
    logLevel: 'warn',
  }, async (_request, reply) => { reply.code(204) })

  async function * streamTo (request: FastifyRequest, signal: AbortSignal, named: boolean, after?: number): AsyncGenerator<string> {
    yield 'retry: 3000\n\n'
    let checked = Date.now()
    for await (const events of app.audit.follow({ after, signal })) {
      if (events.length > 0 || Date.now() - checked >= RECHECK_MS) {
        if (!await isStillAllowed(request)) return
        checked = Date.now()
        yield events.length === 0 ? ': still here\n\n' : events.map(event => written(event, named)).join('')
      }
    }
  }

  async function isStillAllowed ({ headers, ip }: FastifyRequest): Promise<boolean> {
    const credentials = Object.fromEntries(CREDENTIALS.flatMap(name => headers[name] === undefined ? [] : [[name, headers[name]]]))
    return (await app.inject({ url: '/audit/stream/reader', headers: credentials, remoteAddress: ip })).statusCode === 204
  }
}

function written (event: AuditEvent, named: boolean): string {
  return `id: ${event.seq}\n${named ? `event: ${event.type}\n` : ''}data: ${JSON.stringify(event)}\n\n`
}
