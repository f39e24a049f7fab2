/** The portal: the suite, then its routes. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, { type FastifyBaseLogger, type FastifyInstance, type RawServerDefault } from 'fastify'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { join, resolve } from 'node:path'
import { sqlApiKeys } from '../plugins/api-keys/index.js'
import bastion, { server, type BastionOptions, type ServerOptions } from '../plugins/index.js'
import type { TlsOptions } from '../plugins/certificates/index.js'
import { sqlMfaStore } from '../plugins/mfa/index.js'
import type { OutboundOptions } from '../plugins/outbound/index.js'
import { pwnedPasswords, type BreachRange, type HashEngine } from '../plugins/passwords/index.js'
import { sqlPasskeys } from '../plugins/passkeys/index.js'
import { postgresConnection } from '../plugins/postgres.js'
import type { Principal } from '../plugins/identity.js'
import type { Sql } from '../plugins/sql.js'
import { sqlUploads, type UploadRecords } from '../plugins/uploads/index.js'
import { portalAccounts, type PortalAccounts } from './accounts.js'
import { alertsOf } from './alerts.js'
import { makeKeys } from './keys.js'
import { mailer, type Mail, type SendMail } from './mail.js'
import { tellOfSignIns } from './notices.js'
import { encryptionOf } from './patients.js'
import { portalSources, PURPOSES } from './privacy.js'
import { portalResources } from './resources.js'
import { ADMIN_PERMISSIONS, ROLES } from './roles.js'
import { AUDIT_DAYS, auditRoutes, DURABLE } from './routes/audit.js'
import { authRoutes } from './routes/auth.js'
import { documentation } from './routes/docs.js'
import { documentRoutes } from './routes/documents.js'
import { fileRoutes, QUOTA } from './routes/files.js'
import { metricRoutes } from './routes/metrics.js'
import { mfaRoutes } from './routes/mfa.js'
import { keyRoutes } from './routes/keys.js'
import { labRoutes } from './routes/lab.js'
import { operationRoutes } from './routes/operations.js'
import { orderRoutes } from './routes/orders.js'
import { passkeyRoutes } from './routes/passkeys.js'
import { patientRoutes } from './routes/patients.js'
import { paymentRoutes } from './routes/payments.js'
import { postRoutes } from './routes/posts.js'
import { postureRoutes } from './routes/posture.js'
import { privacyRoutes } from './routes/privacy.js'
import { recoveryRoutes } from './routes/recovery.js'
import { registrationRoutes } from './routes/registration.js'
import { sessionRoutes } from './routes/sessions.js'
import { toolRoutes } from './routes/tools.js'
import { userRoutes } from './routes/users.js'
import { webRoutes } from './routes/web.js'
import { webhookRoutes } from './routes/webhooks.js'
import { listOf, type PortalSettings } from './settings.js'
import { reachOf, webhooks, type WebhookParts, type Webhooks } from './webhooks.js'

/** What the routes stand on. */
export interface Portal {
  app: FastifyInstance<RawServerDefault, IncomingMessage, ServerResponse, FastifyBaseLogger, TypeBoxTypeProvider>
  sql: Sql
  accounts: PortalAccounts
  /** Who has which files. */
  uploads: UploadRecords
  /** Ends all of a user's tokens and sessions; `except` is the one that asks, which stays. */
  signOut: (userId: string, except?: Principal) => Promise<void>
  /** `quiet`: by mail, so that nobody learns which names and addresses are known. */
  registration: PortalSettings['REGISTRATION']
  /** Sends what `write` makes, if it makes something, once the request is answered. */
  post: (write: () => Promise<Mail | null>) => void
  /** The origin people see. */
  origin: string
  /** False: nobody gets one. */
  sendsMail: boolean
  /** Users' own URLs, and what is posted to them. */
  webhooks: Webhooks
  isProduction: boolean
  /** Milliseconds since the epoch. */
  now: () => number
}

