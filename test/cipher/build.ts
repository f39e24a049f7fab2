/** The cipher as a service has it. */
import { randomBytes } from 'node:crypto'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import cipher, { type CipherOptions, type RingKey } from '../../plugins/cipher/index.js'
import errors from '../../plugins/errors.js'
import events, { type SecurityEvent } from '../../plugins/events.js'
import plan from '../../plugins/plan/index.js'

export const KEY: RingKey = { id: 'k1', key: randomBytes(32) }
export const NEXT: RingKey = { id: 'k2', key: randomBytes(32) }
export const INDEX_KEY: RingKey = { id: 'i1', key: randomBytes(32) }
export const PLACE = { table: 'patients', column: 'ssn', row: 'p1' }

export interface Built {
  app: FastifyInstance
  recorded: SecurityEvent[]
  /** Every line that was logged, at `trace`. */
  log: string[]
}

export async function build (t: Test, options: Partial<CipherOptions> = {}): Promise<Built> {
  const recorded: SecurityEvent[] = []
  const log: string[] = []
  const app = Fastify({ logger: { level: 'trace', stream: { write: (line: string) => { log.push(line) } } } })
  t.teardown(() => app.close())
  await app.register(plan)
  await app.register(events)
  await app.register(errors)
  await app.register(cipher, { keys: [KEY], ...options })
  app.events.listen(event => { recorded.push(event) })
  return { app, recorded, log }
}
