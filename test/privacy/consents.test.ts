/** Consents: to one version of one text, as easily withdrawn as given, with a history that is only added to (GDPR Art. 7). */
import t from 'tap'
import { ConsentOutdated, ConsentUnknown } from '../../plugins/privacy/index.js'
import { build, database } from './build.js'

const ADA = 'user-ada-1815'
const DAY = 86_400_000
const purposes = {
  newsletter: { version: '2', description: 'A mail a month' },
  research: { version: '1', proof: { reason: 'Art. 7(1) GDPR', days: 100 } },
}

t.test('nothing is given that was not given, and every purpose asks', async t => {
  const { app } = await build(t, { purposes })
  t.notOk(await app.privacy.consents.isGiven(ADA, 'newsletter'))
  t.strictSame(await app.privacy.consents.list(ADA), [
    { purpose: 'newsletter', version: '2', description: 'A mail a month', isGiven: false, isOpen: true, latest: null },
    { purpose: 'research', version: '1', isGiven: false, isOpen: true, latest: null },
  ])
})

t.test('what is given is given until it is withdrawn; the history keeps both', async t => {
  const { app, pass, recorded } = await build(t, { purposes })
  const { consents } = app.privacy
  const given = await consents.give(ADA, 'newsletter', { version: '2', source: 'web' })
  t.match(given, { purpose: 'newsletter', version: '2', isGiven: true, decidedAt: Date, source: 'web' })
  t.ok(await consents.isGiven(ADA, 'newsletter'))
  t.ok(await consents.isGiven(ADA, 'newsletter', '2'))
  t.notOk(await consents.isGiven(ADA, 'newsletter', '1'))
  t.notOk(await consents.isGiven(ADA, 'research'), 'each purpose for itself')
  t.notOk(await consents.isGiven('bob', 'newsletter'))
  pass(1000)
  t.match(await consents.withdraw(ADA, 'newsletter'), { isGiven: false, version: '2', source: 'service' })
  t.notOk(await consents.isGiven(ADA, 'newsletter'))
  const history = []
  for await (const record of consents.history(ADA)) history.push(record)
  t.match(history, [{ isGiven: true }, { isGiven: false }])
  t.equal(history.length, 2)
  t.match((await consents.list(ADA))[0], { isGiven: false, isOpen: false, latest: { isGiven: false } })
  t.match(recorded.map(({ type, details }) => [type, details]), [['consent_given', { user: ADA, purpose: 'newsletter', version: '2' }], ['consent_withdrawn', { purpose: 'newsletter' }]])
})

t.test('to say the same again writes nothing', async t => {
  const { app, sql } = await build(t, { purposes })
  for (let i = 0; i < 5; i++) await app.privacy.consents.give(ADA, 'newsletter')
  t.equal((await sql.query('select id from privacy_consents')).length, 1)
  for (let i = 0; i < 5; i++) await app.privacy.consents.withdraw(ADA, 'newsletter')
  t.equal((await sql.query('select id from privacy_consents')).length, 2)
  await app.privacy.consents.withdraw(ADA, 'research')
  t.match((await app.privacy.consents.list(ADA))[1], { isGiven: false, isOpen: false }, 'a no without a yes before is remembered, so that nobody asks again')
})

t.test('a new version asks again, and the old yes is none; negative control: without versions it would be believed', async t => {
  const sql = await database()
  const { app: before } = await build(t, { sql, purposes: { newsletter: { version: '1' } } })
  await before.privacy.consents.give(ADA, 'newsletter')
  t.ok(await before.privacy.consents.isGiven(ADA, 'newsletter'))
  const { app } = await build(t, { sql, purposes })
  const { consents } = app.privacy
  t.notOk(await consents.isGiven(ADA, 'newsletter'))
  t.match((await consents.list(ADA))[0], { version: '2', isGiven: false, isOpen: true, latest: { version: '1', isGiven: true } })
  t.ok(await consents.isGiven(ADA, 'newsletter', '1'), 'what the old text allowed')
  await t.rejects(consents.give(ADA, 'newsletter', { version: '1' }), ConsentOutdated, 'nobody agrees to what is not asked any more')
  await consents.withdraw(ADA, 'newsletter', { version: '1' })
  t.notOk(await consents.isGiven(ADA, 'newsletter', '1'), 'but whoever read the old text may take it back')
  await consents.give(ADA, 'newsletter', { version: '2' })
  t.ok(await consents.isGiven(ADA, 'newsletter'))
})

