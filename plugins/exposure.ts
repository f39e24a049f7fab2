/**
 * Exposure: what leaves is what was declared, and only what this caller may see.
 *
 * Threat: handlers that answer with whole records (OWASP API3:2023, CWE-200): a hash, a secret, another's address.
 * Defence: every success has a schema, and is serialised by it; a field may say who sees it (`visibleTo`), and the
 * serialisers for each kind of caller are compiled at boot. A success without a schema, or a body that was serialised
 * elsewhere (string, Buffer, stream, `Response`), is refused with a 500, unless the route declares `answers: 'raw'`.
 * Not covered: what a declared field holds.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import createError from '@fastify/error'
import { SerializerSelector } from '@fastify/fast-json-stringify-compiler'
import fp from 'fastify-plugin'
import { Problem } from '../schemas/problem.js'
import type { PlannedRoute } from './plan.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** `raw`: this route answers with a page, a file or a stream, and its bytes are not filtered. */
    answers?: 'raw'
  }
}

/** The handler answered with what its route does not declare; nothing of it left. */
export const UndeclaredAnswer = createError<[string]>('FST_BASTION_EXPOSURE_UNDECLARED_ANSWER', '%s', 500)

type Serializer = (payload: unknown) => string
type Schema = Record<string, unknown>
type Compiler = (part: { schema: unknown, method?: string, url?: string, httpStatus?: string, contentType?: string }) => Serializer

/** Kinds of sight that one route may distinguish: each doubles the serialisers. */
const MAX_SIGHTS = 5
const OWNER = 'owner'

async function exposure (app: FastifyInstance): Promise<void> {
  const build = (SerializerSelector as unknown as () => (shared: unknown, options: object) => Compiler)()
  const compiled = new WeakMap<object, Serializer>()
  /** What the last serialiser made. Between serialising and `onSend` nothing else runs, so one place is enough. */
  let product: string | undefined

  app.setSerializerCompiler(part => compileOnce(part as never) as never)
  const ours = app.serializerCompiler

  function compileOnce (part: { schema: unknown }): Serializer {
    const schema = part.schema as object
    const known = compiled.get(schema)
    if (known !== undefined) return known
    const serialize = build(app.getSchemas(), {})({ ...part, schema: everythingHidden(schema as Schema) })
    const marked: Serializer = payload => { product = serialize(payload); return product }
    compiled.set(schema, marked)
    return marked
  }

  app.plan.contribute({ concern: 'problems', declare: declareProblems })
  app.plan.contribute({
    concern: 'sight',
    stage: 'view',
    compile (route) {
      const views = Object.entries(responsesOf(route.options)).flatMap(([status, schema]) => viewsOf(route, status, schema))
      if (views.length === 0) return undefined
      const byStatus = new Map(views.map(view => [view.status, view]))
      return { step: (request, reply) => chooseSight(byStatus, request, reply), promise: Object.fromEntries(views.map(({ status, sights }) => [status, sights])) }
    },
  })
  app.plan.contribute({
    concern: 'exposure',
    stage: 'expose',
    compile (route) {
      const responses = responsesOf(route.options)
      const successes = Object.keys(responses).filter(status => /^[23]/.test(status) || status === 'default')
      if (isRaw(route)) return { step: forgetProduct, promise: 'raw' }
      if (successes.length === 0 && route.kind !== 'not-found') {
        route.object("no schema for its success: add schema: { response: { 200: … } }, or config: { answers: 'raw' } for pages, files and streams")
      }
      if (route.options.serializerCompiler !== undefined || route.instance.serializerCompiler !== ours) route.object('a serializer compiler of its own would skip the filter of answers: remove it')
      return { step: refuseUndeclared(new Set(Object.keys(responses))), promise: { statuses: successes } }
    },
  })

  interface View { status: string, sights: string[], serializers: Serializer[] }

  /** A serialiser for each set of sights that a caller may have: the index is a bit for each sight. */
  function viewsOf (route: PlannedRoute, status: string, schema: unknown): View[] {
    const sights = [...sightsIn(schema)]
    if (sights.length === 0) return []
    if (sights.length > MAX_SIGHTS) {
      route.object(`its ${status} distinguishes ${sights.length} kinds of sight, more than ${MAX_SIGHTS}: split the answer`)
      return []
    }
    const unknown = sights.filter(sight => sight !== OWNER && app.hasDecorator('access') && !app.access.permissions.includes(sight))
    if (unknown.length > 0) route.object(`visibleTo: unknown permission ${unknown.join(', ')}`)
    const serializers = Array.from({ length: 2 ** sights.length }, (_none, bits) => {
      const granted = new Set(sights.filter((_sight, i) => (bits & (1 << i)) !== 0))
      const serialize = build(app.getSchemas(), {})({ schema: withoutHidden(schema as Schema, granted), method: route.method, url: route.url, httpStatus: status })
      return (payload: unknown) => { product = serialize(payload); return product }
    })
    return [{ status, sights, serializers }]
  }

  function chooseSight (views: ReadonlyMap<string, View>, request: FastifyRequest, reply: FastifyReply): void {
    const view = views.get(String(reply.statusCode)) ?? views.get(`${String(reply.statusCode)[0]}xx`)
    if (view === undefined) return
    let bits = 0
    for (let i = 0; i < view.sights.length; i++) if (sees(request, view.sights[i]!)) bits |= 1 << i
    reply.serializer(view.serializers[bits]! as never)
  }

  function sees (request: FastifyRequest, sight: string): boolean {
    const { principal } = request
    if (principal === null) return false
    return sight === OWNER ? app.access.isOwner(request) : app.access.can(principal, sight as never)
  }

  function forgetProduct (): void { product = undefined }

  function refuseUndeclared (declared: ReadonlySet<string>) {
    return function refuseUndeclaredAnswer (request: FastifyRequest, reply: FastifyReply, payload: unknown): void {
      const made = product
      product = undefined
      const status = reply.statusCode
      if (payload === undefined || payload === null || payload === '') {
        if (status >= 300 || isDeclared(declared, status)) return
      } else if (typeof payload === 'string' && payload === made) return
      else if (status >= 300 && String(reply.getHeader('content-type')).startsWith('application/problem+json')) return
      app.events.record('undeclared_answer', request, { status, kind: typeof payload })
      reply.serializer(null as never)
      throw new UndeclaredAnswer(`${request.method} ${request.routeOptions.url ?? '*'} answered ${status} with what its schema does not declare: ` +
        "declare that status in schema.response, or config: { answers: 'raw' }")
    }
  }
}

