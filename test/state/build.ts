/** State in memory as a service has it. */
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import errors from '../../plugins/errors.js'
import events, { type SecurityEvent } from '../../plugins/events.js'
import plan from '../../plugins/plan/index.js'
import state, { type Counter, type Decision, type MaybePromise, type StateOptions } from '../../plugins/state/index.js'

export interface Built { app: FastifyInstance, clock: { ms: number }, recorded: SecurityEvent[] }

export async function build (t: Test, options: StateOptions = {}): Promise<Built> {
  const clock = { ms: 1_700_000_000_000 }
  const recorded: SecurityEvent[] = []
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(plan)
  await app.register(events)
  await app.register(errors)
  await app.register(state, { now: () => clock.ms, ...options })
  app.events.listen(event => { recorded.push(event) })
  return { app, clock, recorded }
}

/** The store in memory answers at once. */
export function now<T> (value: MaybePromise<T>): T {
  if (value instanceof Promise) throw new Error('the store in memory must not wait')
  return value
}

export function take (counter: Counter, subject = 'a', cost?: number): Decision {
  return now(counter.take(subject, cost))
}
