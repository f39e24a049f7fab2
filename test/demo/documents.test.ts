/** Documents and with whom they are shared. */
import t from 'tap'
import { MAX_DOCUMENTS, MAX_SHARES } from '../../demo/routes/documents.js'
import { build } from './portal.js'

const { call, token, idOf, newcomer, sql } = await build(t)

const documentOf = async (username: string) => (await sql.query<{ id: string }>('select id from documents where owner_id = $1', [await idOf(username)]))[0]!.id
const OTHERS = ['bob', 'gus', 'mona', 'max', 'nora', 'dora', 'admin'] as const

t.test('a document is hidden from everybody but its owner: a foreign one is as missing as one that is missing [OWASP API1]', async t => {
  const id = await documentOf('alice')
  const own = await call('GET', `/documents/${id}`, { token: await token('alice') })
  t.equal(own.status, 200)
  t.match(own.body, { id, ownerId: await idOf('alice'), title: 'Notes of alice' })
  t.strictSame(Object.keys(own.body).sort(), ['content', 'id', 'ownerId', 'title', 'updatedAt'])
  for (const name of OTHERS) {
    const bearer = await token(name)
    for (const [method, url, body] of [
      ['GET', `/documents/${id}`, undefined], ['PUT', `/documents/${id}`, { title: 'x', content: 'taken' }], ['POST', `/documents/${id}/shares`, { userId: await idOf(name), actions: ['read'] }],
      ['DELETE', `/documents/${id}/shares/${await idOf(name)}`, undefined], ['GET', `/documents/${id}/shares`, undefined], ['DELETE', `/documents/${id}`, undefined],
    ] as const) {
      const more = { token: bearer, ...(body !== undefined && { body }) }
      const foreign = await call(method, url, more)
      const missing = await call(method, url.replace(id, 'AAAAAAAAAAAAAAAA'), more)
      t.equal(foreign.status, 404, `${name}: ${method} ${url}`)
      t.strictSame({ ...foreign.body, requestId: '' }, { ...missing.body, requestId: '' })
      t.strictSame(Object.keys(foreign.headers).sort(), Object.keys(missing.headers).sort())
    }
    t.equal((await call('PUT', `/documents/${id}`, { token: bearer, body: { title: 'x', content: 'taken', ownerId: await idOf(name) } })).status, 400)
  }
  t.strictSame((await call('GET', `/documents/${id}`, { token: await token('alice') })).body, own.body, 'and it is untouched')
})

t.test('PUT changes it', async t => {
  const id = await documentOf('nora')
  const put = async (body: unknown) => call('PUT', `/documents/${id}`, { token: await token('nora'), body })
  for (const content of ['', "'); drop table documents;--", '<script>alert(1)</script>', '漢字 😀 \\ % _', 'x'.repeat(100_000)]) {
    const { status, body } = await put({ title: ' Trimmed ', content })
    t.equal(status, 200)
    t.match(body, { title: 'Trimmed', id })
    t.equal(body.content, content, 'content is text, kept as it is')
  }
  for (const body of [{ title: 'x' }, { content: 'x' }, {}, { title: ' ', content: 'x' }, { title: 'x'.repeat(201), content: 'x' }, { title: 'x', content: 'x'.repeat(100_001) }, { title: 'x', content: null }, { title: 'x', content: 'x', shares: [] }, { title: 'x', content: 'x', id: 'y' }]) {
    t.equal((await put(body)).status, 400, JSON.stringify(body).slice(0, 40))
  }
})

