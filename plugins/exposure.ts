/**
 * Exposure: what leaves is what was declared, and only what this caller may see.
 *
 * Threat: handlers that answer with whole records (OWASP API3:2023, CWE-200): a hash, a secret, another's address.
 * Defence: every success has a schema, and is serialised by it; a field may say who sees it (`visibleTo`), and the
 * serialisers for each kind of caller are compiled at boot. An answer without a schema, or one that was made elsewhere
 * (string, Buffer, stream, `Response`, another serialiser), is a 500 and an event, unless the route declares
 * `answers: 'raw'`; what a handler writes to the socket itself ends the connection. A schema through which everything passes does not boot.
 * Not covered: what a declared field holds, and what a service's own `onSend` hooks make of a finished answer.
 */
import type { ServerResponse } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import { createError } from '@fastify/error'
import { SerializerSelector } from '@fastify/fast-json-stringify-compiler'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import fp from 'fastify-plugin'
import { Problem } from '../schemas/problem.js'
import { isProblemOf } from './errors.js'
import type { Contribution, PlannedRoute, Step } from './plan/index.js'
import { PreparedResponse } from './prepared.js'
import { addedTo, hasReference, isSchema, referredBy, type Schema } from './references.js'
import { OWNER, readAnswer, viewOf, type Reading } from './views.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** `raw`: this route answers with a page, a file or a stream, and its bytes are not filtered. */
    answers?: 'raw'
  }
  interface FastifyReply {
    /** @internal What the declared serialiser made of the answer. */
    [made]: string | null
    /** @internal The answer has passed the filter, or was refused by it: from here on Fastify writes. */
    [passed]: boolean
  }
}

/** The handler answered with what its route does not declare; nothing of it left. The log says what, and the line to add. */
export const UndeclaredAnswer = createError('FST_BASTION_EXPOSURE_UNDECLARED_ANSWER', 'The answer is not one that this route declares', 500)

type Serializer = (payload: unknown) => string
type Compiler = (part: { schema: unknown }) => Serializer
type WriteHead = (this: ServerResponse, status: number, reason?: string, headers?: object) => ServerResponse

/** The serialisers of one status: the index is a bit for each sight that the caller has. */
interface Answer { sights: readonly string[], serializers: readonly Serializer[] }
/** By status, `2xx` or `default`; then by media type where the schema distinguishes them. */
type Answers = ReadonlyMap<string, Answer | ReadonlyMap<string, Answer>>

/** Kinds of sight that one answer may distinguish: each doubles the serialisers. */
const MAX_SIGHTS = 5
const problem = TypeCompiler.Compile(Problem)
const RAW_HINT = "declare that status in schema.response, or config: { answers: 'raw' }"

/** Streams of events are always UTF-8. */
const TEXT = /^(?:text\/(?!event-stream)|application\/xml\b|[\w.-]+\/[\w.-]+\+xml\b)/i
const CHARSET = /;\s*charset=/i

const made = Symbol('bastion.exposure.made')
const passed = Symbol('bastion.exposure.passed')
const replyOf = Symbol('bastion.exposure.reply')

