/** Redis and PostgreSQL: do they answer, which are they, and do their clocks agree with this one. */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { tlsFaultOf, weaknessOf, type Peer } from '../peers.js'
import { postgresConnection } from '../postgres.js'
import { connectRedis, peerOfRedis } from '../state/connect.js'
import { bad, good, grave, skipped, warning, type Check } from './check.js'

const PATIENCE_MS = 10_000
/** Milliseconds of difference: tokens and codes of one second begin to fail, and those of a minute do. */
const [SKEWED_MS, WRONG_MS] = [1000, 30_000]
const OLDEST = { redis: 6, postgresql: 14 }

export async function redisChecks (url: string | undefined, isProduction: boolean): Promise<Check[]> {
  const about = 'redis'
  if (url === undefined) return [skipped(about, 'REDIS_URL is not set: shared state is in the memory of one process')]
  let client: Awaited<ReturnType<typeof connectRedis>>
  let way: Check[]
  try {
    way = wayTo(about, peerOfRedis(url), isProduction)
    client = await connectRedis(url)
  } catch (error) {
    return [bad(about, isMissing(error) ? 'the package ioredis is not installed: npm install ioredis' : `REDIS_URL: ${/URL|tls|sslrootcert/.test((error as Error).message) ? (error as Error).message : 'cannot be read'}`)]
  }
  const faults: unknown[] = []
  const events = client as unknown as { on: (event: string, listener: (error: Error) => void) => void, status: string, disconnect: () => void, call: (...parts: string[]) => Promise<unknown> }
  try {
    await within(new Promise<void>((resolve, reject) => {
      events.on('ready', () => { resolve() })
      events.on('error', error => {
        faults.push(error)
        reject(error) // whoever asks wants to know now, and not after more attempts
      })
      if (events.status === 'ready') resolve()
    }))
    const before = Date.now()
    const [seconds, micros] = await within(events.call('TIME')) as [string, string]
    const after = Date.now()
    const info = await within(events.call('INFO', 'server')).catch(() => '') as string
    const [, valkey] = /valkey_version:(\S+)/.exec(info) ?? []
    const [, version] = /redis_version:(\S+)/.exec(info) ?? []
    return [...way, versionCheck(about, valkey === undefined ? 'Redis' : 'Valkey', valkey ?? version, OLDEST.redis), skewCheck(about, Number(seconds) * 1000 + Number(micros) / 1000, before, after)]
  } catch (error) {
    return [...way, bad(about, `does not answer as it should: ${reasonOf(faults[0] ?? error)}`)]
  } finally {
    events.disconnect()
  }
}

/** The part of `pg` that is used. */
interface PgClient { connect: () => Promise<void>, query: (text: string) => Promise<{ rows: Record<string, unknown>[] }>, end: () => Promise<void>, on: (event: 'error', listener: () => void) => void }

export async function postgresChecks (url: string | undefined, folder: string, isProduction: boolean): Promise<Check[]> {
  const about = 'postgresql'
  if (url === undefined) return [skipped(about, 'DATABASE_URL is not set')]
  let connection: ReturnType<typeof postgresConnection>
  try {
    connection = postgresConnection(url)
  } catch (error) {
    return [bad(about, (error as Error).message)] // says nothing of the URL
  }
  const way = wayTo(about, connection.peer, isProduction)
  const Client = await clientIn(folder)
  if (Client === null) return [...way, skipped(about, 'not asked: the package pg is not installed here (npm install pg)')]
  const client = new Client({ ...connection.options, connectionTimeoutMillis: PATIENCE_MS, query_timeout: PATIENCE_MS, application_name: 'fastify-bastion doctor' })
  client.on('error', () => {})
  try {
    await within(client.connect())
    const before = Date.now()
    const { rows: [row] } = await client.query("select current_setting('server_version') as version, extract(epoch from clock_timestamp()) * 1000 as now, (select rolsuper from pg_roles where rolname = current_user) as super")
    const after = Date.now()
    return [
      ...way,
      versionCheck(about, 'PostgreSQL', String(row!.version).split(' ')[0], OLDEST.postgresql),
      skewCheck(about, Number(row!.now), before, after),
      ...row!.super === true ? [grave(isProduction, about, 'the service is a superuser there: give it a role that may do what it needs, and no more')] : [],
    ]
  } catch (error) {
    return [...way, bad(about, `does not answer as it should: ${reasonOf(error)}`)]
  } finally {
    await client.end().catch(() => {})
  }
}

/** The service's own: the suite depends on none. */
async function clientIn (folder: string): Promise<(new (options: object) => PgClient) | null> {
  const from = join(folder, 'package.json')
  if (!existsSync(from)) return null
  try {
    const module = await import(pathToFileURL(createRequire(from).resolve('pg')).href) as { Client?: new (options: object) => PgClient, default?: { Client: new (options: object) => PgClient } }
    return module.Client ?? module.default?.Client ?? null
  } catch {
    return null
  }
}

/** Its time was read somewhere between `before` and `after`, so that within these nothing differs. */
export function skewCheck (about: string, theirs: number, before: number, after: number): Check {
  const difference = theirs < before ? theirs - before : Math.max(0, theirs - after)
  const ms = Math.round(Math.abs(difference))
  if (ms < SKEWED_MS) return good(about, `its clock and this one agree within ${SKEWED_MS} ms`)
  const text = `its clock is ${ms} ms ${difference > 0 ? 'ahead of' : 'behind'} this one: synchronise both (NTP), or tokens, codes and limits go wrong`
  return ms < WRONG_MS ? warning(about, text) : bad(about, text)
}

function versionCheck (about: string, name: string, version: string | undefined, oldest: number): Check {
  if (version === undefined) return warning(about, `${name} answers, and does not tell its version`)
  return Number.parseInt(version, 10) < oldest ? bad(about, `${name} ${version} is older than ${oldest}, the oldest that is looked after`) : good(about, `${name} ${version} answers`)
}

function wayTo (about: string, peer: Peer, isProduction: boolean): Check[] {
  const weakness = weaknessOf(peer)
  return weakness === null ? [] : [grave(isProduction, about, weakness)]
}

/** What may be said of a failure: messages of drivers hold names and addresses, and some hold more. */
function reasonOf (error: unknown): string {
  const { code, message = '' } = (error ?? {}) as { code?: string, message?: string }
  const fault = tlsFaultOf(error)
  if (fault !== null) return fault
  if (/^28/.test(code ?? '') || /WRONGPASS|NOAUTH|SASL/.test(message)) return 'it refuses the credentials'
  if (/NOPERM/.test(message)) return 'it does not allow what is asked: PING, TIME and INFO are'
  if (code === '3D000') return 'there is no such database'
  return /^[A-Z][A-Z\d_]{2,30}$|^\d[A-Z\d]{4}$/.test(code ?? '') ? code! : 'no answer in time'
}

function isMissing (error: unknown): boolean {
  return (error as { code?: string }).code === 'ERR_MODULE_NOT_FOUND'
}

async function within<T> (work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => { timer = setTimeout(() => { reject(new Error('late')) }, PATIENCE_MS) })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
