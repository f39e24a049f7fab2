/**
 * Transport: which hosts this service answers to, and that nothing but safe navigations passes plain HTTP.
 *
 * Threat: forged Host headers that poison links, caches and password mails (CWE-644); credentials sent in clear
 * (CWE-319), also where a proxy ends TLS; forwarded headers believed from strangers (CWE-348).
 * Defence: a list of trusted hosts, 421 for others; plain HTTP is refused before the body is read, and GET and HEAD
 * without a credential are redirected to HTTPS on a trusted host.
 * Not covered here: the TLS server itself (`server({ https })`), certificates and their renewal.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import createError from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { checkOptions } from './options.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** `false`: this route is answered over plain HTTP too (health checks inside a cluster). */
    https?: false
  }
  interface FastifyInstance {
    /** Adds trusted hosts after boot, for a service that learns its port when it listens. */
    trustHosts: (hosts: readonly string[]) => void
  }
}

/** An option of the transport concern is wrong. */
export const TransportMisconfigured = createError<[string]>('FST_BASTION_TRANSPORT_MISCONFIGURED', '%s', 500, TypeError)
/** No Host, several, or one with characters that no host has (RFC 9112, 3.2). */
export const HostMalformed = createError('FST_BASTION_TRANSPORT_HOST_MALFORMED', 'The request names no valid host', 400)
/** The host is not one of ours (RFC 9110, 15.5.20). */
export const HostUntrusted = createError('FST_BASTION_TRANSPORT_HOST_UNTRUSTED', 'This service does not answer for that host', 421)
/** Plain HTTP where HTTPS is required. */
export const HttpsRequired = createError('FST_BASTION_TRANSPORT_HTTPS_REQUIRED', 'Use HTTPS', 403)

export const TransportOptions = Type.Object({
  hosts: Type.Optional(Type.Array(Type.String({ minLength: 1 }), {
    description: 'Trusted hosts, as `name` (any port), `name:port`, or `*.name` for one level below it; empty: every host',
    default: [],
  })),
  requireHttps: Type.Optional(Type.Boolean({
    description: 'Refuses plain HTTP; behind a proxy set `trustProxy` of the server so that X-Forwarded-Proto is believed',
    default: false,
  })),
  redirectStatus: Type.Optional(Type.Union([Type.Literal(308), Type.Literal(301)], { default: 308 })),
}, { additionalProperties: false })
export type TransportOptions = Static<typeof TransportOptions>

/** reg-name, IPv4 or bracketed IPv6, with an optional port (RFC 3986, 3.2.2). */
const HOST = /^(?:[a-z0-9](?:[a-z0-9._-]{0,252})|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?$/i

async function transport (app: FastifyInstance, options: TransportOptions): Promise<void> {
  checkOptions(TransportOptions, options, 'transport', TransportMisconfigured)
  const { requireHttps = false, redirectStatus = 308 } = options
  const exact = new Set<string>()
  const suffixes: string[] = []
  const trust = (hosts: readonly string[]) => {
    for (const host of hosts) {
      const name = host.toLowerCase()
      if (!HOST.test(name.replace(/^\*\./, ''))) throw new TransportMisconfigured(`transport: hosts: ${JSON.stringify(host)} is not a host`)
      if (name.startsWith('*.')) suffixes.push(name.slice(1))
      else exact.add(name)
    }
  }
  trust(options.hosts ?? [])

  app.decorate('trustHosts', trust)
  app.plan.contribute({
    concern: 'transport',
    stage: 'transport',
    compile (route) {
      const mustBeHttps = requireHttps && (route.options.config as { https?: false } | undefined)?.https !== false
      return {
        step: mustBeHttps ? refusePlainHttpAndStrangeHosts : refuseStrangeHosts,
        promise: { hosts: [...exact, ...suffixes.map(suffix => `*${suffix}`)], https: mustBeHttps },
      }
    },
  })

  function refuseStrangeHosts (request: FastifyRequest): void {
    const host = hostOf(request)
    if (host === null) throw new HostMalformed()
    if (exact.size === 0 && suffixes.length === 0) return
    if (isTrusted(host)) return
    app.events.record('untrusted_host', request, { host: host.slice(0, 255) })
    throw new HostUntrusted()
  }

  function refusePlainHttpAndStrangeHosts (request: FastifyRequest): void {
    refuseStrangeHosts(request)
    if (request.protocol === 'https') return
    app.events.record('plain_http_refused', request)
    const isSafe = request.method === 'GET' || request.method === 'HEAD'
    const { authorization, cookie } = request.headers
    const hasCredential = authorization !== undefined || cookie !== undefined || request.headers['x-api-key'] !== undefined
    // Only to a host that was named as ours: a redirect to whatever Host says would be an open one.
    if (!isSafe || hasCredential || (exact.size === 0 && suffixes.length === 0)) throw new HttpsRequired()
    const name = hostOf(request)!.replace(/:\d+$/, '')
    throw Object.assign(new HttpsRequired(), { statusCode: redirectStatus, headers: { location: `https://${name}${request.url}` } })
  }

  function isTrusted (host: string): boolean {
    const name = host.toLowerCase()
    if (exact.has(name)) return true
    const bare = name.replace(/:\d+$/, '')
    if (exact.has(bare)) return true
    return suffixes.some(suffix => bare.endsWith(suffix) && bare.indexOf('.') === bare.length - suffix.length)
  }
}

/** The one host that the request names; null where it names none, several, or disagrees with itself. */
function hostOf (request: FastifyRequest): string | null {
  const { headers } = request.raw
  const authority = headers[':authority'] as string | undefined
  if (authority !== undefined && headers.host !== undefined && headers.host !== authority) return null
  const host = request.host
  return typeof host === 'string' && HOST.test(host) ? host : null
}

export default fp(transport, { fastify: '5.x', name: 'bastion-transport', dependencies: ['bastion-plan', 'bastion-events'] })
