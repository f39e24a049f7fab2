/**
 * Requests whose end can be read in two ways (RFC 9112, 6.3 and 11.2; CWE-444): a proxy goes by the one, the service by the other, and what lies between is a request that nobody
 * looked at. Raw bytes on a connection; what is no request must be refused and the connection closed.
 */
import { connect, isIP, type AddressInfo, type Socket } from 'node:net'
import { connect as connectSecurely } from 'node:tls'
import type { Campaign, Exchange, Family } from '../campaign.js'
import { isSafe } from '../callers.js'
import type { Route } from '../surface.js'
import { CLOSED } from '../target.js'

/** Milliseconds in which a connection that nothing more comes on is given up. */
const QUIET_MS = 2000
/** Routes of which one must answer what is well formed. */
const CANDIDATES = 5

interface Place { port: number, host: string, isSecure: boolean }

export const framing: Family = {
  name: 'framing',
  async lead (campaign) {
    const candidates: { route: Route, as: string | null }[] = []
    for (const route of campaign.routes) {
      if (isSafe(route.method) || route.body?.type !== 'application/json' || campaign.isOff(route, 'framing.lengths')) continue
      const [as] = await campaign.passing(route)
      if (as !== undefined) candidates.push({ route, as })
    }
    campaign.notApplicable('framing.lengths', 'no route takes a body')
    // Public ones first: nothing is spent on them.
    candidates.sort((a, b) => Number(a.as !== null) - Number(b.as !== null)).splice(CANDIDATES)
    if (candidates.length === 0) return
    await atPlace(campaign, async place => {
      for (const { route, as } of candidates) if (await tryRoute(campaign, place, route, as)) return
      campaign.unproven(candidates[0]!.route, 'framing.lengths', 'two requests that are well formed were not both answered')
    })
  },
}

/** Where the service listens: on a port of its own for as long as this takes, where it does not yet. */
async function atPlace (campaign: Campaign, attackIt: (place: Place) => Promise<void>): Promise<void> {
  const { app, target } = campaign
  if (app === null) {
    const { hostname, port, protocol } = new URL(target.origin)
    return attackIt({ host: hostname.replace(/^\[|\]$/g, ''), port: Number(port) || (protocol === 'https:' ? 443 : 80), isSecure: protocol === 'https:' })
  }
  const { server } = app
  const isOurs = !server.listening
  const isListening = !isOurs || await new Promise<boolean>(resolve => {
    server.once('error', () => { resolve(false) })
    server.listen(0, '127.0.0.1', () => { resolve(true) })
  })
  if (!isListening) return campaign.notApplicable('framing.lengths', 'the application cannot listen')
  const { port } = server.address() as AddressInfo
  try {
    await attackIt({ host: '127.0.0.1', port, isSecure: 'setSecureContext' in server })
  } finally {
    if (isOurs) {
      // One of HTTP/2 has no such method.
      ;(server as Partial<typeof server>).closeAllConnections?.()
      await new Promise(resolve => { server.close(resolve) })
    }
  }
}

/** @returns false where not even what is well formed is answered */
async function tryRoute (campaign: Campaign, place: Place, route: Route, as: string | null): Promise<boolean> {
  const shot = await campaign.ofOwn(route, as)
  if (typeof shot === 'string' || shot.body === undefined) return false
  const caller = as === null ? null : await campaign.callers.get(as)
  const host = campaign.surface.host ?? campaign.target.host
  const headers = { host, ...campaign.options.headers, ...campaign.hints(route).headers, ...caller?.headers(route.method), 'content-type': shot.type! }
  const head = `${route.method} ${campaign.target.base}${shot.path} HTTP/1.1\r\n${Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join('')}`
  const next = `GET /${campaign.random.text(12)} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`
  const right = Buffer.concat([Buffer.from(`${head}Content-Length: ${Buffer.byteLength(shot.body)}\r\n\r\n`), Buffer.from(shot.body as string), Buffer.from(next)])
  if ((await statusesOf(place, right)).length !== 2) return false
  for (const { what, bytes } of doubtful(head, shot.body, next)) {
    const [status = CLOSED, second] = await statusesOf(place, bytes)
    const exchange: Exchange = { status, headers: {}, text: '', isCut: false, json: undefined, shot, caller, sent: { method: route.method, path: shot.path!, headers, address: '127.0.0.1', raw: bytes } }
    campaign.check('framing.lengths', exchange, second === undefined && status >= 400, `400, and a closed connection: ${what}`, second === undefined ? String(status) : `two answers, ${status} and ${second}`, what)
  }
  return true
}

