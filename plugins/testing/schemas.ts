/** Schemas as the kit reads them: references put in, values made that fit, and values made that do not. */
import { isSchema, NAMED, ONE, resolveReference, SEVERAL, type Schema } from '../references.js'

/** Media types of bodies that are fields. */
export const READ: ReadonlySet<string> = new Set(['application/json', 'application/x-www-form-urlencoded'])

type Shared = Readonly<Record<string, unknown>>

const MAX_DEPTH = 12
/** Of objects in objects. */
const MAX_NESTED = 3

/** The schema with what its references stand for in their place; what refers to itself is open from there on. */
export function inlined (root: unknown, shared: Shared, onMissing?: (reference: string) => never): unknown {
  return put(root, root, 0)

  function put (schema: unknown, base: unknown, depth: number): unknown {
    if (!isSchema(schema)) return schema
    if (depth > MAX_DEPTH) return {}
    if (typeof schema.$ref === 'string') {
      const target = resolveReference(schema.$ref, base, shared)
      if (target === null) onMissing?.(schema.$ref)
      return target === null ? {} : put(target.schema, target.base, depth + 1)
    }
    const copy: Schema = { ...schema }
    for (const name of ONE) if (isSchema(schema[name])) copy[name] = put(schema[name], base, depth + 1)
    for (const name of SEVERAL) if (Array.isArray(schema[name])) copy[name] = (schema[name] as unknown[]).map(part => put(part, base, depth + 1))
    if (schema.items !== undefined) copy.items = Array.isArray(schema.items) ? schema.items.map(part => put(part, base, depth + 1)) : put(schema.items, base, depth + 1)
    for (const name of NAMED) if (isSchema(schema[name])) copy[name] = Object.fromEntries(Object.entries(schema[name]).map(([key, part]) => [key, put(part, base, depth + 1)]))
    return merged(copy)
  }
}

/** Objects of which all parts must hold, as one. */
function merged (schema: Schema): Schema {
  const { allOf, ...own } = schema
  const parts = Array.isArray(allOf) ? [...allOf, own] as Schema[] : []
  if (parts.length === 0 || parts.some(part => !isSchema(part) || UNDECIDED.some(name => part[name] !== undefined)) || !parts.some(({ properties }) => isSchema(properties))) return schema
  return { ...Object.assign({}, ...parts) as Schema, ...together(...parts) }
}

/** What is not known before there is a value. */
const UNDECIDED = ['anyOf', 'oneOf', 'allOf', 'if', 'not', 'dependentSchemas']

/** Branches of a union, each with what stands beside it, or the schema itself. */
export function branchesOf (schema: unknown): Schema[] {
  if (!isSchema(schema)) return []
  const { anyOf, oneOf, ...own } = schema
  const branches = [anyOf, oneOf].flatMap(list => Array.isArray(list) ? list as unknown[] : []).filter(isSchema)
  return branches.length === 0 ? [schema] : branches.flatMap(branch => branchesOf({ ...own, ...branch, ...together(own, branch) }))
}

/** Of two that must both hold, what neither says alone. */
function together (...parts: readonly Schema[]): Schema {
  const required = [...new Set(parts.flatMap(part => (part.required ?? []) as string[]))]
  return { ...parts.some(({ properties }) => isSchema(properties)) && { properties: Object.assign({}, ...parts.map(({ properties }) => properties)) as unknown }, ...required.length > 0 && { required } }
}

export function typesOf ({ nullable, ...schema }: Schema): string[] {
  // Of OpenAPI, and Ajv's own.
  const types = namedTypes(schema)
  return nullable === true && types.length > 0 ? [...new Set([...types, 'null'])] : types
}

function namedTypes ({ type, properties, items, const: fixed, enum: listed }: Schema): string[] {
  if (type !== undefined) return [type].flat() as string[]
  if (properties !== undefined) return ['object']
  if (items !== undefined) return ['array']
  const known = fixed !== undefined ? [fixed] : Array.isArray(listed) ? listed : []
  return [...new Set(known.map(value => value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value))]
}

/** The branch that describes an object, where there is one. */
export function objectOf (schema: unknown): Schema | null {
  return branchesOf(schema).find(branch => isSchema(branch.properties)) ?? null
}

