/** Schemas as the kit reads them: references put in, values made that fit, and values made that do not. */
import { isSchema, NAMED, ONE, resolveReference, SEVERAL, type Schema } from '../references.js'

type Shared = Readonly<Record<string, unknown>>

const MAX_DEPTH = 12

/** The schema with what its references stand for in their place; what refers to itself is open from there on. */
export function inlined (root: unknown, shared: Shared): unknown {
  return put(root, root, 0)

  function put (schema: unknown, base: unknown, depth: number): unknown {
    if (!isSchema(schema)) return schema
    if (depth > MAX_DEPTH) return {}
    if (typeof schema.$ref === 'string') {
      const target = resolveReference(schema.$ref, base, shared)
      return target === null ? {} : put(target.schema, target.base, depth + 1)
    }
    const copy: Schema = { ...schema }
    for (const name of ONE) if (isSchema(schema[name])) copy[name] = put(schema[name], base, depth + 1)
    for (const name of SEVERAL) if (Array.isArray(schema[name])) copy[name] = (schema[name] as unknown[]).map(part => put(part, base, depth + 1))
    if (schema.items !== undefined) copy.items = Array.isArray(schema.items) ? schema.items.map(part => put(part, base, depth + 1)) : put(schema.items, base, depth + 1)
    for (const name of NAMED) if (isSchema(schema[name])) copy[name] = Object.fromEntries(Object.entries(schema[name]).map(([key, part]) => [key, put(part, base, depth + 1)]))
    return copy
  }
}

/** Branches of a union, or the schema itself. */
export function branchesOf (schema: unknown): Schema[] {
  if (!isSchema(schema)) return []
  const branches = [schema.anyOf, schema.oneOf].flatMap(list => Array.isArray(list) ? list : [])
  return branches.length === 0 ? [schema] : branches.flatMap(branchesOf)
}

export function typesOf ({ type, properties, items, const: fixed, enum: listed }: Schema): string[] {
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
  const expression = pattern === undefined ? null : new RegExp(pattern, 'u')
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
  const typeOfOther: Record<string, string> = { 'a number': 'number', 'an object': 'object', 'a list': 'array', true: 'boolean', null: 'null', 'a text': 'string' }
  const others = OTHERS.filter(([name]) => !types.has(typeOfOther[name]!)).map(([name, value]) => ({
    kind: 'type' as const, what: name, value, isCoercible: !types.has('object') && (name === 'null' || name === 'true' || name === 'a number') && types.has('string'),
  }))
  const scalar = types.has('integer') || types.has('number') ? '1' : types.has('boolean') ? 'true' : null
  const texts = scalar === null || types.has('string') ? [] : [{ kind: 'type' as const, what: `the text "${scalar}"`, value: scalar, isCoercible: true }]
  const only = branches.length === 1 ? branches[0]! : null
  return [...others, ...texts, ...only === null ? [] : beyond(only)]
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
    const unlike = typeof pattern === 'string' ? UNLIKE.find(text => text.length <= (maxLength ?? Infinity) && text.length >= (minLength ?? 0) && !new RegExp(pattern, 'u').test(text)) : undefined
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