async function exposure (app: FastifyInstance): Promise<void> {
  const build = SerializerSelector as unknown as () => (shared: unknown, options: object) => Compiler
  /** One schema is compiled once, however many routes share it; what refers to others, once an instance. */
  const compiled = new WeakMap<object, WeakMap<object, Answer>>()
  const instances = new Map<string, FastifyInstance>()

  app.decorateReply(made as never, null as never)
  app.decorateReply(passed as never, false as never)
  app.setSerializerCompiler(({ schema, method, url }) => {
    try {
      return compileAnswer(schema, instances.get(`${String(method)} ${url}`) ?? app).serializers[0]!
    } catch {
      return refuseToSerialize // the plan objects to this route: it does not boot
    }
  })
  const ours = app.serializerCompiler!
  // A scope that adds schemas would otherwise get a compiler of Fastify's own.
  app.addHook('onRegister', function keepSerializerCompiler (scope) { scope.setSerializerCompiler(ours as never) })

  app.plan.contribute({
    concern: 'problems',
    declare (route) {
      instances.set(`${route.method} ${route.url}`, route.instance)
      declareProblems(route)
    },
  })
  const concern = 'exposure'
  app.plan.contribute({ concern, stage: 'resource', compile: route => isFiltered(route) ? { step: guardSocket } : undefined })
  app.plan.contribute({ concern, stage: 'view', compile: route => isFiltered(route) ? { step: serializeBy(compileRoute(route)) } : undefined })
  app.plan.contribute({ concern, stage: 'expose', compile: compileFilter })

  function compileFilter (route: PlannedRoute): Contribution {
    if (route.kind === 'not-found') return { step: refuseUndeclared(new Set()) }
    const { answers } = (route.options.config ?? {}) as { answers?: unknown }
    if (answers !== undefined && answers !== 'raw') route.object(`answers: ${JSON.stringify(answers)} is not 'raw'`)
    if (route.options.serializerCompiler !== undefined || route.instance.serializerCompiler !== ours) {
      route.object('a serializer compiler of its own would skip the filter of answers: remove it')
    }
    const responses = responsesOf(route.options)
    const readings = Object.entries(responses).flatMap(([status, schema]) => schemasOf(schema).map(([mediaType, part]) =>
      ({ name: mediaType === null ? status : `${status} ${mediaType}`, reading: readAnswer(part, addedTo(route.instance)) })))
    for (const { name, reading } of readings) objectTo(route, name, reading)
    if (!isFiltered(route)) return { step: completeType, promise: 'raw' }
    const successes = Object.keys(responses).filter(status => /^[23]|^default$/.test(status))
    if (successes.length === 0) {
      route.object("no schema for its success: add schema: { response: { 200: … } }, or config: { answers: 'raw' } for pages, files and streams")
    }
    return {
      step: refuseUndeclared(new Set(Object.keys(responses))),
      promise: {
        statuses: successes,
        ...promised(readings, 'sights', ({ sights }) => sights),
        ...promised(readings, 'open', ({ open }) => open.map(({ path, reason }) => `${path || '/'}: ${reason}`)),
      },
    }
  }

  function objectTo (route: PlannedRoute, name: string, { sights, open, faults }: Reading): void {
    const hasAccess = app.hasDecorator('access')
    for (const fault of faults) route.object(`its ${name}: ${fault}`)
    if (sights.length > MAX_SIGHTS) route.object(`its ${name} distinguishes ${sights.length} kinds of sight, more than ${MAX_SIGHTS}: split the answer`)
    if (sights.length > 0 && !hasAccess) route.object(`its ${name}: visibleTo needs the access plugin, which knows who may see what`)
    const unknown = sights.filter(sight => sight !== OWNER && hasAccess && !app.access.permissions.includes(sight))
    if (unknown.length > 0) route.object(`its ${name}: visibleTo: unknown permission ${unknown.join(', ')}`)
    if (!isFiltered(route)) return
    for (const { path, reason } of open) {
      if (reason !== null) continue
      route.object(`its ${name} lets everything through${path === '' ? '' : ` at ${path}`}: declare what is in it, or say why with { open: 'the reason' }`)
    }
  }

  /** The serialisers of a route; what cannot be compiled is objected to. */
  function compileRoute (route: PlannedRoute): Answers {
    const answers = new Map<string, Answer | Map<string, Answer>>()
    for (const [status, schema] of Object.entries(responsesOf(route.options))) {
      const byType = new Map<string, Answer>()
      for (const [mediaType, part] of schemasOf(schema)) {
        try {
          const answer = compileAnswer(part, route.instance)
          if (mediaType === null) answers.set(status, answer)
          else answers.set(status, byType.set(mediaType.toLowerCase(), answer))
        } catch (error) {
          route.object(`its ${status} cannot be serialised: ${(error as Error).message}`)
        }
      }
    }
    return answers
  }

  /** All serialisers of a schema: the first is for somebody who may see nothing that is not for all. */
  function compileAnswer (schema: unknown, instance: FastifyInstance): Answer {
    const owner: object = hasReference(schema) ? instance : app
    const known = compiled.get(owner) ?? new WeakMap<object, Answer>()
    compiled.set(owner, known)
    const before = isSchema(schema) ? known.get(schema) : undefined
    if (before !== undefined) return before
    const shared = addedTo(instance)
    const { sights } = readAnswer(schema, shared)
    if (sights.length > MAX_SIGHTS) return { sights, serializers: [refuseToSerialize] }
    // Only what it refers to: all that are added would be read again for each.
    const compile = build()(referredBy(schema, shared), { ajv: { strict: false }, compileValidators: true })
    const serializers = Array.from({ length: 2 ** sights.length }, (_none, bits) =>
      compile({ schema: viewOf(schema as Schema, new Set(sights.filter((_sight, i) => (bits & (1 << i)) !== 0)), shared) }))
    const answer = { sights, serializers }
    known.set(schema as object, answer)
    return answer
  }

  /** What is declared is looked up when the answer is made: hooks of the service may have changed it until then. */
  function serializeBy (answers: Answers): Step {
    const byStatus = new Map<number, ReturnType<Answers['get']>>()

    function answerFor (reply: FastifyReply): Answer | undefined {
      const status = reply.statusCode
      let found = byStatus.get(status)
      if (found === undefined) {
        found = answers.get(String(status)) ?? answers.get(`${String(status)[0]}xx`) ?? answers.get('default')
        byStatus.set(status, found)
      }
      if (!(found instanceof Map)) return found as Answer | undefined
      const [mediaType = ''] = String(reply.getHeader('content-type')).split(';', 1)
      return found.get(mediaType.trim().toLowerCase()) ?? found.get('*/*')
    }

    function serializeDeclared (this: FastifyReply, payload: unknown): string {
      const answer = answerFor(this)
      if (answer === undefined) throw undeclared(this.request, this, `answered ${this.statusCode}`, typeof payload)
      let bits = 0
      for (let i = 0; i < answer.sights.length; i++) if (sees(this.request, answer.sights[i]!)) bits |= 1 << i
      const text = answer.serializers[bits]!(payload)
      this[made] = text
      return text
    }

    return function chooseSerializer (request, reply) {
      // Fastify leaves the type open only where the handler set a serialiser of its own.
      if (reply.getHeader('content-type') === undefined) throw undeclared(request, reply, 'set a serializer of its own', 'serializer')
      reply.serializer(serializeDeclared as never)
    }
  }

  function sees (request: FastifyRequest, sight: string): boolean {
    const { principal } = request
    if (principal === null) return false
    return sight === OWNER ? app.access.isOwner(request) : app.access.can(principal, sight as never)
  }

  function refuseUndeclared (declared: ReadonlySet<string>): Step {
    return function refuseUndeclaredAnswer (request, reply, payload) {
      reply[passed] = true
      const status = reply.statusCode
      if (typeof payload === 'string' && payload === reply[made]) return
      if (payload === undefined || payload === null || payload === '') {
        if (status >= 300 || isDeclared(declared, status)) return
      } else if (status >= 400 && (isProblemOf(reply, payload) || isProblem(payload))) return
      reply.serializer(null as never)
      throw undeclared(request, reply, `answered ${status} with ${kindOf(payload)}`, kindOf(payload))
    }
  }

  function undeclared (request: FastifyRequest, reply: FastifyReply, what: string, kind: string) {
    app.events.record('undeclared_answer', request, { status: reply.statusCode, kind })
    return Object.assign(new UndeclaredAnswer(), { cause: new Error(`${request.method} ${request.routeOptions.url ?? '*'} ${what}: ${RAW_HINT}`) })
  }

  /** Until the answer has passed the filter nothing may be written, whoever writes it (`reply.raw`, `reply.hijack`). */
  function guardSocket (_request: FastifyRequest, reply: FastifyReply): void {
    if (reply.raw instanceof PreparedResponse && reply.raw.guardHead(mayBeWritten, reply)) return
    const socket = reply.raw as ServerResponse & { [replyOf]?: FastifyReply }
    socket[replyOf] = reply
    socket.writeHead = writeHeadOfPassed as never
  }

  function mayBeWritten (reply: FastifyReply): boolean {
    if (reply[passed]) return true
    // To throw here could end the process, for this may be anybody's callback; and half an answer is none.
    const error = undeclared(reply.request, reply, 'wrote to reply.raw', 'raw')
    reply.log.error({ err: error }, 'request failed')
    // Behind an earlier answer it has no socket yet, and Node 24 would leave open the one that it gets.
    if (reply.raw.socket === null) reply.raw.once('socket', socket => socket.destroy())
    reply.raw.destroy(error)
    return false
  }

  function writeHeadOfPassed (this: ServerResponse & { [replyOf]?: FastifyReply }, status: number, reason?: string, headers?: object): ServerResponse {
    if (mayBeWritten(this[replyOf]!)) return (Object.getPrototypeOf(this) as { writeHead: WriteHead }).writeHead.call(this, status, reason, headers)
    this.writeHead = writeNothing as never
    return this
  }
}

