/** A service with alerts, as their tests attack it. */
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import alerts, { type Alert, type AlertsOptions } from '../../plugins/alerts/index.js'
import errors from '../../plugins/errors.js'
import events, { type SecurityEvent, type SecurityEventType } from '../../plugins/events.js'
import plan from '../../plugins/plan/index.js'
import { server } from '../../plugins/server.js'
import state, { type StateOptions } from '../../plugins/state/index.js'

export interface Built {
  app: FastifyInstance
  clock: { ms: number }
  /** What notify was told. */
  told: Alert[]
  /** Lines of the log. */
  log: Record<string, any>[]
  recorded: SecurityEvent[]
  /** Records so many events of a type, from an address, and waits until they are counted. */
  see: (type: SecurityEventType, more?: { times?: number, address?: string, details?: Record<string, unknown> }) => Promise<void>
  /** The names of the rules that told something since it was asked last. */
  names: () => string[]
}

export async function build (t: Test, options: AlertsOptions = {}, stateOptions: StateOptions = {}): Promise<Built> {
  const clock = { ms: 1_700_000_000_000 }
  const told: Alert[] = []
  const log: Built['log'] = []
  const recorded: SecurityEvent[] = []
  const app = Fastify(server({ logger: { level: 'info', stream: { write: (line: string) => { log.push(JSON.parse(line)) } } } }))
  t.teardown(() => app.close())
  await app.register(plan)
  await app.register(events)
  await app.register(errors)
  await app.register(state, { now: stateOptions.redis === undefined ? () => clock.ms : undefined as never, ...stateOptions })
  app.events.listen(event => { recorded.push(event) })
  await app.register(alerts, { now: () => clock.ms, notify: alert => { told.push(alert) }, ...options })
  await app.ready()
  let asked = 0
  return {
    app,
    clock,
    told,
    log,
    recorded,
    async see (type, { times = 1, address = '192.0.2.1', details = {} } = {}) {
      for (let i = 0; i < times; i++) app.events.record(type, { id: 'r1', ip: address }, details)
      await app.alerts.settled()
    },
    names () {
      const names = told.slice(asked).map(({ rule }) => rule)
      asked = told.length
      return names
    },
  }
}

/** No rule of the suite. */
export const NONE = Object.fromEntries([
  'brute_force_account', 'brute_force_address', 'credential_stuffing', 'distributed_guessing', 'address_locked', 'token_reuse', 'privilege_change', 'mass_export', 'probing', 'cross_site_requests', 'critical_event',
].map(name => [name, false]))

export interface Delivery { headers: IncomingHttpHeaders, body: string }

/** A receiver of webhooks on a real socket; `answer` decides what each gets. */
export async function receiver (t: Test, answer: (response: ServerResponse, n: number) => void = response => { response.writeHead(204).end() }) {
  const got: Delivery[] = []
  const waiting: (() => void)[] = []
  const listening = createServer((request: IncomingMessage, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', chunk => { body += chunk }).on('end', () => {
      got.push({ headers: request.headers, body })
      answer(response, got.length)
      for (const wake of waiting.splice(0)) wake()
    })
  })
  await new Promise<void>(resolve => { listening.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => new Promise<void>(resolve => {
    listening.close(() => resolve())
    listening.closeAllConnections()
  }))
  return {
    url: `http://127.0.0.1:${(listening.address() as AddressInfo).port}/hook/s3cret-path`,
    got,
    /** Once so many came. */
    async came (number: number): Promise<void> {
      while (got.length < number) await new Promise<void>(resolve => { waiting.push(resolve) })
    },
  }
}