/** The suite's own answers are declared once and shared by every route. */
function declareProblems ({ options, kind }: PlannedRoute): void {
  if (kind === 'not-found') return
  const schema = (options.schema ?? {}) as { response?: Schema }
  options.schema = { ...schema, response: { '4xx': Problem, '5xx': Problem, ...schema.response } } as never
}

function responsesOf (options: RouteOptions): Schema {
  return ((options.schema as { response?: Schema } | undefined)?.response ?? {})
}

function isRaw (route: PlannedRoute): boolean {
  return (route.options.config as { answers?: string } | undefined)?.answers === 'raw'
}

function isDeclared (declared: ReadonlySet<string>, status: number): boolean {
  return declared.has(String(status)) || declared.has(`${String(status)[0]}xx`) || declared.has('default')
}

/** Every `visibleTo` in a schema. */
function sightsIn (schema: unknown, found = new Set<string>()): Set<string> {
  if (schema === null || typeof schema !== 'object') return found
  if (Array.isArray(schema)) {
    for (const part of schema) sightsIn(part, found)
    return found
  }
  const { visibleTo } = schema as { visibleTo?: string | string[] }
  if (visibleTo !== undefined) for (const sight of [visibleTo].flat()) found.add(sight)
  for (const part of Object.values(schema)) sightsIn(part, found)
  return found
}

/** Without choosing a sight nothing that asks for one leaves: the serialiser that Fastify would use by itself. */
function everythingHidden (schema: Schema): Schema {
  return sightsIn(schema).size === 0 ? schema : withoutHidden(schema, new Set())
}

/** The schema without the properties that somebody with these sights may not see. */
function withoutHidden (schema: Schema, granted: ReadonlySet<string>): Schema {
  if (Array.isArray(schema)) return schema.map(part => withoutHidden(part as Schema, granted)) as unknown as Schema
  if (schema === null || typeof schema !== 'object') return schema
  const copy: Schema = {}
  for (const [key, value] of Object.entries(schema)) copy[key] = withoutHidden(value as Schema, granted)
  const { properties, required } = schema as { properties?: Schema, required?: string[] }
  if (properties !== undefined) {
    const seen = Object.entries(properties).filter(([, part]) => {
      const { visibleTo } = part as { visibleTo?: string | string[] }
      return visibleTo === undefined || [visibleTo].flat().some(sight => granted.has(sight))
    })
    copy.properties = Object.fromEntries(seen.map(([name, part]) => [name, withoutHidden(part as Schema, granted)]))
    if (required !== undefined) copy.required = required.filter(name => seen.some(([known]) => known === name))
    // What was taken out must not come back as an undeclared field.
    copy.additionalProperties = false
  }
  return copy
}

export default fp(exposure, { fastify: '5.x', name: 'bastion-exposure', dependencies: ['bastion-plan', 'bastion-events'] })
