/** Users: profiles, what an admin may do, export and erasure; and who may not. */
import t from 'tap'
import { build, PASSWORD } from './portal.js'

const portal = await build(t)
const { call, signIn, token, idOf, newcomer, sql } = portal
const NEW_PASSWORD = 'Newcomer-pass-1'
const PEOPLE = ['mona', 'max', 'alice', 'bob', 'gus', 'nora', 'dora'] as const

const isAlive = async (bearer: string) => (await call('GET', '/users/me', { token: bearer })).status === 200
const refreshes = async (refreshToken: string) => (await call('POST', '/auth/refresh', { body: { refresh_token: refreshToken } })).status === 200
const canSignIn = async (username: string, password = NEW_PASSWORD) => (await call('POST', '/auth/login', { body: { username, password } })).status

t.test('GET /users/me is the own profile', async t => {
  for (const [name, role, plan] of [['alice', 'user', 'pro'], ['bob', 'user', 'free'], ['admin', 'admin', 'basic'], ['gus', 'guest', 'basic'], ['mona', 'moderator', 'basic'], ['dora', 'doctor', 'basic']] as const) {
    const { status, body } = await call('GET', '/users/me', { token: await token(name) })
    t.equal(status, 200)
    t.match(body, { id: await idOf(name), username: name, email: `${name}@portal.example`, role, plan, createdAt: /^\d{4}-\d\d-\d\dT.+Z$/ })
    t.strictSame(Object.keys(body).sort(), ['age', 'bio', 'createdAt', 'email', 'emailConfirmed', 'id', 'phone', 'plan', 'role', 'username', 'website'])
  }
})

t.test('PATCH /users/me', async t => {
  const person = await newcomer()
  const patch = (body: unknown, bearer = person.token) => call('PATCH', '/users/me', { token: bearer, body })

  await t.test('changes what is one\'s own', async t => {
    const { status, body } = await patch({ phone: '555-123-4567', website: 'https://x.example', bio: '<em>Hi</em><script>alert(1)</script>', email: 'New@People.example' })
    t.equal(status, 200)
    t.match(body, { phone: '555-123-4567', website: 'https://x.example', email: 'new@people.example', emailConfirmed: false, bio: '<em>Hi</em>' })
    t.equal((await patch({ email: 'NEW@people.example' })).status, 200, 'also to what it is already')
    t.equal((await patch({ username: `r_${person.username}` })).body.username, `r_${person.username}`)
    t.equal(await canSignIn(`r_${person.username}`), 200)
    t.equal(await canSignIn(person.username), 401)
    t.equal((await patch({ username: `R_${person.username}` })).status, 200, 'a name in other letters is one\'s own')
  })

  await t.test('attack: role, isAdmin, balance and anything else are 400 [OWASP API3]', async t => {
    for (const body of [
      { role: 'admin' }, { bio: 'x', role: 'admin' }, { isAdmin: true }, { balance: 1e6 }, { id: 'AAAA' }, { plan: 'pro' }, { isActive: true }, { emailConfirmed: true }, { email_confirmed_at: 'now' }, { password: 'x' },
      { createdAt: 'x' }, { bio: { role: 'admin' } }, { bio: ['x'] }, { bio: null }, { age: 30 }, {}, [], null, 'text', { username: { $ne: 1 } },
    ]) t.equal((await patch(body)).status, 400, JSON.stringify(body))
    for (const raw of ['{"__proto__":{"role":"admin"},"bio":"x"}', '{"bio":"x","constructor":{"prototype":{"role":"admin"}}}']) t.equal((await call('PATCH', '/users/me', { token: person.token, raw })).status, 400, raw)
    t.match((await call('GET', '/users/me', { token: person.token })).body, { role: 'user', plan: 'basic', bio: '<em>Hi</em>' })
  })

  await t.test('a taken or reserved name is 409', async t => {
    for (const username of ['alice', 'ALICE', 'admin', 'root']) t.equal((await patch({ username })).status, 409, username)
  })

  await t.test('of two who take one name at once, one gets it', async t => {
    const [one, two] = [await newcomer(), await newcomer()]
    const statuses = (await Promise.all([one, two].map(({ token: bearer }) => patch({ username: 'contested' }, bearer)))).map(({ status }) => status)
    t.strictSame(statuses.sort(), [200, 409])
  })
})

