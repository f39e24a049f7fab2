/** A service with limits, as the tests of limits ask it. */
import Fastify, { type FastifyInstance, type FastifyServerOptions, type InjectOptions } from 'fastify'
import fp from 'fastify-plugin'
import type { Test } from 'tap'
import access from '../../plugins/access/index.js'
import errors from '../../plugins/errors.js'
import events, { type SecurityEvent } from '../../plugins/events.js'
import identity, { type Principal } from '../../plugins/identity.js'
import limits, { type LimitsOptions } from '../../plugins/limits/index.js'
import plan from '../../plugins/plan/index.js'
import { server, type ServerOptions } from '../../plugins/server.js'
import state, { type State } from '../../plugins/state/index.js'
import { memoryState } from '../../plugins/state/memory.js'
import { as as caller, readCallers } from '../fixtures/caller.js'

export interface Answer {
  status: number
  code: string | undefined
  headers: Record<string, unknown>
  // Each test asserts what of it matters.
  body: any
}

export interface Built {
  app: FastifyInstance
  clock: { ms: number }
  recorded: SecurityEvent[]
  /** Lines of the log. */
  log: string[]
  /** How often a handler ran. */
  handled: { count: number }
  call: (url: string, more?: InjectOptions) => Promise<Answer>
}

/** What stands around limits. */
export interface Around {
  fastify?: FastifyServerOptions
  trustProxy?: ServerOptions['trustProxy']
  /** A store of one's own; its time is the service's. */
  store?: (now: () => number) => State
}

type Declare = (app: FastifyInstance, done: () => unknown) => void | Promise<void>

export async function build (t: Test, options: LimitsOptions = {}, declare: Declare = () => {}, { fastify = {}, trustProxy, store }: Around = {}): Promise<Built> {
  const clock = { ms: 1_700_000_000_000 }
  const now = () => clock.ms
  const recorded: SecurityEvent[] = []
  const log: string[] = []
  const handled = { count: 0 }
  const app = Fastify(server({ logger: { level: 'error', stream: { write: (line: string) => { log.push(line) } } }, fastify, ...(trustProxy !== undefined && { trustProxy }) }))
  t.teardown(() => app.close())
  await app.register(plan)
  await app.register(events)
  await app.register(errors)
  if (store === undefined) await app.register(state, { now })
  else await app.register(fp(async app => { app.decorate('state', store(now)) }, { name: 'bastion-state' }))
  await app.register(identity)
  await app.register(limits, { now, ...options })
  await app.register(access, {})
  readCallers(app)
  app.events.listen(event => { recorded.push(event) })
  await declare(app, () => {
    handled.count += 1
    return 'in'
  })
  await app.ready()
  return {
    app,
    clock,
    recorded,
    log,
    handled,
    async call (url, more = {}) {
      const answer = await app.inject({ url, ...more })
      let body
      try { body = answer.json() } catch {}
      return { status: answer.statusCode, code: body?.code, headers: answer.headers, body }
    },
  }
}

export function memory (now: () => number): State {
  const refuse = () => { throw new Error('full') }
  return memoryState({ maxEntries: 1000, maxSubjects: 1000, now, refuse, forgot: () => {} })
}

/** How many of so many calls pass. */
export async function passes (times: number, call: (i: number) => Promise<{ status: number }>): Promise<number> {
  let passed = 0
  for (let i = 0; i < times; i++) if ((await call(i)).status < 400) passed += 1
  return passed
}

export const open = { access: 'public' } as const

export function from (remoteAddress: string): InjectOptions {
  return { remoteAddress }
}

export function as (id: string, more: Partial<Principal> & { credential?: 'broken' } = {}): InjectOptions {
  return { headers: caller({ id, ...more }) }
}
