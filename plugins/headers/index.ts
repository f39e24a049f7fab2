/**
 * Security headers on every answer, the refusals included.
 *
 * Threat: content sniffing, framing, leaked referrers, cached private answers, injected scripts (CWE-693, CWE-1021, CWE-525).
 * Defence: helmet computes its headers once a policy at boot; they are sent as one prepared object, before
 * anything can refuse. Added to helmet's: `Permissions-Policy` and `Cache-Control: no-store`.
 * Not covered: what a page does with an allowed script.
 */
import { randomBytes } from 'node:crypto'
import { validateHeaderValue } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { createError } from '@fastify/error'
import helmet, { type FastifyHelmetOptions } from '@fastify/helmet'
import { Type, type Static } from '@sinclair/typebox'
import Fastify from 'fastify'
import fp from 'fastify-plugin'
import { checkOptions } from './options.js'
import type { PlannedRoute, Step } from './plan/index.js'
import { PreparedHeaders, setPrepared } from './prepared.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Overrides the headers of this route; `false` sends none (not for routes that a browser opens). */
    headers?: (HeaderOverrides & object) | false
  }
  interface FastifyReply {
    /** The nonce of this answer's Content-Security-Policy; empty where the policy asks for none. */
    scriptNonce: string
  }
}

/** An option of the headers concern is wrong. */
export const HeadersMisconfigured = createError<[string]>('FST_BASTION_HEADERS_MISCONFIGURED', '%s', 500, TypeError)

const Directives = Type.Record(Type.String(), Type.Union([Type.Array(Type.String()), Type.String()]))
const Overrides = Type.Object({
  contentSecurityPolicy: Type.Optional(Type.Union([Directives, Type.Literal('api'), Type.Literal('page')], {
    description: '`api`: nothing may load; `page`: own files, and code with the nonce; or directives of your own, in which `{nonce}` is replaced',
    default: 'api',
  })),
  reportUri: Type.Optional(Type.String({ minLength: 1, description: 'Where browsers report what Content-Security-Policy stopped; nowhere by default' })),
  cacheControl: Type.Optional(Type.String({ description: 'Cache-Control of answers that set none', default: 'no-store' })),
  permissionsPolicy: Type.Optional(Type.Union([Type.String(), Type.Array(Type.String({ pattern: '^[a-z][a-z0-9-]*$' }), { uniqueItems: true })], {
    description: 'Names of the powerful features that the page itself may use (`publickey-credentials-get`, `publickey-credentials-create` for passkeys), or a whole Permissions-Policy of your own; by default all are off',
  })),
  crossOriginResourcePolicy: Type.Optional(Type.Union(
    [Type.Literal('same-origin'), Type.Literal('same-site'), Type.Literal('cross-origin')],
    { description: 'Which sites may embed the answer', default: 'same-origin' })),
}, { additionalProperties: false })
export type HeaderOverrides = Static<typeof Overrides>

export const HeadersOptions = Type.Composite([Overrides, Type.Object({
  hsts: Type.Optional(Type.Union([Type.Literal(false), Type.Object({
    maxAge: Type.Integer({ minimum: 0, description: 'Seconds' }),
    includeSubDomains: Type.Optional(Type.Boolean()),
    preload: Type.Optional(Type.Boolean()),
  }, { additionalProperties: false })], {
    description: 'Strict-Transport-Security, sent over HTTPS only (RFC 6797, 7.2)', default: { maxAge: 63072000, includeSubDomains: true },
  })),
})], { additionalProperties: false })
export type HeadersOptions = Static<typeof HeadersOptions>

const DENIED_FEATURES = [
  'accelerometer', 'autoplay', 'camera', 'display-capture', 'encrypted-media', 'fullscreen', 'geolocation', 'gyroscope', 'magnetometer', 'microphone', 'midi',
  'payment', 'picture-in-picture', 'publickey-credentials-create', 'publickey-credentials-get', 'screen-wake-lock', 'usb', 'web-share', 'xr-spatial-tracking',
]

const API_POLICY = { 'default-src': ["'none'"], 'base-uri': ["'none'"], 'form-action': ["'none'"], 'frame-ancestors': ["'none'"] }
const NONCE = '{nonce}'
const PAGE_POLICY = {
  'default-src': ["'none'"],
  'script-src': [`'nonce-${NONCE}'`, "'strict-dynamic'"],
  'style-src': ["'self'", `'nonce-${NONCE}'`],
  'img-src': ["'self'", 'data:'],
  'font-src': ["'self'"],
  'connect-src': ["'self'"],
  'manifest-src': ["'self'"],
  'base-uri': ["'none'"],
  'form-action': ["'self'"],
  'frame-ancestors': ["'none'"],
  'require-trusted-types-for': ["'script'"],
}