t.test('shares', async t => {
  const id = await documentOf('max')
  const [max, bob, gus, bobId, gusId] = [await token('max'), await token('bob'), await token('gus'), await idOf('bob'), await idOf('gus')]
  const share = (body: unknown, bearer = max) => call('POST', `/documents/${id}/shares`, { token: bearer, body })
  const read = async (bearer: string) => (await call('GET', `/documents/${id}`, { token: bearer })).status
  const write = async (bearer: string) => (await call('PUT', `/documents/${id}`, { token: bearer, body: { title: 'Shared', content: 'by somebody' } })).status

  await t.test('for reading', async t => {
    const { status, body } = await share({ userId: bobId, actions: ['read'] })
    t.equal(status, 201)
    t.strictSame(body, { userId: bobId, actions: ['read'] })
    t.equal(await read(bob), 200)
    t.equal(await write(bob), 403, 'bob knows of it, and may not')
    t.equal(await read(gus), 404, 'gus does not')
    t.equal((await share({ userId: gusId, actions: ['read'] }, bob)).status, 403, 'nor may bob share it on')
    t.equal((await share({ userId: bobId, actions: ['read', 'write'] }, bob)).status, 403, 'or give himself more')
    t.equal((await call('DELETE', `/documents/${id}/shares/${bobId}`, { token: bob })).status, 403)
    t.equal((await call('GET', `/documents/${id}/shares`, { token: bob })).status, 403, 'nor see who else has it')
    t.equal((await call('DELETE', `/documents/${id}`, { token: bob })).status, 403, 'nor delete it')
  })

  await t.test('for writing, and both', async t => {
    t.equal((await share({ userId: gusId, actions: ['write'] })).status, 201)
    t.equal(await write(gus), 200)
    t.equal(await read(gus), 403)
    t.equal((await share({ userId: bobId, actions: ['read', 'write'] })).status, 201, 'a share is replaced')
    t.equal(await write(bob), 200)
    t.equal(await read(bob), 200)
    t.equal((await call('GET', `/documents/${id}`, { token: max })).body.ownerId, await idOf('max'), 'who writes does not own')
  })

  await t.test('end', async t => {
    t.equal((await call('DELETE', `/documents/${id}/shares/${bobId}`, { token: max })).status, 204)
    t.equal(await read(bob), 404)
    t.equal(await write(bob), 404)
    t.equal((await call('DELETE', `/documents/${id}/shares/${bobId}`, { token: max })).status, 404)
  })

  await t.test('of a wrong form, or with nobody, are 400', async t => {
    for (const body of [
      { userId: bobId, actions: [] }, { userId: bobId, actions: ['delete'] }, { userId: bobId, actions: ['read', 'read'] }, { userId: bobId, actions: ['share'] }, { userId: bobId, actions: ['*'] }, { userId: bobId, actions: 'read' },
      { userId: bobId, username: 'gus', actions: ['read'] }, { userId: bobId, username: 'bob' }, { username: 'nobody_at_all', actions: ['read'] }, { username: 'max', actions: ['read'] }, { username: 'MAX', actions: ['read'] },
      { username: 'b_b', actions: ['read'] }, { username: 'bo%', actions: ['read'] }, { username: ['bob'], actions: ['read'] }, { username: { $gt: '' }, actions: ['read'] }, { username: null, actions: ['read'] }, { username: 'bob' },
      { userId: bobId }, { actions: ['read'] }, { userId: '', actions: ['read'] }, { userId: [bobId], actions: ['read'] }, { userId: 'AAAAAAAAAAAAAAAA', actions: ['read'] }, { userId: await idOf('max'), actions: ['read'] },
      { userId: bobId, actions: ['read'], documentId: await documentOf('alice') },
    ]) t.equal((await share(body)).status, 400, JSON.stringify(body))
    t.equal(await read(bob), 404)
  })

  await t.test('are made by name too, in any case, and seen by the owner', async t => {
    const shares = async () => (await call('GET', `/documents/${id}/shares`, { token: max })).body
    await call('DELETE', `/documents/${id}/shares/${gusId}`, { token: max })
    t.strictSame(await shares(), { items: [], nextCursor: null })
    t.match(await share({ username: 'Gus', actions: ['read'] }), { status: 201, body: { userId: gusId, actions: ['read'] } })
    t.equal((await share({ username: 'bob', actions: ['write', 'read'] })).status, 201)
    t.strictSame(await shares(), {
      items: [{ userId: bobId, username: 'bob', actions: ['read', 'write'] }, { userId: gusId, username: 'gus', actions: ['read'] }], nextCursor: null,
    })
    t.equal(await read(gus), 200)
    t.equal((await call('DELETE', `/documents/${id}/shares/${gusId}`, { token: max })).status, 204)
    t.equal((await call('DELETE', `/documents/${id}/shares/${bobId}`, { token: max })).status, 204)
    t.equal(await read(gus), 404)
  })

  await t.test('are limited, those at once too', async t => {
    await sql.query("insert into users (id, username, email, role) select 'many-' || n, 'many_' || n, 'many' || n || '@people.example', 'user' from generate_series(1, $1::int) as n", [MAX_SHARES])
    await sql.query("insert into document_shares select $1, 'many-' || n, '{read}' from generate_series(1, $2::int) as n", [id, MAX_SHARES - 1])
    const answers = await Promise.all(['bob', 'gus', `many_${MAX_SHARES}`].map(username => share({ username, actions: ['read'] })))
    t.strictSame(answers.map(({ status }) => status).sort(), [201, 409, 409])
    t.match(answers.find(({ status }) => status === 409), { body: { code: 'FST_PORTAL_TOO_MANY_SHARES' } })
    t.equal((await share({ username: 'many_1', actions: ['read', 'write'] })).status, 201, 'one that there is may be changed')
    t.equal((await call('GET', `/documents/${id}/shares`, { token: max })).body.items.length, MAX_SHARES)
    await sql.query("delete from users where id like 'many-%'")
    t.equal((await share({ username: 'bob', actions: ['read'] })).status, 201, 'the control: where there is room')
    t.equal((await call('DELETE', `/documents/${id}/shares/${bobId}`, { token: max })).status, 204)
  })

  await t.test('are gone with the one they were for', async t => {
    const person = await newcomer()
    t.equal((await share({ userId: person.id, actions: ['read'] })).status, 201)
    t.equal(await read(person.token), 200)
    t.equal((await call('DELETE', '/users/me', { token: person.token })).status, 204)
    t.equal((await sql.query('select 1 from document_shares where user_id = $1', [person.id])).length, 0)
    const twice = await newcomer()
    const [answer] = await Promise.all([share({ userId: twice.id, actions: ['read'] }), call('DELETE', '/users/me', { token: twice.token })])
    t.ok([201, 400, 404].includes(answer.status), `sharing with somebody who goes at the same moment: ${answer.status}`)
  })
})

