/** From JSON to texts, as variables hold them. */
import { SourceFault } from './errors.js'

/**
 * The fields of an object as texts: numbers and booleans as they are written, objects as JSON, null as not set.
 *
 * @param fields which field is which variable; without it each field has the name of its variable
 * @throws SourceFault where it is no object, and where a field that is named is missing
 */
export function textsOf (value: unknown, what: string, fields?: Readonly<Record<string, string>>): Record<string, string> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new SourceFault(`${what} holds no object of fields`)
  const pairs = fields === undefined
    ? Object.entries(value)
    : Object.entries(fields).map(([name, field]) => {
      if (!Object.hasOwn(value, field)) throw new SourceFault(`${what} has no field ${field}`)
      return [name, (value as Record<string, unknown>)[field]] as const
    })
  const texts = Object.create(null) as Record<string, string>
  for (const [name, field] of pairs) if (field !== null && field !== undefined) texts[name] = typeof field === 'object' ? JSON.stringify(field) : String(field)
  return texts
}