export function propertiesOf (schema: unknown): Record<string, Schema> {
  const { properties } = objectOf(schema) ?? {}
  return isSchema(properties) ? properties as Record<string, Schema> : {}
}

/** An object that a body holds. */
export interface Place {
  /** `address.`, where a name follows. */
  path: string
  schema: Schema
  /** The body, with this object changed wherever it stands. */
  within: (body: unknown, change: (object: Record<string, unknown>) => unknown) => unknown
}

/** The objects that a body holds, and those in its lists. A union takes what any of its branches does: of it none is known, but where it is an object or null. */
export function placesIn (schema: unknown, path = '', depth = 0): Place[] {
  const only = oneOf(branchesOf(schema).filter(branch => typesOf(branch).join() !== 'null'))
  if (only === null || depth > MAX_NESTED) return []
  const { items, properties } = only
  if (isSchema(items)) return placesIn(items, path, depth + 1).map(place => ({ ...place, within: (body, change) => Array.isArray(body) ? body.map(item => place.within(item, change)) : body }))
  if (!isSchema(properties)) return []
  const inside = Object.entries(properties).flatMap(([name, part]) => placesIn(part, `${path}${name}.`, depth + 1).map((place): Place => ({
    ...place, within: (body, change) => isSchema(body) && Object.hasOwn(body, name) ? { ...body, [name]: place.within(body[name], change) } : body,
  })))
  return [{ path, schema: only, within: (body, change) => isSchema(body) ? change(body) : body }, ...inside]
}

/** Branches that differ in what they ask for alone, as one that asks for what all of them do; null where they differ in more. */
function oneOf (branches: readonly Schema[]): Schema | null {
  const [first, ...others] = branches
  const isAlike = (branch: Schema) => JSON.stringify({ ...branch, required: [] }) === JSON.stringify({ ...first, required: [] })
  if (first === undefined || !others.every(isAlike)) return null
  return others.length === 0 ? first : { ...first, required: (first.required as string[] | undefined ?? []).filter(name => others.every(({ required }) => (required as string[] | undefined)?.includes(name))) }
}

/** Takes fields that it does not declare, and says so. */
export function takesOthers ({ additionalProperties, patternProperties }: Schema): boolean {
  return (additionalProperties !== undefined && additionalProperties !== false) || patternProperties !== undefined
}

/** Takes any object: nothing is wrong there. */
export function takesAny (schema: unknown): boolean {
  return branchesOf(schema).some(branch => typesOf(branch).every(type => type === 'object') && !isSchema(branch.properties) && branch.allOf === undefined && (branch.additionalProperties ?? true) === true)
}

/** Nothing can be made of this schema that fits it; the place is told. */
export class Unmade extends Error {
  readonly path: string

  constructor (path: string) {
    super(`no value is known that fits ${path}: give it in values, or the whole body in routes`)
    this.path = path
  }
}

/** Texts of many forms: for patterns, of which none says what fits it. */
const TEXTS = [
  'A text of some words', 'example', 'Example_1', 'a', '1', '123456', 'user@example.com', 'https://example.com/', 'example.com', '127.0.0.1', '+491701234567', '2026-01-31', '2026-01-31T12:00:00Z',
  '8f3b1c1e-6f0b-4c53-9b3c-0b1d4a5b6c7d', 'EUR', 'en', 'DE', 'tok_visa_4242', 'AAAAAAAAAAAAAAAAAAAAAA', '123-45-6789', '#336699', '1.0.0', '12:00', '0',
]
/** What most patterns refuse, one of them at least. */
const UNLIKE = ['javascript:alert(1)', '<b>not of its pattern</b>', ' ', '']
const FORMATS: Record<string, string> = {
  email: 'user@example.com',
  uri: 'https://example.com/',
  url: 'https://example.com/',
  'date-time': '2026-01-31T12:00:00.000Z',
  date: '2026-01-31',
  time: '12:00:00Z',
  uuid: '8f3b1c1e-6f0b-4c53-9b3c-0b1d4a5b6c7d',
  ipv4: '192.0.2.1',
  ipv6: '2001:db8::1',
  hostname: 'example.com',
  duration: 'P1D',
  'iso-date-time': '2026-01-31T12:00:00.000Z',
}