t.test('GET /documents has what is one\'s own and what is shared with oneself, and nothing else [OWASP API1]', async t => {
  const [owner, reader, stranger] = [await newcomer(), await newcomer(), await newcomer()]
  const make = async (title: string) => (await call('POST', '/documents', { token: owner.token, body: { title, content: 'A secret' } })).body.id as string
  const [shared, writable, blind, own] = [await make('For reading'), await make('For both'), await make('For writing alone'), await make('Own')]
  for (const [id, actions] of [[shared, ['read']], [writable, ['write', 'read']], [blind, ['write']]] as const) {
    t.equal((await call('POST', `/documents/${id}/shares`, { token: owner.token, body: { userId: reader.id, actions } })).status, 201)
  }
  const list = async (token: string, query = '') => (await call('GET', `/documents${query}`, { token })).body
  const common = { ownerId: owner.id, ownerName: owner.username }
  const byId = <Item extends { id: string }>(items: Item[]) => items.sort((a, b) => a.id < b.id ? -1 : 1)

  const { items, nextCursor } = await list(reader.token)
  t.equal(nextCursor, null)
  t.match(items, byId([
    { id: shared, ...common, title: 'For reading', updatedAt: /Z$/, actions: ['read'] }, { id: writable, ...common, title: 'For both', actions: ['read', 'write'] }, { id: blind, ...common, title: 'For writing alone', actions: ['write'] },
  ]))
  t.strictSame(Object.keys(items[0]).sort(), ['actions', 'id', 'ownerId', 'ownerName', 'title', 'updatedAt'], 'what is in them is not in the list')
  t.match((await list(owner.token)).items, byId([shared, writable, blind, own].map(id => ({ id, ...common, actions: ['read', 'write'] }))), 'each once, however many it is shared with')
  t.strictSame((await list(stranger.token)).items, [])
  t.notOk((await list(await token('admin'))).items.some(({ ownerId }: { ownerId: string }) => ownerId === owner.id), 'nor do admins see it')

  await t.test('by pages, of which a foreign cursor opens none', async t => {
    const seen: string[] = []
    let cursor: string | null = null
    do {
      const part = await list(owner.token, `?limit=3${cursor === null ? '' : `&cursor=${cursor}`}`)
      seen.push(...part.items.map(({ id }: { id: string }) => id))
      cursor = part.nextCursor
    } while (cursor !== null)
    t.strictSame(seen, [shared, writable, blind, own].sort())
    for (const foreign of [own, '-', await documentOf('alice')]) t.strictSame((await list(stranger.token, `?cursor=${foreign}`)).items, [])
  })

  await t.test('and what is taken back is in no list', async t => {
    t.equal((await call('DELETE', `/documents/${shared}/shares/${reader.id}`, { token: owner.token })).status, 204)
    t.notOk((await list(reader.token)).items.some(({ id }: { id: string }) => id === shared))
  })
})