function doubtful (head: string, content: string | Buffer, next: string): { what: string, bytes: Buffer }[] {
  const body = Buffer.from(content as string)
  const length = body.length
  const hex = length.toString(16)
  const plain = Buffer.concat([body, Buffer.from(next)])
  const chunked = (size = `${hex}\r\n`, end = '\r\n0\r\n\r\n') => Buffer.concat([Buffer.from(size), body, Buffer.from(end), Buffer.from(next)])
  const made = (what: string, headers: string, rest: Buffer) => ({ what, bytes: Buffer.concat([Buffer.from(`${head}${headers}\r\n`), rest]) })
  const both = length + next.length
  return [
    made('Content-Length twice', `Content-Length: ${length}\r\nContent-Length: ${both}\r\n`, plain),
    made('two lengths in one field', `Content-Length: ${length}, ${both}\r\n`, plain),
    made('a length with a sign', `Content-Length: +${length}\r\n`, plain),
    made('a length in hex', `Content-Length: 0x${hex}\r\n`, plain),
    made('Content-Length, then Transfer-Encoding', `Content-Length: ${both}\r\nTransfer-Encoding: chunked\r\n`, chunked()),
    made('Transfer-Encoding, then Content-Length', `Transfer-Encoding: chunked\r\nContent-Length: ${length}\r\n`, chunked()),
    made('a coding that is unknown', `Content-Length: ${length}\r\nTransfer-Encoding: xchunked\r\n`, plain),
    made('a blank before the colon of Content-Length', `Content-Length : ${length}\r\n`, plain),
    made('a blank before the colon of Transfer-Encoding', 'Transfer-Encoding : chunked\r\n', chunked()),
    made('a field that is folded', `X-Folded: a\r\n Transfer-Encoding: chunked\r\nContent-Length: ${length}\r\n`, plain),
    made('Transfer-Encoding that is folded', 'Transfer-Encoding:\r\n chunked\r\n', chunked()),
    { what: 'line feeds alone', bytes: Buffer.concat([Buffer.from(`${head.replaceAll('\r\n', '\n')}Content-Length: ${length}\n\n`), plain]) },
    made('a carriage return alone', `X-Split: a\rTransfer-Encoding: chunked\r\nContent-Length: ${length}\r\n`, plain),
    made('the size of a chunk with 0x', 'Transfer-Encoding: chunked\r\n', chunked(`0x${hex}\r\n`)),
    made('the size of a chunk that overflows', 'Transfer-Encoding: chunked\r\n', chunked(`1000000000000000${hex}\r\n`)),
    made('a chunk whose line ends with a line feed alone', 'Transfer-Encoding: chunked\r\n', chunked(`${hex}\n`, '\n0\n\n')),
    made('an extension of a chunk with a line feed in it', 'Transfer-Encoding: chunked\r\n', chunked(`${hex};a\nb\r\n`)),
    made('a chunk that nothing ends', 'Transfer-Encoding: chunked\r\n', chunked(`${hex}\r\n`, '0\r\n\r\n')),
  ]
}

/** Statuses of what is answered until the connection is closed, a second request is, or nothing more comes. */
function statusesOf ({ host, port, isSecure }: Place, bytes: Buffer): Promise<number[]> {
  return new Promise(resolve => {
    let text = ''
    const socket: Socket = isSecure ? connectSecurely({ host, port, servername: isIP(host) === 0 ? host : '', rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] }) : connect(port, host)
    const timer = setTimeout(() => { socket.destroy() }, QUIET_MS)
    socket.on('data', chunk => {
      text += chunk.toString('latin1')
      if (statusesIn(text).length > 1) socket.destroy()
    })
    // What is refused is closed at once, and what was still to be written comes back.
    socket.on('error', () => {})
    socket.on('close', () => {
      clearTimeout(timer)
      resolve(statusesIn(text))
    })
    socket.write(bytes)
  })
}

function statusesIn (text: string): number[] {
  return [...text.matchAll(/HTTP\/1\.[01] (\d{3}) /g)].map(([, status]) => Number(status))
}
