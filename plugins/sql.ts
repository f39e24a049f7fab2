/**
 * The `Sql` port: what durable stores ask of a PostgreSQL, and two thin adapters for it.
 *
 * Statements carry their values beside them, always (CWE-89). `transaction` gives a connection of its own: a bare
 * `begin` on a shared connection would swallow the statements of other requests.
 */

export interface Sql {
  /** One statement with `$1`, `$2` … for its values. */
  query: <Row = Record<string, unknown>>(text: string, values?: readonly unknown[]) => Promise<Row[]>
  /** Runs `work` in a transaction: rolled back where it throws. Not nestable. */
  transaction: <T>(work: (sql: Sql) => Promise<T>) => Promise<T>
  /** Several statements without values: migrations only. */
  script: (text: string) => Promise<void>
  close: () => Promise<void>
}

/** The part of a `pg` pool that is used. */
export interface PgPool {
  query: (text: string, values?: unknown[]) => Promise<{ rows: unknown[] }>
  connect: () => Promise<PgClient>
  end: () => Promise<void>
}
export interface PgClient {
  query: (text: string, values?: unknown[]) => Promise<{ rows: unknown[] }>
  release: (error?: Error | boolean) => void
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
  return {
    query: async (text, values = []) => (await pool.query(text, [...values])).rows as never,
    script: async text => { await pool.query(text) },
    close: () => pool.end(),
    async transaction (work) {
      const client = await pool.connect()
      let fault: Error | undefined
      try {
        await client.query('begin')
        const result = await work({
          query: async (text, values = []) => (await client.query(text, [...values])).rows as never,
          script: async text => { await client.query(text) },
          transaction: async () => { throw new TypeError(NOT_NESTABLE) },
          close: async () => {},
        })
        await client.query('commit')
        return result
      } catch (error) {
        await client.query('rollback').catch((broken: Error) => { fault = broken })
        throw error
      } finally {
        client.release(fault)
      }
    },
  }
}

/** Sql on a PGlite database, which has one connection and queues what is asked of it. */
export function pgliteSql (database: PGliteDatabase): Sql {
  const runner = (on: PGliteRunner): Pick<Sql, 'query' | 'script'> => ({
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
