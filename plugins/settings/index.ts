/**
 * Settings: typed values from the environment and from where a company keeps its secrets, checked before the server exists.
 *
 * Threat: services that start with missing, weak, default or published secrets (CWE-798, CWE-1392), secrets that are printed (CWE-532), and
 * secrets that are never changed because a change is a restart (CWE-324).
 * Defence: one TypeBox schema; every fault in one error that names the variables and never their values; secrets that are weak or missing stop
 * boot in production; what is secret never shows itself in logs, JSON or `util.inspect`. {@link loadSettings} reads files of Docker and
 * Kubernetes, HashiCorp Vault and AWS Secrets Manager too, and tells of what changed there while the service runs.
 * Not covered here: the environment itself, which whoever is root can read; whoever has the process.
 */
import { existsSync, readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'
import { Type, type Static, type TObject, type TProperties, type TSchema, type TString } from '@sinclair/typebox'
import { SettingsRefused } from './errors.js'
import { concealing, readValues, saysProduction } from './values.js'

export { aws, type AwsOptions, type AwsSecret } from './aws.js'
export type { Clock } from './clock.js'
export { SettingsRefused, SettingsUnavailable, SourceFault } from './errors.js'
export { files, type FilesOptions } from './files.js'
export { loadSettings, type LoadedSettings, type LoadOptions, type SettingsFault, type SourceStatus } from './loading.js'
export { decodeSecret, deriveKey, weaknessOf } from './secrets.js'
export { dotenv, env, type Reading, type ReadingContext, type Source } from './source.js'
export { vault, type VaultAuth, type VaultOptions, type VaultSecret } from './vault.js'

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

/**
 * A variable that is never printed but is no key of ours, so that its strength is not judged: connection strings, passwords of other services.
 * In production a password that is a well-known default, alone or in a URL, stops boot all the same.
 */
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
  const { values, faults } = readValues(schema, textOf, source.production ?? saysProduction(textOf))
  if (faults.length > 0) throw new SettingsRefused(`Settings are refused:\n  ${faults.map(({ message }) => message).join('\n  ')}`)
  return concealing(values, schema.properties) as Static<TObject<Properties>>
}
