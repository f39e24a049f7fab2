/** The same contract on a real PostgreSQL: locks, races and collations are its own. */
import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { postgres } from '../services.js'

t.setTimeout(900_000)
/** What says nothing of the database that others do not. */
const APART = ['alerts', 'audit', 'directory', 'everywhere', 'files', 'generated', 'keys', 'metrics', 'mfa', 'oauth2', 'operations', 'page', 'passkeys', 'passkeys-browser', 'patients', 'postgres', 'privacy', 'recovery', 'registration', 'sessions', 'settings', 'shared', 'strings', 'tokens', 'webhooks']
const service = await postgres(t)
if (service !== null) {
  const folder = new URL('./', import.meta.url)
  const files = readdirSync(folder).filter(name => name.endsWith('.test.ts') && !APART.includes(name.replace('.test.ts', '')))
  for (const name of files) {
    await t.spawn(process.execPath, ['--import', 'tsx', fileURLToPath(new URL(name, folder))], {
      env: { ...process.env, PORTAL_TEST_DATABASE_URL: service.url },
    }, `${name} on PostgreSQL`)
  }
}
