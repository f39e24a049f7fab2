/** What a route takes and what it answers with, field by field: the parts of a schema that a reviewer wants to see change. */
import { isSchema, resolveReference, type Schema } from '../references.js'

type Shared = Readonly<Record<string, unknown>>

/** What a value must be, in the keywords of JSON Schema and of the suite; `required: true` where it must be there. */
export type Bounds = Record<string, unknown>
/** Fields by path (`/tags/[]/name`; `/*` is any name; empty is the whole): the bounds of which one must hold. */
export type Taken = Record<string, Bounds[]>
/** Fields by path: who sees them, by permission or as `owner` (one is enough; none: whoever may call the route). */
export type Told = Record<string, string[]>

/** Keywords that say nothing of what a value may be, or that are followed into. */
const ASIDE: ReadonlySet<string> = new Set([
  '$id', '$schema', '$comment', '$ref', '$defs', 'definitions', 'title', 'description', 'default', 'examples', 'example', 'deprecated', 'readOnly', 'writeOnly',
  'properties', 'patternProperties', 'items', 'additionalItems', 'prefixItems', 'anyOf', 'oneOf', 'allOf', 'required', 'visibleTo', 'open', 'enum', 'secret', 'concealed',
])
/** Between sights that must both be given: of a field, and of the object that it is in. */
const BOTH = ' and '

/** The fields that a body, a query or parameters may have. */
export function fieldsTaken (root: unknown, shared: Shared): Taken {
  const taken = new Map<string, Set<string>>()

  function visit (schema: unknown, base: unknown, path: string, isRequired: boolean, stack: readonly unknown[]): void {
    if (schema === false) return
    if (!isSchema(schema)) return keep(path, { anything: true }, isRequired)
    if (typeof schema.$ref === 'string') {
      const target = resolveReference(schema.$ref, base, shared)
      if (target !== null && !stack.includes(target.schema)) visit(target.schema, target.base, path, isRequired, [...stack, target.schema])
      return
    }
    const branches = [schema.anyOf ?? [], schema.oneOf ?? []].flat()
    const inside = [...stack, schema]
    for (const branch of branches) visit(isSchema(branch) && schema.type !== undefined ? { type: schema.type, ...branch } : branch, base, path, isRequired, inside)
    const bounds = boundsOf(schema)
    if (branches.length === 0) {
      if (Array.isArray(schema.enum)) for (const value of schema.enum) keep(path, { ...bounds, const: value }, isRequired)
      else keep(path, bounds, isRequired)
    }
    const needed = Array.isArray(schema.required) ? schema.required : []
    for (const [name, part] of Object.entries(schema.properties ?? {})) visit(part, base, `${path}/${name}`, needed.includes(name), inside)
    for (const part of [...Object.values(schema.patternProperties ?? {}), ...isSchema(schema.additionalProperties) ? [schema.additionalProperties] : []]) visit(part, base, `${path}/*`, false, inside)
    for (const part of [schema.items ?? [], schema.prefixItems ?? []].flat()) visit(part, base, `${path}/[]`, false, inside)
    for (const part of [schema.allOf ?? []].flat()) visit(part, base, path, isRequired, inside)
  }

  function keep (path: string, bounds: Bounds, isRequired: boolean): void {
    const text = JSON.stringify({ ...bounds, ...isRequired && { required: true } })
    taken.set(path, (taken.get(path) ?? new Set()).add(text))
  }

  visit(root, root, '', false, [root])
  return Object.fromEntries([...taken].map(([path, texts]) => [path, [...texts].sort().map(text => JSON.parse(text) as Bounds)]))
}

/** The fields that an answer may have, and who sees them. */
export function fieldsTold (root: unknown, shared: Shared): Told {
  const told = new Map<string, Set<string>>()

  function visit (schema: unknown, base: unknown, path: string, sights: readonly string[], stack: readonly unknown[]): void {
    if (!isSchema(schema)) return keep(path, sights)
    if (typeof schema.$ref === 'string') {
      const target = resolveReference(schema.$ref, base, shared)
      if (target !== null && !stack.includes(target.schema)) visit(target.schema, target.base, path, sights, [...stack, target.schema])
      return
    }
    const own = [schema.visibleTo ?? []].flat() as string[]
    const seenBy = own.length === 0 ? sights : sights.length === 0 ? own : sights.flatMap(outer => own.map(inner => [outer, inner].sort().join(BOTH)))
    const inside = [...stack, schema]
    if (schema.type !== undefined || schema.const !== undefined || schema.enum !== undefined) keep(path, seenBy)
    for (const [name, part] of Object.entries(schema.properties ?? {})) visit(part, base, `${path}/${name}`, seenBy, inside)
    for (const part of [...Object.values(schema.patternProperties ?? {}), ...isSchema(schema.additionalProperties) ? [schema.additionalProperties] : []]) visit(part, base, `${path}/*`, seenBy, inside)
    for (const part of [schema.items ?? [], schema.prefixItems ?? []].flat()) visit(part, base, `${path}/[]`, seenBy, inside)
    for (const part of ['anyOf', 'oneOf', 'allOf', 'then', 'else'].flatMap(name => schema[name] ?? [])) visit(part, base, path, seenBy, inside)
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

function boundsOf (schema: Schema): Bounds {
  const own = Object.entries(schema).filter(([name, value]) => !ASIDE.has(name) && (typeof value !== 'function') && !(name === 'additionalProperties' && value !== true))
  const open = [schema.type].flat().includes('object') && schema.additionalProperties === undefined ? { additionalProperties: true } : {}
  // Rules between fields are functions: what they say of themselves is kept.
  return JSON.parse(JSON.stringify({ ...Object.fromEntries(own), ...open })) as Bounds
}
