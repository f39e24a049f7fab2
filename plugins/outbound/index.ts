/**
 * Outbound: requests to URLs that users give, such as webhooks, previews and imports.
 *
 * Threat: a service that fetches what it is told reaches for others what only it can reach: its own ports, its neighbours, the metadata of its cloud (CWE-918, OWASP API7:2023); by a name
 * that leads inside, by odd spellings of an address, by a redirect, by a name that leads elsewhere at the second look-up. And answers that never end (CWE-400).
 * Defence: https on known ports without credentials, to listed hosts where there is a list; the name is looked up once, none of its addresses may be special, and the connection goes to those
 * addresses and no others; redirects are followed only where it is said, each checked anew; time and bytes are bounded. Whatever is wrong, the caller gets one answer.
 * Not covered: how long an answer takes, which tells something; private services with public addresses (list the hosts); what else in the process opens connections (a rule of the network is the
 * second wall). Networks that reach IPv4 by NAT64 alone reach nothing through it.
 */
import { lookup } from 'node:dns/promises'
import { setMaxListeners } from 'node:events'
import { validateHeaderName, validateHeaderValue } from 'node:http'
import { isIP } from 'node:net'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Type, type Static } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import fp from 'fastify-plugin'
import { Hostname } from '../../schemas/network.js'
import { checkOptions } from '../options.js'
import { isProduction } from '../production.js'
import { OutboundFault, OutboundMisconfigured, OutboundRefused } from './errors.js'
import { exchange, hostOf, type OutboundResponse } from './exchange.js'
import { specialKind } from './reach.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** Requests to URLs that users give. */
    outbound: Outbound
  }
}

/** The instance decorator `app.outbound`. */
export interface Outbound {
  /**
   * Fetches a URL that somebody else has chosen.
   * @throws OutboundRefused for whatever stands against it; its `cause` is an OutboundFault
   * @throws TypeError for a method, a header or an option that is none
   */
  fetch: (url: string | URL, init?: OutboundInit, options?: OutboundFetchOptions) => Promise<OutboundResponse>
  /**
   * The addresses of a hostname or of an address literal, each of which everybody in the internet can reach. Connect to these, never to the name.
   * @throws OutboundRefused as `fetch` does
   */
  resolve: (host: string, options?: OutboundFetchOptions) => Promise<string[]>
}

export interface OutboundInit {
  /** Default: GET. */
  method?: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** After a redirect to another origin only `accept`, `accept-language`, `content-type` and `user-agent` are sent. */
  headers?: Readonly<Record<string, string>>
  body?: string | Uint8Array
  signal?: AbortSignal
}

const limits = {
  hosts: Type.Optional(Type.Array(Type.String({ minLength: 1 }), { minItems: 1, description: 'Only these hosts: `example.com`, or `*.example.com` for all names below it; without it every one' })),
  maxRedirects: Type.Optional(Type.Integer({ minimum: 0, maximum: 20, description: 'Redirects that are followed, each checked as the first URL was; with 0 the redirect is the answer', default: 0 })),
  timeout: Type.Optional(Type.Integer({ minimum: 1, maximum: 2 ** 31 - 1, description: 'Milliseconds for all of it: look-up, redirects, the last byte', default: 5000 })),
  maxBytes: Type.Optional(Type.Integer({ minimum: 0, description: 'Bytes of an answer', default: 1_048_576 })),
}
export const OutboundOptions = Type.Object({
  allowHttp: Type.Optional(Type.Boolean({ description: 'Plain http too', default: false })),
  ports: Type.Optional(Type.Array(Type.Integer({ minimum: 1, maximum: 65_535 }), { minItems: 1, description: 'Ports that may be asked', default: [80, 443] })),
  allowLoopback: Type.Optional(Type.Boolean({ description: '127.0.0.0/8 and ::1 too; in production this stops boot', default: false })),
  ...limits,
  maxHeaderBytes: Type.Optional(Type.Integer({ minimum: 1024, description: 'Bytes of the headers of an answer', default: 16_384 })),
}, { additionalProperties: false })
export type OutboundOptions = Static<typeof OutboundOptions> & {
  /** All addresses of a name. Asked once a request and a redirect. Default: the system's resolver. */
  resolve?: (hostname: string) => Promise<readonly string[]>
  /** Certificate authorities that are trusted instead of Node's own (PEM). */
  ca?: string
}

const FetchLimits = Type.Object(limits, { additionalProperties: false })
export type OutboundFetchOptions = Static<typeof FetchLimits> & {
  /** On whose behalf: for the event and the log. */
  request?: FastifyRequest
}

const MAX_URL = 2048
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']
/** What is about the connection, and not for a caller to say. */
const NOT_YOURS = new Set([
  'host', 'connection', 'keep-alive', 'content-length', 'transfer-encoding', 'te', 'trailer', 'upgrade', 'expect', 'accept-encoding', 'proxy-authorization', 'proxy-connection', 'http2-settings',
])
/** What another origin may see after a redirect: nothing that could be a credential. */
const HARMLESS = new Set(['accept', 'accept-language', 'content-type', 'user-agent'])
const REDIRECTS = new Set([301, 302, 303, 307, 308])

