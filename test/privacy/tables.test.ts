/** The tables: those that the suite documents, those that the portal has. */
import { readFile } from 'node:fs/promises'
import t from 'tap'
import { PRIVACY_TABLES } from '../../plugins/privacy/index.js'

t.test('the portal\'s tables are the suite\'s, on its own users', async t => {
  const migration = await readFile(new URL('../../demo/data/migrations/019_privacy.sql', import.meta.url), 'utf8')
  const statements = (text: string) => text.replaceAll(/--.*$/gm, '').replaceAll(/\s+/g, ' ').trim()
  t.equal(statements(migration).replace(' references users on delete cascade', ''), statements(PRIVACY_TABLES))
  t.match(migration, /user_id text references users on delete cascade/)
})