t.test('email of others', async t => {
  const [alice, bob] = [await idOf('alice'), await idOf('bob')]
  const emailFor = async (reader: string, id: string) => (await call('GET', `/users/${id}`, { token: await token(reader) })).body.email

  await t.test('is in the public profile for the owner and for users:read:private only [OWASP API3]', async t => {
    t.equal(await emailFor('alice', alice), 'alice@portal.example')
    t.equal(await emailFor('admin', alice), 'alice@portal.example')
    for (const name of PEOPLE.filter(name => name !== 'alice')) {
      const { status, body, text } = await call('GET', `/users/${alice}`, { token: await token(name) })
      t.equal(status, 200)
      t.strictSame(Object.keys(body).sort(), ['createdAt', 'id', 'username'], name)
      t.notMatch(text, 'portal.example')
    }
    t.equal(await emailFor('bob', bob), 'bob@portal.example')
  })

  await t.test('is in the list for users:read:private only', async t => {
    for (const name of ['mona', 'max']) {
      const { status, text, body } = await call('GET', '/users?limit=100', { token: await token(name) })
      t.equal(status, 200)
      t.ok(body.items.length >= 9)
      t.notMatch(text, /@|email|phone|role|plan/)
    }
    t.match((await call('GET', '/users?limit=100', { token: await token('admin') })).text, 'bob@portal.example')
    t.match((await call('GET', '/users?username=bob', { token: await token('admin') })).body.items, [{ email: 'bob@portal.example' }])
  })

  await t.test('and sight is decided anew for each request', async t => {
    const [admin, mona] = [await token('admin'), await token('mona')]
    const answers = await Promise.all(Array.from({ length: 40 }, (_none, i) => call('GET', `/users/${alice}`, { token: i % 2 === 0 ? admin : mona })))
    for (const [i, { body }] of answers.entries()) t.equal(body.email, i % 2 === 0 ? 'alice@portal.example' : undefined)
  })
})

t.test('GET /users is for users:read; ?username= finds one name in any letters, literally', async t => {
  for (const name of PEOPLE) t.equal((await call('GET', '/users', { token: await token(name) })).status, name === 'mona' || name === 'max' ? 200 : 403, name)
  const find = async (username: string) => (await call('GET', `/users?username=${encodeURIComponent(username)}`, { token: await token('mona') })).body.items.map((user: { username: string }) => user.username)
  t.strictSame(await find('alice'), ['alice'])
  t.strictSame(await find('ALICE'), ['alice'])
  for (const junk of ['nobody', '%', '_____', 'ali%', "' or '1'='1", "alice' --", 'alice\\', '*', 'Infinity', 'null', '用户', "'; drop table users; --"]) t.strictSame(await find(junk), [], junk)
  t.equal((await call('GET', `/users?username=${'a'.repeat(51)}`, { token: await token('mona') })).status, 400)
  t.equal((await call('GET', '/users?username=a&username=b', { token: await token('mona') })).status, 400)
})

