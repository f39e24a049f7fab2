/** Passkeys as a service has them, on a database in memory, with an authenticator that is not ours. */
import { randomBytes } from 'node:crypto'
import Fastify, { type FastifyInstance } from 'fastify'
import root, { type Test } from 'tap'
import errors from '../../plugins/errors.js'
import events, { type SecurityEvent } from '../../plugins/events.js'
import mfa, { MFA_TABLES, sqlMfaStore, type MfaOptions } from '../../plugins/mfa/index.js'
import passkeys, { PASSKEYS_TABLE, sqlPasskeys, type Passkey, type PasskeysOptions, type PasskeyStore } from '../../plugins/passkeys/index.js'
import plan from '../../plugins/plan/index.js'
import type { Account } from '../../plugins/sign-in.js'
import { type Sql } from '../../plugins/sql.js'
import state, { type StateOptions } from '../../plugins/state/index.js'
import { authenticator, ORIGIN, type Authenticator, type Wrong } from './authenticator.js'
import { embedded } from '../fixtures/embedded.js'

export const MINUTE = 60_000
export const refused = { code: 'FST_BASTION_PASSKEYS_REFUSED', statusCode: 401, message: 'The passkey is not accepted' }
export const unregistered = { code: 'FST_BASTION_PASSKEYS_NOT_REGISTERED', statusCode: 400 }

export interface Built {
  app: FastifyInstance
  sql: Sql
  store: PasskeyStore
  clock: { ms: number }
  recorded: SecurityEvent[]
  /** Every line that was logged. */
  log: string[]
  accounts: Record<string, Account>
  /** Somebody new. */
  person: () => Account
  /** Registers a passkey with this authenticator. */
  register: (userId: string, device?: Authenticator, wrong?: Wrong) => Promise<Passkey>
  /** Signs in with this authenticator. */
  login: (device: Authenticator, wrong?: Wrong) => Promise<Account & { amr: readonly string[] }>
  /** Somebody new with a passkey. */
  holder: (device?: Authenticator) => Promise<{ id: string, device: Authenticator, passkey: Passkey }>
}

let database: Promise<Sql> | undefined
let people = 0

export async function build (t: Test, options: Partial<PasskeysOptions> = {}, more: { state?: StateOptions, mfa?: Partial<MfaOptions>, accounts?: Record<string, Account> } = {}): Promise<Built> {
  const sql = await (database ??= open())
  const store = options.store ?? sqlPasskeys(sql)
  const clock = { ms: 1_700_000_000_000 }
  const now = () => clock.ms
  const recorded: SecurityEvent[] = []
  const log: string[] = []
  const accounts = more.accounts ?? {}
  const port = { findById: async (id: string) => accounts[id] ?? null }
  const app = Fastify({ logger: { level: 'trace', stream: { write: (line: string) => { log.push(line) } } } })
  t.teardown(() => app.close())
  await app.register(plan)
  await app.register(events)
  await app.register(errors)
  await app.register(state, { ...(more.state?.redis === undefined && { now }), ...more.state })
  await app.register(mfa, { issuer: 'Shop', accounts: port, key: randomBytes(32), store: sqlMfaStore(sql), now, ...more.mfa })
  await app.register(passkeys, { rpId: 'localhost', rpName: 'Shop', origins: [ORIGIN], accounts: port, now, ...options, store })
  app.events.listen(event => { recorded.push(event) })

  function person (): Account {
    const id = `person-${++people}`
    const account: Account = { id, passwordHash: `hash of ${id}`, roles: [], isActive: true }
    accounts[id] = account
    return account
  }
  const register = async (userId: string, device = authenticator(), wrong?: Wrong) =>
    app.passkeys.register(userId, device.create(await app.passkeys.registerOptions({ id: userId, name: userId }), wrong), { name: 'Telephone' })
  return {
    app,
    sql,
    store,
    clock,
    recorded,
    log,
    accounts,
    person,
    register,
    login: async (device, wrong) => app.passkeys.login(device.get(await app.passkeys.loginOptions(), wrong)),
    async holder (device = authenticator()) {
      const { id } = person()
      return { id, device, passkey: await register(id, device) }
    },
  }
}

async function open (): Promise<Sql> {
  const sql = await embedded()
  root.teardown(() => sql.close())
  await sql.script(MFA_TABLES + PASSKEYS_TABLE)
  return sql
}

/** `fulfilled`, or the code of the error. */
export async function outcomesOf (calls: readonly Promise<unknown>[]): Promise<string[]> {
  return (await Promise.allSettled(calls)).map(settled => settled.status === 'fulfilled' ? settled.status : String(settled.reason.code ?? settled.reason))
}
