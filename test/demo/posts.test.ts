/** Posts and comments, and what people try to put into them. */
import t from 'tap'
import { build, type Call } from './portal.js'

const portal = await build(t)
const { call, token, idOf, newcomer, sql } = portal

const CONTENT = 'Long enough content'
const author = await newcomer()
const write = (body: unknown, more: Call = {}) => call('POST', '/posts', { token: author.token, body, ...more })
const firstPostOf = async (username: string) => (await sql.query<{ id: string }>('select id from posts where author_id = $1 limit 1', [await idOf(username)]))[0]!.id

t.test('everybody reads posts, the newest first', async t => {
  const { status, body } = await call('GET', '/posts')
  t.equal(status, 200)
  t.equal(body.items.length, 18)
  for (const post of body.items) t.match(post, { id: String, authorId: String, title: String, content: String, tags: Array, createdAt: /Z$/, updatedAt: /Z$/ })
  const times = body.items.map(({ createdAt }: { createdAt: string }) => createdAt)
  t.strictSame(times, times.toSorted().reverse())
  t.match((await call('GET', `/posts/${body.items[0].id}`)).body, body.items[0])
  for (const id of ['AAAAAAAAAAAAAAAA', '0', body.items[0].id.slice(1)]) t.equal((await call('GET', `/posts/${id}`)).status, 404, id)
})

t.test('posts:write writes one', async t => {
  const { status, body } = await write({ title: '  Hello, world  ', content: '<p>Hello <strong>you</strong></p>', tags: ['a', 'b', 'a', 'B-2', 'b'] })
  t.equal(status, 201)
  t.match(body, { title: 'Hello, world', content: '<p>Hello <strong>you</strong></p>', tags: ['a', 'b', 'B-2'], authorId: author.id })
  t.match((await call('GET', `/posts/${body.id}`)).body, body)
  for (const name of ['alice', 'mona', 'nora', 'admin']) t.equal((await write({ title: 'x', content: CONTENT }, { token: await token(name) })).status, 201, name)
  t.equal((await write({ title: 'x', content: CONTENT }, { token: await token('gus') })).status, 403, 'a guest may not')
})

t.test('titles have 1 to 200 characters once trimmed, and are not blank', async t => {
  for (const title of ['x', 'x'.repeat(200), ' '.repeat(40) + 'x'.repeat(200) + '\n\t', '漢'.repeat(200), '😀'.repeat(200), "Robert'); drop table posts;--", '<b>bold</b>', '100%_\\']) {
    const { status, body } = await write({ title, content: CONTENT })
    t.equal(status, 201, title.slice(0, 20))
    t.equal(body.title, title.trim(), 'stored literally')
  }
  for (const title of ['', ' ', '\t\n', '\u00a0\u2003', '\u200b', '\ufeff', '\u200d\u2060', 'x'.repeat(201), '😀'.repeat(201), `x${' '.repeat(250)}x`, 'x'.repeat(100_000), 7, null, ['x'], {}]) {
    t.equal((await write({ title, content: CONTENT })).status, 400, JSON.stringify(title).slice(0, 20))
  }
})

t.test('content has 10 to 10000 characters', async t => {
  for (const content of ['x'.repeat(10), 'x'.repeat(10_000), '漢'.repeat(10_000)]) t.equal((await write({ title: 'x', content })).status, 201)
  for (const content of ['x'.repeat(9), '', 'x'.repeat(10_001), ' '.repeat(20), null, 7]) t.equal((await write({ title: 'x', content })).status, 400, String(content).slice(0, 12))
  for (const content of ['<script>alert("long enough")</script>', '<style>body { display: none }</style>', '<!-- a comment that is long enough -->', '<img src="x" onerror="alert(1)">']) {
    t.equal((await write({ title: 'x', content })).status, 400, `nothing is left of ${content}`)
  }
})