t.test('orders of a user', async t => {
  const alice = await idOf('alice')
  await t.test('are for the owner and an admin; others are 403, missing users 404 [OWASP API1]', async t => {
    for (const name of ['alice', 'admin']) {
      const { status, body } = await call('GET', `/users/${alice}/orders`, { token: await token(name) })
      t.equal(status, 200, name)
      t.equal(body.items.length, 2)
      for (const order of body.items) {
        t.match(order, { userId: alice, currency: 'EUR' })
        t.ok(Number.isInteger(order.total))
      }
    }
    for (const name of PEOPLE.filter(name => name !== 'alice')) t.equal((await call('GET', `/users/${alice}/orders`, { token: await token(name) })).status, 403, name)
    t.equal((await call('GET', '/users/AAAAAAAAAAAAAAAA/orders', { token: await token('admin') })).status, 404)
    t.equal((await call('GET', '/users/me/orders', { token: await token('alice') })).status, 404, '"me" is no id')
  })

  await t.test('one by one they are hidden from strangers', async t => {
    const { body } = await call('GET', `/users/${alice}/orders`, { token: await token('alice') })
    const { id } = body.items[0]
    for (const name of ['alice', 'admin']) t.equal((await call('GET', `/orders/${id}`, { token: await token(name) })).status, 200, name)
    const missing = await call('GET', '/orders/AAAAAAAAAAAAAAAA', { token: await token('bob') })
    t.equal(missing.status, 404)
    for (const name of PEOPLE.filter(name => name !== 'alice')) {
      const foreign = await call('GET', `/orders/${id}`, { token: await token(name) })
      t.strictSame({ ...foreign.body, requestId: '' }, { ...missing.body, requestId: '' }, `${name} cannot tell it from a missing one`)
    }
    for (const junk of [id.toLowerCase() === id ? id.toUpperCase() : id.toLowerCase(), id.slice(0, -1), '%27', '..%2f', '0']) t.not((await call('GET', `/orders/${junk}`, { token: await token('bob') })).status, 200, junk)
    t.equal((await call('GET', `/orders/${id}`, {})).status, 401)
  })
})

t.test('attack: the routes of admins, by everybody else [OWASP API5]', async t => {
  const { id } = await newcomer()
  const requests = [
    ['PATCH', `/users/${id}/role`, { role: 'admin' }], ['PATCH', `/users/${id}/active`, { isActive: false }], ['POST', `/users/${id}/unlock`, undefined],
    ['DELETE', `/users/${id}/sessions`, undefined], ['DELETE', `/users/${id}`, undefined], ['GET', '/posture', undefined],
  ] as const
  for (const name of PEOPLE) {
    const bearer = await token(name)
    for (const [method, url, body] of requests) {
      t.equal((await call(method, url, { token: bearer, ...(body !== undefined && { body }) })).status, 403, `${name}: ${method} ${url}`)
      t.equal((await call(method, url.replace(id, await idOf(name)), { token: bearer, ...(body !== undefined && { body }) })).status, 403, `${name} to oneself`)
    }
    for (const [header, value] of [['x-role', 'admin'], ['x-http-method-override', 'GET'], ['x-original-url', '/health']] as const) {
      t.equal((await call('PATCH', `/users/${id}/role`, { token: bearer, body: { role: 'admin' }, headers: { [header]: value } })).status, 403, header)
    }
  }
  t.match((await sql.query('select role, is_active from users where id = $1', [id]))[0], { role: 'user', is_active: true })
})

t.test('a new role kills the tokens of the user, and is written down', async t => {
  const person = await newcomer()
  const events: { type: string, principal?: string, details: Record<string, unknown> }[] = []
  t.teardown(portal.app.events.listen(event => { events.push(event) }))
  const admin = await token('admin')
  const { status, body } = await call('PATCH', `/users/${person.id}/role`, { token: admin, body: { role: 'moderator' } })
  t.equal(status, 200)
  t.match(body, { id: person.id, role: 'moderator' })
  t.notOk(await isAlive(person.token))
  t.notOk(await refreshes(person.refresh_token))
  t.match(events.filter(({ type }) => type === 'permission_change'), [{ principal: await idOf('admin'), details: { user: person.id, from: 'user', to: 'moderator' } }])
  t.equal((await call('GET', '/users', { token: await token(person.username, NEW_PASSWORD) })).status, 200, 'who signs in again has the new role')
  for (const role of ['superuser', 'ADMIN', '', null, ['admin'], 7]) t.equal((await call('PATCH', `/users/${person.id}/role`, { token: admin, body: { role } })).status, 400, JSON.stringify(role))
  t.equal((await call('PATCH', `/users/${person.id}/role`, { token: admin, body: { role: 'user', isActive: true } })).status, 400)
  t.equal((await call('PATCH', '/users/AAAAAAAAAAAAAAAA/role', { token: admin, body: { role: 'user' } })).status, 404)
})

