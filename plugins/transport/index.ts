/**
 * Transport: which hosts this service answers to, that nothing but safe navigations passes plain HTTP, and what is believed of proxies.
 *
 * Threat: forged Host headers that poison links, caches and password mails (CWE-644); credentials sent in clear
 * (CWE-319), also where a proxy ends TLS, and on the way to databases; forwarded headers believed from strangers (CWE-348).
 * Defence: a list of trusted hosts, 421 for others; plain HTTP is refused before the body is read, and GET and HEAD
 * without a credential are redirected to HTTPS on a trusted host; what a listed proxy forwards must be readable.
 * Not covered here: the TLS server itself (`server({ tls })`), certificates and their renewal.
 */
import type { Server } from 'node:http'
import { isIP } from 'node:net'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { addressKey } from '../address.js'
import { checkOptions } from '../options.js'
import { warnOfPeer } from '../peers.js'
import { ForwardedMalformed, HostMalformed, HostUntrusted, HttpsRequired, TransportMisconfigured } from './errors.js'
import { canonicalOf, hostOf, Hosts, isHost, withoutPort } from './hosts.js'
import { plainServer } from './plain.js'

export { ForwardedMalformed, HostMalformed, HostUntrusted, HttpsRequired, TargetMalformed, TransportMisconfigured } from './errors.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** `false`: this route is answered over plain HTTP too (health checks inside a cluster). */
    https?: false
  }
  interface FastifyInstance {
    /** Adds trusted hosts after boot, for a service that learns its port when it listens. */
    trustHosts: (hosts: readonly string[]) => void
    /** The second server, of `transport.redirectFrom`; null where there is none. */
    plainServer: Server | null
  }
}

export const TransportOptions = Type.Object({
  hosts: Type.Optional(Type.Array(Type.String({ minLength: 1 }), {
    description: 'Trusted hosts, as `name` (any port), `name:port`, or `*.name` for one level below it; empty: every host',
    default: [],
  })),
  requireHttps: Type.Optional(Type.Boolean({
    description: 'Refuses plain HTTP; behind a proxy set `trustProxy` of the server so that X-Forwarded-Proto is believed',
    default: false,
  })),
  redirectStatus: Type.Optional(Type.Union([Type.Literal(308), Type.Literal(301)], {
    description: 'With `requireHttps`: how GET and HEAD without a credential are sent to HTTPS, on a trusted host', default: 308,
  })),
  redirectFrom: Type.Optional(Type.Object({
    port: Type.Integer({ minimum: 0, maximum: 65535 }),
    host: Type.Optional(Type.String({ minLength: 1 })),
  }, {
    additionalProperties: false,
    description: 'With `requireHttps`, where the server itself speaks HTTPS: `port` (80) on which it answers plain HTTP too, and `host`, by default that of the server',
  })),
  httpsPort: Type.Optional(Type.Integer({ minimum: 1, maximum: 65535, description: 'The port to which people are redirected, as they see it', default: 443 })),
  peers: Type.Optional(Type.Array(Type.Object({
    name: Type.String(),
    host: Type.String(),
    isLocal: Type.Boolean(),
    tls: Type.Union([Type.Literal('verified'), Type.Literal('unverified'), Type.Literal('none')]),
  }, { additionalProperties: false }), {
    description: 'Services behind this one, as `postgresConnection(url).peer` tells of a database: posture, and in production the log, name those that are reached in clear',
    default: [],
  })),
}, { additionalProperties: false })
export type TransportOptions = Static<typeof TransportOptions>

/** Milliseconds between two looks at the connections while the server closes. */
const DRAIN_MS = 50
const HTTPS_PORT = 443

