/**
 * Validation: what arrives has exactly the declared form, or is refused.
 *
 * Threat: mass assignment (OWASP API3:2023, CWE-915), type confusion (CWE-843), fields that are dropped or changed in silence,
 * bodies that pass unread because of how their media type is written (GHSA-mg2h-6x62-wpwc and its kin).
 * Defence: bodies are closed and uncoerced; a body that is not closed does not boot; every body is of a media type that its route
 * declares (JSON, where it says nothing), and a route that declares none takes none. Query and parameters, which are text by
 * nature, are coerced, one value to one name. Text holds no U+0000 and no half of a surrogate pair, which no database stores
 * (CWE-158, CWE-176). The first error only (CVE-2020-8192).
 * Not covered: meaning. That a date is a date says nothing of whether it may be chosen.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv'
import formats from 'ajv-formats'
import { createError } from '@fastify/error'
import fp from 'fastify-plugin'
import { noBody } from '../schemas/closed.js'
import { openPlaces } from './closedness.js'
import { isStorableText, jsonParser, TextUnstorable } from './json.js'
import type { PlannedRoute, Step } from './plan/index.js'
import { hasReference, isSchema, partsOf, type Schema } from './references.js'

/** The body is of a media type that this route does not take. */
export const MediaTypeRefused = createError('FST_BASTION_VALIDATION_MEDIA_TYPE', 'This media type is not accepted here', 415)

type Part = 'body' | 'other'
type Shared = Readonly<Record<string, unknown>>
type Verdict = { value: unknown } | { error: Error | ValidateFunction['errors'] }
/** Two compilers, and the shared schemas that they know. */
interface Compilers { shared: Shared, body: Ajv, other: Ajv }

const addFormats = formats as unknown as (ajv: Ajv, names: string[]) => Ajv
const FORMATS = ['date', 'time', 'date-time', 'duration', 'email', 'hostname', 'ipv4', 'ipv6', 'uri', 'uuid']
/** Keywords of documentation and of other concerns that Ajv must know to stay strict. */
const ANNOTATIONS = ['visibleTo', 'open', 'example', 'hide']
const JSON_TYPE = 'application/json'
/** What nearly every client sends, in a form that needs no further look. */
const PLAIN_JSON: ReadonlySet<string> = new Set([JSON_TYPE, 'application/json; charset=utf-8', 'application/json;charset=utf-8', 'application/json;charset=UTF-8'])
const MEDIA_TYPE = /^[a-z0-9!#$&^_.+-]{1,127}\/[a-z0-9!#$&^_.+-]{1,127}$/
const CHARSET = /;\s*charset\s*=\s*("[^"]*"|[^\s;]*)/gi
/** Methods whose content Fastify never reads, and those that are there for it. */
const WITHOUT_CONTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'TRACE'])
const FOR_CONTENT: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH', 'QUERY'])
/** A number as JSON writes it. Ajv takes `0x10`, ` 7` and `Infinity` for numbers, too. */
const NUMBER = /^-?(?:0|[1-9]\d{0,30})(?:\.\d{1,30})?(?:e[+-]?\d{1,3})?$/i
const transformKind = Symbol.for('TypeBox.Transform')

async function validation (app: FastifyInstance): Promise<void> {
  const compilers: Compilers[] = []
  /** One schema is compiled once, however many routes share it. */
  const compiled = { body: new WeakMap<Compilers, WeakMap<object, unknown>>(), other: new WeakMap<Compilers, WeakMap<object, unknown>>() }
  const instances = new Map<string, FastifyInstance>()
  const faults = new Map<string, string[]>()

  app.setValidatorCompiler(({ schema, httpPart, method, url }) => {
    const route = `${String(method)} ${url}`
    try {
      return compileOnce(schema as unknown as object, httpPart ?? 'body', instances.get(route) ?? app) as never
    } catch (error) {
      faults.set(route, [...faults.get(route) ?? [], `its ${httpPart} cannot be validated: ${(error as Error).message}`])
      return () => false // the plan objects to this route: it does not boot
    }
  })
  const ours = app.validatorCompiler!
  // A scope that adds schemas would otherwise get a compiler of Fastify's own, which drops and coerces.
  app.addHook('onRegister', function keepValidatorCompiler (scope) { scope.setValidatorCompiler(ours) })
  app.removeContentTypeParser(['text/plain', JSON_TYPE])
  app.addContentTypeParser(JSON_TYPE, { parseAs: 'buffer' }, jsonParser(app) as never)

  app.plan.contribute({
    concern: 'validation',
    // After authorization, so that strangers learn nothing; before the body is read.
    stage: 'csrf',
    declare (route) {
      if (route.kind === 'not-found') return
      instances.set(keyOf(route), route.instance)
      const schema = route.options.schema as { body?: unknown } | undefined
      // A body that nobody declared would reach the handler unread.
      if (schema?.body === undefined && mayHaveContent(route) && !needsBody(route)) route.options.schema = { ...schema, body: noBody } as never
    },
    compile (route) {
      if (route.kind === 'not-found') return undefined
      for (const complaint of [...complaintsAbout(route), ...faults.get(keyOf(route)) ?? []]) route.object(complaint)
      const mediaTypes = mayHaveContent(route) ? mediaTypesOf(route.options) : null
      return { promise: describe(route.options, mediaTypes), ...(mediaTypes !== null && { step: refuseMediaTypes(mediaTypes, contentOf(route.options) !== null) }) }
    },
  })

  function complaintsAbout (route: PlannedRoute): string[] {
    const { attachValidation, validatorCompiler } = route.options
    const { body, querystring, query, params } = (route.options.schema ?? {}) as Record<string, unknown>
    const shared = route.instance.getSchemas()
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
    ]
  }

  function compileOnce (schema: object, httpPart: string, instance: FastifyInstance): unknown {
    const part: Part = httpPart === 'body' ? 'body' : 'other'
    const own = compilersFor(hasReference(schema) ? instance.getSchemas() : {})
    const known = compiled[part].get(own) ?? new WeakMap<object, unknown>()
    compiled[part].set(own, known)
    const before = known.get(schema)
    if (before !== undefined) return before
    const validate = own[part].compile(schema)
    const made = part === 'body' ? validate : validatorOfText(validate, schema as Schema)
    known.set(schema, made)
    return made
  }

  /** Scopes that know the same schemas share their compilers; those in which a name means something else have their own. */
  function compilersFor (shared: Shared): Compilers {
    const names = Object.keys(shared)
    const known = compilers.find(other => Object.keys(other.shared).length === names.length && names.every(name => other.shared[name] === shared[name]))
    if (known !== undefined) return known
    const made = { shared, body: makeAjv(false, shared), other: makeAjv(true, shared) }
    compilers.push(made)
    return made
  }
}

