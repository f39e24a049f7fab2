/** The portal's database: a PostgreSQL server, or PGlite in a directory or in memory; migrated before anyone asks. */
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { postgresConnection } from '../../plugins/postgres.js'
import { pgSql, pgliteSql, type Sql } from '../../plugins/sql.js'

export const MIGRATIONS = new URL('./migrations/', import.meta.url)
/** Any number, the same in every process: who migrates holds it. */
const MIGRATION_LOCK = 7_266_813
/** Milliseconds that a connection or a statement may take. */
const DEADLINE = 10_000

/** Neither a URL nor a directory: a database in memory, for tests. */
export async function openDatabase ({ url, directory }: { url?: string, directory?: string }): Promise<Sql> {
  const sql = url === undefined ? await openEmbedded(directory) : await openServer(url)
  await migrate(sql)
  return sql
}

async function openEmbedded (directory: string | undefined): Promise<Sql> {
  const { PGlite } = await import('@electric-sql/pglite')
  if (directory === undefined) return pgliteSql(await PGlite.create('memory://') as never)
  const folder = join(directory, 'database')
  await mkdir(folder, { recursive: true, mode: 0o700 })
  return pgliteSql(await PGlite.create(folder) as never)
}

async function openServer (url: string): Promise<Sql> {
  const { default: pg } = await import('pg')
  const pool = new pg.Pool({ ...postgresConnection(url).options, max: 10, connectionTimeoutMillis: DEADLINE, statement_timeout: DEADLINE, query_timeout: DEADLINE })
  // A connection that the server ends while idle is replaced; without a listener it would end the process.
  pool.on('error', () => {})
  return pgSql(pool)
}

/** Runs each file of `migrations/` once, in the order of their names, all of them or none. */
export async function migrate (sql: Sql): Promise<void> {
  const files = (await readdir(MIGRATIONS)).filter(name => name.endsWith('.sql')).sort()
  await sql.transaction(async transaction => {
    await transaction.query('select pg_advisory_xact_lock($1)', [MIGRATION_LOCK])
    await transaction.script('create table if not exists migrations (name text primary key, run_at timestamptz not null default now())')
    const done = new Set((await transaction.query<{ name: string }>('select name from migrations')).map(({ name }) => name))
    for (const name of files.filter(file => !done.has(file))) {
      // eslint-disable-next-line no-restricted-syntax -- a file of ours
      await transaction.script(await readFile(new URL(name, MIGRATIONS), 'utf8'))
      await transaction.query('insert into migrations (name) values ($1)', [name])
    }
  })
}