t.test('attack: what somebody sends as a version is in no record, and fills no table', async t => {
  const { app, sql } = await build(t, { purposes: { news: { version: '2', proof: { reason: 'a law', days: 10 } } } })
  for (let i = 0; i < 20; i++) await app.privacy.consents.withdraw('user-eve', 'news', { version: `eve-lives-here-${i}` })
  t.match(await sql.query('select version, is_given from privacy_consents'), [{ version: '2', is_given: false }])
  await sql.query("insert into privacy_consents (user_id, purpose, version, is_given, decided_at, source) values ('user-ada', 'news', '1', true, now(), 'web')")
  t.match(await app.privacy.consents.withdraw('user-ada', 'news', { version: '1' }), { version: '1', isGiven: false }, 'negative control: what they had agreed to stays what it was')
  await app.privacy.erase('user-eve')
  t.match(await sql.query('select version from privacy_consents where user_id is null'), [{ version: '2' }])
})

t.test('attack: an unknown purpose, and what every object has', async t => {
  const { app, sql } = await build(t, { purposes })
  for (const purpose of ['marketing', '', 'constructor', '__proto__', 'toString']) {
    await t.rejects(app.privacy.consents.give(ADA, purpose), ConsentUnknown)
    await t.rejects(app.privacy.consents.withdraw(ADA, purpose), ConsentUnknown)
    await t.rejects(app.privacy.consents.isGiven(ADA, purpose), ConsentUnknown)
    await t.rejects(app.privacy.consents.isGiven(ADA, purpose, '1'), ConsentUnknown)
  }
  t.strictSame(await sql.query('select * from privacy_consents'), [])
})

t.test('many decisions at once are one history', async t => {
  const { app, sql } = await build(t, { purposes })
  await Promise.all(Array.from({ length: 20 }, (_none, i) => i % 2 === 0 ? app.privacy.consents.give(ADA, 'newsletter') : app.privacy.consents.withdraw(ADA, 'newsletter')))
  const rows = await sql.query<{ is_given: boolean }>('select is_given from privacy_consents order by id')
  t.equal(await app.privacy.consents.isGiven(ADA, 'newsletter'), rows.at(-1)!.is_given, 'the last one counts')
})

t.test('they are part of the export', async t => {
  const { app } = await build(t, { purposes })
  await app.privacy.consents.give(ADA, 'newsletter', { source: 'web' })
  let text = ''
  for await (const chunk of app.privacy.export(ADA)) text += String(chunk)
  t.match(JSON.parse(text).consents, [{ purpose: 'newsletter', version: '2', isGiven: true, source: 'web', decidedAt: /^\d{4}-/ }])
})

t.test('an erasure deletes them; where a law wants the proof it stays, without the person, and not for ever', async t => {
  const { app, sql, pass } = await build(t, { purposes })
  for (const purpose of ['newsletter', 'research']) await app.privacy.consents.give(ADA, purpose)
  await app.privacy.consents.give('bob', 'research')
  const { sources, subject } = await app.privacy.erase(ADA)
  t.match(sources, [{ source: 'consents', outcome: 'kept', count: 1, reason: 'research: Art. 7(1) GDPR', until: /^\d{4}-/ }, { source: 'consents', outcome: 'deleted', count: 1 }])
  const rows = await sql.query('select * from privacy_consents order by id')
  t.match(rows, [{ user_id: null, subject, purpose: 'research', is_given: true }, { user_id: 'bob', subject: null }])
  t.equal(rows.length, 2)
  t.notMatch(JSON.stringify(rows), ADA)
  t.notOk(await app.privacy.consents.isGiven(ADA, 'research'), 'it is no consent any more')
  pass(101 * DAY)
  t.match(await app.privacy.purge(), { removed: { consents: 1 } })
  t.equal((await sql.query('select * from privacy_consents')).length, 1)
})