function makeAjv (coerce: boolean, shared: Shared): Ajv {
  const ajv = new Ajv({
    coerceTypes: coerce, useDefaults: true, removeAdditional: false, allErrors: false, strict: true, strictTypes: false, strictRequired: false, allowUnionTypes: true,
  })
  for (const keyword of ANNOTATIONS) ajv.addKeyword({ keyword })
  addFormats(ajv, FORMATS)
  for (const schema of Object.values(shared)) ajv.addSchema(schema as object)
  return ajv
}

/** Query, parameters and headers are one level of texts, or of lists of texts where a name is repeated. */
function validatorOfText (validate: ValidateFunction, schema: Schema) {
  const properties = Object.entries((schema.properties ?? {}) as Record<string, Schema>)
  const lists = properties.filter(([, { type }]) => type === 'array').map(([name]) => name)
  const numbers = properties.flatMap(([name, { type, items }]) => {
    const kind = type === 'array' && isSchema(items) ? items.type : type
    return kind === 'number' || kind === 'integer' ? [[name, kind] as const] : []
  })

  return function validateText (texts: Record<string, unknown>): Verdict {
    for (const text of Object.values(texts)) {
      if (typeof text === 'string' ? !isStorableText(text) : Array.isArray(text) && !text.every(isStorableText)) return { error: new TextUnstorable() }
    }
    // A list of one is written like a single value.
    for (const name of lists) if (typeof texts[name] === 'string') texts[name] = [texts[name]]
    for (const [name, kind] of numbers) {
      if (![texts[name]].flat().every(text => typeof text !== 'string' || isNumber(text, kind))) return { error: [notA(kind, name)] }
    }
    return validate(texts) ? { value: texts } : { error: validate.errors }
  }
}

function isNumber (text: string, kind: 'number' | 'integer'): boolean {
  // Beyond the safe integers another number than the one that was asked for would be looked for.
  return NUMBER.test(text) && (kind === 'integer' ? Number.isSafeInteger(Number(text)) : Number.isFinite(Number(text)))
}

function notA (kind: string, name: string): ErrorObject {
  return { instancePath: `/${name}`, schemaPath: '#', keyword: 'type', params: { type: kind }, message: `must be ${kind}` }
}

/** Whatever parsers a service adds, a route takes what it declares: a form is no JSON, and no simple request of another site passes for one. */
function refuseMediaTypes (mediaTypes: readonly string[], isMapped: boolean): Step {
  const takesJson = mediaTypes.includes(JSON_TYPE)
  return function refuseMediaType (request, reply) {
    const header = request.headers['content-type']
    if (header === undefined ? isMapped || hasContent(request) : !(takesJson && PLAIN_JSON.has(header)) && !isTaken(request, header, mediaTypes)) {
      throw refused(reply, mediaTypes)
    }
  }
}

function refused (reply: FastifyReply, mediaTypes: readonly string[]) {
  // RFC 9110, 15.5.16.
  reply.header('accept', mediaTypes.join(', '))
  return new MediaTypeRefused()
}

function isTaken (request: FastifyRequest, header: string, mediaTypes: readonly string[]): boolean {
  const { mediaType } = request
  if (mediaType === undefined || !mediaTypes.includes(mediaType)) return false
  // It is read as UTF-8, whatever it says it is.
  return [...header.matchAll(CHARSET)].every(([, charset = '']) => /^"?utf-?8"?$/i.test(charset))
}

function hasContent ({ headers }: FastifyRequest): boolean {
  return headers['transfer-encoding'] !== undefined || (headers['content-length'] !== undefined && headers['content-length'] !== '0')
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

/** The body's schemas by media type; null where one schema is for JSON. */
function contentOf (options: RouteOptions): Record<string, { schema?: unknown }> | null {
  const body = (options.schema as { body?: { content?: unknown } } | undefined)?.body
  return isSchema(body?.content) ? body.content as Record<string, { schema?: unknown }> : null
}

function mediaTypesOf (options: RouteOptions): readonly string[] {
  const content = contentOf(options)
  return content === null ? [JSON_TYPE] : Object.keys(content)
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