t.test('tags: at most ten of at most fifty letters, digits and dashes', async t => {
  t.equal((await write({ title: 'x', content: CONTENT, tags: Array.from({ length: 10 }, (_none, i) => `tag-${i}`) })).status, 201)
  t.strictSame((await write({ title: 'x', content: CONTENT })).body.tags, [])
  for (const tags of [
    Array.from({ length: 11 }, (_none, i) => `tag-${i}`), [''], ['x'.repeat(51)], ['has space'], ['ümlaut'], ['a_b'], ["'"], ['a\n'], ['<b>'], [7], [null], [['a']], 'a', { 0: 'a' }, null,
  ]) t.equal((await write({ title: 'x', content: CONTENT, tags })).status, 400, JSON.stringify(tags).slice(0, 30))
})

t.test('attack: HTML comes out as the few harmless elements, with http, https and mailto links [ASVS 1.3.1]', async t => {
  const PAYLOADS = [
    '<script>alert(1)</script>', '<scr<script>ipt>alert(1)</scr</script>ipt>', '<SCRIPT SRC=//evil.example/x.js></SCRIPT>', '<img src=x onerror=alert(1)>', '<svg onload=alert(1)>', '<svg><script>alert(1)</script></svg>',
    '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">', '<iframe src="javascript:alert(1)"></iframe>', '<iframe srcdoc="<script>alert(1)</script>">', '<object data="data:text/html,x">',
    '<embed src="x">', '<form action="https://evil.example"><input name=password></form>', '<style>@import "https://evil.example"</style>', '<link rel=stylesheet href="https://evil.example">', '<meta http-equiv=refresh content="0;url=https://evil.example">',
    '<base href="https://evil.example">', '<p onclick="alert(1)" style="position:fixed" class="x" id="y">text</p>', '<a href="javascript:alert(1)">x</a>', '<a href="JaVaScRiPt:alert(1)">x</a>', '<a href=" javascript:alert(1)">x</a>',
    '<a href="java\tscript:alert(1)">x</a>', '<a href="java&#10;script:alert(1)">x</a>', '<a href="&#106;avascript:alert(1)">x</a>', '<a href="data:text/html,<script>alert(1)</script>">x</a>', '<a href="vbscript:x">x</a>',
    '<a href="//evil.example">x</a>', '<a href="\\\\evil.example">x</a>', '<a href="/\\evil.example">x</a>', '<a href="/local">x</a>', '<a href="ftp://x.example">x</a>', '<a href="http:evil">x</a>', '<a href="https://x.example" onmouseover="alert(1)" target="_blank" rel="x" title="t">x</a>',
    '<a href="https://x.example/?a=1&b=&quot;2&quot;">x</a>', '<a href="mailto:a@x.example">x</a>', '<a href="HTTPS://x.example">x</a>', '<a href=" https://x.example ">x</a>', '<a title="<script>">x</a>', '<p title="x">x</p>', '<br/><br onload=x>',
    '<noscript><p title="</noscript><img src=x onerror=alert(1)>">', '<textarea><img src=x onerror=alert(1)></textarea>', '<title><img src=x onerror=alert(1)></title>', '<xmp><img src=x onerror=alert(1)></xmp>', '<plaintext><script>alert(1)</script>',
    '<template><script>alert(1)</script></template>', '<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>', '&lt;img src=x onerror=alert(1)&gt;', '<p>1 < 2 && 3 > 2</p>', '<p', '<!--><script>alert(1)</script>-->', '<![CDATA[<script>alert(1)</script>]]>', '<?php x ?>', '<p>漢字 😀 “quoted” & done</p>',
    '<ul><li>one<li>two</ul>', '<strong><em>x</strong></em>', '<table><tr><td>x</td></tr></table>', '<custom-element>x</custom-element>', '<a href="https://x.example"><a href="https://y.example">x</a></a>', '"><script>alert(1)</script>', "'-alert(1)-'", '<p>' + '<em>'.repeat(200) + 'deep',
  ]
  for (const payload of PAYLOADS) {
    const { status, body } = await write({ title: 'x', content: `Some text first ${payload}` })
    t.equal(status, 201, payload.slice(0, 50))
    const { content } = body as { content: string }
    for (const [tag, name = '', attributes = ''] of content.matchAll(/<\/?([^\s>/]+)([^>]*)>/g)) {
      t.match(name, /^(?:p|br|strong|em|ul|ol|li|a)$/, tag)
      if (name !== 'a') t.match(attributes, /^\s*\/?$/, tag)
      t.match(attributes.replace(/\s(?:href|title)="[^"]*"/g, '').replace(' rel="noopener nofollow"', ''), /^\s*\/?$/, tag)
      for (const [, href] of attributes.matchAll(/href="([^"]*)"/g)) t.match(href, /^(?:https?:|mailto:)/i, tag)
    }
    t.notMatch(content.replace(/<[^>]*>/g, ''), /[<>]/, 'what is text is escaped')
    const again = await call('PUT', `/posts/${body.id}`, { token: author.token, body: { title: 'x', content } })
    t.equal(again.body.content, content, 'cleaning what is clean changes nothing')
  }
})

t.test('links tell nothing of who follows them, and pass no reputation on: when they are shown, not when they are stored', async t => {
  const content = '<p>See <a href="https://x.example/?a=1&amp;b=2" title="there">there</a>, <em>now</em><br />or</p>'
  const shown = content.replace('title="there">', 'title="there" rel="noopener nofollow">')
  const { status, body } = await write({ title: 'x', content })
  t.equal(status, 201)
  t.equal(body.content, shown)
  t.equal((await call('GET', `/posts/${body.id}`)).body.content, shown)
  t.equal((await call('GET', '/posts?limit=1')).body.items[0].content, shown)
  t.strictSame(await sql.query('select content from posts where id = $1', [body.id]), [{ content }])
  const again = await call('PUT', `/posts/${body.id}`, { token: author.token, body: { title: 'x', content: shown } })
  t.equal(again.body.content, shown)
  t.strictSame(await sql.query('select content from posts where id = $1', [body.id]), [{ content }], 'what was read is stored as it was')
})

t.test('bio keeps paragraphs and emphasis', async t => {
  const { status, body } = await call('PATCH', '/users/me', { token: author.token, body: { bio: ' <p onclick="alert(1)">Hi <a href="https://x.example">there</a>, <em>you</em></p><script>alert(1)</script>' } })
  t.equal(status, 200)
  t.equal(body.bio, '<p>Hi there, <em>you</em></p>')
  t.equal((await call('PATCH', '/users/me', { token: author.token, body: { bio: 'a\n'.repeat(21) + 'b' } })).status, 400)
})

t.test('attack: fields that are not asked for [OWASP API3]', async t => {
  for (const more of [{ authorId: 'x' }, { author_id: 'x' }, { id: 'x' }, { createdAt: 'x' }, { published: true }]) {
    t.equal((await write({ title: 'x', content: CONTENT, ...more })).status, 400)
    t.equal((await call('PUT', `/posts/${await firstPostOf('alice')}`, { token: await token('alice'), body: { title: 'x', content: CONTENT, ...more } })).status, 400)
  }
})

t.test('PUT is for the author and admins: 404 missing, 403 foreign [OWASP API1]', async t => {
  const id = await firstPostOf('alice')
  const put = async (name: string, target = id) => call('PUT', `/posts/${target}`, { token: await token(name), body: { title: `By ${name}`, content: CONTENT } })
  for (const name of ['bob', 'gus', 'mona', 'max', 'nora', 'dora']) t.equal((await put(name)).status, 403, name)
  t.notMatch((await call('GET', `/posts/${id}`)).body.title, /^By/)
  for (const name of ['alice', 'admin']) {
    const { status, body } = await put(name)
    t.equal(status, 200, name)
    t.match(body, { id, title: `By ${name}`, authorId: await idOf('alice'), tags: [] })
  }
  for (const name of ['alice', 'bob', 'admin']) t.equal((await put(name, 'AAAAAAAAAAAAAAAA')).status, 404, name)
  t.equal((await call('PUT', `/posts/${id}`, { token: await token('alice'), body: { title: 'x' } })).status, 400)
  t.equal((await call('PUT', `/posts/${id}`, { token: await token('bob'), raw: '{"title":' })).status, 400, 'a body that is no JSON is refused before the post is looked up')
})

t.test('DELETE is for posts:delete', async t => {
  const post = async () => (await write({ title: 'To be deleted', content: CONTENT })).body.id as string
  const id = await post()
  for (const name of ['bob', 'gus', 'max', 'nora', 'dora']) t.equal((await call('DELETE', `/posts/${id}`, { token: await token(name) })).status, 403, name)
  t.equal((await call('DELETE', `/posts/${id}`, { token: author.token })).status, 403, 'its author is none of them')
  for (const name of ['mona', 'admin']) {
    const mine = await post()
    const removed = await call('DELETE', `/posts/${mine}`, { token: await token(name) })
    t.equal(removed.status, 204, name)
    t.equal(removed.text, '')
    t.equal((await call('GET', `/posts/${mine}`)).status, 404)
    t.equal((await call('DELETE', `/posts/${mine}`, { token: await token(name) })).status, 404)
  }
})

t.test('comments are plain text, kept as they are written', async t => {
  const id = await firstPostOf('bob')
  const comment = (content: unknown, more: Call = {}) => call('POST', `/posts/${id}/comments`, { token: author.token, body: { content }, ...more })
  for (const content of ['Nice', '<script>alert(1)</script>', '<b>bold</b> & "quoted"', "'); drop table comments;--", '漢字 😀\nsecond line', 'x'.repeat(2000)]) {
    const { status, body, headers } = await comment(content)
    t.equal(status, 201)
    t.match(body, { postId: id, authorId: author.id, content })
    t.match(headers['content-type'], /^application\/json/)
  }
  for (const content of ['', '  ', 'x'.repeat(2001), 7, null, ['x']]) t.equal((await comment(content)).status, 400, JSON.stringify(content).slice(0, 12))
  t.equal((await comment('x', { token: await token('gus') })).status, 403)
  t.equal((await call('POST', '/posts/AAAAAAAAAAAAAAAA/comments', { token: author.token, body: { content: 'x' } })).status, 404)
  const { body } = await call('GET', `/posts/${id}/comments`)
  t.equal(body.items.length, 6)
  t.equal(body.items[0].content, 'Nice', 'in the order in which they were written')
  const [page, rest] = [await call('GET', `/posts/${id}/comments?limit=4`), await call('GET', `/posts/${id}/comments?cursor=${body.items[3].id}`)]
  t.strictSame([...page.body.items, ...rest.body.items], body.items)
  t.equal(page.body.nextCursor, body.items[3].id)
})

t.test('a cursor whose post is gone is 400, not a page that looks like the last one', async t => {
  const { body } = await call('GET', '/posts?limit=2')
  t.equal((await call('DELETE', `/posts/${body.nextCursor}`, { token: await token('mona') })).status, 204)
  t.equal((await call('GET', `/posts?limit=2&cursor=${body.nextCursor}`)).status, 400)
})

t.test('attack: writing to and deleting one post at once breaks nothing', async t => {
  const { body: { id } } = await write({ title: 'Contested', content: CONTENT })
  const mona = await token('mona')
  const answers = await Promise.all([
    ...Array.from({ length: 5 }, (_none, i) => call('PUT', `/posts/${id}`, { token: author.token, body: { title: `Round ${i}`, content: CONTENT } })),
    ...Array.from({ length: 5 }, () => call('POST', `/posts/${id}/comments`, { token: author.token, body: { content: 'x' } })),
    call('DELETE', `/posts/${id}`, { token: mona }), call('DELETE', `/posts/${id}`, { token: mona }),
    ...Array.from({ length: 5 }, (_none, i) => call('PUT', `/posts/${id}`, { token: author.token, body: { title: `Late ${i}`, content: CONTENT } })),
    ...Array.from({ length: 5 }, () => call('POST', `/posts/${id}/comments`, { token: author.token, body: { content: 'x' } })),
  ])
  for (const { status } of answers) t.ok([200, 201, 204, 404].includes(status), `${status}`)
  t.equal(answers.filter(({ status }) => status === 204).length, 1)
  t.equal((await call('GET', `/posts/${id}`)).status, 404)
})