export interface PortalParts {
  /** As they were read: those that are concealed are lost in a copy. */
  settings: PortalSettings
  /** The master secret. */
  secret: string
  sql: Sql
  /** The origin people see. */
  origin: string
  logger?: ServerOptions['logger']
  /** Default: by SMTP, or into the data directory. */
  mail?: SendMail | null
  /** When there is too much to do. Default: as the suite's. */
  overload?: BastionOptions['overload']
  /** Paths of certificate and key in PEM: serve HTTPS. */
  tls?: TlsOptions
  /** Milliseconds since the epoch; for tests. */
  now?: () => number
  /** For tests: the addresses of a name to which users have the portal go, and the times of webhooks. */
  outbound?: Pick<OutboundOptions, 'resolve'> & Pick<WebhookParts, 'retryAfter' | 'timeout'>
  /** For tests: cheaper hashes of passwords. */
  hashes?: HashEngine
  /** Who knows passwords of breaches. Default: as the settings say. */
  breached?: BreachRange
}

export async function buildPortal ({ settings, secret, sql, origin, logger, tls, mail = mailer(settings), overload, now, hashes, breached = settings.BREACHED_PASSWORDS === 'ask' ? pwnedPasswords : undefined, outbound: { resolve: lookUp, ...times } = {} }: PortalParts): Promise<FastifyInstance> {
  const isProduction = settings.NODE_ENV === 'production'
  const isDocumented = settings.NODE_ENV === 'development'
  const keys = makeKeys(secret, settings)
  const { tokens, pepper, stateNames, apiKeys, mfa, sessions, csrf, webhooks: webhookKey, alerts: alertKey, privacy, audit } = keys
  const accounts = portalAccounts(sql)
  const uploads = sqlUploads(sql)
  const folder = resolve(join(settings.DATA_DIR, 'uploads'))
  if (settings.REGISTRATION === 'quiet' && mail === null) throw new Error('REGISTRATION=quiet needs SMTP_URL: accounts are completed by a mail')
  /** The name of the cookies follows the scheme: over plain HTTP no browser takes one that is for HTTPS alone. */
  const isSecure = isProduction || origin.startsWith('https:')
  const isHttpsOnly = isProduction && origin.startsWith('https:')
  const proxies = listOf(settings.TRUST_PROXY)
  const app = Fastify(server({
    logger: logger ?? (settings.LOG_LEVEL === 'silent' ? false : settings.LOG_LEVEL),
    ...(proxies.length > 0 && { trustProxy: proxies }),
    tls,
  })).withTypeProvider<TypeBoxTypeProvider>()

  await app.register(bastion, {
    metrics: { node: settings.NODE_ENV !== 'test' },
    audit: { sql, keys: audit, folder: resolve(join(settings.DATA_DIR, 'audit')), durable: DURABLE, retention: AUDIT_DAYS, now },
    transport: {
      hosts: [new URL(origin).host, ...(isProduction ? [] : ['localhost', '127.0.0.1', '[::1]'])],
      requireHttps: isHttpsOnly,
      httpsPort: Number(new URL(origin).port || 443),
      ...(isHttpsOnly && tls !== undefined && settings.REDIRECT_PORT !== undefined && { redirectFrom: { port: settings.REDIRECT_PORT } }),
      peers: settings.DATABASE_URL === undefined ? [] : [postgresConnection(settings.DATABASE_URL).peer],
    },
    certificates: { production: isProduction, now },
    reports: { now },
    cors: { origins: settings.CORS_ORIGINS !== undefined ? listOf(settings.CORS_ORIGINS) : isProduction ? [] : ['http://localhost:5173'] },
    overload,
    // Of a machine that does much else a Redis is not away that takes longer than 100 ms.
    state: { now, redis: settings.REDIS_URL, secret: stateNames, deadline: 500 },
    access: { roles: ROLES, permissions: [...ADMIN_PERMISSIONS], resources: portalResources(sql, uploads), now },
    outbound: { ...reachOf(isProduction), resolve: lookUp },
    ...isDocumented && { openapi: { title: 'Member portal', version: '2' } },
    csrf: { key: csrf, secure: isSecure },
    sessions: { secret: sessions, secure: isSecure, now },
    encryption: encryptionOf(keys),
    passwords: { policy: settings.PASSWORD_POLICY, breached, ...hashes === undefined ? { pepper } : { engine: hashes } },
    tokens: { issuer: origin, audience: origin, algorithm: settings.JWT_ALGORITHM, keys: tokens, now },
    apiKeys: { secret: apiKeys, store: sqlApiKeys(sql), owner: accounts.findById, now },
    signIn: { accounts },
    mfa: { issuer: 'Member portal', accounts, store: sqlMfaStore(sql), key: mfa, now },
    passkeys: { rpName: 'Member portal', ...relyingParty(origin, isProduction), accounts, store: sqlPasskeys(sql), secondFactor: true, now },
    uploads: { folder, records: uploads, quota: QUOTA },
    files: { roots: { uploads: folder } },
    privacy: { sql, key: privacy, purposes: PURPOSES, now },
    alerts: { ...alertsOf(settings, alertKey), now },
    oauth2: { passwordGrant: true, introspection: 'tokens:introspect', load: accounts.subjectOf },
  })

  const signOut: Portal['signOut'] = async (userId, except) => {
    await app.tokens.revokeUser(userId, { except: except?.familyId })
    await app.sessions.endAll(userId, { except: except?.via === 'session' ? except.credentialId : undefined })
  }
  const plain = app as unknown as FastifyInstance
  const portal: Portal = {
    app: app as unknown as Portal['app'],
    sql,
    accounts,
    uploads,
    signOut,
    registration: settings.REGISTRATION,
    post: postman(plain, mail),
    origin,
    sendsMail: mail !== null,
    webhooks: webhooks({ app: plain, sql, key: webhookKey, now: now ?? Date.now, ...times }),
    isProduction,
    now: now ?? Date.now,
  }
  tellOfSignIns(portal)
  for (const source of portalSources(portal)) app.privacy.source(source)
  for (const routes of [auditRoutes, authRoutes, sessionRoutes, mfaRoutes, passkeyRoutes, userRoutes, privacyRoutes, keyRoutes, postRoutes, documentRoutes, fileRoutes, orderRoutes, patientRoutes, paymentRoutes, operationRoutes, postureRoutes, metricRoutes, toolRoutes, webhookRoutes, registrationRoutes, recoveryRoutes, webRoutes]) routes(portal)
  if (!isProduction) labRoutes(portal)
  if (isDocumented) await documentation(plain)
  return app as unknown as FastifyInstance
}