/** The suite's own answers are declared once and shared by every route. */
function declareProblems ({ options, kind }: PlannedRoute): void {
  if (kind === 'not-found') return
  const schema = (options.schema ?? {}) as { response?: Schema }
  const own = Object.fromEntries(Object.entries(schema.response ?? {}).map(([status, part]) => [status.toLowerCase(), part]))
  options.schema = { ...schema, response: { '4xx': Problem, '5xx': Problem, ...own } } as never
}

function responsesOf (options: RouteOptions): Schema {
  return (options.schema as { response?: Schema } | undefined)?.response ?? {}
}

/** The schemas of one status, by media type; null where it has one for all. */
function schemasOf (response: unknown): [string | null, unknown][] {
  const content = isSchema(response) ? response.content : undefined
  return isSchema(content) ? Object.entries(content).map(([mediaType, part]) => [mediaType, (part as Schema).schema]) : [[null, response]]
}

function isFiltered (route: PlannedRoute): boolean {
  return route.kind !== 'not-found' && (route.options.config as { answers?: unknown } | undefined)?.answers !== 'raw'
}

/** Bytes of no type are bytes, and a text without a charset is one of UTF-8: a browser that guesses can be made to guess wrong (CWE-116). */
function completeType (_request: FastifyRequest, reply: FastifyReply, payload: unknown): void {
  if (payload === undefined || payload === null || payload === '') return
  const type = reply.getHeader('content-type')
  if (type === undefined) reply.header('content-type', 'application/octet-stream')
  else if (typeof type === 'string' && TEXT.test(type) && !CHARSET.test(type)) reply.header('content-type', `${type}; charset=utf-8`)
}

