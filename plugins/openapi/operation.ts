/** What a document says of a route: from its plan, its schemas and its config, so that nothing is written twice. */
import type { FastifyInstance } from 'fastify'
import { noBody } from '../../schemas/closed.js'
import { Problem } from '../../schemas/problem.js'
import type { Access, AccessRule } from '../access/index.js'
import type { PlannedRoute } from '../plan/index.js'
import { isSchema, type Schema } from '../references.js'
import type { VersionPromise } from '../versions/index.js'
import { problemsOf } from './problems.js'
import { shownSchema } from './schemas.js'

/** Where an operation keeps, until the document is complete, what @fastify/swagger cannot be told. */
export const HELD = 'x-bastion-held'
export interface Held {
  problems: string[]
  /** Refusals have a form of the route's own. */
  hasOwnForm: boolean
}

type Security = Record<string, readonly string[]>

const TOLD_LIMITS = ['by', 'windows', 'address', 'principal', 'plans', 'algorithm', 'cost', 'group', 'ban'] as const
const SAFE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE'])

/** The schema of a route, as @fastify/swagger takes it. */
export function operationOf (app: FastifyInstance, route: PlannedRoute): Schema {
  const { controls, options, url } = route
  const { response, body, querystring, query = querystring, params, headers, ...said } = (options.schema ?? {}) as Schema
  const { access, limits, versions } = controls as { access?: Access, limits?: Schema | false, versions?: VersionPromise }
  const isRuled = typeof access === 'object'
  const config = options.config as { errorForm?: unknown, answers?: unknown } | undefined
  const held: Held = { problems: problemsOf(route), hasOwnForm: config?.errorForm !== undefined }
  return {
    tags: [url.split('/').find(part => part !== '' && !/[:*]/.test(part)) ?? 'service'],
    ...said,
    ...body !== undefined && body !== noBody && { body: shownContent(body, true) },
    ...query !== undefined && { querystring: shownSchema(query, true) },
    ...headers !== undefined && { headers: shownSchema(headers, true) },
    ...withParameters(url, params),
    response: { ...config?.answers === 'raw' && { 200: { type: 'null' } }, ...shownResponses(response) },
    security: securityOf(app, route, access),
    ...versions !== undefined && {
      deprecated: true,
      ...versions.deprecated !== undefined && { 'x-deprecated': versions.deprecated },
      ...versions.sunset !== undefined && { 'x-sunset': versions.sunset },
      ...versions.successor !== undefined && { 'x-successor': versions.successor },
    },
    ...isRuled && { 'x-access': access },
    ...limits !== undefined && limits !== false && { 'x-limits': toldLimits(limits) },
    [HELD]: held,
  }
}

/** What a caller has, and not who is exempt from it. */
function toldLimits (limits: Schema): Schema {
  return Object.fromEntries(TOLD_LIMITS.filter(name => limits[name] !== undefined).map(name => [name, limits[name]]))
}

/** All credentials that this route takes: one of them is enough. */
function securityOf ({ access: control }: FastifyInstance, { controls, method }: PlannedRoute, access: Access | undefined): Security[] {
  const { identity, csrf, dpop } = controls as { identity?: { credentials: readonly string[] }, csrf?: false | { check: string, of: string }, dpop?: { required: boolean } }
  const hasToken = typeof csrf === 'object' && csrf.check === 'token' && (csrf.of === 'all' || method.split(',').some(name => !SAFE.has(name)))
  const token: Security = hasToken ? { csrfToken: [] } : {}
  if (access === undefined || access === 'public') return hasToken && (csrf as { of: string }).of === 'all' ? [token] : []
  const permissions = typeof access === 'object' ? [(access as AccessRule).permissions ?? []].flat() as string[] : []
  const offered = control.accepts(access).filter(via => identity?.credentials.includes(via) === true)
  return offered.flatMap((via): Security[] => {
    if (via === 'session') return [{ session: permissions, ...token }]
    if (via !== 'bearer' || dpop === undefined) return [{ [via]: permissions }]
    return [...dpop.required ? [] : [{ bearer: permissions }], { dpop: permissions }]
  })
}

/** Schemas of a body: one, or one a media type. */
function shownContent (body: unknown, isInput = false): unknown {
  const content = isSchema(body) ? body.content : undefined
  if (!isSchema(content)) return shownSchema(body, isInput)
  return { content: Object.fromEntries(Object.entries(content).map(([type, part]) => [type, { schema: shownSchema((part as Schema).schema, isInput) }])) }
}

/** Without those that the suite itself declares on every route; these are shared. */
function shownResponses (response: unknown): Schema {
  const declared = Object.entries(isSchema(response) ? response : {})
  return Object.fromEntries(declared.filter(([, schema]) => schema !== Problem).map(([status, schema]) => [status, shownContent(schema)]))
}

/** Each parameter of the URL, also those that no schema describes. */
function withParameters (url: string, params: unknown): { params?: Schema } {
  const names = [...[...url.matchAll(/:([A-Za-z0-9_]+)/g)].map(([, name]) => name!), ...url.includes('*') ? ['*'] : []]
  if (names.length === 0) return {}
  const shown = shownSchema(params ?? {}) as Schema
  if (shown.$ref !== undefined) return { params: shown }
  return { params: { type: 'object', ...shown, properties: { ...Object.fromEntries(names.map(name => [name, { type: 'string' }])), ...shown.properties as object } } }
}
