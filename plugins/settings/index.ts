/**
 * Settings: typed values from the environment, checked before the server exists.
 *
 * Threat: services that start with missing, weak or default secrets (CWE-798, CWE-1392), and secrets that are printed.
 * Defence: one TypeBox schema; every fault in one error that names the variables and never their values; secrets
 * that are weak stop boot in production; what is read never shows itself in logs or `util.inspect`.
 * Not covered here: Vault and cloud secret stores.
 */
import { existsSync, readFileSync } from 'node:fs'
import { inspect, parseEnv } from 'node:util'
import createError from '@fastify/error'
import { Type, type Static, type TObject, type TProperties, type TString } from '@sinclair/typebox'
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
  /** In production weak and missing secrets stop boot. Default: `NODE_ENV` is `production`. */
  production?: boolean
}

/** A variable that holds a secret: base64url or hex of 32 bytes or more, never printed. */
export function Secret (options: { description?: string } = {}): TString {
  return Type.String({ ...options, minLength: 1, secret: true })
}

/**
 * Reads settings.
 *
 * @param schema an object of strings, numbers, booleans and unions of literals, with defaults
 * @throws SettingsRefused that lists every fault at once
 */
export function settings<Properties extends TProperties> (schema: TObject<Properties>, source: SettingsSource = {}): Static<TObject<Properties>> {
  const { env = process.env, dotenv = '.env' } = source
  const file = dotenv !== false && existsSync(dotenv) ? parseEnv(readFileSync(dotenv, 'utf8')) : {}
  const isProduction = source.production ?? (env.NODE_ENV ?? file.NODE_ENV) === 'production'
  const faults: string[] = []
  const values: Record<string, unknown> = {}

  for (const [name, property] of Object.entries(schema.properties)) {
    // An empty variable is one that is not set: `PORT=` in a file means the default.
    const text = (env[name] || file[name]) || undefined
    const value = text === undefined ? structuredClone(property.default) : Value.Convert(property, text)
    if (value === undefined) {
      if ((schema.required as string[] | undefined)?.includes(name) === true) faults.push(`${name} is missing${property.description === undefined ? '' : ` (${property.description})`}`)
      continue
    }
    if (!Value.Check(property, value)) {
      const expected = [...Value.Errors(property, value)][0]?.message.toLowerCase() ?? 'is wrong'
      faults.push(`${name}: ${expected}`)
    } else if (property.secret === true) {
      const weakness = weaknessOf(value as string)
      if (weakness !== null && isProduction) faults.push(`${name} ${weakness}: make one with \`openssl rand -base64 48\``)
    }
    values[name] = value
  }
  if (faults.length > 0) throw new SettingsRefused(`Settings are refused:\n  ${faults.join('\n  ')}`)
  const secret = new Set(Object.entries(schema.properties).filter(([, property]) => property.secret === true).map(([name]) => name))
  return concealing(values, secret) as Static<TObject<Properties>>
}

/** The values, which print themselves with the secrets left out. */
function concealing (values: Record<string, unknown>, secret: ReadonlySet<string>): Record<string, unknown> {
  const shown = () => Object.fromEntries(Object.entries(values).map(([name, value]) => [name, secret.has(name) ? '[secret]' : value]))
  Object.defineProperty(values, 'toJSON', { value: shown })
  Object.defineProperty(values, inspect.custom, { value: shown })
  return Object.freeze(values)
}