t.test('attack: a token that is made while the role is taken away does not keep it', async t => {
  const person = await newcomer('moderator')
  const admin = await token('admin')
  const rising = [
    ...[1, 2, 3].map(() => call('POST', '/auth/login', { body: { username: person.username, password: NEW_PASSWORD } })),
    call('POST', '/auth/step-up', { token: person.token, body: { password: NEW_PASSWORD } }),
    call('POST', '/auth/refresh', { body: { refresh_token: person.refresh_token } }),
  ]
  t.equal((await call('PATCH', `/users/${person.id}/role`, { token: admin, body: { role: 'guest' } })).status, 200)
  for (const { status, body } of await Promise.all(rising)) {
    if (status === 200) t.not((await call('GET', '/users', { token: body.access_token })).status, 200)
  }
})

t.test('who is switched off stops at once, and can be switched on again', async t => {
  const person = await newcomer()
  const admin = await token('admin')
  const set = (isActive: unknown) => call('PATCH', `/users/${person.id}/active`, { token: admin, body: { isActive } })
  t.equal((await set(false)).status, 204)
  t.notOk(await isAlive(person.token))
  t.notOk(await refreshes(person.refresh_token))
  t.equal(await canSignIn(person.username), 403)
  t.equal(await canSignIn(person.username, 'Wrong-pass-1'), 401)
  t.equal((await set(true)).status, 204)
  t.notOk(await isAlive(person.token), 'what was dead stays dead')
  t.equal(await canSignIn(person.username), 200)
  for (const junk of ['true', 1, null, 'false']) t.equal((await set(junk)).status, 400, JSON.stringify(junk))
})

t.test('DELETE /users/:userId/sessions ends all of the user', async t => {
  const person = await newcomer()
  const other = await signIn(person.username, NEW_PASSWORD)
  t.equal((await call('DELETE', `/users/${person.id}/sessions`, { token: await token('admin') })).status, 204)
  for (const { access_token: bearer, refresh_token: refresh } of [person, other]) {
    t.notOk(await isAlive(bearer))
    t.notOk(await refreshes(refresh))
  }
  t.equal(await canSignIn(person.username), 200)
})

t.test('the last admin stays, and nobody does it to oneself', async t => {
  const admin = await token('admin')
  const id = await idOf('admin')
  for (const [method, url, body] of [['PATCH', `/users/${id}/role`, { role: 'user' }], ['PATCH', `/users/${id}/active`, { isActive: false }], ['DELETE', `/users/${id}`, undefined], ['DELETE', '/users/me', undefined]] as const) {
    t.equal((await call(method, url, { token: admin, ...(body !== undefined && { body }) })).status, 400, `${method} ${url}`)
  }
  t.ok(await isAlive(admin))
  const second = await newcomer('admin')
  for (const [method, url, body] of [['PATCH', `/users/${second.id}/role`, { role: 'user' }], ['PATCH', `/users/${second.id}/active`, { isActive: false }], ['DELETE', `/users/${second.id}`, undefined]] as const) {
    t.equal((await call(method, url, { token: second.token, ...(body !== undefined && { body }) })).status, 400, `oneself: ${method} ${url}`)
  }
  t.equal((await call('PATCH', `/users/${id}/role`, { token: second.token, body: { role: 'user' } })).status, 200, 'a second admin may demote the first')
  t.equal((await call('PATCH', `/users/${second.id}/role`, { token: second.token, body: { role: 'user' } })).status, 400)
  await sql.query("update users set role = 'admin' where username = 'admin'")
  t.equal((await call('DELETE', '/users/me', { token: second.token })).status, 204, 'an admin who is not the last may go')
})

