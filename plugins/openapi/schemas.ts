/** Schemas as documents show them: without what only this suite understands, and without examples of secrets. */
import { isSecret } from '../log.js'
import { isSchema, NAMED, ONE, partsOf, SEVERAL, type Schema } from '../references.js'

/** Keywords of JSON Schema 2020-12 and OpenAPI 3.1 that hold no schemas. */
const PLAIN: ReadonlySet<string> = new Set([
  '$id', '$ref', '$anchor', '$comment', 'type', 'enum', 'const', 'multipleOf', 'maximum', 'exclusiveMaximum', 'minimum', 'exclusiveMinimum', 'maxLength', 'minLength', 'pattern', 'maxItems',
  'minItems', 'uniqueItems', 'maxContains', 'minContains', 'maxProperties', 'minProperties', 'required', 'dependentRequired', 'format', 'contentEncoding', 'contentMediaType', 'title',
  'description', 'default', 'deprecated', 'readOnly', 'writeOnly', 'examples', 'example', 'nullable', 'discriminator', 'externalDocs',
])
const VALUES = ['examples', 'example', 'default'] as const

/** A copy, for a document. `isInput`: of what clients send, where a field that has a default may be left out. */
export function shownSchema (schema: unknown, isInput = false): unknown {
  if (!isSchema(schema)) return schema
  const show = (part: unknown) => shownSchema(part, isInput)
  const shown: Schema = {}
  for (const [name, value] of Object.entries(schema)) if (PLAIN.has(name) || name.startsWith('x-')) shown[name] = value
  for (const name of ONE) if (schema[name] !== undefined && name !== 'additionalItems') shown[name] = show(schema[name])
  for (const name of SEVERAL) if (Array.isArray(schema[name])) shown[name] = schema[name].map(show)
  for (const name of NAMED) {
    if (!isSchema(schema[name])) continue
    shown[name] = Object.fromEntries(Object.entries(schema[name]).map(([key, part]) => [key, name === 'properties' && isSecret(key) ? shownSecret(show(part)) : show(part)]))
  }
  // Of draft 7, whose lists of schemas are `prefixItems` now.
  if (Array.isArray(schema.items)) {
    shown.prefixItems = schema.items.map(show)
    if (schema.additionalItems !== undefined) shown.items = show(schema.additionalItems)
  } else if (schema.items !== undefined) shown.items = show(schema.items)
  for (const name of VALUES) if (shown[name] !== undefined) shown[name] = withoutSecrets(shown[name])
  if (isInput && Array.isArray(schema.required)) {
    const { properties = {} } = schema as { properties?: Record<string, unknown> }
    shown.required = schema.required.filter(name => !(isSchema(properties[name]) && properties[name].default !== undefined))
  }
  if (schema.visibleTo !== undefined) shown['x-visible-to'] = [schema.visibleTo].flat()
  return asEnum(shown)
}

/** A secret has no value that a document could show, not even an invented one: people try those. */
function shownSecret (shown: unknown): unknown {
  if (!isSchema(shown)) return shown
  forgetValues(shown)
  if (shown.type === 'string' && shown.format === undefined && shown.enum === undefined) shown.format = 'password'
  return shown
}

/** Those of its parts too: a secret may be null, or one of a list. */
function forgetValues (shown: Schema): void {
  for (const name of VALUES) delete shown[name]
  for (const part of partsOf(shown)) if (isSchema(part)) forgetValues(part)
}

/** @param secret the name of a secret that it is of */
function withoutSecrets (value: unknown, secret?: string): unknown {
  if (Array.isArray(value)) return value.map(part => withoutSecrets(part, secret))
  if (!isSchema(value)) return secret !== undefined && (typeof value === 'string' || typeof value === 'number') ? `<${secret}>` : value
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, withoutSecrets(part, isSecret(name) ? name : secret)]))
}

/** What TypeBox writes as a union of constants is read more easily as an `enum`. */
function asEnum (schema: Schema): Schema {
  const { anyOf, ...others } = schema
  if (!Array.isArray(anyOf) || anyOf.length === 0 || !anyOf.every(part => isSchema(part) && part.const !== undefined && Object.keys(part).every(name => name === 'const' || name === 'type'))) return schema
  const types = [...new Set(anyOf.map(({ type }) => type))]
  return { ...others, enum: anyOf.map(part => part.const), ...types.length === 1 && types[0] !== undefined && { type: types[0] } }
}
