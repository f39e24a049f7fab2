/** Answers: an encrypted field says who sees it, and leaves decrypted or not at all. */
import { markOf } from '../../schemas/encrypted.js'
import { isSchema, resolveReference, type Schema } from '../references.js'
import { readEnvelope } from './envelope.js'

/** Where a field stands: names of properties, `*` for the items of a list and the values of a map. */
export interface MarkedField {
  path: readonly string[]
  /** It says who sees it. */
  isGuarded: boolean
}

/** The fields that a schema of an answer marks as encrypted. */
export function markedFields (root: unknown, shared: Readonly<Record<string, unknown>>): MarkedField[] {
  const found = new Map<string, MarkedField>()

  function visit (schema: unknown, base: unknown, path: readonly string[], stack: readonly unknown[]): void {
    if (!isSchema(schema) || stack.includes(schema)) return
    if (markOf(schema) !== null) {
      const key = path.join('/')
      const isGuarded = schema.visibleTo !== undefined && found.get(key)?.isGuarded !== false
      found.set(key, { path, isGuarded })
    }
    const inside = [...stack, schema]
    if (typeof schema.$ref === 'string') {
      const target = resolveReference(schema.$ref, base, shared)
      if (target !== null) visit(target.schema, target.base, path, inside)
    }
    for (const [name, part] of Object.entries((schema.properties ?? {}) as Schema)) visit(part, base, [...path, name], inside)
    for (const part of [...Object.values((schema.patternProperties ?? {}) as Schema), schema.additionalProperties, schema.additionalItems, ...[schema.items].flat()]) visit(part, base, [...path, '*'], inside)
    for (const name of ['anyOf', 'oneOf', 'allOf', 'then', 'else']) for (const part of [schema[name]].flat()) visit(part, base, path, inside)
  }

  visit(root, root, [], [])
  return [...found.values()]
}

/** A value at one of these places is an envelope. Of what is no JSON nobody knows where it stands; and what Node says of it would quote it in the log. */
export function holdsSealed (answer: string, paths: readonly (readonly string[])[]): boolean {
  let value: unknown
  try {
    value = JSON.parse(answer)
  } catch {
    return true
  }
  return paths.some(path => isSealedAt(value, path, 0))
}

function isSealedAt (value: unknown, path: readonly string[], depth: number): boolean {
  if (depth === path.length) return readEnvelope(value) !== null
  if (value === null || typeof value !== 'object') return false
  const name = path[depth]!
  if (name === '*') return Object.values(value).some(part => isSealedAt(part, path, depth + 1))
  return Object.hasOwn(value, name) && isSealedAt((value as Record<string, unknown>)[name], path, depth + 1)
}
