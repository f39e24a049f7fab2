/** The portal's settings, as its contract names them. */
import { readFileSync } from 'node:fs'
import { Type, type Static } from '@sinclair/typebox'
import { aws, Concealed, dotenv, env as environment, files, loadSettings, Secret, settings, vault, type LoadedSettings, type Source, type VaultAuth } from '../plugins/settings/index.js'

/** Of one line: a private key that is put where its path belongs is refused without being shown. */
const Path = Type.String({ pattern: '^[^\\r\\n]{1,4096}$' })

export const PortalSettings = Type.Object({
  HOST: Type.String({ default: '127.0.0.1' }),
  PORT: Type.Integer({ minimum: 0, maximum: 65535, default: 3000 }),
  NODE_ENV: Type.Union([Type.Literal('development'), Type.Literal('test'), Type.Literal('production')], { default: 'development' }),
  DATA_DIR: Type.String({ default: '.data' }),
  DATABASE_URL: Type.Optional(Concealed(Type.String({ pattern: '^postgres(ql)?://' }))),
  REDIS_URL: Type.Optional(Concealed(Type.String({ pattern: '^rediss?://' }))),
  APP_SECRET: Type.Optional(Secret({ description: 'the master secret, 32 bytes or more' })),
  JWT_KEYS: Type.Optional(Concealed(Type.String({ description: 'path of a private JWK Set, or the set itself' }))),
  JWT_ALGORITHM: Type.Union([Type.Literal('HS256'), Type.Literal('RS256'), Type.Literal('ES256'), Type.Literal('EdDSA')], { default: 'HS256' }),
  ENCRYPTION_VERSION: Type.Optional(Type.Integer({ minimum: 1, maximum: 99, default: 1, description: 'raised by one, the keys of encrypted fields are new ones; the older are still read' })),
  DEMO_PASSWORD: Type.Optional(Concealed(Type.String({ minLength: 8 }))),
  CORS_ORIGINS: Type.Optional(Type.String()),
  PUBLIC_ORIGIN: Type.Optional(Type.String({ pattern: '^https?://[^/]+$' })),
  TRUST_PROXY: Type.Optional(Type.String({ pattern: '^[0-9A-Fa-f:., /]+$' })),
  TLS_CERT: Type.Optional(Path),
  TLS_KEY: Type.Optional(Path),
  REDIRECT_PORT: Type.Optional(Type.Integer({ minimum: 1, maximum: 65535, description: 'plain HTTP beside HTTPS, in production: redirected or refused' })),
  PASSWORD_POLICY: Type.Union([Type.Literal('nist'), Type.Literal('composition')], { default: 'composition' }),
  BREACHED_PASSWORDS: Type.Optional(Type.Union([Type.Literal('off'), Type.Literal('ask')], { default: 'off', description: 'ask: whether a new password was in a breach is asked of Have I Been Pwned, by five digits of its hash' })),
  ALERT_WEBHOOK_URL: Type.Optional(Concealed(Type.String({ pattern: '^https?://' }))),
  ALERT_WEBHOOK_SECRET: Type.Optional(Concealed(Type.String({ pattern: '^whsec_[A-Za-z0-9+/]{43,}=*$' }))),
  REGISTRATION: Type.Union([Type.Literal('open'), Type.Literal('quiet')], { default: 'open' }),
  SMTP_URL: Type.Optional(Concealed(Type.String({ pattern: '^smtps?://' }))),
  MAIL_FROM: Type.String({ default: 'portal@localhost' }),
  LOG_LEVEL: Type.Union(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'].map(level => Type.Literal(level)), { default: 'info' }),
})
export type PortalSettings = Static<typeof PortalSettings>

/** @throws SettingsRefused, also where production lacks its secret */
export function readSettings (env: Record<string, string | undefined> = process.env): PortalSettings {
  return settings(PortalSettings, { env })
}

/** Where secrets are kept beside the environment, `.env` and files; by the names that the tools of those stores use. */
const Stores = Type.Object({
  VAULT_ADDR: Type.Optional(Type.String()),
  VAULT_TOKEN: Type.Optional(Concealed(Type.String())),
  VAULT_ROLE_ID: Type.Optional(Concealed(Type.String())),
  VAULT_SECRET_ID: Type.Optional(Concealed(Type.String())),
  VAULT_NAMESPACE: Type.Optional(Type.String()),
  VAULT_SECRET: Type.String({ pattern: '^[^/]+/.+$', default: 'secret/portal', description: 'mount and path in KV version 2' }),
  VAULT_CACERT: Type.Optional(Path),
  AWS_SECRET_ID: Type.Optional(Type.String()),
  AWS_REGION: Type.Optional(Type.String()),
})

/**
 * The same, from wherever they are kept, and again while the portal runs. `NAME_FILE` is a file that holds the variable.
 *
 * @throws SettingsRefused, SettingsUnavailable
 */
export async function loadPortalSettings (env: Record<string, string | undefined> = process.env): Promise<LoadedSettings<PortalSettings>> {
  const local = [environment(env), dotenv(), files()]
  const stores = (await loadSettings(Stores, { sources: local, refresh: false })).values
  return loadSettings(PortalSettings, { sources: [...local, ...storesOf(stores)] })
}

function storesOf (stores: Static<typeof Stores>): Source[] {
  const { VAULT_ADDR, VAULT_NAMESPACE, VAULT_SECRET, VAULT_CACERT, AWS_SECRET_ID, AWS_REGION } = stores
  const [mount, path] = [VAULT_SECRET.slice(0, VAULT_SECRET.indexOf('/')), VAULT_SECRET.slice(VAULT_SECRET.indexOf('/') + 1)]
  const ca = VAULT_CACERT === undefined ? undefined : readFileSync(VAULT_CACERT, 'utf8')
  return [
    ...VAULT_ADDR === undefined ? [] : [vault({ address: VAULT_ADDR, auth: vaultAuth(stores), namespace: VAULT_NAMESPACE, secrets: [{ mount, path }], ca })],
    ...AWS_SECRET_ID === undefined ? [] : [aws({ secrets: [{ id: AWS_SECRET_ID }], region: AWS_REGION })],
  ]
}

function vaultAuth ({ VAULT_TOKEN, VAULT_ROLE_ID, VAULT_SECRET_ID }: Static<typeof Stores>): VaultAuth {
  if (VAULT_TOKEN !== undefined && VAULT_ROLE_ID === undefined) return { token: VAULT_TOKEN }
  if (VAULT_TOKEN === undefined && VAULT_ROLE_ID !== undefined && VAULT_SECRET_ID !== undefined) return { roleId: VAULT_ROLE_ID, secretId: VAULT_SECRET_ID }
  throw new Error('VAULT_ADDR needs either VAULT_TOKEN, or VAULT_ROLE_ID and VAULT_SECRET_ID')
}

/** The items of a comma-separated variable. */
export function listOf (text: string | undefined): string[] {
  return (text ?? '').split(',').map(item => item.trim()).filter(item => item !== '')
}