function isDeclared (declared: ReadonlySet<string>, status: number): boolean {
  return declared.has(String(status)) || declared.has(`${String(status)[0]}xx`) || declared.has('default')
}

/** Errors are answered as text; what is a problem and nothing but that is declared on every route. */
function isProblem (payload: unknown): boolean {
  if (typeof payload !== 'string' || payload[0] !== '{') return false
  try {
    return problem.Check(JSON.parse(payload))
  } catch {
    return false
  }
}

function writeNothing (this: ServerResponse): ServerResponse {
  return this
}

function refuseToSerialize (): never {
  throw new UndeclaredAnswer()
}

function kindOf (payload: unknown): string {
  if (payload === undefined || payload === null || payload === '') return 'nothing'
  if (typeof payload !== 'object') return typeof payload
  if (Buffer.isBuffer(payload)) return 'buffer'
  if ('pipe' in payload || 'getReader' in payload) return 'stream'
  return Object.prototype.toString.call(payload) === '[object Response]' ? 'response' : 'object'
}

function promised (readings: readonly { name: string, reading: Reading }[], key: string, pick: (reading: Reading) => readonly string[]): Record<string, unknown> {
  const entries = readings.map(({ name, reading }) => [name, pick(reading)] as const).filter(([, list]) => list.length > 0)
  return entries.length === 0 ? {} : { [key]: Object.fromEntries(entries) }
}

export default fp(exposure, { fastify: '5.x', name: 'bastion-exposure', dependencies: ['bastion-plan', 'bastion-events', 'bastion-errors'] })
