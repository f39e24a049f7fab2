/** Hosts: what a request names, and which of them are trusted. */
import type { IncomingMessage } from 'node:http'
import type { FastifyRequest } from 'fastify'
import { TargetMalformed, TransportMisconfigured } from './errors.js'

/** reg-name, IPv4 or bracketed IPv6, with an optional port (RFC 3986, 3.2.2). */
const HOST = /^(?:[a-z0-9][a-z0-9._-]{0,252}|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?$/i
const PORT = /:\d+$/
/** Scheme and authority of a request target in absolute form (RFC 9112, 3.2.2). */
const ABSOLUTE = /^([a-z][a-z0-9+.-]*):\/\/([^/?#]*)/i

/** The list of trusted hosts. */
export class Hosts {
  /** As they were written. */
  readonly listed: string[] = []
  readonly #exact = new Set<string>()
  readonly #suffixes = new Set<string>()

  /** @throws TransportMisconfigured for what is no host, and for a wildcard below nothing but a top-level domain */
  add (host: string): void {
    const isWildcard = host.startsWith('*.')
    const name = isWildcard ? host.slice(2) : host
    if (!isHost(name)) throw new TransportMisconfigured(`transport: hosts: ${JSON.stringify(host)} is not a host`)
    const canonical = canonicalOf(name)
    if (!isWildcard) this.#exact.add(canonical)
    else if (/[.]|^localhost/.test(canonical)) this.#suffixes.add(`.${canonical}`)
    else throw new TransportMisconfigured(`transport: hosts: ${JSON.stringify(host)} would trust a whole top-level domain`)
    this.listed.push(host)
  }

  /** @param host in its canonical spelling */
  trusts (host: string): boolean {
    const name = withoutPort(host)
    if (this.#exact.has(host) || this.#exact.has(name)) return true
    const dot = name.indexOf('.')
    return dot > 0 && (this.#suffixes.has(name.slice(dot)) || this.#suffixes.has(host.slice(dot)))
  }
}

/** A host that a URL can be made of. */
export function isHost (text: string): boolean {
  return HOST.test(text) && URL.canParse(`http://${text}`)
}

export function withoutPort (host: string): string {
  return host.replace(PORT, '')
}

/** One spelling of a host: lower case, no trailing dot, IPv6 in its short form. */
export function canonicalOf (host: string): string {
  if (host.startsWith('[')) return `${new URL(`http://${host}`).hostname}${PORT.exec(host)?.[0] ?? ''}`
  return host.toLowerCase().replace(/\.(?=:\d+$|$)/, '')
}

/**
 * The one host that the request names, as it is written; null where it names none, several, or disagrees with itself.
 *
 * @throws TargetMalformed
 */
export function hostOf (request: FastifyRequest): string | null {
  const raw = request.raw as IncomingMessage & { originalUrl?: string }
  const { headers, originalUrl = raw.url } = raw
  const authority = headers[':authority'] as string | undefined
  const given = headers.host ?? authority
  if (given === undefined || (authority !== undefined && given !== authority) || namesHostTwice(raw.rawHeaders)) return null
  const scheme = headers[':scheme'] as string | undefined
  if (scheme !== undefined && !arrivedBy(request, scheme)) return null
  if (originalUrl?.startsWith('/') === false) {
    const target = ABSOLUTE.exec(originalUrl)
    if (target === null) throw new TargetMalformed()
    if (target[2]!.toLowerCase() !== given.toLowerCase() || !arrivedBy(request, target[1]!)) return null
  }
  return request.host
}

/** Whether a scheme that is written in the request is one by which it came (RFC 9110, 7.4): to us, or to the proxy that is believed. */
function arrivedBy ({ protocol, raw: { socket } }: FastifyRequest, scheme: string): boolean {
  const named = scheme.toLowerCase()
  return named === protocol || named === ((socket as { encrypted?: boolean }).encrypted === true ? 'https' : 'http')
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
