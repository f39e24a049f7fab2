/**
 * The `Sql` port: what durable stores ask of a PostgreSQL, and two thin adapters for it.
 *
 * Statements carry their values beside them, always (CWE-89). `transaction` gives a connection of its own: a bare
 * `begin` on a shared connection would swallow the statements of other requests. A database that cannot be reached is
 * one error, a 503 that says when to come back and nothing of what the driver said.
 */
import { createError } from '@fastify/error'
import { tlsFaultOf } from './peers.js'

/** The database does not answer, ended the connection or gave up on the statement; the driver's own error is the `cause`. */
export const SqlUnavailable = createError('FST_BASTION_SQL_UNAVAILABLE', 'The service is not available, try again shortly', 503)

export interface Sql {
  /** One statement with `$1`, `$2` … for its values. */
  query: <Row = Record<string, unknown>>(text: string, values?: readonly unknown[]) => Promise<Row[]>
  /** Runs `work` in a transaction: rolled back where it throws. Not nestable. */
  transaction: <T>(work: (sql: Sql) => Promise<T>) => Promise<T>
  /** Several statements without values: migrations only. */
  script: (text: string) => Promise<void>
  close: () => Promise<void>
}

/** Seconds after which a client may ask again. */
const RETRY_AFTER = 5
/**
 * What the system, the network and the server say when it is not the statement's fault: connection exceptions (class 08),
 * resources (53), serialization and deadlock (40), cancelled statements and shutdowns (57).
 */
const AWAY_CODE = /^(?:08|53|40001$|40P01$|57014$|57P0)|^E(?:CONN|HOST|NET|PIPE|AI_AGAIN|TIMEDOUT|NOTFOUND)/
/** What `pg` says without a code. */
const AWAY_MESSAGE = /connection (?:terminated|error)|timeout exceeded when trying to connect|query read timeout|client was closed|not queryable/i

/** The part of a `pg` pool that is used. */
export interface PgPool extends PgRunner {
  connect: () => Promise<PgClient>
  end: () => Promise<void>
}
export interface PgClient extends PgRunner {
  release: (error?: Error | boolean) => void
  on: (event: 'error', listener: (error: Error) => void) => unknown
  off: (event: 'error', listener: (error: Error) => void) => unknown
}
export interface PgRunner {
  query: (text: string, values?: unknown[]) => Promise<{ rows: unknown[] }>
}

/** The part of PGlite that is used. */
export interface PGliteDatabase extends PGliteRunner {
  transaction: <T>(work: (transaction: PGliteRunner) => Promise<T>) => Promise<T>
  close: () => Promise<void>
}
export interface PGliteRunner {
  query: <Row>(text: string, values?: unknown[]) => Promise<{ rows: Row[] }>
  exec: (text: string) => Promise<unknown>
}

const NOT_NESTABLE = 'A transaction cannot be opened inside a transaction'

/** Sql on a `pg` pool. */
export function pgSql (pool: PgPool): Sql {
  const runner = (on: PgRunner): Pick<Sql, 'query' | 'script'> => ({
    // eslint-disable-next-line no-restricted-syntax -- the port itself: its callers wrote the text
    query: async (text, values = []) => (await on.query(text, [...values]).catch(refuseUnavailable)).rows as never,
    // eslint-disable-next-line no-restricted-syntax -- the port itself
    script: async text => { await on.query(text).catch(refuseUnavailable) },
  })
  return {
    ...runner(pool),
    close: () => pool.end(),
    async transaction (work) {
      const client = await pool.connect().catch(refuseUnavailable)
      // Without a listener a connection that breaks between two statements would end the process.
      const ignore = () => {}
      client.on('error', ignore)
      let broken: Error | undefined
      const { script } = runner(client)
      try {
        await script('begin')
        const result = await work({
          ...runner(client),
          transaction: async () => { throw new TypeError(NOT_NESTABLE) },
          close: async () => {},
        })
        await script('commit')
        return result
      } catch (error) {
        await client.query('rollback').catch((fault: Error) => { broken = fault })
        throw error
      } finally {
        client.off('error', ignore)
        client.release(broken)
      }
    },
  }
}

function refuseUnavailable (error: Error & { code?: string }): never {
  const untrusted = tlsFaultOf(error)
  if (untrusted === null && !AWAY_CODE.test(error.code ?? '') && !AWAY_MESSAGE.test(error.message)) throw error
  const cause = untrusted === null ? error : new Error(`TLS: ${untrusted}`, { cause: error })
  throw Object.assign(new SqlUnavailable(), { cause, expose: true, headers: { 'retry-after': String(RETRY_AFTER) } })
}

/** Sql on a PGlite database, which has one connection and queues what is asked of it. */
export function pgliteSql (database: PGliteDatabase): Sql {
  const runner = (on: PGliteRunner): Pick<Sql, 'query' | 'script'> => ({
    // eslint-disable-next-line no-restricted-syntax -- the port itself
    query: async (text, values = []) => (await on.query(text, [...values])).rows as never,
    script: async text => { await on.exec(text) },
  })
  return {
    ...runner(database),
    close: () => database.close(),
    transaction: work => database.transaction(transaction => work({
      ...runner(transaction),
      transaction: async () => { throw new TypeError(NOT_NESTABLE) },
      close: async () => {},
    })),
  }
}
