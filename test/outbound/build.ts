/** The outbound concern alone, and servers on loopback addresses that note who came. */
import { once } from 'node:events'
import http, { type IncomingHttpHeaders, type RequestListener, type Server } from 'node:http'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import events, { type SecurityEvent } from '../../plugins/events.js'
import outbound, { OutboundFault, OutboundRefused, type OutboundOptions } from '../../plugins/outbound/index.js'
import plan from '../../plugins/plan/index.js'

export interface Built { app: FastifyInstance, recorded: SecurityEvent[], log: string[] }

export async function build (t: Test, options: OutboundOptions = {}): Promise<Built> {
  const recorded: SecurityEvent[] = []
  const log: string[] = []
  const app = Fastify({ logger: { level: 'info', stream: { write: (line: string) => { log.push(line) } } } })
  t.teardown(() => app.close())
  await app.register(plan)
  await app.register(events)
  await app.register(outbound, options)
  app.events.listen(event => { recorded.push(event) })
  await app.ready()
  return { app, recorded, log }
}

export interface Visit { method: string, url: string, headers: IncomingHttpHeaders, body: string }
export interface Listening { port: number, visits: Visit[], server: Server }

/** A server of its own port; `answer` is what it does once the request was read. */
export async function serve (t: Test, answer: RequestListener, { host = '127.0.0.1', port = 0, tls }: { host?: string, port?: number, tls?: { cert: string, key: string } } = {}): Promise<Listening> {
  const visits: Visit[] = []
  const listener: RequestListener = async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    visits.push({ method: request.method!, url: request.url!, headers: request.headers, body })
    answer(request, response)
  }
  const server = tls === undefined ? http.createServer(listener) : https.createServer(tls, listener)
  server.listen(port, host)
  await once(server, 'listening')
  t.teardown(() => { server.closeAllConnections(); return new Promise(resolve => { server.close(resolve) }) })
  return { port: (server.address() as AddressInfo).port, visits, server }
}

/** What the caller got and what was against it: the answer tells nothing of that. */
export async function refusalOf (t: Test, work: Promise<unknown>, what: string): Promise<OutboundFault> {
  const error = await work.then(() => null, error => error)
  if (!(error instanceof OutboundRefused)) {
    t.fail(`${what}: not refused but ${error === null ? 'answered' : String(error)}`)
    return new OutboundFault('url')
  }
  const { statusCode, code, message, cause } = error as unknown as { statusCode: number, code: string, message: string, cause: OutboundFault }
  t.strictSame([statusCode, code, message], [400, 'FST_BASTION_OUTBOUND_REFUSED', 'This address cannot be reached from here'], what)
  return cause
}

/** 127.0.0.1, as people write it who do not want it to be seen. */
export const LOOPBACK_SPELLINGS = [
  '127.0.0.1', '127.1', '127.0.1', '127.0.0.1.', '2130706433', '0x7f000001', '0x7f.1', '0x7F.0x0.0x0.0x1', '0x7f.0.1', '017700000001', '0177.0.0.1', '0177.1', '0177.0.0.01', '00000177.0.0.1', '127.0x1',
  '127.00.00.01', '%31%32%37.0.0.1', '127%2e0%2e0%2e1', '127。0。0。1', '127．0．0．1', '127｡0｡0｡1', '①②⑦.⓪.⓪.①', '１２７.0.0.1', '127.0.0.1\t', '127.\n0.0.1',
  '127.0.0.2', '127.127.127.127', '127.255.255.255', '[::1]', '[0:0:0:0:0:0:0:1]', '[0000::0001]', '[::0.0.0.1]', '[::ffff:127.0.0.1]', '[::FFFF:7f00:1]', '[0:0:0:0:0:ffff:127.0.0.1]', '[::127.0.0.1]', '[::7f00:1]',
  '[64:ff9b::127.0.0.1]', '[64:ff9b::7f00:1]', '[64:ff9b:1::7f00:1]', '[2002:7f00:1::]', '[2002:7f00:0001::1]', '[2001:0:1::80ff:fffe]', '[2001:0000:4136:e378:8000:63bf:80ff:fffe]',
  '0.0.0.0', '0', '0x0', '00', '0.0', '0.1', '[::]', '[::ffff:0.0.0.0]',
]
/** 169.254.169.254, of clouds. */
export const METADATA_SPELLINGS = [
  '169.254.169.254', '169.254.169.254.', '2852039166', '0xa9fea9fe', '0xA9.0xFE.0xA9.0xFE', '0xa9.254.0251.254', '025177524776', '0251.0376.0251.0376', '0251.254.169.254', '169.16689662', '169.254.43518', '0xa9.0376.43518',
  '１６９.254.169.254', '169。254。169。254', '[::ffff:169.254.169.254]', '[::ffff:a9fe:a9fe]', '[::169.254.169.254]', '[64:ff9b::169.254.169.254]', '[64:ff9b::a9fe:a9fe]', '[2002:a9fe:a9fe::]',
  '[2001:0:0:0:0:0:5601:5601]', '[fd00:ec2::254]', '[FD00:0EC2:0:0:0:0:0:0254]', '100.100.100.200', '192.0.0.192', '168.63.129.16',
]
