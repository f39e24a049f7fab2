/** Services with an audit trail, on PGlite or on the database that is given. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify, { type FastifyInstance } from 'fastify'
import { Type } from '@sinclair/typebox'
import type { Test } from 'tap'
import { AUDIT_TABLES, type AuditOptions } from '../../plugins/audit/index.js'
import type { SecurityEvent } from '../../plugins/events.js'
import bastion, { server } from '../../plugins/index.js'
import type { Sql } from '../../plugins/sql.js'
import { embedded } from '../fixtures/embedded.js'

export const KEY = Buffer.alloc(32, 5)
export const schema = { response: { 200: Type.Object({ ok: Type.Boolean() }) } }

export interface Built { app: FastifyInstance, sql: Sql, folder: string, log: string[], recorded: SecurityEvent[] }

export async function database (t: Test): Promise<Sql> {
  const sql = await embedded()
  t.teardown(() => sql.close())
  await sql.script(AUDIT_TABLES)
  return sql
}

export function folderOf (t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'bastion-audit-'))
  t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
  return folder
}

export async function build (t: Test, { declare = () => {}, ...options }: Partial<AuditOptions> & { declare?: (app: FastifyInstance) => void } = {}): Promise<Built> {
  const sql = options.sql ?? await database(t)
  const folder = options.folder ?? folderOf(t)
  const log: string[] = []
  const recorded: SecurityEvent[] = []
  const app = Fastify(server({ logger: { level: 'info', stream: { write: (line: string) => { log.push(line) } } } }))
  t.teardown(() => app.close())
  await app.register(bastion, { transport: { hosts: ['localhost'] }, limits: { flood: false, address: ['1000000/minute'] }, overload: false, audit: { keys: KEY, retryMs: 50, deadlineMs: 30_000, ...options, sql, folder } })
  app.events.listen(event => { recorded.push(event) })
  declare(app)
  await app.ready()
  return { app, sql, folder, log, recorded }
}

/** A database that can be taken away, or made slow. */
export function fragile (sql: Sql): Sql & { isAway: boolean, delayMs: number, transactions: number } {
  return {
    ...sql,
    isAway: false,
    delayMs: 0,
    transactions: 0,
    async query (...args) {
      if (this.isAway) throw new Error('the database is away')
      return sql.query(...args) as never
    },
    async transaction (work) {
      this.transactions += 1
      if (this.isAway) throw new Error('the database is away')
      if (this.delayMs > 0) await new Promise(resolve => { setTimeout(resolve, this.delayMs) })
      return sql.transaction(work)
    },
  }
}

/** Waits until it is so. */
export async function until (isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (const giveUp = Date.now() + 20_000; !await isSo();) {
    if (Date.now() > giveUp) throw new Error('it did not come to be so')
    await new Promise(resolve => { setTimeout(resolve, 10) })
  }
}
