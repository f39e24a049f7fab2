/** Privacy of the portal: all that is held is handed over and erased, whatever a person did here; consents. */
import t from 'tap'
import { Secret, TOTP } from 'otpauth'
import { formOf, picture } from '../uploads/forms.js'
import { build, type Answer } from './portal.js'

t.setTimeout(300_000)
const portal = await build(t)
const { app, call, newcomer, idOf, token, sql, now, pass } = portal
const NEW_PASSWORD = 'Newcomer-pass-1'
const DAY = 86_400_000
let people = 0

/** Somebody who has used everything that there is. */
async function member () {
  const person = await newcomer()
  const n = ++people
  const phone = `555-900-${String(1000 + n)}`
  const mine = async (method: string, url: string, body?: unknown): Promise<Answer> => {
    const answer = await call(method, url, { token: person.token, ...body !== undefined && { body } })
    if (answer.status >= 300) throw new Error(`${method} ${url}: ${answer.status} ${answer.text}`)
    return answer
  }
  await mine('PATCH', '/users/me', { phone, website: `https://people.example/${person.username}`, bio: `I am ${person.username}` })
  const { body: post } = await mine('POST', '/posts', { title: `By ${person.username}`, content: `Written by ${person.username}, all of it` })
  const [{ id: foreign }] = await sql.query<{ id: string }>('select id from posts where author_id = $1 limit 1', [await idOf('bob')]) as [{ id: string }]
  const { body: comment } = await mine('POST', `/posts/${foreign}/comments`, { content: `${person.username} was here` })
  const [ownDocument, order] = [`document-${n}`, `order-${n}`]
  const [{ id: bobs }] = await sql.query<{ id: string }>('select id from documents where owner_id = $1', [await idOf('bob')]) as [{ id: string }]
  await sql.query("insert into documents (id, owner_id, title, content) values ($1, $2, 'Mine', 'Text')", [ownDocument, person.id])
  await mine('POST', `/documents/${ownDocument}/shares`, { userId: await idOf('bob'), actions: ['read'] })
  await call('POST', `/documents/${bobs}/shares`, { token: await token('bob'), body: { userId: person.id, actions: ['read'] } })
  await sql.query("insert into orders (id, user_id, item, total, currency) values ($1, $2, 'Lamp', 100, 'EUR')", [order, person.id])
  const { body: payment } = await mine('POST', '/payments', { orderId: order, paymentToken: 'tok_visa', amount: 100, currency: 'EUR' })
  const form = formOf([{ filename: `${person.username}.png`, type: 'image/png', content: await picture('png') }])
  const { body: file, status } = await call('POST', '/upload/image', { token: person.token, raw: form.body, type: form.type })
  if (status !== 201) throw new Error('no file')
  const { body: key } = await mine('POST', '/api-keys', { name: `Key of ${person.username}`, scopes: ['data:read'] })
  await sql.query(`insert into passkeys (id, user_id, name, credential_id, user_handle, public_key, counter, transports, is_syncable, is_backed_up, created_at)
    values ($1, $2, 'Telephone', $3, $4, '\\x01', 0, '{}', false, false, now())`, [`passkey-${n}`, person.id, `credential-${n}`, `handle-${n}`])
  await mine('PUT', '/users/me/webhook', { url: `http://127.0.0.1:9/${person.username}` })
  for (const purpose of ['newsletter', 'research']) await mine('PUT', `/users/me/consents/${purpose}`, { version: '1', given: true })
  const { body: { secret } } = await mine('POST', '/mfa/enroll')
  const code = () => new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: now() })
  await mine('POST', '/mfa/confirm', { code: code() })
  const browser = await call('POST', '/session/login', { body: { username: person.username, password: NEW_PASSWORD } })
  pass(60_000)
  await call('POST', '/session/mfa', { body: { mfaToken: browser.body.mfaToken, code: code() } })
  return { ...person, phone, post, comment, ownDocument, order, payment, file, key, secret: secret as string, needles: [person.id, person.username, `${person.username}@people.example`, phone] }
}

