/**
 * Validation: what arrives has exactly the declared form, or is refused.
 *
 * Threat: mass assignment (OWASP API3:2023, CWE-915), type confusion (CWE-843), fields that are dropped or changed in silence,
 * bodies that pass unread because of how their media type is written (GHSA-mg2h-6x62-wpwc and its kin), and bodies that cost more than they are worth (CWE-770).
 * Defence: bodies are closed and uncoerced; a body that is not closed does not boot; every body is of a media type that its route
 * declares (JSON, where it says nothing) and in no content coding that nobody undoes, and a route that declares none takes none. Query and parameters, which are text by
 * nature, are coerced, one value to one name. JSON is bounded in depth, fields, lists and texts; no field stands twice in it. Text holds no U+0000 and no half of a surrogate
 * pair, which no database stores (CWE-158, CWE-176). The first error only (CVE-2020-8192), unless a body is as small as an option says. Nothing is changed but by keywords that say so.
 * Not covered: meaning. That a date is a date says nothing of whether it may be chosen.
 */
import type { FastifyInstance, RouteOptions } from 'fastify'
import { createError } from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { noBody } from '../../schemas/closed.js'
import { openPlaces } from '../closedness.js'
import { jsonParser } from '../json.js'
import { checkOptions } from '../options.js'
import { planned, type PlannedRoute } from '../plan/index.js'
import { addedTo, isSchema, partsOf, type Schema } from '../references.js'
import { schemaCompiler } from './compilers.js'
import { misplacedKeywords } from './keywords.js'
import { contentOf, JSON_TYPE, MEDIA_TYPE, mediaTypesOf, refuseMediaTypes } from './media-types.js'
import { refuseCrookedQuery } from './text.js'

export { addKeywords, type Rule } from './keywords.js'
export { CodingRefused, MediaTypeRefused } from './media-types.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Other bounds for the bodies of this route. */
    validation?: ValidationOptions
  }
}

/** An option is wrong. */
export const ValidationMisconfigured = createError<[string]>('FST_BASTION_VALIDATION_MISCONFIGURED', '%s', 500, TypeError)

const bound = (maximum: number, value: number, description: string) => Type.Optional(Type.Integer({ minimum: 1, maximum, default: value, description }))
export const ValidationOptions = Type.Object({
  allErrors: Type.Optional(Type.Integer({ minimum: 0, maximum: 65_536, default: 0, description: 'Bytes up to which a JSON body is told all that is wrong with it; a larger one the first fault' })),
  codings: Type.Optional(Type.Array(Type.String({ pattern: '^[a-z][a-z0-9-]{0,31}$' }), { maxItems: 8, default: [], description: 'Content codings that a hook of the service undoes before a body is parsed (`gzip`): bodies in others are refused' })),
  maxDepth: bound(256, 64, 'Levels of lists and objects in a JSON body'),
  maxKeys: bound(1_000_000, 10_000, 'Fields of a JSON body, in all of its objects together'),
  maxItems: bound(1_000_000, 10_000, 'Items of one list in a JSON body'),
  maxText: bound(2 ** 28, 100_000, 'UTF-16 units of one text in a JSON body'),
}, { additionalProperties: false })
export type ValidationOptions = Static<typeof ValidationOptions>

const DEFAULTS: Required<ValidationOptions> = { allErrors: 0, codings: [], maxDepth: 64, maxKeys: 10_000, maxItems: 10_000, maxText: 100_000 }
/** Methods whose content Fastify never reads, and those that are there for it. */
const WITHOUT_CONTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'TRACE'])
const FOR_CONTENT: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH', 'QUERY'])
const transformKind = Symbol.for('TypeBox.Transform')

