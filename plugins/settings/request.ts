/** One JSON request to one server. Nothing is followed to another host, unpacked, kept open or sent through a proxy. */
import http, { type IncomingHttpHeaders } from 'node:http'
import https from 'node:https'
import { isIP } from 'node:net'
import { SourceFault } from './errors.js'

export interface JsonRequest {
  url: URL
  method: string
  headers: Readonly<Record<string, string>>
  body?: unknown
  /** Trusted instead of the system's own (PEM). */
  ca?: string | Buffer
  signal: AbortSignal
}

export interface JsonResponse {
  status: number
  headers: IncomingHttpHeaders
  /** Undefined where it is none. */
  body: unknown
}

/** Bytes of an answer. */
const MAX_BYTES = 1_048_576
const MAX_HEADER_BYTES = 16_384
/** Redirects within the server. */
const MAX_REDIRECTS = 2

/** @throws SourceFault; else what the connection does */
export async function requestJson (asked: JsonRequest): Promise<JsonResponse> {
  let { url } = asked
  for (let i = 0; ; i++) {
    const answer = await exchange({ ...asked, url })
    if (answer.status < 300 || answer.status > 399) return answer
    const { location = '' } = answer.headers
    if (!URL.canParse(location, url.href)) throw new SourceFault(`it was answered with ${answer.status} and leads nowhere`)
    const next = new URL(location, url)
    // What is sent is a credential: it goes to no other host, nor to another port or without TLS.
    if (next.origin !== asked.url.origin) throw new SourceFault(`it was answered with ${answer.status} and leads to another host, where nothing is sent`)
    if (i >= MAX_REDIRECTS) throw new SourceFault('it is redirected again and again')
    url = next
  }
}

function exchange ({ url, method, headers, body, ca, signal }: JsonRequest): Promise<JsonResponse> {
  return new Promise((resolve, reject) => {
    const isSecure = url.protocol === 'https:'
    let isAnswered = false
    const text = body === undefined ? undefined : JSON.stringify(body)
    const options: https.RequestOptions = {
      method,
      headers: {
        ...headers,
        accept: 'application/json',
        'accept-encoding': 'identity',
        connection: 'close',
        ...text !== undefined && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) },
      },
      agent: false,
      signal,
      maxHeaderSize: MAX_HEADER_BYTES,
      // Whatever the environment says.
      ...isSecure && { rejectUnauthorized: true, minVersion: 'TLSv1.2' as const, ca },
    }
    const request = isSecure ? https.request(url, options) : http.request(url, options)
    request.on('error', reject)
    request.on('close', () => { if (!isAnswered) reject(new SourceFault('closed without an answer', { isPassing: true })) })
    request.on('response', response => {
      isAnswered = true
      const chunks: Buffer[] = []
      let bytes = 0
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        if (bytes <= MAX_BYTES) return chunks.push(chunk)
        reject(new SourceFault(`it answers more than ${MAX_BYTES} bytes`))
        request.destroy()
      })
      response.on('error', reject)
      response.on('end', () => { resolve({ status: response.statusCode!, headers: response.headers, body: parsed(Buffer.concat(chunks)) }) })
    })
    request.end(text)
  })
}

/** Nothing of it is told where it is no JSON: a message of the parser would hold a part. */
function parsed (bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch {
    return undefined
  }
}

/** Credentials go over TLS, or do not leave this machine (an agent beside the service). */
export function isPrivateEnough ({ protocol, hostname }: URL): boolean {
  const host = hostname.replace(/^\[|\]$/g, '')
  return protocol === 'https:' || host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
}