async function transport (app: FastifyInstance, options: TransportOptions): Promise<void> {
  checkOptions(TransportOptions, options, 'transport', TransportMisconfigured)
  const { requireHttps = false, redirectStatus = 308, redirectFrom, httpsPort = HTTPS_PORT, peers = [] } = options
  const hosts = new Hosts()
  let lastTrusted: string | null = null

  if (redirectFrom !== undefined && !requireHttps) throw new TransportMisconfigured('transport: redirectFrom: needs requireHttps, or all would be answered in clear')
  if (redirectFrom !== undefined && !app.initialConfig.https) throw new TransportMisconfigured('transport: redirectFrom: is for a server that speaks HTTPS itself')
  app.decorate('trustHosts', trustHosts)
  app.decorate('plainServer', redirectFrom === undefined ? null : plainServer(app, redirectFrom))
  app.addHook('preClose', closeWhatFallsIdle)
  trustHosts(options.hosts ?? [])
  for (const peer of peers) warnOfPeer(app.log, peer)
  app.plan.contribute({
    concern: 'transport',
    stage: 'transport',
    compile (route) {
      const { https } = (route.options.config ?? {}) as { https?: unknown }
      if (https !== undefined && https !== false) route.object('https: only false has a meaning here: remove it')
      const mustBeHttps = requireHttps && https !== false
      return { step: mustBeHttps ? refusePlainHttpAndStrangeHosts : refuseStrangeHosts, promise: { hosts: hosts.listed, https: mustBeHttps, ...(route.kind === 'not-found' && { peers }) } }
    },
  })

  /** Node closes what is idle when closing begins; a connection whose answer was under way then would stay until its keep-alive ends. */
  async function closeWhatFallsIdle (): Promise<void> {
    const drain = setInterval(() => { app.server.closeIdleConnections?.() }, DRAIN_MS)
    app.server.once('close', () => clearInterval(drain))
    drain.unref()
  }

  function trustHosts (added: readonly string[]): void {
    for (const host of added) hosts.add(host)
  }

  function refuseStrangeHosts (request: FastifyRequest): void {
    const host = readableHostOf(request)
    if (host === lastTrusted || hosts.listed.length === 0) return
    if (!hosts.trusts(canonicalOf(host))) refuseHost(request, host)
    lastTrusted = host
  }

  function refusePlainHttpAndStrangeHosts (request: FastifyRequest): void {
    if (request.protocol === 'https') {
      refuseStrangeHosts(request)
      return
    }
    const host = canonicalOf(readableHostOf(request))
    const target = httpsPort === HTTPS_PORT ? withoutPort(host) : `${withoutPort(host)}:${httpsPort}`
    // Only to a host that was named as ours: a redirect to whatever Host says would be an open one.
    const leadsHome = hosts.trusts(target)
    if (!leadsHome && hosts.listed.length > 0 && !hosts.trusts(host)) refuseHost(request, host)
    if (leadsHome && isNavigation(request)) throw redirectTo(`https://${target}${request.originalUrl}`)
    app.events.recordUnguarded('plain_http_refused', request)
    throw new HttpsRequired()
  }

  function readableHostOf (request: FastifyRequest): string {
    const host = hostOf(request)
    if (host === null || (host !== lastTrusted && !isHost(host))) throw new HostMalformed()
    if (!isForwardedReadably(request)) {
      const refusal = new ForwardedMalformed()
      app.events.recordUnguarded('malformed_request', request, { code: refusal.code })
      throw refusal
    }
    return host
  }

  function refuseHost (request: FastifyRequest, host: string): never {
    app.events.recordUnguarded('untrusted_host', request, { host: host.slice(0, 255) })
    throw new HostUntrusted()
  }

  /** Only these are redirected: whoever sends a body or a credential in clear must notice (ASVS 4.1.2). */
  function isNavigation (request: FastifyRequest): boolean {
    const { method, headers } = request
    const hasCredential = headers.authorization !== undefined || headers.cookie !== undefined || headers['x-api-key'] !== undefined
    const hasBody = headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0'
    const isReadable = app.plan.refusalOf(request) === null && request.originalUrl.startsWith('/')
    return (method === 'GET' || method === 'HEAD') && !hasCredential && !hasBody && isReadable
  }

  function redirectTo (location: string): Error {
    return Object.assign(new HttpsRequired(), { statusCode: redirectStatus, headers: { location } })
  }
}

/**
 * What a listed proxy forwards decides what is plain and who is counted: a protocol that is none, or an address that is none, is a
 * fault of that proxy, and no reason to guess. From others it is not read at all.
 */
function isForwardedReadably (request: FastifyRequest): boolean {
  const { headers } = request
  if (headers['x-forwarded-proto'] !== undefined && request.protocol !== 'https' && request.protocol !== 'http') return false
  if (headers['x-forwarded-for'] === undefined) return true
  const { ip } = request
  // addressKey takes off the port that some proxies add, and makes networks of IPv6 addresses.
  return ip === undefined || ip === request.socket.remoteAddress || isIP(addressKey(ip).replace(/\/64$/, '')) !== 0
}

export default fp(transport, { fastify: '5.x', name: 'bastion-transport', dependencies: ['bastion-plan', 'bastion-events'] })