/** As Ajv reads it, or without its flag; what is no expression at all refuses nothing. */
export function expressionOf (pattern: string): RegExp {
  for (const flags of ['u', '']) {
    try {
      return new RegExp(pattern, flags)
    } catch {}
  }
  return /(?:)/
}

/** Whoever makes a value asks for fields by their name first; undefined is no answer. */
export type Given = (name: string) => unknown

/**
 * A value that fits.
 *
 * @throws Unmade
 */
export function valueOf (schema: unknown, given: Given = () => undefined, path = ''): unknown {
  if (!isSchema(schema)) return 'text'
  if (schema.const !== undefined) return schema.const
  if (Array.isArray(schema.enum)) return schema.enum[0]
  if (Array.isArray(schema.examples) && schema.examples.length > 0 && objectOf(schema) === null) return schema.examples[0]
  const branches = branchesOf(schema)
  const branch = branches.find(one => !typesOf(one).includes('null')) ?? branches[0]!
  if (branch !== schema) return valueOf(branch, given, path)
  const [type] = typesOf(schema).filter(name => name !== 'null')
  switch (type) {
    case 'object': return objectFrom(schema, given, path)
    case 'array': return Array.from({ length: Math.max(Number(schema.minItems ?? 0), schema.maxItems === 0 ? 0 : 1) }, (_none, i) => valueOf([schema.items].flat()[0] ?? {}, given, `${path}/${i}`))
    case 'string': return textFrom(schema, path)
    case 'integer': case 'number': return numberFrom(schema)
    case 'boolean': return true
    default: return typesOf(schema).includes('null') ? null : 'text'
  }
}

/** With all that is declared, so that all of it is tried. */
function objectFrom (schema: Schema, given: Given, path: string): Record<string, unknown> {
  const required = new Set(Array.isArray(schema.required) ? schema.required as string[] : [])
  const made: Record<string, unknown> = {}
  for (const [name, part] of Object.entries((schema.properties ?? {}) as Record<string, unknown>)) {
    try {
      const value = given(name) ?? valueOf(part, given, `${path}/${name}`)
      made[name] = value
    } catch (error) {
      if (required.has(name)) throw error
    }
  }
  return made
}

function textFrom (schema: Schema, path: string): string {
  const { format, pattern, minLength = 0, maxLength = Infinity, default: usual } = schema as { format?: string, pattern?: string, minLength?: number, maxLength?: number, default?: unknown }
  const expression = pattern === undefined ? null : expressionOf(pattern)
  const fits = (text: string) => text.length >= minLength && text.length <= maxLength && (expression === null || expression.test(text))
  const words = 'words '.repeat(Math.ceil(Math.min(minLength, 100_000) / 6)).slice(0, Math.max(1, minLength - 1)) + 'x'
  const text = [usual, format === undefined ? undefined : FORMATS[format] ?? '', ...format === undefined ? [...TEXTS, words, words.replaceAll(' ', 'x'), 'x'.repeat(Math.max(1, minLength)), ''] : []]
    .find(one => typeof one === 'string' && fits(one))
  if (text === undefined) throw new Unmade(path)
  return text as string
}

function numberFrom ({ minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf = 1, default: usual }: Schema): number {
  if (typeof usual === 'number') return usual
  const step = Number(multipleOf)
  const low = typeof exclusiveMinimum === 'number' ? exclusiveMinimum + step : typeof minimum === 'number' ? minimum : null
  const high = typeof exclusiveMaximum === 'number' ? exclusiveMaximum - step : typeof maximum === 'number' ? maximum : null
  const wanted = low ?? (high === null ? 1 : Math.min(1, high))
  return Math.ceil(wanted / step) * step
}

export interface Wrong {
  /** `type`, `bounds`. */
  kind: 'type' | 'bounds'
  what: string
  value: unknown
  /** Ajv would make a right value of it where it coerces. */
  isCoercible: boolean
}

const OTHERS: readonly [name: string, value: unknown][] = [['a number', 7.5], ['an object', { a: 1 }], ['a list', [[1]]], ['true', true], ['null', null], ['a text', 'text']]