async function headers (app: FastifyInstance, options: HeadersOptions): Promise<void> {
  checkOptions(HeadersOptions, options, 'headers', HeadersMisconfigured)
  const { hsts = { maxAge: 63072000, includeSubDomains: true }, ...defaults } = options
  const transportSecurity = strictTransport(hsts)
  const prepared = new Map<string, Record<string, string>>()

  app.decorateReply('scriptNonce', '')
  app.plan.contribute({
    concern: 'headers',
    stage: 'headers',
    async compile (route) {
      const override = overrideOf(route)
      if (override === false) return { promise: false }
      if (override !== undefined) checkOptions(Overrides, override, 'headers', HeadersMisconfigured)
      const policy = { ...defaults, ...override }
      const key = JSON.stringify(policy)
      const set = prepared.get(key) ?? await computeHeaders(policy)
      prepared.set(key, set)
      return {
        step: sendHeaders(set, transportSecurity),
        promise: { ...set, ...(transportSecurity !== null && { 'strict-transport-security': transportSecurity }) },
      }
    },
  })
}

function overrideOf (route: PlannedRoute): HeaderOverrides | false | undefined {
  return (route.options.config as { headers?: HeaderOverrides | false } | undefined)?.headers
}

/** Asks helmet itself, once a policy, which headers it sends: from a real answer of an application that has nothing else. */
async function computeHeaders (policy: HeaderOverrides): Promise<Record<string, string>> {
  const csp = policy.contentSecurityPolicy ?? 'api'
  const directives = csp === 'api' ? API_POLICY : csp === 'page' ? PAGE_POLICY : csp
  const set = await askHelmet({
    contentSecurityPolicy: { useDefaults: false, directives: { ...directives, ...(policy.reportUri !== undefined && { 'report-uri': [policy.reportUri] }) } },
    crossOriginResourcePolicy: { policy: policy.crossOriginResourcePolicy ?? 'same-origin' },
    crossOriginEmbedderPolicy: { policy: 'require-corp' },
    frameguard: { action: 'deny' },
    hsts: false,
  })
  set['permissions-policy'] = featuresOf(policy.permissionsPolicy ?? [])
  set['cache-control'] = policy.cacheControl ?? 'no-store'
  for (const [name, value] of Object.entries(set)) refuseUnsendable(name, value)
  return set
}

/** The features that are named are the page's own, and the others are off, for it and for what it frames. */
function featuresOf (policy: string | string[]): string {
  if (typeof policy === 'string') return policy
  return [...policy.map(feature => `${feature}=(self)`), ...DENIED_FEATURES.filter(feature => !policy.includes(feature)).map(feature => `${feature}=()`)].join(', ')
}

async function askHelmet (options: FastifyHelmetOptions): Promise<Record<string, string>> {
  const probe = Fastify()
  try {
    await probe.register(helmet, options)
    probe.get('/', (_request, reply) => { reply.code(204).send() })
    const { statusCode, headers, body } = await probe.inject('/')
    // helmet looks at its options when it answers.
    if (statusCode !== 204) throw new Error(JSON.parse(body).message)
    return Object.fromEntries(Object.entries(headers).filter(([name]) => name !== 'date' && name !== 'connection').map(([name, value]) => [name, String(value)]))
  } catch (error) {
    throw new HeadersMisconfigured(`headers: ${(error as Error).message}`)
  } finally {
    await probe.close()
  }
}

function refuseUnsendable (name: string, value: string): void {
  try {
    validateHeaderValue(name, value)
  } catch {
    throw new HeadersMisconfigured(`headers: the value for ${name} holds characters that no header can`)
  }
}

function strictTransport (hsts: Exclude<HeadersOptions['hsts'], undefined>): string | null {
  if (hsts === false) return null
  return `max-age=${hsts.maxAge}${hsts.includeSubDomains === false ? '' : '; includeSubDomains'}${hsts.preload === true ? '; preload' : ''}`
}

function sendHeaders (set: Record<string, string>, hsts: string | null): Step {
  const { 'content-security-policy': policy, ...others } = set
  const hasNonce = policy?.includes(NONCE) === true
  const plain = new PreparedHeaders(hasNonce ? others : set)
  // HSTS over plain HTTP is ignored by browsers and forbidden (RFC 6797, 7.2).
  const secure = hsts === null ? plain : plain.with(new PreparedHeaders({ 'strict-transport-security': hsts }))

  return function sendPreparedHeaders (request: FastifyRequest, reply: FastifyReply): void {
    const headers = request.protocol === 'https' ? secure : plain
    if (isUntouched(reply)) setPrepared(reply, headers)
    else reply.headers(headers.set)
    if (!hasNonce) return
    const nonce = randomBytes(16).toString('base64')
    reply.scriptNonce = nonce
    reply.header('content-security-policy', policy!.replaceAll(NONCE, nonce))
  }
}

/** False where a hook older than the suite has set headers, which ours replace. */
function isUntouched (reply: FastifyReply): boolean {
  return Object.keys(reply.getHeaders()).length === 0
}

export default fp(headers, { fastify: '5.x', name: 'bastion-headers', dependencies: ['bastion-plan'] })
