/** The second factor as a service has it, on a database in memory, with an authenticator that is not ours. */
import { randomBytes } from 'node:crypto'
import Fastify, { type FastifyInstance } from 'fastify'
import { Secret, TOTP } from 'otpauth'
import root, { type Test } from 'tap'
import errors from '../../plugins/errors.js'
import events, { type SecurityEvent } from '../../plugins/events.js'
import mfa, { MFA_TABLES, sqlMfaStore, type MfaOptions, type MfaStore } from '../../plugins/mfa/index.js'
import plan from '../../plugins/plan/index.js'
import type { Account } from '../../plugins/sign-in.js'
import { type Sql } from '../../plugins/sql.js'
import state, { type StateOptions } from '../../plugins/state/index.js'
import { embedded } from '../fixtures/embedded.js'

export const STEP = 30_000
export const MINUTE = 60_000
export const KEY = randomBytes(32)

export interface Built {
  app: FastifyInstance
  sql: Sql
  store: MfaStore
  clock: { ms: number }
  recorded: SecurityEvent[]
  /** Every line that was logged. */
  log: string[]
  accounts: Record<string, Account>
  /** What an authenticator shows so many steps from now. */
  codeOf: (secret: string, steps?: number) => string
  /** Six digits that are no code around now. */
  wrongFor: (secret: string) => string
  /** Somebody new with a second factor, whose confirming code lies behind. */
  enrolled: (id?: string) => Promise<{ id: string, secret: string, recoveryCodes: string[] }>
}

let database: Promise<Sql> | undefined
let people = 0

export async function build (t: Test, options: Partial<MfaOptions> = {}, more: { state?: StateOptions } = {}): Promise<Built> {
  const sql = await (database ??= open())
  const store = options.store ?? sqlMfaStore(sql)
  const clock = { ms: 1_700_000_000_000 }
  const now = () => clock.ms
  const recorded: SecurityEvent[] = []
  const log: string[] = []
  const accounts: Record<string, Account> = {}
  const app = Fastify({ logger: { level: 'trace', stream: { write: (line: string) => { log.push(line) } } } })
  t.teardown(() => app.close())
  await app.register(plan)
  await app.register(events)
  await app.register(errors)
  await app.register(state, { now, ...more.state })
  await app.register(mfa, { issuer: 'Shop', accounts: { findById: async id => accounts[id] ?? null }, key: KEY, now, ...options, store })
  app.events.listen(event => { recorded.push(event) })

  const codeOf = (secret: string, steps = 0) => new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: clock.ms + steps * STEP })
  return {
    app,
    sql,
    store,
    clock,
    recorded,
    log,
    accounts,
    codeOf,
    wrongFor (secret) {
      const good = Array.from({ length: 41 }, (_none, i) => codeOf(secret, i - 20))
      return ['000000', '000001', '000002'].find(code => !good.includes(code))!
    },
    async enrolled (id = `person-${++people}`) {
      accounts[id] = { id, passwordHash: `hash of ${id}`, roles: [], isActive: true }
      const { secret } = await app.mfa.enroll({ id, name: id })
      const recoveryCodes = await app.mfa.confirm(id, codeOf(secret))
      clock.ms += 3 * STEP
      return { id, secret, recoveryCodes }
    },
  }
}

async function open (): Promise<Sql> {
  const sql = await embedded()
  root.teardown(() => sql.close())
  await sql.script(MFA_TABLES)
  return sql
}

/** `fulfilled`, or the code of the error. */
export async function outcomesOf (calls: readonly Promise<unknown>[]): Promise<string[]> {
  return (await Promise.allSettled(calls)).map(settled => settled.status === 'fulfilled' ? settled.status : String(settled.reason.code))
}
