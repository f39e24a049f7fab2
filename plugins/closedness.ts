/** Closedness: whether a schema of a body takes anything that nobody declared. */
import { isSchema, resolveReference, type Schema } from './references.js'

type Shared = Readonly<Record<string, unknown>>

/**
 * The places in a schema where something passes that was not declared: fields of any name, lists of anything, values of any type.
 *
 * @param shared the schemas that were added to the instance, by their `$id`
 */
export function openPlaces (root: unknown, shared: Shared): string[] {
  const found = new Set<string>()

  function look (schema: unknown, base: unknown, path: string, stack: readonly unknown[]): void {
    if (schema === false) return
    if (!isSchema(schema)) {
      found.add(path)
      return
    }
    const inside = (part: unknown, at: string) => look(part, base, at, [...stack, schema])
    if (typeof schema.$ref === 'string') {
      const target = resolveReference(schema.$ref, base, shared)
      if (target === null) found.add(path)
      else if (!stack.includes(target.schema)) look(target.schema, target.base, path, [...stack, target.schema])
      return
    }
    if (isOpen(schema)) found.add(path)
    for (const [name, part] of Object.entries(schema.properties ?? {})) inside(part, `${path}/${name}`)
    for (const part of Object.values(schema.patternProperties ?? {})) inside(part, `${path}/*`)
    if (isSchema(schema.additionalProperties)) inside(schema.additionalProperties, `${path}/*`)
    for (const part of [schema.items ?? []].flat()) inside(part, `${path}/items`)
    if (isSchema(schema.additionalItems)) inside(schema.additionalItems, `${path}/items`)
    // Beside a type the branches only narrow what is declared already.
    if (schema.type === undefined) for (const part of branchesOf(schema)) inside(part, path)
  }

  look(root, root, '', [root])
  return [...found]
}

function isOpen (schema: Schema): boolean {
  const { type, additionalProperties, items, additionalItems } = schema
  // Without a type, properties and items say nothing of what is neither object nor list. Nor can `allOf` close what its parts share:
  // Type.Composite makes one schema of them.
  if (type === undefined) return branchesOf(schema).length === 0 && !isFixed(schema) && !isNothing(schema)
  const types = [type].flat()
  if (types.includes('object') && additionalProperties !== false && !isSchema(additionalProperties)) return true
  if (!types.includes('array')) return false
  return items === undefined || (Array.isArray(items) && additionalItems !== false && !isSchema(additionalItems))
}

function branchesOf ({ anyOf, oneOf }: Schema): unknown[] {
  return [anyOf ?? [], oneOf ?? []].flat()
}

/** Only certain values. */
function isFixed (schema: Schema): boolean {
  return schema.const !== undefined || Array.isArray(schema.enum)
}

/** No value at all. */
function isNothing ({ not }: Schema): boolean {
  return not === true || (isSchema(not) && Object.keys(not).length === 0)
}