interface Bounds { isListed: (host: string) => boolean, maxRedirects: number, timeout: number, maxBytes: number }

async function outbound (app: FastifyInstance, options: OutboundOptions): Promise<void> {
  const { resolve: lookUp = systemLookup, ca, ...plain } = options
  checkOptions(OutboundOptions, plain, 'outbound', OutboundMisconfigured)
  if (typeof lookUp !== 'function') throw new OutboundMisconfigured('outbound: resolve: must be a function that answers the addresses of a name')
  if (ca !== undefined && typeof ca !== 'string') throw new OutboundMisconfigured('outbound: ca: must be certificates in PEM')
  const { allowHttp = false, ports = [80, 443], allowLoopback = false, maxHeaderBytes = 16_384 } = plain
  if (allowLoopback && isProduction()) throw new OutboundMisconfigured('outbound: allowLoopback: is for development')
  const defaults: Bounds = { isListed: hostList(plain.hosts), maxRedirects: plain.maxRedirects ?? 0, timeout: plain.timeout ?? 5000, maxBytes: plain.maxBytes ?? 1_048_576 }
  const closing = new AbortController()
  setMaxListeners(0, closing.signal) // one a request under way
  // Once those who wait for an answer have it.
  app.addHook('onClose', async function endOutboundRequests () { closing.abort() })

  app.decorate('outbound', {
    async fetch (target, init = {}, { request, ...more } = {}) {
      const bounds = boundsOf(more)
      const { method = 'GET', body } = init
      const headers = headersOf(init)
      return guarded(bounds, init.signal, request, async (told, signal) => {
        let url = checkedUrl(String(target), bounds)
        let step: { method: string, headers: Record<string, string>, body?: string | Uint8Array } = { method, headers, body }
        for (let redirects = 0; ; redirects++) {
          told.host = url.host
          const addresses = await addressesOf(hostOf(url), signal)
          const answer = await exchange({ url, addresses, ...step, maxBytes: bounds.maxBytes, maxHeaderBytes, signal, ca })
          const { location } = answer.headers
          if (!REDIRECTS.has(answer.status) || location === undefined || bounds.maxRedirects === 0) return answer
          if (redirects === bounds.maxRedirects) throw new OutboundFault('redirect')
          const next = checkedUrl(location, bounds, url)
          if (url.protocol === 'https:' && next.protocol !== 'https:') throw new OutboundFault('redirect')
          step = redirected(step, answer.status, next.origin === url.origin)
          url = next
        }
      })
    },
    async resolve (host, { request, ...more } = {}) {
      const bounds = boundsOf(more)
      return guarded(bounds, undefined, request, async (told, signal) => {
        told.host = host.slice(0, 253)
        const url = `http://${isIP(host) === 6 ? `[${host}]` : host}`
        // As it would be in a URL: what a URL reads as something else is no host.
        if (!isHost(host) || !URL.canParse(url) || !bounds.isListed(hostOf(new URL(url)))) throw new OutboundFault('host')
        return addressesOf(host.toLowerCase(), signal)
      })
    },
  } satisfies Outbound)

  function boundsOf (more: Static<typeof FetchLimits>): Bounds {
    checkOptions(FetchLimits, more, 'outbound', OutboundMisconfigured)
    const { hosts, ...rest } = more
    if (hosts === undefined) return { ...defaults, ...rest }
    const isListed = hostList(hosts)
    // A request narrows the list of the service, and never widens it.
    return { ...defaults, ...rest, isListed: host => defaults.isListed(host) && isListed(host) }
  }

  function checkedUrl (text: string, { isListed }: Bounds, base?: URL): URL {
    if (text.length > MAX_URL || !URL.canParse(text, base?.href)) throw new OutboundFault('url')
    const url = new URL(text, base)
    const { protocol, username, password, port } = url
    if (protocol !== 'https:' && !(allowHttp && protocol === 'http:')) throw new OutboundFault('protocol')
    if (username !== '' || password !== '') throw new OutboundFault('credentials')
    if (!ports.includes(port === '' ? protocol === 'https:' ? 443 : 80 : Number(port))) throw new OutboundFault('port', { host: url.host })
    if (!isListed(hostOf(url))) throw new OutboundFault('host', { host: url.host })
    url.hash = ''
    return url
  }

  /** Looked up once; one address that is not for everybody speaks against all of them. */
  async function addressesOf (host: string, signal: AbortSignal): Promise<string[]> {
    if (!isHost(host)) throw new OutboundFault('host')
    const addresses = isIP(host) !== 0 ? [host] : [...await unlessAborted(lookUp(host), signal).catch(error => { throw signal.aborted ? error : new OutboundFault('unresolved', {}, error) })]
    if (addresses.length === 0) throw new OutboundFault('unresolved')
    for (const address of addresses) {
      const kind = specialKind(address)
      if (kind !== null && !(kind === 'loopback' && allowLoopback)) throw new OutboundFault('address', { address, kind })
    }
    return addresses
  }

  /** Runs `work` in bounded time, and makes one error of all that goes wrong in it. */
  async function guarded<T> (
    { timeout }: Bounds, callers: AbortSignal | undefined, request: FastifyRequest | undefined, work: (told: { host?: string }, signal: AbortSignal) => Promise<T>
  ): Promise<T> {
    const ending = new AbortController()
    const told: { host?: string } = {}
    const end = () => { ending.abort(new OutboundFault('aborted')) }
    const timer = setTimeout(() => { ending.abort(new OutboundFault('timeout')) }, timeout)
    for (const signal of [callers, closing.signal]) {
      if (signal?.aborted === true) end()
      signal?.addEventListener('abort', end)
    }
    try {
      ending.signal.throwIfAborted()
      return await unlessAborted(work(told, ending.signal), ending.signal)
    } catch (error) {
      const fault = ending.signal.aborted ? ending.signal.reason as OutboundFault : error instanceof OutboundFault ? error : new OutboundFault('unreachable', {}, error)
      const details = { reason: fault.reason, ...told, ...fault.details }
      if (fault.isRefusal) app.events.record('outbound_refused', request ?? null, details)
      else (request?.log ?? app.log).info({ outbound: details, code: (fault.cause as { code?: string } | undefined)?.code }, 'an outbound request failed')
      throw Object.assign(new OutboundRefused(), { cause: fault })
    } finally {
      clearTimeout(timer)
      for (const signal of [callers, closing.signal]) signal?.removeEventListener('abort', end)
      // What is still under way has nobody who waits for it.
      if (!ending.signal.aborted) ending.abort()
    }
  }
}

