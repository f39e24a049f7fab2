/** What a route takes and what it answers with, field by field: the parts of a schema that a reviewer wants to see change. */
import { isDeepStrictEqual } from 'node:util'
import { isSchema, resolveReference, type Place, type Schema } from '../references.js'

type Shared = Readonly<Record<string, unknown>>

/** What a value must be, in the keywords of JSON Schema and of the suite; `required`: the names that must be in it; `anything: true` where nothing is asked. */
export type Bounds = Record<string, unknown>
/** Fields by path (`/tags/[]/name`; `/*` is any name, `/{^x-}` one of a pattern; empty is the whole): the bounds of which one must hold. */
export type Taken = Record<string, Bounds[]>
/** Fields by path: who sees them, by permission or as `owner` (one is enough; none: whoever may call the route). */
export type Told = Record<string, string[]>

interface Part { schema: Schema, base: unknown }

/** Keywords that say nothing of what a value may be, or that are followed into. */
const ASIDE: ReadonlySet<string> = new Set([
  '$id', '$schema', '$comment', '$defs', 'definitions', 'title', 'description', 'default', 'examples', 'example', 'deprecated', 'readOnly', 'writeOnly', 'nullable',
  'properties', 'patternProperties', 'additionalProperties', 'items', 'additionalItems', 'prefixItems', 'required', 'visibleTo', 'open', 'enum', 'secret', 'concealed',
])
/** Between sights that must both be given: of a field, and of the object that it is in. */
const BOTH = ' and '

/** The fields that a body, a query or parameters may have. */
export function fieldsTaken (root: unknown, shared: Shared): Taken {
  const taken = new Map<string, Set<string>>()

  /** `places`: schemas all of which a value must keep to. */
  function visit (places: readonly Place[], path: string, stack: readonly unknown[]): void {
    const inside = [...stack]
    const parts = places.flatMap(place => partsIn(place, shared, inside))
    if (parts.includes(null)) return
    visitParts(parts as Part[], path, inside)
  }

  function visitParts (parts: readonly Part[], path: string, stack: readonly unknown[]): void {
    const choice = parts.find(({ schema }) => schema.anyOf !== undefined || schema.oneOf !== undefined)
    if (choice !== undefined) {
      const { schema, base } = choice
      const name = schema.anyOf === undefined ? 'oneOf' : 'anyOf'
      const { [name]: branches, ...rest } = schema
      for (const branch of branches as unknown[]) visit([...parts.filter(part => part !== choice), { schema: rest, base }, { schema: branch, base }], path, stack)
      return
    }
    const bounds = boundsOf(parts.map(({ schema }) => schema))
    for (const one of valuesOf(parts, bounds)) keep(path, one)
    const names = new Set(parts.flatMap(({ schema }) => Object.keys(schema.properties ?? {})))
    for (const name of names) visit(parts.flatMap(part => placesNamed(part, name)), `${path}/${stepOf(name)}`, stack)
    for (const { schema, base } of parts) {
      for (const [pattern, part] of Object.entries(schema.patternProperties ?? {})) visit([{ schema: part, base }], `${path}/{${stepOf(pattern)}}`, stack)
    }
    const others = parts.filter(({ schema }) => (schema.additionalProperties ?? true) !== true)
    if (others.length > 0) visit(others.map(({ schema, base }) => ({ schema: schema.additionalProperties, base })), `${path}/*`, stack)
    if (parts.some(({ schema }) => [schema.type].flat().includes('array') || schema.items !== undefined)) {
      for (const items of itemsOf(parts)) visit(items, `${path}/[]`, stack)
    }
  }

  function keep (path: string, bounds: Bounds): void {
    taken.set(path, (taken.get(path) ?? new Set()).add(JSON.stringify(bounds)))
  }

  visit([{ schema: root, base: root }], '', [root])
  return Object.fromEntries([...taken].map(([path, texts]) => [path, [...texts].sort().map(text => JSON.parse(text) as Bounds)]))
}

/** The fields that an answer may have, and who sees them. */
export function fieldsTold (root: unknown, shared: Shared): Told {
  const told = new Map<string, Set<string>>()

  function visit (schema: unknown, base: unknown, path: string, sights: readonly string[], stack: readonly unknown[]): void {
    if (schema === false) return
    if (!isSchema(schema)) return keepAll(path, sights)
    const own = [schema.visibleTo ?? []].flat() as string[]
    const seenBy = own.length === 0 ? sights : sights.length === 0 ? own : sights.flatMap(outer => own.map(inner => [outer, inner].sort().join(BOTH)))
    if (typeof schema.$ref === 'string') {
      const target = resolveReference(schema.$ref, base, shared)
      if (target !== null && !stack.includes(target.schema)) visit(target.schema, target.base, path, seenBy, [...stack, target.schema])
      return
    }
    const { type, additionalProperties, items, prefixItems } = schema
    const inside = [...stack, schema]
    const branches = ['anyOf', 'oneOf', 'allOf', 'then', 'else'].flatMap(name => schema[name] ?? [])
    if (type !== undefined || schema.const !== undefined || schema.enum !== undefined) keep(path, seenBy)
    else if (branches.length === 0 && schema.properties === undefined && items === undefined) keepAll(path, seenBy)
    for (const [name, part] of Object.entries(schema.properties ?? {})) visit(part, base, `${path}/${stepOf(name)}`, seenBy, inside)
    for (const part of [...Object.values(schema.patternProperties ?? {}), ...additionalProperties === undefined ? [] : [additionalProperties]]) visit(part, base, `${path}/*`, seenBy, inside)
    // A serialiser that knows nothing of the items writes whatever is in them.
    const listed = [items ?? (prefixItems === undefined && [type].flat().includes('array') ? true : []), prefixItems ?? []].flat()
    for (const part of listed) visit(part, base, `${path}/[]`, seenBy, inside)
    for (const part of branches) visit(part, base, path, seenBy, inside)
  }

  function keepAll (path: string, sights: readonly string[]): void {
    keep(path, sights)
    keep(`${path}/*`, sights)
  }

  function keep (path: string, sights: readonly string[]): void {
    const before = told.get(path)
    // Of several ways to the same field the widest counts.
    told.set(path, before === undefined ? new Set(sights) : before.size === 0 || sights.length === 0 ? new Set() : new Set([...before, ...sights]))
  }

  visit(root, root, '', [], [root])
  return Object.fromEntries([...told].filter(([path]) => path !== '').map(([path, sights]) => [path, [...sights].sort()]))
}

