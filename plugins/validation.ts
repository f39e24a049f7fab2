/**
 * Validation: what arrives has exactly the declared form, or is refused.
 *
 * Threat: mass assignment (OWASP API3:2023, CWE-915), type confusion, fields that are dropped or changed in silence.
 * Defence: bodies are closed and uncoerced; a body that is not closed does not boot; query and parameters, which are
 * text by nature, are coerced; content types are a closed list. Text holds no U+0000 and no half of a surrogate pair,
 * which no database stores (CWE-158, CWE-176). The first error only (CVE-2020-8192).
 * Not covered: meaning. That a date is a date says nothing of whether it may be chosen.
 */
import type { FastifyInstance } from 'fastify'
import { Ajv, type ValidateFunction } from 'ajv'
import formats from 'ajv-formats'
import { createError } from '@fastify/error'
import fp from 'fastify-plugin'
import { noBody } from '../schemas/closed.js'
import type { PlannedRoute } from './plan.js'

/** Text that cannot be stored as it is: with U+0000, or with half of a surrogate pair. */
export const TextUnstorable = createError('FST_BASTION_VALIDATION_TEXT', 'Text must not hold U+0000 or half of a surrogate pair', 400)

/** A JSON schema, as far as closing is concerned. */
type Schema = Record<string, unknown>

const addFormats = formats as unknown as (ajv: Ajv, names: string[]) => Ajv
const FORMATS = ['date', 'time', 'date-time', 'duration', 'email', 'hostname', 'ipv4', 'ipv6', 'uri', 'uuid']
/** Keywords of documentation and of other concerns that Ajv must know to stay strict. */
const ANNOTATIONS = ['visibleTo', 'open', 'example', 'hide']
/** In JSON only an escape can make such text; `u` finds surrogates that are alone. */
const SUSPICIOUS_ESCAPE = /\\u(?:0000|d[89a-f])/i
const UNSTORABLE = /[\0\p{Surrogate}]/u

async function validation (app: FastifyInstance): Promise<void> {
  const ajv = { body: makeAjv(false), other: makeAjv(true) }
  const compiled = { body: new WeakMap<object, unknown>(), other: new WeakMap<object, unknown>() }

  app.setValidatorCompiler(function compileStrictly ({ schema, httpPart }) {
    const kind = httpPart === 'body' ? 'body' : 'other'
    // One schema is compiled once, however many routes share it.
    const known = compiled[kind].get(schema as object)
    if (known !== undefined) return known as never
    for (const shared of Object.values(app.getSchemas()) as { $id: string }[]) {
      if (ajv[kind].getSchema(shared.$id) === undefined) ajv[kind].addSchema(shared)
    }
    const validate = kind === 'body' ? ajv.body.compile(schema as object) : refusingUnstorable(ajv.other.compile(schema as object))
    compiled[kind].set(schema as object, validate)
    return validate as never
  })
  // JSON only, until a service adds a parser for something else. An empty body is no body: whether one is needed is for the schema.
  app.removeContentTypeParser(['text/plain', 'application/json'])
  const parseJson = app.getDefaultJsonParser('error', 'error')
  app.addContentTypeParser('application/json', { parseAs: 'string' }, function parseJsonOrNothing (request, body, done) {
    if (body === '') done(null, undefined)
    else if (!SUSPICIOUS_ESCAPE.test(body as string)) parseJson(request, body as string, done)
    else parseJson(request, body as string, (error, value) => done(error ?? (isStorable(value) ? null : new TextUnstorable()), value))
  })

  const ours = app.validatorCompiler
  app.plan.contribute({
    concern: 'validation',
    compile (route) {
      const { schema, attachValidation, validatorCompiler } = route.options
      if (attachValidation === true) route.object('attachValidation lets invalid input reach the handler: remove it')
      if (validatorCompiler !== undefined || route.instance.validatorCompiler !== ours) route.object('a validator compiler of its own would skip strict validation: remove it')
      const body = schema?.body as Schema | undefined
      if (body !== undefined) for (const path of openObjects(body, '', app.getSchemas())) route.object(`the body is not closed${path === '' ? '' : ` at ${path}`}: make it with closed() or add additionalProperties: false`)
      else if (acceptsBody(route)) route.object('no schema for the body: add schema: { body }, or body: noBody where there is none')
      return { promise: describe(schema as Schema | undefined) }
    },
  })
}

