/**
 * Settings: typed values from the environment, checked before the server exists.
 *
 * Threat: services that start with missing, weak or default secrets (CWE-798, CWE-1392), and secrets that are printed.
 * Defence: one TypeBox schema; every fault in one error that names the variables and never their values; secrets
 * that are weak or missing stop boot in production; what is secret never shows itself in logs, JSON or `util.inspect`.
 * Not covered here: Vault and cloud secret stores; the environment itself, which whoever is root can read.
 */
import { existsSync, readFileSync } from 'node:fs'
import { inspect, parseEnv } from 'node:util'
import { createError } from '@fastify/error'
import { Type, type Static, type TObject, type TProperties, type TSchema, type TString } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { weaknessOf } from './secrets.js'

export { decodeSecret, deriveKey, weaknessOf } from './secrets.js'

/** Settings are missing or wrong; the message names every variable, and no value. */
export const SettingsRefused = createError<[string]>('FST_BASTION_SETTINGS_REFUSED', '%s', 500, TypeError)

export interface SettingsSource {
  /** Default: `process.env`. It wins over the file. */
  env?: Record<string, string | undefined>
  /** Path of a `.env` file, or false for none (default `.env`; a file that is missing is no fault). */
  dotenv?: string | false
  /**
   * In production weak and missing secrets stop boot. Default: what `NODE_ENV` says, and it says so unless it is unset,
   * `development` or `test`: a misspelt `NODE_ENV` must not switch the checks off.
   */
  production?: boolean
}

export interface SecretOptions {
  /** Shown where the secret is missing. */
  description?: string
  /** `false`: production can do without it (default true). Where it is set, it must be strong all the same. */
  neededInProduction?: boolean
}

/**
 * A variable that holds a secret: base64url or hex of 32 bytes or more, never printed, never from a default in the code.
 * `Type.Optional(Secret())` may be missing in development, and is still needed in production.
 */
export function Secret ({ description, neededInProduction = true }: SecretOptions = {}): TString {
  return Type.String({ ...description !== undefined && { description }, minLength: 1, secret: true, concealed: true, neededInProduction })
}

/** A variable that is never printed but is no key of ours, so that its strength is not judged: connection strings, passwords of other services. */
export function Concealed<Schema extends TSchema> (schema: Schema): Schema {
  return { ...schema, concealed: true }
}

/**
 * Reads settings. What is concealed is there by its name only: it does not travel with a spread, `Object.entries` or a log line.
 *
 * @param schema an object of strings, numbers, booleans and unions of literals, with defaults
 * @throws SettingsRefused that lists every fault at once
 */
export function settings<Properties extends TProperties> (schema: TObject<Properties>, source: SettingsSource = {}): Static<TObject<Properties>> {
  const { env = process.env, dotenv = '.env' } = source
  const file = dotenv !== false && existsSync(dotenv) ? parseEnv(readFileSync(dotenv, 'utf8')) : {}
  // An empty variable is one that is not set: `PORT=` in a file means the default.
  const textOf = (name: string) => (env[name] || file[name]) || undefined
  const isProduction = source.production ?? !['development', 'test', undefined].includes(textOf('NODE_ENV'))
  const required = new Set((schema as TSchema).required as string[] | undefined)
  const faults: string[] = []
  const values: Record<string, unknown> = {}

  for (const [name, property] of Object.entries(schema.properties)) {
    const text = textOf(name)
    const isSecret = property.secret === true
    const isGuarded = isSecret && isProduction
    // A secret that stands in the code is none.
    const value = text !== undefined ? valueOf(property, text) : isGuarded ? undefined : structuredClone(property.default)
    if (value === undefined) {
      if (required.has(name) || (isGuarded && property.neededInProduction !== false)) {
        faults.push(`${name} is missing${property.description === undefined ? '' : ` (${property.description})`}`)
      }
      continue
    }
    const weakness = isGuarded ? weaknessOf(String(value)) : null
    if (!Value.Check(property, value)) faults.push(`${name}: ${expectationOf(property, value)}`)
    else if (weakness !== null) faults.push(`${name} ${weakness}: make one with \`openssl rand -base64 48\``)
    values[name] = value
  }
  if (faults.length > 0) throw new SettingsRefused(`Settings are refused:\n  ${faults.join('\n  ')}`)
  return concealing(values, schema.properties) as Static<TObject<Properties>>
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
function concealing (values: Record<string, unknown>, properties: TProperties): Record<string, unknown> {
  const isConcealed = (name: string) => properties[name]!.concealed === true
  const shown = () => Object.fromEntries(Object.entries(Object.getOwnPropertyDescriptors(values))
    .filter(([name]) => name !== 'toJSON').map(([name, { value }]) => [name, isConcealed(name) ? '[secret]' : value]))
  for (const name of Object.keys(values).filter(isConcealed)) Object.defineProperty(values, name, { enumerable: false })
  Object.defineProperty(values, 'toJSON', { value: shown })
  Object.defineProperty(values, inspect.custom, { value: shown })
  return Object.freeze(values)
}
