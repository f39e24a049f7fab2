/** The portal's settings, as its contract names them. */
import { Type, type Static } from '@sinclair/typebox'
import { Concealed, Secret, settings } from '../plugins/settings/index.js'

export const PortalSettings = Type.Object({
  HOST: Type.String({ default: '127.0.0.1' }),
  PORT: Type.Integer({ minimum: 0, maximum: 65535, default: 3000 }),
  NODE_ENV: Type.Union([Type.Literal('development'), Type.Literal('test'), Type.Literal('production')], { default: 'development' }),
  DATA_DIR: Type.String({ default: '.data' }),
  DATABASE_URL: Type.Optional(Concealed(Type.String({ pattern: '^postgres(ql)?://' }))),
  REDIS_URL: Type.Optional(Concealed(Type.String({ pattern: '^rediss?://' }))),
  APP_SECRET: Type.Optional(Secret({ description: 'the master secret, 32 bytes or more' })),
  JWT_KEYS: Type.Optional(Type.String({ description: 'path of a private JWK Set' })),
  JWT_ALGORITHM: Type.Union([Type.Literal('HS256'), Type.Literal('RS256'), Type.Literal('ES256'), Type.Literal('EdDSA')], { default: 'HS256' }),
  ENCRYPTION_VERSION: Type.Optional(Type.Integer({ minimum: 1, maximum: 99, default: 1, description: 'raised by one, the keys of encrypted fields are new ones; the older are still read' })),
  DEMO_PASSWORD: Type.Optional(Concealed(Type.String({ minLength: 8 }))),
  CORS_ORIGINS: Type.Optional(Type.String()),
  PUBLIC_ORIGIN: Type.Optional(Type.String({ pattern: '^https?://[^/]+$' })),
  TRUST_PROXY: Type.Optional(Type.String({ pattern: '^[0-9A-Fa-f:., /]+$' })),
  TLS_CERT: Type.Optional(Type.String()),
  TLS_KEY: Type.Optional(Type.String()),
  REDIRECT_PORT: Type.Optional(Type.Integer({ minimum: 1, maximum: 65535, description: 'plain HTTP beside HTTPS, in production: redirected or refused' })),
  PASSWORD_POLICY: Type.Union([Type.Literal('nist'), Type.Literal('composition')], { default: 'composition' }),
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

/** The items of a comma-separated variable. */
export function listOf (text: string | undefined): string[] {
  return (text ?? '').split(',').map(item => item.trim()).filter(item => item !== '')
}
