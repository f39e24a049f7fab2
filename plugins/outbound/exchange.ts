/** One request to one host whose addresses are known, and its answer. Nothing is looked up, followed, unpacked, kept open or sent through a proxy. */
import http, { type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import https from 'node:https'
import { isIP, type LookupFunction } from 'node:net'
import { OutboundFault } from './errors.js'

/** An answer that was read whole. */
export interface OutboundResponse {
  status: number
  headers: IncomingHttpHeaders
  /** As it was sent: `identity` is asked for, and what comes packed all the same is not unpacked. */
  body: Buffer
  /** Where it came from, after redirects. */
  url: string
}

export interface Exchange {
  url: URL
  /** Each of them checked. */
  addresses: readonly string[]
  method: string
  headers: Readonly<Record<string, string>>
  body?: string | Uint8Array
  maxBytes: number
  maxHeaderBytes: number
  signal: AbortSignal
  /** Trusted beside none of the system's own, where it is given (PEM). */
  ca?: string
}

/** @throws OutboundFault where the body is too large; else what the connection does */
export function exchange ({ url, addresses, method, headers, body, maxBytes, maxHeaderBytes, signal, ca }: Exchange): Promise<OutboundResponse> {
  return new Promise((resolve, reject) => {
    let isAnswered = false
    const isSecure = url.protocol === 'https:'
    const request = (isSecure ? https : http).request({
      host: hostOf(url),
      port: url.port === '' ? isSecure ? 443 : 80 : Number(url.port),
      path: `${url.pathname}${url.search}`,
      method,
      // The name that the certificate must hold is that of `host`.
      headers: { ...headers, host: url.host, 'accept-encoding': 'identity', connection: 'close' },
      lookup: answering(addresses),
      // Of its own: no connection that somebody else opened, and no proxy of the environment.
      agent: false,
      signal,
      maxHeaderSize: maxHeaderBytes,
      insecureHTTPParser: false,
      ...(isSecure && { rejectUnauthorized: true, minVersion: 'TLSv1.2' as const, ca }),
    })
    request.on('error', reject)
    // Also where it is no answer that came: a switch to another protocol, for which nobody asked.
    request.on('close', () => { if (!isAnswered) reject(new Error('closed without an answer')) })
    request.on('response', response => {
      isAnswered = true
      read(response, maxBytes, method !== 'HEAD').then(bytes => {
        resolve({ status: response.statusCode!, headers: response.headers, body: bytes, url: url.href })
      }, reject).finally(() => { request.destroy() })
    })
    request.end(body)
  })
}

/** The host of a URL, without the brackets of IPv6. */
export function hostOf ({ hostname }: URL): string {
  return hostname.startsWith('[') ? hostname.slice(1, -1) : hostname
}

/** The look-up that Node does when it connects, answered with what was checked: a name that has other addresses by now does not matter (DNS rebinding). */
function answering (addresses: readonly string[]): LookupFunction {
  const found = addresses.map(address => ({ address, family: isIP(address) }))
  return (_hostname, options, done) => {
    const wanted = found.filter(({ family }) => options.family === undefined || options.family === 0 || Number(String(options.family).replace('IPv', '')) === family)
    if (options.all === true) done(null, wanted)
    else done(null, wanted[0]?.address ?? '', wanted[0]?.family)
  }
}

async function read (response: IncomingMessage, maxBytes: number, hasBody: boolean): Promise<Buffer> {
  // What is said to come is refused before it comes; what comes is counted, whatever was said.
  if (hasBody && Number(response.headers['content-length'] ?? 0) > maxBytes) throw new OutboundFault('too-large')
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > maxBytes) throw new OutboundFault('too-large')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