/** Values that the schema refuses, each with what is wrong with it. */
export function wrongValues (schema: unknown): Wrong[] {
  const branches = branchesOf(schema)
  const types = new Set(branches.flatMap(typesOf))
  if (types.size === 0) return []
  const scalar = types.has('integer') || types.has('number') ? '1' : types.has('boolean') ? 'true' : null
  const others = [...OTHERS, ...scalar === null ? [] : [[`the text "${scalar}"`, scalar] as const]].filter(([, value]) => !types.has(typeOf(value)))
    .map(([what, value]) => ({ kind: 'type' as const, what, value, isCoercible: branches.some(branch => isCoercible(value, branch)) }))
  const [only, ...more] = branches.filter(branch => typesOf(branch).join() !== 'null')
  return [...others, ...only === undefined || more.length > 0 ? [] : beyond(only)]
}

function typeOf (value: unknown): string {
  return value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value
}

/** Types whose values Ajv makes values of a type of, with `coerceTypes: 'array'`: the default of Fastify. Texts are those that say such a value. */
const COERCED: Readonly<Record<string, readonly string[]>> = { string: ['number', 'boolean', 'null'], number: ['string', 'boolean', 'null'], integer: ['string', 'boolean', 'null'], boolean: ['string', 'null'] }

function isCoercible (value: unknown, schema: Schema): boolean {
  const says = (type: string) => typeof value !== 'string' || (type === 'boolean' ? value === 'true' : value === '1')
  return typesOf(schema).some(type => {
    if (type !== 'array') return COERCED[type]?.includes(typeOf(value)) === true && says(type)
    const parts = branchesOf([schema.items].flat()[0] ?? {})
    return typeOf(value) !== 'object' && parts.some(part => typesOf(part).length === 0 || typesOf(part).includes(typeOf(value)) || isCoercible(value, part))
  })
}

/** Beyond the bounds of one schema. */
function beyond (schema: Schema): Wrong[] {
  const { maxLength, minLength, maximum, minimum, maxItems, minItems, enum: listed, const: fixed, trim, html } = schema as Record<string, number & string>
  const [type] = typesOf(schema).filter(name => name !== 'null')
  const found: [what: string, value: unknown][] = []
  if (type === 'string') {
    if (typeof maxLength === 'number' && maxLength <= 20_000) found.push([`${maxLength + 1} characters`, 'x'.repeat(maxLength + 1)])
    if (typeof minLength === 'number' && minLength > 0 && html === undefined) found.push([`${minLength - 1} characters`, 'x'.repeat(minLength - 1)])
    if (typeof minLength === 'number' && minLength > 0 && (trim as unknown) === true) found.push(['blanks alone', ' '.repeat(minLength)])
    if (Array.isArray(listed) || fixed !== undefined) found.push(['a value that is not listed', 'not-one-of-these'])
    const { pattern } = schema
    const unlike = typeof pattern === 'string' ? UNLIKE.find(text => text.length <= (maxLength ?? Infinity) && text.length >= (minLength ?? 0) && !expressionOf(pattern).test(text)) : undefined
    if (unlike !== undefined) found.push(['a text that is not of its pattern', unlike])
    if (schema.format === 'email' || schema.format === 'date' || schema.format === 'date-time' || schema.format === 'uuid') found.push([`no ${schema.format}`, 'not of this format'])
  }
  if (type === 'integer' || type === 'number') {
    if (typeof maximum === 'number') found.push([String(maximum + 1), maximum + 1])
    if (typeof minimum === 'number') found.push([String(minimum - 1), minimum - 1])
    if (type === 'integer') found.push(['a fraction', (typeof minimum === 'number' ? minimum : 1) + 0.5])
  }
  if (type === 'array') {
    const item = () => { try { return valueOf([schema.items].flat()[0] ?? {}) } catch { return 'x' } }
    if (typeof maxItems === 'number' && maxItems <= 1000) found.push([`${maxItems + 1} items`, Array.from({ length: maxItems + 1 }, item)])
    if (typeof minItems === 'number' && minItems > 0) found.push([`${minItems - 1} items`, Array.from({ length: minItems - 1 }, item)])
  }
  return found.map(([what, value]) => ({ kind: 'bounds', what, value, isCoercible: false }))
}
