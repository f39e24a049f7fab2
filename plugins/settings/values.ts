/** From texts to values: typed, judged, and concealed where they are secret. */
import { inspect } from 'node:util'
import type { TProperties, TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { isDefaultCredential, weaknessOf } from './secrets.js'

export interface Fault {
  /** The variable. */
  name: string
  /** What is wrong with it, with its name and without its value. */
  message: string
}

/** The text of a variable; undefined where it is not set. */
export type Lookup = (name: string) => string | undefined

const ADVICE = 'make one with `npx fastify-bastion secret` or `openssl rand -base64 48`'

/** In production unless `NODE_ENV` is unset, `development` or `test`: one that is misspelt must not switch the checks off. */
export function saysProduction (textOf: Lookup): boolean {
  return !['development', 'test', undefined].includes(textOf('NODE_ENV'))
}

/** Values of this schema, and all that is wrong with them. */
export function readValues ({ properties, required: names }: { properties: TProperties, required?: unknown }, textOf: Lookup, isProduction: boolean): { values: Record<string, unknown>, faults: Fault[] } {
  const required = new Set(names as string[] | undefined)
  const faults: Fault[] = []
  const values: Record<string, unknown> = {}

  for (const [name, property] of Object.entries(properties)) {
    const text = textOf(name)
    const isGuarded = property.secret === true && isProduction
    // A secret that stands in the code is none.
    const value = text !== undefined ? valueOf(property, text) : isGuarded ? undefined : structuredClone(property.default)
    if (value === undefined) {
      if (required.has(name) || (isGuarded && property.neededInProduction !== false)) {
        faults.push({ name, message: `${name} is missing${property.description === undefined ? '' : ` (${property.description})`}` })
      }
      continue
    }
    const weakness = isGuarded ? weaknessOf(String(value)) : null
    if (!Value.Check(property, value)) faults.push({ name, message: `${name}: ${expectationOf(property, value)}` })
    else if (weakness !== null) faults.push({ name, message: `${name} ${weakness}: ${ADVICE}` })
    else if (isProduction && property.concealed === true && typeof value === 'string' && isDefaultCredential(value)) {
      faults.push({ name, message: `${name} holds a password that is a well-known default` })
    }
    values[name] = value
  }
  return { values, faults }
}

/** The value that a text means for this schema; the text itself where it means none. No guesses: `true` is no port, `7.9` no integer. */
function valueOf (property: TSchema, text: string): unknown {
  if ('const' in property) return String(property.const) === text ? property.const : text
  if (Array.isArray(property.anyOf)) {
    const meanings = (property.anyOf as TSchema[]).map(part => ({ part, value: valueOf(part, text) }))
    return meanings.find(({ part, value }) => Value.Check(part, value))?.value ?? text
  }
  if (property.type === 'integer') return /^-?\d{1,15}$/.test(text) ? Number(text) : text
  if (property.type === 'number') return /^-?\d{1,15}(?:\.\d{1,15})?$/.test(text) ? Number(text) : text
  if (property.type === 'boolean') return text === 'true' || text === '1' ? true : text === 'false' || text === '0' ? false : text
  return text
}

function expectationOf (property: TSchema, value: unknown): string {
  const choices = (property.anyOf as TSchema[] | undefined)?.map(part => part.const)
  if (choices !== undefined && !choices.includes(undefined)) return `expected one of ${choices.join(', ')}`
  return [...Value.Errors(property, value)][0]?.message.toLowerCase() ?? 'is wrong'
}

/** The values, with what is concealed out of every enumeration and shown as `[secret]` where they print themselves. */
export function concealing (values: Record<string, unknown>, properties: TProperties): Record<string, unknown> {
  const isConcealed = (name: string) => properties[name]!.concealed === true
  const shown = () => Object.fromEntries(Object.entries(Object.getOwnPropertyDescriptors(values))
    .filter(([name]) => name !== 'toJSON').map(([name, { value }]) => [name, isConcealed(name) ? '[secret]' : value]))
  for (const name of Object.keys(values).filter(isConcealed)) Object.defineProperty(values, name, { enumerable: false })
  Object.defineProperty(values, 'toJSON', { value: shown })
  Object.defineProperty(values, inspect.custom, { value: shown })
  return Object.freeze(values)
}