t.test('attack: two admins who take each other away at once leave one', async t => {
  await sql.query("update users set role = 'user' where username = 'admin'")
  t.teardown(() => sql.query("update users set role = 'admin' where username = 'admin'"))
  for (const [what, request] of Object.entries({
    demote: (bearer: string, id: string) => call('PATCH', `/users/${id}/role`, { token: bearer, body: { role: 'user' } }),
    deactivate: (bearer: string, id: string) => call('PATCH', `/users/${id}/active`, { token: bearer, body: { isActive: false } }),
    delete: (bearer: string, id: string) => call('DELETE', `/users/${id}`, { token: bearer }),
    'erase oneself': (bearer: string) => call('DELETE', '/users/me', { token: bearer }),
  })) {
    const [one, two] = [await newcomer('admin'), await newcomer('admin')]
    const statuses = (await Promise.all([request(one.token, two.id), request(two.token, one.id)])).map(({ status }) => status)
    t.equal(statuses.filter(status => status < 300).length, 1, `${what}: ${statuses.join()}`)
    const left = await sql.query("select id from users where role = 'admin' and is_active")
    t.equal(left.length, 1)
    await sql.query("update users set role = 'user' where role = 'admin'")
  }
})

t.test('export holds everything about the user, and nothing secret [GDPR Art. 20]', async t => {
  const person = await newcomer()
  await call('PATCH', '/users/me', { token: person.token, body: { bio: 'About me', phone: '555-123-4567' } })
  const { body: post } = await call('POST', '/posts', { token: person.token, body: { title: 'Mine', content: 'Written by me, all of it', tags: ['own'] } })
  const { body: comment } = await call('POST', `/posts/${post.id}/comments`, { token: person.token, body: { content: 'My comment' } })
  await sql.query("insert into orders (id, user_id, item, total, currency) values ('order-of-export', $1, 'Lamp', 100, 'EUR')", [person.id])
  await sql.query("insert into documents (id, owner_id, title, content) values ('document-of-export', $1, 'Mine', 'Text')", [person.id])
  await call('POST', '/documents/document-of-export/shares', { token: person.token, body: { userId: await idOf('bob'), actions: ['read'] } })
  const { status, body, headers } = await call('GET', '/users/me/export', { token: person.token })
  t.equal(status, 200)
  t.equal(headers['cache-control'], 'no-store')
  t.match(body, {
    profile: { id: person.id, username: person.username, email: `${person.username}@people.example`, bio: 'About me', phone: '555-123-4567', role: 'user', plan: 'basic' },
    posts: [{ id: post.id, content: 'Written by me, all of it', tags: ['own'] }],
    comments: [{ id: comment.id, content: 'My comment' }],
    documents: [{ id: 'document-of-export', content: 'Text' }],
    shares: [{ documentId: 'document-of-export', userId: await idOf('bob'), actions: ['read'] }],
    orders: [{ id: 'order-of-export', total: 100 }],
  })
  t.notMatch(JSON.stringify(body), /argon|hash|secret|token/i)
  const { body: alices } = await call('GET', '/users/me/export', { token: await token('alice') })
  t.match([alices.posts.length, alices.orders.length, alices.documents.length], [2, 2, 1])
  t.notMatch(JSON.stringify(alices), person.id, 'and nothing of others')
})