/** Whether whoever one of `after` names was among those whom `before` names. */
export function isSeenByFewer (after: readonly string[], before: readonly string[]): boolean {
  if (before.length === 0) return true
  return after.length > 0 && after.every(one => before.some(other => other.split(BOTH).every(name => one.split(BOTH).includes(name))))
}

/** References and `allOf` taken apart, `stack` telling which were seen above; null where nothing passes. */
function partsIn ({ schema, base }: Place, shared: Shared, stack: unknown[]): (Part | null)[] {
  if (schema === false) return [null]
  if (!isSchema(schema)) return []
  const { $ref, allOf = [], ...own } = schema
  const rest = [{ schema: own, base }, ...(allOf as unknown[]).flatMap(part => partsIn({ schema: part, base }, shared, stack))]
  if (typeof $ref !== 'string') return rest
  const target = resolveReference($ref, base, shared)
  if (target === null || stack.includes(target.schema)) return [...rest, { schema: { recursive: true }, base }]
  stack.push(target.schema)
  return [...rest, ...partsIn(target, shared, stack)]
}

/** What the parts ask for together. */
function boundsOf (schemas: readonly Schema[]): Bounds {
  const bounds: Bounds = {}
  for (const schema of schemas) {
    // Rules between fields are functions: what they say of themselves is kept.
    const own = JSON.parse(JSON.stringify(Object.fromEntries(Object.entries(schema).filter(([name, value]) => !ASIDE.has(name) && typeof value !== 'function')))) as Bounds
    if (schema.nullable === true && own.type !== undefined) own.type = [...new Set([own.type, 'null'].flat())]
    for (const [name, value] of Object.entries(own)) {
      const before = bounds[name]
      if (before === undefined || isDeepStrictEqual(before, value)) bounds[name] = value
      else if (name === 'type') bounds.type = [before].flat().filter(type => [value].flat().includes(type))
      else if (typeof before === 'number' && typeof value === 'number' && /^(?:max|exclusiveMax|min|exclusiveMin)/.test(name)) bounds[name] = /ax/.test(name) ? Math.min(before, value) : Math.max(before, value)
      else bounds[`${name} too`] = [...new Set([...(bounds[`${name} too`] ?? []) as string[], typeof value === 'string' ? value : JSON.stringify(value)])].sort()
    }
  }
  const required = [...new Set(schemas.flatMap(schema => schema.required as string[] | undefined ?? []))].sort()
  const isOpen = schemas.every(({ additionalProperties = true }) => additionalProperties === true)
  const holdsNames = bounds.type === undefined ? bounds.const === undefined && schemas.every(schema => schema.enum === undefined) : [bounds.type].flat().includes('object')
  if (isOpen && Object.keys(bounds).length === 0 && required.length === 0 && holdsNames) return { anything: true }
  return { ...bounds, ...required.length > 0 && { required }, ...isOpen && holdsNames && { additionalProperties: true } }
}

/** One for each value of an enumeration. */
function valuesOf (parts: readonly Part[], bounds: Bounds): Bounds[] {
  const [first, ...more] = parts.flatMap(({ schema }) => Array.isArray(schema.enum) ? [schema.enum as unknown[]] : [])
  if (first === undefined) return [bounds]
  return first.filter(value => more.every(values => values.some(other => isDeepStrictEqual(other, value)))).map(value => ({ ...bounds, const: value }))
}

/** What a part says of a property. */
function placesNamed ({ schema, base }: Part, name: string): Place[] {
  const { properties = {}, patternProperties = {}, additionalProperties = true } = schema as Record<string, Record<string, unknown>>
  const own = Object.hasOwn(properties, name) ? [properties[name]] : []
  const found = [...own, ...Object.entries(patternProperties).filter(([pattern]) => new RegExp(pattern, 'u').test(name)).map(([, part]) => part)]
  return (found.length > 0 ? found : [additionalProperties]).map(part => ({ schema: part, base }))
}

/** What an item may be: each time schemas all of which hold. */
function itemsOf (parts: readonly Part[]): Place[][] {
  const lists = parts.filter(({ schema }) => schema.items !== undefined || schema.prefixItems !== undefined || [schema.type].flat().includes('array')).map(({ schema, base }) => {
    const { items, prefixItems, additionalItems = true } = schema
    const each = Array.isArray(items) ? [...items, additionalItems] : [...(prefixItems ?? []) as unknown[], items ?? true]
    return each.map(part => ({ schema: part, base }))
  })
  return lists.reduce<Place[][]>((ways, list) => ways.flatMap(way => list.map(item => [...way, item])), [[]])
}

/** A name as a step of a path. */
function stepOf (name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1')
}
