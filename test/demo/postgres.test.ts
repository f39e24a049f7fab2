/** The same contract on a real PostgreSQL: locks, races and collations are its own. */
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { TYPESCRIPT } from '../fixtures/typescript.js'
import { postgres } from '../services.js'

t.setTimeout(900_000)
/** Whose answers are made by the database: what it orders, compares and locks. The suite's own stores have tests of theirs on both. */
const OF_THE_DATABASE = ['accounts', 'documents', 'payments', 'posts', 'tools', 'users']
const service = await postgres(t)
if (service !== null) {
  for (const name of OF_THE_DATABASE) {
    await t.spawn(process.execPath, [...TYPESCRIPT, fileURLToPath(new URL(`./${name}.test.ts`, import.meta.url))], {
      env: { ...process.env, PORTAL_TEST_DATABASE_URL: service.url },
    }, `${name} on PostgreSQL`)
  }
}
