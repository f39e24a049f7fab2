/**
 * Security headers on every answer, the refusals included.
 *
 * Threat: content sniffing, framing, leaked referrers, cached private answers, injected scripts (CWE-693, CWE-1021, CWE-525), windows and
 * processes shared with other sites, and what is left in a browser after the sign-out (CWE-613).
 * Defence: helmet computes its headers once a policy at boot; they are sent as one prepared object, before
 * anything can refuse. Added to helmet's: `Permissions-Policy`, `Cache-Control: no-store`, where browsers report what a
 * policy stopped, a policy that is only tried, and `Clear-Site-Data`.
 * Not covered: what a page does with an allowed script.
 */
import { randomBytes } from 'node:crypto'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { checkOptions } from '../options.js'
import type { PlannedRoute, Step } from '../plan/index.js'
import { PreparedHeaders, setPrepared } from '../prepared.js'
import { HeadersMisconfigured } from './errors.js'
import { computeHeaders, NONCE, Overrides, POLICIES, RouteHeaders, type HeaderOverrides } from './policy.js'

export { HeadersMisconfigured } from './errors.js'
export type { HeaderOverrides } from './policy.js'

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

type Headers = Record<string, string>

async function headers (app: FastifyInstance, options: HeadersOptions): Promise<void> {
  checkOptions(HeadersOptions, options, 'headers', HeadersMisconfigured)
  const { hsts = { maxAge: 63072000, includeSubDomains: true }, ...defaults } = options
  const transportSecurity: Headers = hsts === false ? {} : { 'strict-transport-security': strictTransport(hsts) }
  const prepared = new Map<string, ReturnType<typeof computeHeaders>>()

  app.decorateReply('scriptNonce', '')
  app.plan.contribute({
    concern: 'headers',
    stage: 'headers',
    async compile (route) {
      const override = overrideOf(route)
      if (override === false) return { promise: false }
      if (override !== undefined) checkOptions(RouteHeaders, override, 'headers', HeadersMisconfigured)
      const { clearSiteData, ...policy }: HeaderOverrides = { reportUri: collectorOf(app), ...defaults, ...override }
      if (policy.contentSecurityPolicyReportOnly !== undefined && typeof policy.reportUri !== 'string') {
        throw new HeadersMisconfigured('headers: contentSecurityPolicyReportOnly: nobody would hear of it: set reportUri, or register reports')
      }
      const key = JSON.stringify(policy)
      const computed = prepared.get(key) ?? computeHeaders(policy)
      prepared.set(key, computed)
      const { plain, secure } = await computed
      const overHttps = { ...secure, ...transportSecurity }
      return {
        step: sendHeaders(plain, overHttps),
        promise: { ...overHttps, ...(clearSiteData !== undefined && { 'clear-site-data': listOf(clearSiteData) }) },
      }
    },
  })
  // When nothing can refuse any more: sent with a refusal, other sites could have it done.
  app.plan.contribute({
    concern: 'headers',
    stage: 'keep',
    compile (route) {
      const override = overrideOf(route)
      return typeof override === 'object' && Array.isArray(override.clearSiteData) ? { step: clearSite(listOf(override.clearSiteData)) } : undefined
    },
  })
}

function overrideOf (route: PlannedRoute): HeaderOverrides | false | undefined {
  return (route.options.config as { headers?: HeaderOverrides | false } | undefined)?.headers
}

/** The route that collects reports, where the service has it. */
function collectorOf (app: FastifyInstance): string | undefined {
  return app.hasDecorator('reports') ? (app as FastifyInstance & { reports: { path: string } }).reports.path : undefined
}

function strictTransport (hsts: Exclude<HeadersOptions['hsts'], undefined | false>): string {
  return `max-age=${hsts.maxAge}${hsts.includeSubDomains === false ? '' : '; includeSubDomains'}${hsts.preload === true ? '; preload' : ''}`
}

function sendHeaders (plain: Headers, secure: Headers): Step {
  const overHttp = split(plain)
  // HSTS over plain HTTP is ignored by browsers and forbidden (RFC 6797, 7.2).
  const overHttps = split(secure)
  const hasNonce = overHttp.nonced.length > 0

  return function sendPreparedHeaders (request: FastifyRequest, reply: FastifyReply): void {
    const { constant, nonced } = request.protocol === 'https' ? overHttps : overHttp
    setPrepared(reply, constant)
    if (!hasNonce) return
    const nonce = randomBytes(16).toString('base64')
    reply.scriptNonce = nonce
    for (const [name, policy] of nonced) reply.header(name, policy.replaceAll(NONCE, nonce))
  }
}

/** What is the same on every answer, and what has a nonce in it. */
function split (set: Headers): { constant: PreparedHeaders, nonced: [string, string][] } {
  const nonced = Object.entries(set).filter(([name, value]) => POLICIES.includes(name) && value.includes(NONCE))
  const names = new Set(nonced.map(([name]) => name))
  return { constant: new PreparedHeaders(Object.fromEntries(Object.entries(set).filter(([name]) => !names.has(name)))), nonced }
}

function clearSite (what: string): Step {
  return function clearSiteAfterSuccess (request, reply) {
    // Browsers do it over HTTPS alone, and on `localhost`, where it would clear what other services of the developer have left.
    if (reply.statusCode < 400 && request.protocol === 'https') reply.header('clear-site-data', what)
  }
}

function listOf (names: readonly string[]): string {
  return names.map(name => `"${name}"`).join(', ')
}

export default fp(headers, { fastify: '5.x', name: 'bastion-headers', dependencies: ['bastion-plan'] })