async function validation (app: FastifyInstance, options: ValidationOptions): Promise<void> {
  checkOptions(ValidationOptions, options, 'validation', ValidationMisconfigured)
  const usual = { ...DEFAULTS, ...options }
  const compiler = schemaCompiler()
  const bounds = new WeakMap<PlannedRoute, Required<ValidationOptions>>()
  const routes = new Map<string, PlannedRoute>()
  const faults = new Map<string, string[]>()
  /** Bodies that are so small that all their faults are told. */
  const small = new WeakSet<object>()
  const isSmall = (body: unknown) => typeof body === 'object' && body !== null && small.has(body)

  app.setValidatorCompiler(({ schema, httpPart, method, url }) => {
    const key = `${String(method)} ${url}`
    try {
      const route = routes.get(key)
      const shared = () => addedTo(route?.instance ?? app)
      const isBody = (httpPart ?? 'body') === 'body'
      return (isBody ? compiler.body(schema as object, shared, boundsOf(route).allErrors > 0 ? isSmall : undefined) : compiler.text(schema as object, shared)) as never
    } catch (error) {
      faults.set(key, [...faults.get(key) ?? [], `its ${httpPart} cannot be validated: ${(error as Error).message}`])
      return () => false // the plan objects to this route: it does not boot
    }
  })
  const ours = app.validatorCompiler!
  // A scope that adds schemas would otherwise get a compiler of Fastify's own, which drops and coerces.
  app.addHook('onRegister', function keepValidatorCompiler (scope) { scope.setValidatorCompiler(ours) })
  app.removeContentTypeParser(['text/plain', JSON_TYPE])
  app.addContentTypeParser(JSON_TYPE, { parseAs: 'buffer' }, jsonParser(request => boundsOf(request[planned]), (request, body, bytes) => {
    if (bytes <= boundsOf(request[planned]).allErrors && typeof body === 'object' && body !== null) small.add(body)
  }) as never)

  app.plan.contribute({
    concern: 'validation',
    // After authorization, so that strangers learn nothing; before the body is read.
    stage: 'csrf',
    declare (route) {
      if (route.kind === 'not-found') return
      routes.set(keyOf(route), route)
      const { config, schema } = route.options as { config?: { validation?: ValidationOptions }, schema?: { body?: unknown } }
      bounds.set(route, { ...usual, ...config?.validation })
      // A body that nobody declared would reach the handler unread.
      if (schema?.body === undefined && mayHaveContent(route) && !needsBody(route)) route.options.schema = { ...schema, body: noBody } as never
    },
    compile (route) {
      if (route.kind === 'not-found') return undefined
      checkOptions(ValidationOptions, (route.options.config as { validation?: unknown } | undefined)?.validation ?? {}, 'validation', ValidationMisconfigured)
      for (const complaint of [...complaintsAbout(route), ...faults.get(keyOf(route)) ?? []]) route.object(complaint)
      const mediaTypes = mayHaveContent(route) ? mediaTypesOf(route.options) : null
      return { promise: describe(route.options, mediaTypes), ...(mediaTypes !== null && { step: refuseMediaTypes(mediaTypes, contentOf(route.options) !== null, boundsOf(route).codings) }) }
    },
  })

  app.plan.contribute({
    concern: 'validation',
    stage: 'csrf',
    compile ({ kind, options: { schema = {} } }) {
      const { querystring, query = querystring } = schema as { querystring?: unknown, query?: unknown }
      return kind === 'not-found' || query === undefined ? undefined : { step: refuseCrookedQuery }
    },
  })

  function boundsOf (route: PlannedRoute | null | undefined): Required<ValidationOptions> {
    return route === null || route === undefined ? usual : bounds.get(route) ?? usual
  }

  function complaintsAbout (route: PlannedRoute): string[] {
    const { attachValidation, validatorCompiler } = route.options
    const { body, querystring, query, params } = (route.options.schema ?? {}) as Record<string, unknown>
    const shared = addedTo(route.instance)
    const content = contentOf(route.options)
    const places = content === null
      ? openPlaces(body ?? false, shared).map(path => ['the body', path])
      : Object.entries(content).flatMap(([type, { schema }]) => openPlaces(schema, shared).map(path => [`the body (${type})`, path]))
    return [
      ...attachValidation === true ? ['attachValidation lets invalid input reach the handler: remove it'] : [],
      ...validatorCompiler !== undefined || route.instance.validatorCompiler !== ours
        ? ['a validator compiler of its own would skip strict validation: remove it']
        : [],
      ...body === undefined && needsBody(route) ? ['no schema for the body: add schema: { body }, or body: noBody where there is none'] : [],
      ...places.map(([what, path]) => `${what} is not closed${path === '' ? '' : ` at ${path}`}: make it with closed() or add additionalProperties: false`),
      ...Object.keys(content ?? {}).filter(type => !MEDIA_TYPE.test(type)).map(type => `${JSON.stringify(type)} is no media type that a body could be matched with`),
      ...[body, querystring ?? query, params].some(hasTransform)
        ? ['a Transform is not run, so the handler would get what its type denies: transform in the handler']
        : [],
      ...[...content === null ? [body] : Object.values(content).map(({ schema }) => schema), querystring ?? query, params].flatMap(misplacedKeywords)
        .map(place => `a keyword that changes its value cannot stand in ${place}`),
    ]
  }
}

function keyOf ({ options }: PlannedRoute): string {
  return `${String(options.method)} ${options.url}`
}

function methodsOf ({ options }: PlannedRoute): string[] {
  return [options.method].flat()
}

function mayHaveContent (route: PlannedRoute): boolean {
  return methodsOf(route).some(method => !WITHOUT_CONTENT.has(method))
}

function needsBody (route: PlannedRoute): boolean {
  return methodsOf(route).some(method => FOR_CONTENT.has(method))
}

function hasTransform (schema: unknown): boolean {
  return isSchema(schema) && (transformKind in schema || partsOf(schema).some(hasTransform) ||
    (isSchema(schema.content) && Object.values(schema.content).some(part => hasTransform((part as Schema).schema))))
}

function describe (options: RouteOptions, mediaTypes: readonly string[] | null): Record<string, unknown> {
  const { body, params, querystring, query } = (options.schema ?? {}) as Record<string, unknown>
  const takesBody = body !== undefined && body !== noBody
  return {
    body: takesBody ? 'closed' : null,
    ...(takesBody && { mediaTypes }),
    params: params !== undefined,
    query: querystring !== undefined || query !== undefined,
  }
}

export default fp(validation, { fastify: '5.x', name: 'bastion-validation', dependencies: ['bastion-plan'] })
