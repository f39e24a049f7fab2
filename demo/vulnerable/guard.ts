/**
 * Who may ask the twin. It runs what it is told, on this machine: other people of the machine reach its port too, and so do pages in a browser, by a name of theirs
 * that leads here (DNS rebinding). It answers the range alone that started it, whose key nobody else has; what comes without it reaches no route, hook or parser of a body.
 */
import { timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyServerFactory } from 'fastify'

const HEADER = 'x-range-key'

export function serverFor (key: string): FastifyServerFactory {
  /** Connections that brought the key with a request: what follows on them is the attacker's to write. */
  const known = new WeakSet<Socket>()
  const expected = Buffer.from(key)

  return answer => createServer((request, response) => {
    if (bringsKey(request)) known.add(request.socket)
    if (!known.has(request.socket)) {
      response.writeHead(403, { connection: 'close' }).end()
      return
    }
    delete request.headers[HEADER]
    answer(request, response)
  })

  function bringsKey ({ headers }: IncomingMessage): boolean {
    const brought = Buffer.from(String(headers[HEADER] ?? ''))
    return brought.length === expected.length && timingSafeEqual(brought, expected)
  }
}