function makeAjv (coerce: boolean): Ajv {
  const ajv = new Ajv({ coerceTypes: coerce, useDefaults: true, removeAdditional: false, allErrors: false, strict: true, strictTypes: false, strictRequired: false, allowUnionTypes: true })
  for (const keyword of ANNOTATIONS) ajv.addKeyword({ keyword })
  return addFormats(ajv, FORMATS)
}

/** Query and parameters are one level of texts. */
function refusingUnstorable (validate: ValidateFunction) {
  return function validateText (texts: Record<string, unknown>): { value: unknown } | { error: Error | ValidateFunction['errors'] } {
    if (Object.values(texts).some(text => typeof text === 'string' && UNSTORABLE.test(text))) return { error: new TextUnstorable() }
    if (!validate(texts)) return { error: validate.errors }
    // Ajv takes `Infinity` and `1e999` for numbers and asks them for no maximum.
    const endless = Object.keys(texts).find(name => texts[name] === Infinity || texts[name] === -Infinity)
    return endless === undefined ? { value: texts } : { error: [{ instancePath: `/${endless}`, message: 'must be finite', params: {}, keyword: 'type', schemaPath: '#' }] }
  }
}

/** No recursion: the nesting is the client's. */
function isStorable (value: unknown): boolean {
  const left = [value]
  while (left.length > 0) {
    const part = left.pop()
    if (typeof part === 'string') {
      if (UNSTORABLE.test(part)) return false
    } else if (part !== null && typeof part === 'object') {
      // One by one: spread into `push`, a long list would overflow the stack.
      for (const [key, inner] of Object.entries(part)) left.push(key, inner)
    }
  }
  return true
}

function acceptsBody ({ method, kind }: PlannedRoute): boolean {
  return kind === 'route' && method.split(',').some(name => name === 'POST' || name === 'PUT' || name === 'PATCH')
}

/** The places in a schema where an object takes fields that nobody declared. */
function openObjects (schema: unknown, path: string, shared: Record<string, unknown>): string[] {
  if (schema === null || typeof schema !== 'object') return schema === true ? [path] : []
  const { $ref, type, properties, additionalProperties, patternProperties, items, anyOf, oneOf, allOf, not, content } = schema as Schema
  const inside = (part: unknown, place: string) => openObjects(part, place, shared)
  if (content !== undefined) {
    return Object.entries(content as Record<string, { schema?: unknown }>).flatMap(([name, part]) => inside(part.schema ?? true, `${path}/${name}`))
  }
  if (typeof $ref === 'string') return inside(shared[$ref.replace(/#.*$/, '')] ?? true, path)
  // JSON Schema cannot close what several schemas share: Type.Composite makes one of them.
  if (allOf !== undefined) return [path]
  const parts = [...(anyOf as unknown[] ?? []), ...(oneOf as unknown[] ?? [])]
  const types = [type].flat()
  const isObject = types.includes('object') || properties !== undefined
  const isClosed = additionalProperties === false || (additionalProperties !== null && typeof additionalProperties === 'object')
  const saysNothing = type === undefined && parts.length === 0 && properties === undefined && not === undefined && !('const' in schema) && !('enum' in schema)
  return [
    ...(isObject && !isClosed) || saysNothing || (types.includes('array') && items === undefined) ? [path] : [],
    ...parts.flatMap(part => inside(part, path)),
    ...Object.entries(properties as Schema ?? {}).flatMap(([name, part]) => inside(part, `${path}/${name}`)),
    ...[items ?? []].flat().flatMap(part => inside(part, `${path}/items`)),
    ...Object.values(patternProperties as Schema ?? {}).flatMap(part => inside(part, `${path}/*`)),
    ...typeof additionalProperties === 'object' ? inside(additionalProperties, `${path}/*`) : [],
  ]
}

function describe (schema: Schema | undefined): Record<string, unknown> {
  const body = schema?.body as Schema | undefined
  return {
    body: body === undefined || body === (noBody as Schema) ? null : 'closed',
    params: schema?.params !== undefined,
    query: schema?.querystring !== undefined || schema?.query !== undefined,
  }
}

export default fp(validation, { fastify: '5.x', name: 'bastion-validation', dependencies: ['bastion-plan'] })