/**
 * A passkey is for a domain, and for https, or localhost outside of production: where people see something else, their browsers offer none, and
 * none is taken.
 */
function relyingParty (origin: string, isProduction: boolean): { rpId: string, origins: string[] } {
  const { protocol, hostname, port } = new URL(origin)
  const rpId = /\.[a-z][a-z0-9-]*$/.test(hostname) ? hostname : 'localhost'
  const scheme = rpId === 'localhost' && !isProduction ? protocol : 'https:'
  return { rpId, origins: [`${scheme}//${rpId}${port === '' ? '' : `:${port}`}`] }
}

/** Mails are written and sent beside the requests that cause them; those that are on their way when the portal closes are waited for. */
function postman (app: FastifyInstance, send: SendMail | null): Portal['post'] {
  const under = new Set<Promise<void>>()
  if (send === null) app.log.warn('SMTP_URL is not set: no mails are sent')
  app.addHook('onClose', async () => { await Promise.all(under) })
  return write => {
    const sending = deliver().catch(error => { app.log[error?.statusCode === 429 ? 'info' : 'error']({ err: error }, 'a mail was not sent') }).finally(() => under.delete(sending))
    under.add(sending)
    async function deliver (): Promise<void> {
      await new Promise(resolve => { setImmediate(resolve) })
      const mail = await write()
      if (mail !== null && send !== null) await send(mail)
    }
  }
}
