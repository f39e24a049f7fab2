/** Documents and with whom they are shared. */
import t from 'tap'
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
      ['DELETE', `/documents/${id}/shares/${await idOf(name)}`, undefined],
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
      { userId: bobId }, { actions: ['read'] }, { userId: '', actions: ['read'] }, { userId: [bobId], actions: ['read'] }, { userId: 'AAAAAAAAAAAAAAAA', actions: ['read'] }, { userId: await idOf('max'), actions: ['read'] },
      { userId: bobId, actions: ['read'], documentId: await documentOf('alice') },
    ]) t.equal((await share(body)).status, 400, JSON.stringify(body))
    t.equal(await read(bob), 404)
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
