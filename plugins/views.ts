/**
 * Views of an answer: the schema as it is for somebody who may see this much and no more.
 *
 * A property says who sees it with `visibleTo`: a permission, `owner`, or several of which one is enough. Inside lists and maps
 * `owner` is nobody, because who owns the object that was asked for owns none of the others by that.
 * Undeclared fields are left out by whatever is made of a view; where a schema lets everything through it must say why (`open`).
 */
import { hasReference, isSchema, NAMED, ONE, partsOf, resolveReference, SEVERAL, type Schema } from './references.js'

export const OWNER = 'owner'

type Shared = Readonly<Record<string, unknown>>

/** What an answer's schema asks for and gives away. */
export interface Reading {
  /** Whoever some property is visible to. */
  sights: string[]
  /** Places through which everything passes, and why; null where no reason is given. */
  open: { path: string, reason: string | null }[]
  /** What is wrong with the schema. */
  faults: string[]
}

const readings = new WeakMap<Schema, Reading>()

/** Reads a schema of an answer. References are followed; what has none is read once, however many routes share it. */
export function readAnswer (root: unknown, shared: Shared): Reading {
  if (!isSchema(root) || hasReference(root)) return read(root, shared)
  const reading = readings.get(root) ?? read(root, shared)
  readings.set(root, reading)
  return reading
}

function read (root: unknown, shared: Shared): Reading {
  const sights = new Set<string>()
  const faults = new Set<string>()
  const open: Reading['open'] = []

  function visit (schema: unknown, base: unknown, path: string, { isProperty = false, inList = false }, stack: readonly unknown[]): void {
    if (!isSchema(schema)) {
      // fast-json-stringify lets everything through where `false` stands, too.
      open.push({ path, reason: null })
      return
    }
    const { visibleTo, open: reason, $ref } = schema
    if (visibleTo !== undefined) {
      const names = [visibleTo].flat()
      if (names.length === 0 || names.some(name => typeof name !== 'string' || name === '')) faults.add(`visibleTo at ${path || 'the top'} names nobody`)
      else if (!isProperty) faults.add(`visibleTo at ${path || 'the top'} is not on a property, where alone it counts`)
      else for (const name of names) if (!(inList && name === OWNER)) sights.add(name as string)
    }
    if (reason !== undefined && (typeof reason !== 'string' || reason.trim() === '')) faults.add(`open at ${path || 'the top'} gives no reason`)
    if (typeof $ref === 'string') {
      const target = resolveReference($ref, base, shared)
      if (target === null) faults.add(`nothing is known of ${$ref}`)
      else if (stack.includes(target.schema)) {
        if (reachesSights(target.schema, target.base, shared)) faults.add(`visibleTo in ${$ref}, which refers to itself: give the levels schemas of their own`)
      } else visit(target.schema, target.base, path, { inList }, [...stack, target.schema])
      return
    }
    if (isOpen(schema)) open.push({ path, reason: typeof reason === 'string' ? reason : null })
    readParts(schema, base, path, inList, stack)
    if (isSchema(schema.properties) && takesMore(schema) && Object.values(schema.properties).some(part => isSchema(part) && part.visibleTo !== undefined)) {
      faults.add(`visibleTo at ${path || 'the top'} beside fields of any name, among which what is hidden would come back: set additionalProperties: false`)
    }
  }

  function readParts (schema: Schema, base: unknown, path: string, inList: boolean, stack: readonly unknown[]): void {
    const inside = (part: unknown, at: string, where: { isProperty?: boolean, inList?: boolean } = {}) =>
      visit(part, base, at, { inList, ...where }, [...stack, schema])
    for (const [name, part] of Object.entries(schema.properties ?? {})) inside(part, `${path}/${name}`, { isProperty: true })
    for (const part of Object.values(schema.patternProperties ?? {})) inside(part, `${path}/*`, { inList: true })
    if (isSchema(schema.additionalProperties)) inside(schema.additionalProperties, `${path}/*`, { inList: true })
    for (const part of [schema.items ?? []].flat()) if (part !== true) inside(part, `${path}/items`, { inList: true })
    if (isSchema(schema.additionalItems)) inside(schema.additionalItems, `${path}/items`, { inList: true })
    for (const name of ['anyOf', 'oneOf', 'allOf', 'then', 'else']) {
      for (const part of [schema[name] ?? []].flat()) {
        // What only narrows a schema that says itself what it is (`required` of one of two) passes nothing on.
        if (!(says(schema) && isSchema(part) && !says(part))) inside(part, path)
      }
    }
  }

  visit(root, root, '', {}, [root])
  return { sights: [...sights].sort(), open, faults: [...faults] }
}

/** Everything passes here. */
function isOpen (schema: Schema): boolean {
  const types = [schema.type ?? []].flat()
  if (schema.additionalProperties === true) return true
  if (types.includes('array') && (schema.items === undefined || schema.items === true || schema.additionalItems === true)) return true
  return !says(schema) && !['anyOf', 'oneOf', 'allOf', '$ref'].some(name => schema[name] !== undefined)
}

/** The schema itself says what it is made of. */
function says (schema: Schema): boolean {
  return ['type', 'properties', 'const'].some(name => schema[name] !== undefined)
}

function takesMore ({ additionalProperties, patternProperties }: Schema): boolean {
  return (additionalProperties !== undefined && additionalProperties !== false) || patternProperties !== undefined
}

function reachesSights (schema: unknown, base: unknown, shared: Shared, seen = new Set<unknown>()): boolean {
  if (!isSchema(schema) || seen.has(schema)) return false
  seen.add(schema)
  if (schema.visibleTo !== undefined) return true
  const target = typeof schema.$ref === 'string' ? resolveReference(schema.$ref, base, shared) : null
  return (target !== null && reachesSights(target.schema, target.base, shared, seen)) || partsOf(schema).some(part => reachesSights(part, base, shared, seen))
}