t.test('erasure [GDPR Art. 17]', async t => {
  for (const [what, erase] of Object.entries({
    'by oneself': (_id: string, bearer: string) => call('DELETE', '/users/me', { token: bearer }),
    'by an admin': async (id: string) => call('DELETE', `/users/${id}`, { token: await token('admin') }),
  })) {
    await t.test(what, async t => {
      const person = await newcomer()
      const orderId = `order-${person.username}`
      const { body: post } = await call('POST', '/posts', { token: person.token, body: { title: 'Mine', content: 'Written by me, all of it' } })
      const [{ id: foreign }] = await sql.query<{ id: string }>('select id from posts where author_id = $1 limit 1', [await idOf('bob')]) as [{ id: string }]
      const { body: comment } = await call('POST', `/posts/${foreign}/comments`, { token: person.token, body: { content: 'I was here' } })
      await sql.query('insert into orders (id, user_id, item, total, currency) values ($1, $2, $3, 100, $4)', [orderId, person.id, 'Lamp', 'EUR'])
      await sql.query('insert into documents (id, owner_id, title, content) values ($1, $2, $3, $4)', [`document-${person.username}`, person.id, 'Mine', ''])

      t.equal((await erase(person.id, person.token)).status, 204)
      t.notOk(await isAlive(person.token), 'tokens are dead')
      t.notOk(await refreshes(person.refresh_token))
      t.equal(await canSignIn(person.username), 401)
      t.equal((await call('GET', `/users/${person.id}`, { token: await token('admin') })).status, 404)
      t.equal((await call('GET', `/posts/${post.id}`)).status, 404)
      t.notOk((await call('GET', `/posts/${foreign}/comments`)).body.items.some(({ id }: { id: string }) => id === comment.id))
      const order = await call('GET', `/orders/${orderId}`, { token: await token('admin') })
      t.match(order.body, { id: orderId, total: 100, userId: null }, 'the record of the order stays, without the person')
      const rest = JSON.stringify([
        await sql.query('select * from users'), await sql.query('select * from orders'), await sql.query('select * from documents'), await sql.query('select * from document_shares'),
      ])
      t.notOk(rest.includes(person.id), 'nothing refers to the person any more')

      const again = await call('POST', '/auth/register', { body: { username: person.username, email: 'again@people.example', password: NEW_PASSWORD } })
      t.equal(again.status, 201, 'the name is free again')
      t.not(again.body.id, person.id)
      t.equal((await call('GET', `/orders/${orderId}`, { token: await token(person.username, NEW_PASSWORD) })).status, 404, 'and inherits nothing')
    })
  }
  await t.test('of somebody who is not there', async t => t.equal((await call('DELETE', '/users/AAAAAAAAAAAAAAAA', { token: await token('admin') })).status, 404))
})

t.test('attack: requests of somebody who is being erased leave nothing behind and break nothing', async t => {
  const person = await newcomer()
  const busy = [1, 2, 3].flatMap(i => [
    call('POST', '/posts', { token: person.token, body: { title: `Late ${i}`, content: 'Written in the last moment' } }),
    call('PATCH', '/users/me', { token: person.token, body: { bio: `Late ${i}` } }),
    call('GET', '/users/me/export', { token: person.token }),
    call('POST', '/auth/step-up', { token: person.token, body: { password: NEW_PASSWORD } }),
    call('POST', '/auth/refresh', { body: { refresh_token: person.refresh_token } }),
  ])
  const erased = await call('DELETE', `/users/${person.id}`, { token: await token('admin') })
  t.equal(erased.status, 204)
  for (const { status, body } of await Promise.all(busy)) {
    t.ok(status < 500)
    if (body?.access_token !== undefined) t.notOk(await isAlive(body.access_token))
  }
  t.equal((await sql.query('select id from posts where author_id = $1', [person.id])).length, 0)
})

t.test('a token of somebody whose row is gone finds nothing, and breaks nothing', async t => {
  const person = await newcomer()
  await sql.query('delete from users where id = $1', [person.id])
  for (const [method, url, body] of [
    ['GET', '/users/me', undefined], ['PATCH', '/users/me', { bio: 'x' }], ['GET', '/users/me/export', undefined], ['POST', '/auth/password', { currentPassword: 'x', newPassword: 'Changed-pass-2' }],
    ['POST', '/posts', { title: 'Ghost', content: 'Written by nobody' }],
  ] as const) {
    const { status } = await call(method, url, { token: person.token, ...(body !== undefined && { body }) })
    t.ok(status === 401 || status === 404, `${method} ${url}: ${status}`)
  }
})

t.test('seeded: nine accounts, each with two orders, two posts and one document', async t => {
  const fresh = await build(t)
  const counts = await fresh.sql.query(`select username, role, plan, is_active,
    (select count(*)::int from orders where user_id = users.id) orders, (select count(*)::int from posts where author_id = users.id) posts,
    (select count(*)::int from documents where owner_id = users.id) documents from users order by created_at, username`)
  const expected: [string, string, string, boolean][] = [
    ['admin', 'admin', 'basic', true], ['alice', 'user', 'pro', true], ['bob', 'user', 'free', true], ['dora', 'doctor', 'basic', true], ['gus', 'guest', 'basic', true],
    ['ina', 'user', 'basic', false], ['max', 'manager', 'basic', true], ['mona', 'moderator', 'basic', true], ['nora', 'nurse', 'basic', true],
  ]
  t.strictSame(counts.sort((a, b) => String(a.username) < String(b.username) ? -1 : 1),
    expected.map(([username, role, plan, active]) => ({ username, role, plan, is_active: active, orders: 2, posts: 2, documents: 1 })))
  for (const { title } of await fresh.sql.query<{ title: string }>('select title from posts')) t.notMatch(title, /[%_]/)
  t.equal(await canSignIn('alice', PASSWORD), 200)
})