t.test('POST /documents makes one of one\'s own', async t => {
  const { token: bearer, id: ownerId } = await newcomer()
  const make = (body: unknown, more: object = { token: bearer }) => call('POST', '/documents', { body, ...more })
  const { status, body } = await make({ title: ' Trimmed ', content: '<script>alert(1)</script>' })
  t.equal(status, 201)
  t.match(body, { ownerId, title: 'Trimmed', content: '<script>alert(1)</script>', updatedAt: /Z$/ })
  t.match((await call('GET', `/documents/${body.id}`, { token: bearer })).body, body)
  t.match(await make({ title: 'x', content: '' }, { token: await token('gus') }), { status: 403 }, 'a guest may not')
  for (const body of [
    { title: 'x' }, { content: 'x' }, {}, { title: ' ', content: 'x' }, { title: 'x'.repeat(201), content: 'x' }, { title: 'x', content: 'x'.repeat(100_001) }, { title: 'x', content: 'x', ownerId: await idOf('alice') }, { title: 'x', content: 'x', id: 'y' },
  ]) t.equal((await make(body)).status, 400, JSON.stringify(body).slice(0, 60))

  await t.test('so many and no more, those at once too', async t => {
    const person = await newcomer()
    await sql.query("insert into documents (id, owner_id, title, content) select $1 || n, $1, 'x', '' from generate_series(1, $2::int) as n", [person.id, MAX_DOCUMENTS - 2])
    const answers = await Promise.all(Array.from({ length: 5 }, () => make({ title: 'x', content: '' }, { token: person.token })))
    t.strictSame(answers.map(({ status }) => status).sort(), [201, 201, 409, 409, 409])
    t.match(answers.find(({ status }) => status === 409), { body: { code: 'FST_PORTAL_TOO_MANY_DOCUMENTS' } })
    t.equal((await make({ title: 'x', content: '' })).status, 201, 'others have their own')
  })
})

t.test('DELETE ends it, for everybody', async t => {
  const owner = await newcomer()
  const { body: { id } } = await call('POST', '/documents', { token: owner.token, body: { title: 'x', content: '' } })
  const bob = await token('bob')
  t.equal((await call('POST', `/documents/${id}/shares`, { token: owner.token, body: { username: 'bob', actions: ['read', 'write'] } })).status, 201)
  t.equal((await call('DELETE', `/documents/${id}`, { token: bob })).status, 403, 'who writes does not end it')
  t.equal((await call('DELETE', `/documents/${id}`, { token: owner.token })).status, 204)
  for (const token of [bob, owner.token]) t.equal((await call('GET', `/documents/${id}`, { token })).status, 404)
  t.equal((await call('DELETE', `/documents/${id}`, { token: owner.token })).status, 404)
  t.equal((await sql.query('select 1 from document_shares where document_id = $1', [id])).length, 0)
})