/**
 * What of closed objects is kept. fast-json-stringify picks a branch of a union by validating: a closed branch would then not take
 * the very record that it is there to cut down. `cut`: undeclared fields are left out; `match`: they make the branch another's.
 */
type Closing = 'cut' | 'match'

interface Looking {
  root: Schema
  granted: ReadonlySet<string>
  base: unknown
  shared: Shared
  inList: boolean
  closing: Closing | null
  stack: readonly unknown[]
}

/**
 * The schema for somebody with these sights.
 *
 * @returns the schema itself where it is the same for everybody
 */
export function viewOf (root: Schema, granted: ReadonlySet<string>, shared: Shared): Schema {
  if (!needsView(root) && !hasReference(root)) return root
  return view(root, { root, granted, base: root, shared, inList: false, closing: null, stack: [root] }) as Schema
}

function needsView (schema: unknown): boolean {
  if (!isSchema(schema)) return false
  return ['visibleTo', 'anyOf', 'oneOf', 'allOf'].some(name => schema[name] !== undefined) || partsOf(schema).some(needsView)
}

function view (schema: unknown, looking: Looking): unknown {
  if (!isSchema(schema)) return schema
  const { base, shared, stack, closing } = looking
  if (typeof schema.$ref === 'string') {
    const target = resolveReference(schema.$ref, base, shared)
    // What refers to itself stays a reference, unless it holds what is not for everybody; its cycle then does not, or it would not have booted.
    if (target === null || stack.includes(target.schema) ||
      (refersToItself(target.schema, target.base, shared) && !reachesSights(target.schema, target.base, shared))) {
      return { $ref: absolute(schema.$ref, base, looking.root) }
    }
    const { $id, ...copy } = view(target.schema, { ...looking, base: target.base, stack: [...stack, target.schema] }) as Schema
    return copy
  }
  const { visibleTo, open, ...copy } = schema
  const inside = { ...looking, stack: [...stack, schema] }
  const listed = { ...inside, inList: true }
  for (const name of ONE) {
    if (copy[name] !== undefined) copy[name] = view(copy[name], name === 'additionalProperties' || name === 'additionalItems' ? listed : inside)
  }
  for (const name of NAMED) {
    if (name !== 'properties' && isSchema(copy[name])) {
      copy[name] = Object.fromEntries(Object.entries(copy[name]).map(([key, part]) => [key, view(part, name === 'patternProperties' ? listed : inside)]))
    }
  }
  if (copy.items !== undefined) copy.items = Array.isArray(copy.items) ? copy.items.map(part => view(part, listed)) : view(copy.items, listed)
  for (const name of SEVERAL) {
    if (!Array.isArray(copy[name])) continue
    copy[name] = name === 'allOf'
      // Merged, one closed part would turn the others' properties into what nothing is known of, and so passes whole.
      ? copy[name].map(part => view(part, { ...inside, closing: 'cut' }))
      : branches(copy[name], inside)
  }
  if (isSchema(copy.properties)) showProperties(copy, copy.properties, inside)
  if (closing !== null && copy.additionalProperties === false) delete copy.additionalProperties
  return copy
}

/** A reference as it is understood from the root, into which what holds it is copied. */
function absolute (reference: string, base: unknown, root: Schema): string {
  return reference.startsWith('#') && base !== root ? `${String((base as Schema).$id)}${reference}` : reference
}

/** Leaves out the properties that are not for these eyes. */
function showProperties (copy: Schema, properties: Schema, looking: Looking): void {
  const names = Object.keys(properties)
  const seen = names.filter(name => isSeen(properties[name], looking))
  copy.properties = Object.fromEntries(seen.map(name => [name, view(properties[name], looking)]))
  if (Array.isArray(copy.required)) copy.required = copy.required.filter(name => !names.includes(name) || seen.includes(name))
  if (looking.closing === 'match' && copy.additionalProperties === false) copy.propertyNames = { enum: names }
}

function isSeen (property: unknown, { granted, inList }: Looking): boolean {
  const visibleTo = isSchema(property) ? property.visibleTo : undefined
  return visibleTo === undefined || [visibleTo].flat().some(sight => granted.has(sight as string) && !(inList && sight === OWNER))
}

/** Branches of a union, so that each record finds the one that is meant for it: exactly, or else the first that it fits when cut down. */
function branches (parts: readonly unknown[], looking: Looking): unknown[] {
  const cut = parts.map(part => view(part, { ...looking, closing: 'cut' }))
  if (cut.filter(takesObjects).length < 2) return cut
  return [...parts.map(part => view(part, { ...looking, closing: 'match' })), ...cut.filter(takesObjects)]
}

function takesObjects (schema: unknown): boolean {
  return isSchema(schema) && (schema.properties !== undefined || [schema.type ?? []].flat().includes('object') ||
    ['anyOf', 'oneOf', 'allOf'].some(name => Array.isArray(schema[name]) && schema[name].some(takesObjects)))
}

function refersToItself (schema: unknown, base: unknown, shared: Shared, stack: readonly unknown[] = []): boolean {
  if (!isSchema(schema)) return false
  if (stack.includes(schema)) return true
  if (typeof schema.$ref === 'string') {
    const target = resolveReference(schema.$ref, base, shared)
    return target !== null && refersToItself(target.schema, target.base, shared, [...stack, schema])
  }
  return partsOf(schema).some(part => refersToItself(part, base, shared, [...stack, schema]))
}
