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
import { createError } from '@fastify/error'
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
const HOST = /^(?:[a-z0-9][a-z0-9._-]{0,252}|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?$/i
const PORT = /:\d+$/
/** The authority of a request target in absolute form (RFC 9112, 3.2.2). */
const ABSOLUTE = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)/i

/** Milliseconds between two looks at the connections while the server closes. */
const DRAIN_MS = 50

async function transport (app: FastifyInstance, options: TransportOptions): Promise<void> {
  checkOptions(TransportOptions, options, 'transport', TransportMisconfigured)
  const { requireHttps = false, redirectStatus = 308 } = options
  const listed: string[] = []
  const exact = new Set<string>()
  const suffixes = new Set<string>()
  let lastTrusted = ''

  app.decorate('trustHosts', trustHosts)
  app.addHook('preClose', closeWhatFallsIdle)
  trustHosts(options.hosts ?? [])
  app.plan.contribute({
    concern: 'transport',
    stage: 'transport',
    compile (route) {
      const { https } = (route.options.config ?? {}) as { https?: unknown }
      if (https !== undefined && https !== false) route.object('https: only false has a meaning here: remove it')
      const mustBeHttps = requireHttps && https !== false
      return { step: mustBeHttps ? refusePlainHttpAndStrangeHosts : refuseStrangeHosts, promise: { hosts: listed, https: mustBeHttps } }
    },
  })

  /** Node closes what is idle when closing begins; a connection whose answer was under way then would stay until its keep-alive ends. */
  async function closeWhatFallsIdle (): Promise<void> {
    const drain = setInterval(() => { app.server.closeIdleConnections?.() }, DRAIN_MS)
    app.server.once('close', () => clearInterval(drain))
    drain.unref()
  }

  function trustHosts (hosts: readonly string[]): void {
    for (const host of hosts) {
      const isWildcard = host.startsWith('*.')
      const name = isWildcard ? host.slice(2) : host
      if (!HOST.test(name)) throw new TransportMisconfigured(`transport: hosts: ${JSON.stringify(host)} is not a host`)
      const canonical = canonicalOf(name)
      if (!isWildcard) exact.add(canonical)
      else if (/[.]|^localhost/.test(canonical)) suffixes.add(`.${canonical}`)
      else throw new TransportMisconfigured(`transport: hosts: ${JSON.stringify(host)} would trust a whole top-level domain`)
      listed.push(host)
    }
  }

  function refuseStrangeHosts (request: FastifyRequest): void {
    const host = hostOf(request)
    if (host === null) throw new HostMalformed()
    if (host === lastTrusted || listed.length === 0) return
    if (!isTrusted(canonicalOf(host))) {
      app.events.record('untrusted_host', request, { host: host.slice(0, 255) })
      throw new HostUntrusted()
    }
    lastTrusted = host
  }

  function refusePlainHttpAndStrangeHosts (request: FastifyRequest): void {
    refuseStrangeHosts(request)
    if (request.protocol === 'https') return
    if (isNavigation(request)) throw redirectToHttps(request)
    app.events.record('plain_http_refused', request)
    throw new HttpsRequired()
  }

  /** Only these are redirected: whoever sends a body or a credential in clear must notice (ASVS 4.1.2). */
  function isNavigation (request: FastifyRequest): boolean {
    const { method, headers } = request
    const hasCredential = headers.authorization !== undefined || headers.cookie !== undefined || headers['x-api-key'] !== undefined
    const hasBody = headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0'
    // Only to a host that was named as ours: a redirect to whatever Host says would be an open one.
    const isReadable = app.plan.refusalOf(request) === null && request.originalUrl.startsWith('/')
    return (method === 'GET' || method === 'HEAD') && !hasCredential && !hasBody && listed.length > 0 && isReadable
  }

  function redirectToHttps (request: FastifyRequest) {
    const name = request.host.replace(PORT, '')
    return Object.assign(new HttpsRequired(), { statusCode: redirectStatus, headers: { location: `https://${name}${request.originalUrl}` } })
  }

  function isTrusted (host: string): boolean {
    const name = host.replace(PORT, '')
    if (exact.has(host) || exact.has(name)) return true
    const dot = name.indexOf('.')
    return dot > 0 && (suffixes.has(name.slice(dot)) || suffixes.has(host.slice(dot)))
  }
}

/** The one host that the request names; null where it names none, several, or disagrees with itself. */
function hostOf (request: FastifyRequest): string | null {
  const { raw, host } = request
  const authority = raw.headers[':authority'] as string | undefined
  const given = raw.headers.host ?? authority
  if (given === undefined || (authority !== undefined && given !== authority) || namesHostTwice(raw.rawHeaders)) return null
  const { originalUrl = raw.url } = raw as { originalUrl?: string }
  if (originalUrl?.startsWith('/') === false) {
    const target = ABSOLUTE.exec(originalUrl)?.[1]
    if (target !== undefined && target.toLowerCase() !== given.toLowerCase()) return null
  }
  return HOST.test(host) ? host : null
}

/** Node takes the first of several Host fields, a proxy may have taken the last. */
function namesHostTwice (rawHeaders: readonly string[]): boolean {
  let count = 0
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!
    if (name.length === 4 && name.toLowerCase() === 'host' && ++count > 1) return true
  }
  return false
}

/** One spelling: lower case, no trailing dot, IPv6 in its short form. */
function canonicalOf (host: string): string {
  if (host.startsWith('[')) return URL.canParse(`http://${host}`) ? `${new URL(`http://${host}`).hostname}${PORT.exec(host)?.[0] ?? ''}` : host
  return host.toLowerCase().replace(/\.(?=:\d+$|$)/, '')
}

export default fp(transport, { fastify: '5.x', name: 'bastion-transport', dependencies: ['bastion-plan', 'bastion-events'] })
