/** The portal: the suite, then its routes. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, { type FastifyBaseLogger, type FastifyInstance, type FastifyServerOptions, type RawServerDefault } from 'fastify'
import type { IncomingMessage, ServerResponse } from 'node:http'
import bastion, { server, type ServerOptions } from '../plugins/index.js'
import type { Sql } from '../plugins/sql.js'
import { portalAccounts, type PortalAccounts } from './accounts.js'
import { makeKeys } from './keys.js'
import { portalResources } from './resources.js'
import { ADMIN_PERMISSIONS, ROLES } from './roles.js'
import { authRoutes } from './routes/auth.js'
import { documentRoutes } from './routes/documents.js'
import { operationRoutes } from './routes/operations.js'
import { orderRoutes } from './routes/orders.js'
import { postRoutes } from './routes/posts.js'
import { userRoutes } from './routes/users.js'
import { listOf, type PortalSettings } from './settings.js'

/** What the routes stand on. */
export interface Portal {
  app: FastifyInstance<RawServerDefault, IncomingMessage, ServerResponse, FastifyBaseLogger, TypeBoxTypeProvider>
  sql: Sql
  accounts: PortalAccounts
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
  /** Certificate and key in PEM: serve HTTPS. */
  https?: { cert: string, key: string }
  /** Milliseconds since the epoch; for tests. */
  now?: () => number
}

export async function buildPortal ({ settings, secret, sql, origin, logger, https, now }: PortalParts): Promise<FastifyInstance> {
  const isProduction = settings.NODE_ENV === 'production'
  const { tokens, pepper, stateNames } = makeKeys(secret, settings)
  const accounts = portalAccounts(sql)
  const proxies = listOf(settings.TRUST_PROXY)
  const app = Fastify(server({
    logger: logger ?? (settings.LOG_LEVEL === 'silent' ? false : settings.LOG_LEVEL),
    ...(proxies.length > 0 && { trustProxy: proxies }),
    ...(https !== undefined && { fastify: { https } as FastifyServerOptions }),
  })).withTypeProvider<TypeBoxTypeProvider>()

  await app.register(bastion, {
    transport: {
      hosts: [new URL(origin).host, ...(isProduction ? [] : ['localhost', '127.0.0.1', '[::1]'])],
      requireHttps: isProduction && origin.startsWith('https:'),
    },
    cors: { origins: settings.CORS_ORIGINS !== undefined ? listOf(settings.CORS_ORIGINS) : isProduction ? [] : ['http://localhost:5173'] },
    state: { now, redis: settings.REDIS_URL, secret: stateNames },
    access: { roles: ROLES, permissions: [...ADMIN_PERMISSIONS], resources: portalResources(sql), now },
    passwords: { pepper, policy: settings.PASSWORD_POLICY },
    tokens: { issuer: origin, audience: origin, algorithm: settings.JWT_ALGORITHM, keys: tokens, now },
    signIn: { accounts },
  })

  const portal: Portal = { app: app as unknown as Portal['app'], sql, accounts, now: now ?? Date.now }
  for (const routes of [authRoutes, userRoutes, postRoutes, documentRoutes, orderRoutes, operationRoutes]) routes(portal)
  return app as unknown as FastifyInstance
}