/** Every column of every table in which one of these texts stands. */
async function placesOf (needles: readonly string[]): Promise<string[]> {
  await app.audit.flush()
  const columns = await sql.query<{ table: string, column: string }>(`select table_name as "table", column_name as "column" from information_schema.columns
    where table_schema = 'public' order by table_name, column_name`)
  const places: string[] = []
  for (const { table, column } of columns) {
    for (const needle of needles) {
      const found = await sql.query(`select 1 from "${table}" where position(lower($1) in lower("${column}"::text)) > 0 limit 1`, [needle])
      if (found.length > 0) places.push(`${table}.${column}`)
    }
  }
  return [...new Set(places)]
}

const isStored = async (name: string) => {
  const file = await app.uploads.storage.open(name)
  await file?.close()
  return file !== null
}

t.test('the export is everything that is held about a person, and nothing secret [GDPR Art. 15, 20]', async t => {
  const ada = await member()
  const { status, headers, body, text } = await call('GET', '/users/me/export', { token: ada.token })
  t.equal(status, 200)
  t.match(headers, { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store', 'content-disposition': 'attachment; filename="export.json"' })
  const bob = await idOf('bob')
  t.match(body, {
    about: { posts: { basis: /GDPR/ }, orders: { retentionDays: 3653 } },
    profile: { id: ada.id, username: ada.username, phone: ada.phone },
    posts: [{ id: ada.post.id }],
    comments: [{ id: ada.comment.id }],
    documents: [{ id: ada.ownDocument }],
    orders: [{ id: ada.order, total: 100 }],
    payments: [{ id: ada.payment.id, orderId: ada.order, lastFour: ada.payment.lastFour }],
    files: [{ name: ada.file.name, originalName: `${ada.username}.png` }],
    apiKeys: [{ id: ada.key.id, name: `Key of ${ada.username}` }],
    passkeys: [{ name: 'Telephone' }],
    hasSecondFactor: true,
    webhook: { url: `http://127.0.0.1:9/${ada.username}` },
    sessions: [{ id: String }],
    consents: [{ purpose: 'newsletter', isGiven: true, source: 'api' }, { purpose: 'research', isGiven: true }],
    audit: [{ time: String, type: String }],
  })
  t.strictSame(body.shares.map(({ userId }: { userId: string }) => userId).sort(), [bob, ada.id].sort(), 'shares given and received')
  t.notOk(text.includes(ada.secret), 'no secret of the second factor')
  t.notOk(text.includes(ada.key.key), 'no key')
  t.notMatch(text, /argon|hash|secret|token|public_?key/i)
  const held = new Set((await placesOf([ada.id])).map(place => place.split('.')[0]))
  held.delete('mfa_recovery_codes')
  t.ok(held.size >= 12, `a person stands in ${[...held].join(', ')}`)
})

t.test('the export of somebody with many rows has every one of them once', async t => {
  const person = await newcomer()
  await sql.query('insert into posts (id, author_id, title, content) select \'many-\' || i, $1, \'Title\', \'Content \' || i from generate_series(1, 5000) as i', [person.id])
  const { body } = await call('GET', '/users/me/export', { token: person.token })
  t.equal(new Set(body.posts.map(({ id }: { id: string }) => id)).size, 5000)
  t.equal(body.posts.length, 5000)
  await call('DELETE', '/users/me', { token: person.token })
})

t.test('after an erasure nothing in the database leads to the person [GDPR Art. 17]', async t => {
  const ada = await member()
  const before = await placesOf(ada.needles)
  for (const place of ['users.id', 'users.username', 'users.email', 'users.phone', 'posts.author_id', 'comments.content', 'documents.owner_id', 'document_shares.user_id', 'orders.user_id', 'uploads.original_name',
    'api_keys.name', 'audit_people.user_id', 'passkeys.user_id', 'mfa_enrolments.user_id', 'webhooks.url', 'privacy_consents.user_id']) t.ok(before.includes(place), `negative control: before, ${place} does`)
  t.ok(await isStored(ada.file.name))

  t.equal((await call('DELETE', '/users/me', { token: ada.token })).status, 204)
  t.strictSame(await placesOf(ada.needles), [])
  t.match(await app.audit.verify(), { whole: true }, 'and the trail is whole')
  t.notOk(await isStored(ada.file.name), 'the file is gone')
  t.strictSame(await app.sessions.list(ada.id), [])
  t.notOk(await app.mfa.isEnrolled(ada.id))
  t.equal((await call('GET', '/users/me', { token: ada.token })).status, 401, 'tokens are dead')
  t.equal((await call('GET', '/api/data', { headers: { 'x-api-key': ada.key.key } })).status, 401, 'keys are dead')
  t.equal((await call('GET', `/orders/${ada.order}`, { token: await token('admin') })).body.userId, null, 'the law has its record')
  t.match(await sql.query('select order_id, last_four from payments where id = $1', [ada.payment.id]), [{ order_id: ada.order, last_four: ada.payment.lastFour }])

  const [receipt] = await app.privacy.receipts(ada.id)
  t.match(receipt, { isComplete: true })
  const lines = receipt!.sources.map(({ source, outcome, count }) => `${source} ${outcome} ${count}`)
  t.strictSame(lines.sort(), [
    'apiKeys deleted 1', 'audit anonymised 1', 'comments deleted 1', 'consents deleted 1', 'consents kept 1', 'documents deleted 1', 'files deleted 1', 'hasSecondFactor deleted 1', 'orders anonymised 1', 'passkeys deleted 1',
    'payments anonymised 1', 'posts deleted 1', 'profile deleted 1', 'registrations deleted 0', 'sessions deleted 1', 'shares deleted 1', 'webhook deleted 1',
  ])
  t.match(receipt!.sources.filter(({ outcome }) => outcome === 'kept'), [{ reason: /GDPR Art\. 7\(1\)/, until: /^\d{4}-/ }], 'what is kept says which law wants it')
})

t.test('negative control: deleting the row alone leaves the files, and an order that nobody may have', async t => {
  const ada = await member()
  await sql.query('delete from users where id = $1', [ada.id])
  t.ok(await isStored(ada.file.name))
  await app.uploads.remove(ada.file.name)
})

t.test('attack: 20 erasures at once are one, with one receipt', async t => {
  const ada = await member()
  const statuses = (await Promise.all(Array.from({ length: 20 }, () => call('DELETE', '/users/me', { token: ada.token })))).map(({ status }) => status)
  t.ok(statuses.includes(204))
  t.ok(statuses.every(status => status === 204 || status === 401), statuses.join())
  t.equal((await app.privacy.receipts(ada.id)).length, 1)
  t.strictSame(await placesOf(ada.needles), [])
})

// The embedded database has one connection: there everybody waits for everybody.
if (process.env.PORTAL_TEST_DATABASE_URL !== undefined) {
  t.test('attack: an erasure that takes long keeps no admin from writing, and nobody else from being erased; of admins one waits for the other', async t => {
    const [ada, root] = [await newcomer(), await newcomer('admin')]
    let waiting: Promise<Answer>
    await sql.transaction(async transaction => {
      await transaction.query("select id from users where role = 'admin' order by id for update")
      t.equal((await call('DELETE', '/users/me', { token: ada.token })).status, 204)
      waiting = call('DELETE', '/users/me', { token: root.token })
      t.equal(await Promise.race([waiting, new Promise(resolve => { setTimeout(resolve, 500, 'waits') })]), 'waits', 'negative control: an admin waits for whoever holds the admins')
    })
    t.equal((await waiting!).status, 204)
  })
}

t.test('a file whose removal was interrupted is removed by the next process', async t => {
  const ada = await member()
  // As a process leaves it that was killed right after its commit.
  await call('DELETE', '/users/me', { token: ada.token })
  const [receipt] = await app.privacy.receipts(ada.id)
  const draft = await app.uploads.storage.create()
  await app.uploads.storage.commit(draft, ada.file.name)
  await sql.query("insert into privacy_journal (receipt_id, source, user_id, noted) values ($1, 'files', $2, $3::jsonb)", [receipt!.id, ada.id, JSON.stringify([ada.file.name])])
  t.ok(await isStored(ada.file.name))
  t.equal(await app.privacy.resume(), 1)
  t.notOk(await isStored(ada.file.name))
  t.strictSame(await placesOf(ada.needles), [])
})

t.test('what nobody confirmed is not erased for somebody else', async t => {
  const person = await newcomer()
  const waiting = (email: string) => sql.query("insert into registrations (id, username, email, password_hash, expires_at) values ($1, 'Somebody', $1, 'x', now() + interval '1 day')", [email])
  await waiting(`${person.username}@people.example`)
  await call('DELETE', '/users/me', { token: person.token })
  t.equal((await sql.query('select id from registrations')).length, 1, 'whoever gives a foreign address ends no registration of its owner')
  const other = await newcomer()
  await sql.query('update users set email_confirmed_at = now() where id = $1', [other.id])
  await waiting(`${other.username}@people.example`)
  await call('DELETE', '/users/me', { token: other.token })
  t.match(await sql.query('select id from registrations'), [{ id: `${person.username}@people.example` }])
})

t.test('consents', async t => {
  const person = await newcomer()
  const put = (purpose: string, body: unknown, bearer: string | undefined = person.token) => call('PUT', `/users/me/consents/${purpose}`, { body, ...bearer !== undefined && { token: bearer } })
  const list = async () => (await call('GET', '/users/me/consents', { token: person.token })).body

  await t.test('every purpose is asked for, and none is given', async t => {
    t.match(await list(), { items: [{ purpose: 'newsletter', version: '1', given: false, open: true, decided: null }, { purpose: 'research', given: false }], nextCursor: null })
  })
  await t.test('one route gives and withdraws', async t => {
    t.match(await put('newsletter', { version: '1', given: true }), { status: 200, body: { purpose: 'newsletter', given: true, open: false, decided: { version: '1', given: true, source: 'api' } } })
    t.ok(await app.privacy.consents.isGiven(person.id, 'newsletter'))
    t.match(await put('newsletter', { version: '1', given: false }), { status: 200, body: { given: false, open: false } })
    t.notOk(await app.privacy.consents.isGiven(person.id, 'newsletter'))
    t.equal((await sql.query('select id from privacy_consents where user_id = $1', [person.id])).length, 2)
  })
  await t.test('to a text that is not asked for nobody agrees; whoever read it may withdraw', async t => {
    t.match(await put('newsletter', { version: '0', given: true }), { status: 409, body: { code: 'FST_BASTION_PRIVACY_VERSION' } })
    t.equal((await put('newsletter', { version: '0', given: false })).status, 200)
  })
  await t.test('attack: unknown purposes, other fields, strangers', async t => {
    for (const purpose of ['marketing', 'constructor', '__proto__', 'x'.repeat(65)]) t.ok([400, 404].includes((await put(purpose, { version: '1', given: true })).status), purpose)
    for (const body of [{}, { given: true }, { version: '1' }, { version: 1, given: true }, { version: '1', given: 'true' }, { version: '1', given: true, userId: 'x' }, { version: '', given: true }, { version: '1\n', given: true }]) {
      t.equal((await put('newsletter', body)).status, 400, JSON.stringify(body))
    }
    t.equal((await call('PUT', '/users/me/consents/newsletter', { body: { version: '1', given: true } })).status, 401)
    t.equal((await call('GET', '/users/me/consents')).status, 401)
  })
  await t.test('of somebody who is gone there are none', async t => {
    await sql.query('delete from users where id = $1', [person.id])
    t.equal((await put('newsletter', { version: '1', given: true })).status, 404)
    t.equal((await call('GET', '/users/me/consents', { token: person.token })).status, 404)
  })
})

t.test('a purge removes orders of people who are gone, ten years later, and registrations that nobody completed', async t => {
  await sql.query('update orders set created_at = $1 where user_id is null', [new Date(now() - 3652 * DAY)])
  await app.privacy.purge()
  const kept = await sql.query('select id from orders where user_id is null')
  t.ok(kept.length > 0)
  await sql.query('update orders set created_at = $1 where user_id is null', [new Date(now() - 3654 * DAY)])
  await sql.query('update registrations set expires_at = $1', [new Date(now() - 1000)])
  const payments = await sql.query('select p.id from payments p join orders o on o.id = p.order_id where o.user_id is null')
  t.match(await app.privacy.purge(), { removed: { payments: payments.length, orders: kept.length, registrations: 1 }, failed: [] })
  t.equal((await sql.query('select id from orders where user_id is not null')).length >= 18, true, 'those of members stay')
})