t.test('attack: what ends an account does not wait for what may fail: where nobody can be signed out, nothing is done', async t => {
  const portal = await build(t)
  const admin = await portal.token('admin')
  const { raise } = portal.app.state
  const { StateUnavailable } = await import('../../plugins/state/index.js')
  const changes: Record<string, (person: Awaited<ReturnType<typeof portal.newcomer>>) => [method: string, url: string, token: string, body?: object]> = {
    'an admin deletes the user': ({ id }) => ['DELETE', `/users/${id}`, admin],
    'the user erases the account': ({ token }) => ['DELETE', '/users/me', token],
    'an admin switches it off': ({ id }) => ['PATCH', `/users/${id}/active`, admin, { isActive: false }],
    'an admin changes the role': ({ id }) => ['PATCH', `/users/${id}/role`, admin, { role: 'guest' }],
    'the password changes': ({ token }) => ['POST', '/auth/password', token, { currentPassword: 'Newcomer-pass-1', newPassword: 'Another-pass-22' }],
  }
  for (const [what, change] of Object.entries(changes)) {
    const person = await portal.newcomer('manager')
    const [method, url, token, body] = change(person)
    portal.app.state.raise = async () => { throw Object.assign(new StateUnavailable(), { headers: { 'retry-after': '2' } }) }
    t.equal((await portal.call(method, url, { token, body })).status, 503, what)
    portal.app.state.raise = raise
    t.match(await portal.call('GET', '/users/me', { token: person.token }), { status: 200, body: { role: 'manager' } }, 'as before')
    t.equal((await portal.call('POST', '/auth/login', { body: { username: person.username, password: 'Newcomer-pass-1' } })).status, 200)
    t.match(await portal.call(method, url, { token, body }), { status: /^20[04]$/ }, 'and it can be tried again')
    if (what !== 'the password changes') t.equal((await portal.call('GET', '/users/me', { token: person.token })).status, 401)
  }
})

t.test('who takes an account over is not alone: its confirmed address learns of a change, and an admin takes foreign factors and keys away', async t => {
  const portal = await build(t)
  const person = await portal.newcomer()
  await portal.sql.query('update users set email_confirmed_at = now() where id = $1', [person.id])
  portal.mails.length = 0
  t.equal((await portal.call('PATCH', '/users/me', { token: person.token, body: { email: 'evil@evil.example' } })).status, 200)
  for (let tries = 0; tries < 100 && portal.mails.length < 2; tries++) await new Promise(resolve => setTimeout(resolve, 20))
  t.strictSame(portal.mails.map(({ to }) => to).sort(), ['evil@evil.example', `${person.username}@people.example`].sort())
  t.match(portal.mails.find(({ to }) => to !== 'evil@evil.example')!.text, /another address .* administrator/)
  await portal.call('POST', '/api-keys', { token: person.token, body: { name: 'k', scopes: ['data:read'] } })
  const admin = await portal.token('admin')
  t.equal((await portal.call('DELETE', `/users/${person.id}/factors`, { token: person.token })).status, 403)
  t.equal((await portal.call('DELETE', `/users/${person.id}/factors`, { token: admin })).status, 204)
  t.equal((await portal.call('GET', '/users/me', { token: person.token })).status, 401)
  const { access_token: again } = await portal.signIn(person.username, 'Newcomer-pass-1')
  t.strictSame((await portal.call('GET', '/api-keys', { token: again })).body.items, [])
})
