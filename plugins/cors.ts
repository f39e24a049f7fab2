/**
 * CORS: which other origins may read the answers.
 *
 * Threat: an origin that is reflected with credentials lets any page act as the signed-in user (CWE-942).
 * Defence: exact origins only, checked at boot; @fastify/cors does the rest, and answers preflights before
 * identification, so that they are never met with a 401.
 * Not covered: requests that need no preflight and no reading of the answer; that is CSRF protection.
 */
import type { FastifyInstance } from 'fastify'
import cors from '@fastify/cors'
import createError from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { checkOptions } from './options.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** `false`: no other origin may read this route's answers. */
    cors?: false
  }
}

/** An origin or combination that would open the API to any page, or a wrong option. */
export const CorsMisconfigured = createError<[string]>('FST_BASTION_CORS_MISCONFIGURED', '%s', 500, TypeError)

export const CorsOptions = Type.Object({
  origins: Type.Optional(Type.Union([Type.Array(Type.String()), Type.Literal('*')], {
    description: 'Exact origins (`https://app.example.com`), or `*` for a public API without credentials; none: no other origin', default: [],
  })),
  credentials: Type.Optional(Type.Boolean({ description: 'Cookies and Authorization from these origins', default: false })),
  methods: Type.Optional(Type.Array(Type.String(), { default: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'] })),
  allowedHeaders: Type.Optional(Type.Array(Type.String(), { default: ['authorization', 'content-type', 'x-api-key', 'x-csrf-token'] })),
  exposedHeaders: Type.Optional(Type.Array(Type.String(), {
    default: ['ratelimit', 'ratelimit-policy', 'x-ratelimit-limit', 'x-ratelimit-remaining', 'x-ratelimit-reset', 'retry-after'],
  })),
  maxAge: Type.Optional(Type.Integer({ minimum: 0, maximum: 86400, description: 'Seconds a preflight is remembered', default: 600 })),
}, { additionalProperties: false })
export type CorsOptions = Static<typeof CorsOptions>

async function bastionCors (app: FastifyInstance, options: CorsOptions): Promise<void> {
  checkOptions(CorsOptions, options, 'cors', CorsMisconfigured)
  const { origins = [], credentials = false } = options
  if (origins === '*' && credentials) throw new CorsMisconfigured('cors: origins "*" with credentials would let any page act as the user: list exact origins')
  if (Array.isArray(origins)) origins.forEach(refuseInexactOrigin)
  if (app.plan.isOpen('guard')) throw new CorsMisconfigured('cors must be registered before identity, limits and access: a preflight carries no credential')

  app.plan.contribute({ concern: 'cors', declare: allowPreflightRoute, compile: route => ({ promise: isOff(route.options.config) ? false : { origins, credentials } }) })
  await app.register(cors, {
    origin: origins === '*' ? '*' : origins.length === 0 ? false : [...origins],
    credentials,
    methods: options.methods ?? ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
    allowedHeaders: options.allowedHeaders ?? ['authorization', 'content-type', 'x-api-key', 'x-csrf-token'],
    exposedHeaders: options.exposedHeaders ?? ['ratelimit', 'ratelimit-policy', 'x-ratelimit-limit', 'x-ratelimit-remaining', 'x-ratelimit-reset', 'retry-after'],
    maxAge: options.maxAge ?? 600,
    // An OPTIONS request that is no preflight is an ordinary request: it is not answered in plain text.
    strictPreflight: false,
  })
}

function isOff (config: unknown): boolean {
  return (config as { cors?: false } | undefined)?.cors === false
}

/** The route that @fastify/cors adds so that preflights reach its hook. */
function allowPreflightRoute ({ options, method, url }: { options: { config?: unknown }, method: string, url: string }): void {
  if (method === 'OPTIONS' && (url === '*' || url === '/*')) options.config = { access: 'public', answers: 'raw', ...options.config as object }
}

function refuseInexactOrigin (origin: string): void {
  const parsed = URL.canParse(origin) ? new URL(origin) : null
  if (parsed === null || parsed.origin !== origin || !/^https?:$/.test(parsed.protocol)) {
    throw new CorsMisconfigured(`cors: origins: ${JSON.stringify(origin)} is not an exact origin such as https://app.example.com`)
  }
}

export default fp(bastionCors, { fastify: '5.x', name: 'bastion-cors', dependencies: ['bastion-plan'] })
