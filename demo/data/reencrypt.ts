/**
 * Re-encrypts what is stored after a change of keys: `ENCRYPTION_VERSION=2 npm run reencrypt`, once every process of the portal runs with the new number. Beside a portal that runs where there is a
 * PostgreSQL server (`DATABASE_URL`); the embedded database has one process at a time. It may be stopped and begun anew.
 */
import Fastify from 'fastify'
import cipher, { reencrypt } from '../../plugins/cipher/index.js'
import events from '../../plugins/events.js'
import plan from '../../plugins/plan/index.js'
import { makeKeys } from '../keys.js'
import { encryptionOf, PATIENTS } from '../patients.js'
import { readSettings } from '../settings.js'
import { openDatabase } from './database.js'
import { lockDirectory, secretOf } from './directory.js'

const { DATABASE_URL, DATA_DIR, APP_SECRET, JWT_ALGORITHM, JWT_KEYS, ENCRYPTION_VERSION } = readSettings()
if (DATABASE_URL === undefined) process.on('exit', lockDirectory(DATA_DIR))
const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop.abort())

const sql = await openDatabase({ url: DATABASE_URL, directory: DATA_DIR })
const app = Fastify({ logger: { level: 'warn' } })
try {
  await app.register(plan)
  await app.register(events)
  await app.register(cipher, encryptionOf(makeKeys(APP_SECRET ?? secretOf(DATA_DIR), { JWT_ALGORITHM, JWT_KEYS, ENCRYPTION_VERSION })))
  const progress = ({ written, lost, failed, after }: { written: number, lost: number, failed: number, after: string | null }) => {
    console.log(`patients: ${written} written anew, ${lost} written by others meanwhile, ${failed} failed; up to ${after}`)
  }
  const { written, failed, left } = await reencrypt(sql, app.cipher, { ...PATIENTS, progress, signal: stop.signal })
  console.log(`patients: ${stop.signal.aborted ? 'stopped' : 'done'}, ${written} values written anew, ${failed} failed, ${left} left with an older key`)
  process.exitCode = left === 0 ? 0 : 1
} finally {
  await app.close()
  await sql.close()
}
