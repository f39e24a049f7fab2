/** References between JSON schemas: what a `$ref` stands for, where Ajv and fast-json-stringify would find it. */

/** A JSON schema: an object, or `true` (everything) and `false` (nothing). */
export type Schema = Record<string, unknown>

/** A schema, and the document inside which its own references are looked up. */
export interface Place {
  schema: unknown
  base: unknown
}

type Shared = Readonly<Record<string, unknown>>

let asked = new WeakRef<object>({})
let answered: Shared = {}

/**
 * The schemas that were added to an instance, by their `$id`; to be asked once all are. Fastify copies them each time, so that a thousand
 * routes with schemas of their own would copy a million: who asks again for the same instance gets the same.
 */
export function addedTo (instance: { getSchemas: () => Shared }): Shared {
  if (asked.deref() !== instance) {
    asked = new WeakRef(instance)
    answered = instance.getSchemas()
  }
  return answered
}

/** Those of the shared schemas that a schema refers to, and to which they refer. */
export function referredBy (schema: unknown, shared: Shared, found: Record<string, unknown> = {}): Shared {
  if (!hasReference(schema)) return found
  const { $ref } = schema as Schema
  const [id = ''] = typeof $ref === 'string' ? $ref.split('#', 1) : []
  if (Object.hasOwn(shared, id) && !Object.hasOwn(found, id)) {
    found[id] = shared[id]
    referredBy(shared[id], shared, found)
  }
  for (const part of partsOf(schema as Schema)) referredBy(part, shared, found)
  return found
}

/** Keywords whose value is one schema, a list of schemas, or a map of names to schemas. */
export const ONE = [
  'additionalProperties', 'additionalItems', 'not', 'if', 'then', 'else', 'contains', 'propertyNames', 'unevaluatedProperties', 'unevaluatedItems',
] as const
export const SEVERAL = ['allOf', 'anyOf', 'oneOf', 'prefixItems'] as const
export const NAMED = ['properties', 'patternProperties', 'definitions', '$defs', 'dependentSchemas'] as const

export function isSchema (value: unknown): value is Schema {
  return value !== null && typeof value === 'object' && !Array.isArray(value)
}

/** The schemas directly inside a schema. */
export function partsOf (schema: Schema): unknown[] {
  return [
    ...ONE.map(name => schema[name]),
    ...SEVERAL.flatMap(name => schema[name] ?? []),
    ...[schema.items ?? []].flat(),
    ...NAMED.flatMap(name => isSchema(schema[name]) ? Object.values(schema[name]) : []),
  ].filter(part => part !== undefined)
}

const references = new WeakMap<Schema, boolean>()

/** The schema refers to another, or to itself. Remembered, because a thousand routes may share one schema. */
export function hasReference (schema: unknown): boolean {
  if (!isSchema(schema)) return false
  let found = references.get(schema)
  if (found === undefined) {
    found = typeof schema.$ref === 'string' || partsOf(schema).some(hasReference)
    references.set(schema, found)
  }
  return found
}

/**
 * What a reference stands for.
 *
 * @param shared the schemas that were added to the instance, by their `$id`
 * @returns null where there is nothing of that name
 */
export function resolveReference (reference: string, base: unknown, shared: Shared): Place | null {
  const [id = '', pointer = ''] = reference.split('#', 2)
  const document = id === '' ? base : Object.hasOwn(shared, id) ? shared[id] : withId(base, id)
  if (document === undefined) return null
  if (pointer === '') return { schema: document, base: document }
  if (!pointer.startsWith('/')) {
    const anchored = withId(document, `#${pointer}`)
    return anchored === undefined ? null : { schema: anchored, base: document }
  }
  let schema: unknown = document
  for (const step of pointer.slice(1).split('/')) {
    const name = decodeURIComponent(step).replaceAll('~1', '/').replaceAll('~0', '~')
    if (schema === null || typeof schema !== 'object' || !Object.hasOwn(schema, name)) return null
    schema = (schema as Schema)[name]
  }
  return { schema, base: document }
}

function withId (schema: unknown, id: string): Schema | undefined {
  if (!isSchema(schema)) return undefined
  if (schema.$id === id) return schema
  for (const part of partsOf(schema)) {
    const found = withId(part, id)
    if (found !== undefined) return found
  }
  return undefined
}