/** A hostname, or an address literal without a zone. */
function isHost (text: string): boolean {
  return isIP(text) !== 0 ? !text.includes('%') : Value.Check(Hostname, text)
}

async function systemLookup (hostname: string): Promise<string[]> {
  return (await lookup(hostname, { all: true, verbatim: true })).map(({ address }) => address)
}

/** @throws OutboundMisconfigured */
function hostList (hosts: readonly string[] | undefined): (host: string) => boolean {
  if (hosts === undefined) return () => true
  const names = new Set<string>()
  const parents: string[] = []
  for (const text of hosts) {
    const isParent = text.startsWith('*.')
    const name = isParent ? text.slice(2) : text
    // As URLs write it: in lower case, in Punycode.
    const canonical = /[/?#@\\\s*]/.test(name) || !URL.canParse(`https://${name}`) ? null : new URL(`https://${name}`)
    if (canonical === null || canonical.port !== '' || /:\d+$/.test(name.replace(/^\[.*\]/, '')) || (isParent && isIP(canonical.hostname) !== 0)) {
      throw new OutboundMisconfigured(`outbound: hosts: ${JSON.stringify(text)} is neither a host nor *. and a domain`)
    }
    if (isParent) parents.push(`.${canonical.hostname}`)
    else names.add(hostOf(canonical))
  }
  return host => names.has(host) || parents.some(parent => host.endsWith(parent) && host.length > parent.length)
}

/** In lower case. */
function headersOf ({ method = 'GET', headers = {}, body }: OutboundInit): Record<string, string> {
  if (!METHODS.includes(method)) throw new TypeError(`outbound: method must be one of ${METHODS.join(', ')}`)
  if (body !== undefined && typeof body !== 'string' && !(body instanceof Uint8Array)) throw new TypeError('outbound: body must be a string or bytes')
  if (body !== undefined && (method === 'GET' || method === 'HEAD')) throw new TypeError(`outbound: ${method} has no body`)
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => {
    const known = name.toLowerCase()
    if (NOT_YOURS.has(known)) throw new TypeError(`outbound: the header ${known} is set by the connection`)
    validateHeaderName(known)
    validateHeaderValue(known, value)
    return [known, value]
  }))
}

/** As browsers do it (Fetch Standard, 4.4), but that another origin gets no header that could be a credential. */
function redirected ({ method, headers, body }: { method: string, headers: Record<string, string>, body?: string | Uint8Array }, status: number, isSameOrigin: boolean) {
  const becomesGet = (status === 303 && method !== 'HEAD') || (status < 303 && method === 'POST')
  const kept = Object.entries(headers).filter(([name]) => (isSameOrigin || HARMLESS.has(name)) && !(becomesGet && name.startsWith('content-')))
  return { method: becomesGet ? 'GET' : method, headers: Object.fromEntries(kept), ...(!becomesGet && body !== undefined && { body }) }
}

/** What hangs in `work` is not waited for. */
function unlessAborted<T> (work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const end = () => { reject(signal.reason) }
    if (signal.aborted) end()
    signal.addEventListener('abort', end, { once: true })
    work.then(resolve, reject).finally(() => { signal.removeEventListener('abort', end) })
  })
}

export { OutboundFault, OutboundMisconfigured, OutboundRefused, type OutboundReason } from './errors.js'
export type { OutboundResponse } from './exchange.js'

export default fp(outbound, { fastify: '5.x', name: 'bastion-outbound', dependencies: ['bastion-events'] })
