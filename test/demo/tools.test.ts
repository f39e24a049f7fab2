/** Search and ping: what people put into them. */
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { build, buildOn, freshDatabase } from './portal.js'

/** What names lead to; others are unknown. */
const names: Record<string, string[]> = {
  'loop.example': ['127.0.0.1'],
  'both.example': ['::1', '127.0.0.1'],
  'private.example': ['10.0.0.1'],
  'metadata.example': ['169.254.169.254'],
  'some.example': ['93.184.215.14', '192.168.0.1'],
  'mapped.example': ['::ffff:10.0.0.1'],
  localhost: ['127.0.0.1', '::1'],
}
const outbound = { resolve: async (name: string) => names[name] ?? [] }

t.test('GET /search', async t => {
  const portal = await build(t)
  const { call, newcomer, sql } = portal
  const writer = await newcomer()
  const post = async (title: string) => {
    const { status, body } = await call('POST', '/posts', { token: writer.token, body: { title, content: 'Long enough content' } })
    t.equal(status, 201, title)
    return body.title as string
  }
  const ask = (q: string, more = '') => call('GET', `/search?q=${encodeURIComponent(q)}${more}`)
  const found = async (q: string, more = '') => {
    const { status, body } = await ask(q, more)
    t.equal(status, 200, q)
    return body?.items.map(({ title }: { title: string }) => title).sort() as string[]
  }
  const AWKWARD = ['100% sure', 'snake_case', "O'Reilly", 'double "quotes"', 'back\\slash', 'a -- comment', '/* also */ one', 'semi; colon', '$1 and $$ and $tag$', '日本語のタイトル', 'Ärger mit Café', 'ΣΊΣΥΦΟΣ', 'emoji 😀 face', 'x.*y[z]+(a|b)', '%', '\'\'']
  for (const title of AWKWARD) await post(title)

  await t.test('is for everybody, and answers posts as their list does', async t => {
    const { status, body } = await ask('snake')
    t.equal(status, 200)
    t.strictSame(Object.keys(body), ['items', 'nextCursor'])
    t.match(body.items, [{ title: 'snake_case', authorId: writer.id, content: String, tags: Array }])
    t.match((await call('GET', `/posts/${body.items[0].id}`)).body, body.items[0])
    t.strictSame(await found('in no title'), [])
  })

  await t.test('finds what is in the title, and nowhere else', async t => {
    await call('POST', '/posts', { token: writer.token, body: { title: 'Plain', content: 'only in its content: xylophone', tags: ['xylophone'] } })
    t.strictSame(await found('xylophone'), [])
  })

  await t.test('attack: signs that stand for others in patterns, and that end texts, stand for themselves [ASVS 1.2.4] [ASVS 1.2.9]', async t => {
    t.strictSame(await found('%'), ['%', '100% sure'])
    t.strictSame(await found('_'), ['snake_case'])
    t.strictSame(await found('%%'), [])
    t.strictSame(await found('s_a'), [])
    t.strictSame(await found('1%e'), [])
    for (const q of ['.*', '[z]', '(a|b)', 'y[z]+']) t.strictSame(await found(q), ['x.*y[z]+(a|b)'], q)
    for (const q of ['^', '^100', 'sure$|x', '\\w+', '(?:)', '.+', '[^]*', '(((((', '(a+)+$']) t.strictSame(await found(q), [], q)
    const naive = Fastify()
    t.teardown(() => naive.close())
    naive.get('/search', async request => AWKWARD.filter(title => new RegExp((request.query as { q: string }).q).test(title)))
    for (const q of ['.*', '[^]*']) t.equal((await naive.inject(`/search?q=${encodeURIComponent(q)}`)).json().length, AWKWARD.length, `negative control: plain Fastify, with a pattern made of ${q}, finds all`)
    t.equal((await naive.inject(`/search?q=${encodeURIComponent('(((((')}`)).statusCode, 500)
    t.strictSame(await found("'"), ["''", "O'Reilly"])
    t.strictSame(await found('"'), ['double "quotes"'])
    t.strictSame(await found('\\'), ['back\\slash'])
    t.strictSame(await found('\\%'), [])
    t.strictSame(await found('--'), ['a -- comment'])
    t.strictSame(await found('/*'), ['/* also */ one'])
    t.strictSame(await found(';'), ['semi; colon'])
    t.strictSame(await found('$1'), ['$1 and $$ and $tag$'])
    t.strictSame(await found('.*'), ['x.*y[z]+(a|b)'])
    t.strictSame(await found('(a|b)'), ['x.*y[z]+(a|b)'])
    t.strictSame(await found('^'), [])
    // What is no UTF-8 is nothing that anybody could look for.
    for (const q of ['%ff', '%c3%28', '%ed%a0%80', '%25%']) t.match(await call('GET', `/search?q=${q}`), { status: 400, body: { code: 'FST_BASTION_VALIDATION_TEXT' } }, q)
  })

  await t.test('attack: nothing of it becomes SQL; a statement that is built from it does', async t => {
    const before = await sql.query('select count(*)::int as n from posts')
    for (const q of [
      "' or '1'='1", "' or 1=1 --", "'; drop table posts; --", "') or true or ('", "' union select id, username, email, password_hash, role, plan from users --", "'||(select password_hash from users limit 1)||'", '1; select pg_sleep(5)',
      "'; update users set role = 'admin'; --", "\\'; drop table posts; --", "' and 1=cast((select version()) as int) --", '%27 or 1=1 --', '$1', '$$; drop table posts; $$', "x' and pg_sleep(5) is null --", "'/**/or/**/1=1/**/--", '＇ or 1=1 --', 'ʼ or 1=1 --',
    ]) t.strictSame(await found(q), q === '$1' ? ['$1 and $$ and $tag$'] : [], q)
    t.strictSame(await sql.query('select count(*)::int as n from posts'), before)
    const built = (q: string) => sql.query<{ title: string }>(`select title from posts where title like '%${q}%'`)
    t.ok((await built("' or '1'='1")).length > 10, 'negative control: all posts')
    t.ok((await built("' union select password_hash from users --")).some(({ title }) => /argon2/.test(title)), 'negative control: hashes')
  })

  await t.test('case does not matter', async t => {
    for (const q of ['snake_case', 'SNAKE_CASE', 'Snake_Case', "o'REILLY", 'EMOJI 😀 FACE']) t.equal((await found(q)).length, 1, q)
    for (const q of ['ÄRGER', 'ärger', 'CAFÉ', 'café', 'ΣΊΣΥΦΟΣ', 'σίσυφος', 'σίσυφοσ']) t.equal((await found(q)).length, 1, q)
    t.strictSame(await found('日本語'), ['日本語のタイトル'])
    t.strictSame(await found('😀'), ['emoji 😀 face'])
    t.strictSame(await found('cafe\u0301'), ['Ärger mit Café'], 'composed or not')
    t.strictSame(await found('cafe'), [], 'and accents do matter')
  })

  await t.test('it has 1 to 100 characters, once, and no NUL', async t => {
    t.equal((await ask('x'.repeat(100))).status, 200)
    t.equal((await ask('😀'.repeat(100))).status, 200)
    t.equal((await ask(' ')).status, 200)
    for (const query of ['', '?q=', `?q=${'x'.repeat(101)}`, '?q=%00', '?q=a%00b', '?q=a&q=b', '?q[]=a', '?q[$ne]=a', '?q=a&title=b', '?q=a&limit=0', '?q=a&limit=101', '?q=a&limit=x', "?q=a&cursor=';--", '?q=a&cursor=AAAAAAAAAAAAAAAA', '?Q=a']) {
      const { status, body } = await call('GET', `/search${query}`)
      t.match({ status, code: body.code }, { status: 400, code: /^FST_/ }, query.slice(0, 40))
      t.notOk(JSON.stringify(body).includes('xxxx'), 'nothing is echoed')
    }
  })

  await t.test('in pages, each post once, the newest first', async t => {
    for (let i = 0; i < 7; i++) await post(`Paged ${i}`)
    const seen: string[] = []
    for (let cursor: string | null = null, pages = 0; pages === 0 || cursor !== null; pages++) {
      const { body } = await ask('paged', `&limit=3${cursor === null ? '' : `&cursor=${cursor}`}`)
      t.ok(body.items.length <= 3)
      seen.push(...body.items.map(({ title }: { title: string }) => title))
      cursor = body.nextCursor
      if (pages > 5) throw new Error('there is no end')
    }
    t.strictSame(seen, [6, 5, 4, 3, 2, 1, 0].map(i => `Paged ${i}`))
  })

  await t.test('ten a minute an address, whoever asks', async t => {
    const address = '192.0.2.77'
    for (let i = 0; i < 10; i++) t.equal((await call(i % 2 === 0 ? 'GET' : 'HEAD', '/search?q=x', { address })).status, 200)
    const refused = await call('GET', '/search?q=x', { address })
    t.equal(refused.status, 429)
    t.match(refused.body, { code: 'FST_BASTION_LIMITS_EXCEEDED', 'violated-policies': ['10/minute'] })
    t.match(refused.headers['x-ratelimit-limit'], '10')
    t.equal((await call('GET', '/search?q=x', { address, token: writer.token })).status, 429, 'signed in or not')
    t.equal((await call('GET', '/search?q=x', { address, headers: { 'x-forwarded-for': '203.0.113.5' } })).status, 429, 'whatever a header says')
    t.equal(refused.headers['retry-after'], '60')
    portal.pass(60_000)
    for (let i = 0; i < 10; i++) t.equal((await call('GET', '/search?q=x', { address })).status, 200, 'after a minute all ten are there again')
    t.equal((await call('GET', '/search?q=x', { address })).status, 429)
    t.equal((await call('GET', '/search?q=x', { address: '192.0.2.78', token: writer.token })).status, 200)
    t.equal((await call('GET', '/posts', { address })).status, 200)
    portal.pass(120_000)
    t.equal((await call('GET', '/search?q=x', { address })).status, 200)
  })
})

t.test('GET /ping', async t => {
  const portal = await buildOn(t, await freshDatabase(t), {}, undefined, { outbound })
  const { call, token } = portal
  const mona = await token('mona')
  const ping = async (host: string, bearer = mona) => {
    const answer = await call('GET', `/ping?host=${encodeURIComponent(host)}`, { token: bearer })
    portal.pass(5000) // of thirty a minute
    return answer
  }

  await t.test('wants tools:ping: moderators, managers and admins have it', async t => {
    programThat(t, 'process.exit(0)')
    t.equal((await call('GET', '/ping?host=127.0.0.1')).status, 401)
    for (const name of ['alice', 'bob', 'gus', 'nora', 'dora']) t.equal((await ping('127.0.0.1', await token(name))).status, 403, name)
    for (const name of ['mona', 'max', 'admin']) {
      const { status, body } = await ping('127.0.0.1', await token(name))
      t.equal(status, 200, name)
      t.strictSame(body, { host: '127.0.0.1', reachable: true })
    }
  })

  await t.test('the program is run once, without a shell, with an address that was checked and nothing else; it sees no secret', async t => {
    const program = programThat(t, 'process.exit(0)')
    for (const [host, addresses] of [['127.0.0.1', ['127.0.0.1']], ['::1', ['::1']], ['loop.example', ['127.0.0.1']], ['both.example', ['127.0.0.1', '::1']], ['localhost', ['127.0.0.1', '::1']]] as const) {
      t.strictSame((await ping(host)).body, { host, reachable: true })
      const calls = program.calls()
      t.strictSame(calls.map(({ args }) => args).sort(), addresses.map(address => ['-c', '1', '-W', '2', '--', address]), host)
      for (const { env } of calls) t.strictSame(env.filter(name => !/^__CF|^_$|^_TAPJS|^NODE_OPTIONS$/.test(name)).sort(), ['LC_ALL', 'PATH'])
    }
  })

  await t.test('a host that does not answer is not reachable; nor is one that nobody knows', async t => {
    const program = programThat(t, 'process.exit(1)')
    t.strictSame((await ping('127.0.0.1')).body, { host: '127.0.0.1', reachable: false })
    t.equal(program.calls().length, 1)
    t.strictSame((await ping('unknown.example')).body, { host: 'unknown.example', reachable: false })
    t.equal(program.calls().length, 0)
  })

  await t.test('a program that hangs, or talks without end, is ended', async t => {
    for (const [code, reachable] of [
      ['setTimeout(() => {}, 60_000)', false],
      ['process.on("SIGTERM", () => {}); setInterval(() => {}, 1000)', false],
      ['setInterval(() => { process.stdout.write("x".repeat(65536)) }, 1)', true], // that is no ping: asked otherwise
    ] as const) {
      const program = programThat(t, code)
      const since = performance.now()
      t.strictSame((await ping('127.0.0.1')).body, { host: '127.0.0.1', reachable }, code)
      t.ok(performance.now() - since < 10_000)
      for (const { pid } of program.calls()) t.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
    }
  })

  await t.test('where there is no such program, or one that may not send, a host that takes or refuses a connection is there', async t => {
    programThat(t, 'process.exit(2)')
    t.strictSame((await ping('127.0.0.1')).body, { host: '127.0.0.1', reachable: true })
    noProgram(t)
    t.strictSame((await ping('127.0.0.1')).body, { host: '127.0.0.1', reachable: true })
  })

  await t.test('attack: what is no hostname of RFC 1123 and no address is a 400, and runs nothing [ASVS 1.2.5] [ASVS 1.3.3]', async t => {
    const program = programThat(t, 'process.exit(0)')
    const marker = join(program.folder, 'marker')
    for (const host of [
      '', ' ', ';id', '127.0.0.1;id', '$(id)', `127.0.0.1;: >${marker}`, `$(: >${marker})`, `\`: >${marker}\``, `127.0.0.1|: >${marker}`, `127.0.0.1&&: >${marker}`, `127.0.0.1&: >${marker}`, `127.0.0.1\n: >${marker}`, `127.0.0.1\r\n: >${marker}`, `>${marker}`,
      '-c 1', '-c', '--help', '-f', '-w', '127.0.0.1 -c 100', '-c1 127.0.0.1', '127.0.0.1\n', '\n127.0.0.1', '127.0.0.1\t', '127.0.0.1\0', '127.0.0.1 ', ' 127.0.0.1', '127.0.0.1#', '127.0.0.1/', '127.0.0.1/24', '127.0.0.1:80', 'http://127.0.0.1', 'user@localhost',
      '127.1', '2130706433', '0x7f000001', '0177.0.0.1', '127.0.0.01', '127.0.0.256', '127.0.0', '127.0.0.1.', '1.2.3.4.5', '[::1]', '::1%lo', 'fe80::1%eth0', ':::', '1::2::3', '::ffff:127.0.0.256', 'g::1',
      '-localhost', 'localhost-', 'local..host', '.localhost', 'local_host', 'loc*lhost', '$HOME', '%s', '$' + '{IFS}', '{a,b}', '~', '*', "'", '"', '\\', 'ｌocalhost', '①②⑦.0.0.1', '127。0。0。1', 'bücher.example', `${'a'.repeat(64)}.example`, `${'a.'.repeat(127)}a`,
    ]) {
      const { status, body } = await ping(host)
      t.match({ status, code: body.code }, { status: 400, code: /^FST_BASTION_VALIDATION_(?:REFUSED|TEXT)$/ }, JSON.stringify(host))
    }
    for (const query of ['', '?host=127.0.0.1&host=127.0.0.2', '?host[]=127.0.0.1', '?host=127.0.0.1&count=9', '?host=%ff']) t.equal((await call('GET', `/ping${query}`, { token: mona })).status, 400, query)
    t.strictSame(program.calls(), [])
    t.notOk(existsSync(marker))
    const { execSync } = await import('node:child_process')
    execSync(`ping -c 1 127.0.0.1;: >${marker}`, { stdio: 'ignore' })
    t.ok(existsSync(marker), 'negative control: by a shell it runs')
  })

  await t.test('attack: private, link-local and metadata addresses are refused, by address and by name, and nothing is sent there [ASVS 1.3.6]', async t => {
    const program = programThat(t, 'process.exit(0)')
    for (const host of [
      '10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', '169.254.169.254', '100.64.0.1', '100.100.100.200', '0.0.0.0', '255.255.255.255', '224.0.0.1', '198.18.0.1', '192.0.2.1', '168.63.129.16',
      '::', 'fd00::1', 'fc00::1', 'fe80::1', 'ff02::1', 'fd00:ec2::254', '::ffff:10.0.0.1', '::ffff:a00:1', '::FFFF:127.0.0.1', '::10.0.0.1', '64:ff9b::a00:1', '64:ff9b::10.0.0.1', '2002:a00:1::', '2001:db8::1', '2001:0:1::1',
      'private.example', 'metadata.example', 'some.example', 'mapped.example',
    ]) {
      const { status, body } = await ping(host)
      t.match({ status, code: body.code, detail: body.detail }, { status: 400, code: 'FST_BASTION_OUTBOUND_REFUSED', detail: 'This address cannot be reached from here' }, host)
    }
    t.strictSame(program.calls(), [])
    t.match(portal.log.join(''), 'outbound_refused')
    t.equal((await ping('127.0.0.1')).body.reachable, true, 'the control: what may be reached is')
  })

  await t.test('attack: in production loopback is refused too', async t => {
    const program = programThat(t, 'process.exit(0)')
    const production = await buildOn(t, await freshDatabase(t), { NODE_ENV: 'production' }, undefined, { outbound })
    const bearer = await production.token('mona')
    for (const host of ['127.0.0.1', '127.255.255.254', '::1', '0:0:0:0:0:0:0:1', '::ffff:127.0.0.1', 'localhost', 'loop.example', 'both.example']) {
      const { status, body } = await production.call('GET', `/ping?host=${encodeURIComponent(host)}`, { token: bearer })
      t.match({ status, code: body.code }, { status: 400, code: 'FST_BASTION_OUTBOUND_REFUSED' }, host)
    }
    t.strictSame(program.calls(), [])
    t.equal((await ping('127.0.0.1')).status, 200, 'negative control: where somebody develops it is not')
  })

  await t.test('thirty a minute', async t => {
    programThat(t, 'process.exit(1)')
    portal.pass(120_000)
    const max = await token('max')
    const statuses = []
    for (let i = 0; i < 31; i++) statuses.push((await call('GET', '/ping?host=unknown.example', { token: max })).status)
    t.strictSame(statuses, [...Array(30).fill(200), 429])
    t.equal((await call('GET', '/ping?host=unknown.example', { token: await token('admin') })).status, 200, 'others have their own')
  })
})

/** A `ping` of ours, which notes how it was called: the only program that is found until the test ends. */
function programThat (t: Test, code: string) {
  const folder = noProgram(t)
  const notes = join(folder, 'calls')
  writeFileSync(join(folder, 'ping'), `#!${process.execPath}
require('node:fs').appendFileSync(${JSON.stringify(notes)}, JSON.stringify({ args: process.argv.slice(2), env: Object.keys(process.env), pid: process.pid }) + '\\n')
${code}
`)
  chmodSync(join(folder, 'ping'), 0o700)
  return {
    folder,
    /** Those since the last look. */
    calls (): { args: string[], env: string[], pid: number }[] {
      if (!existsSync(notes)) return []
      const lines = readFileSync(notes, 'utf8').trim().split('\n')
      rmSync(notes)
      return lines.map(line => JSON.parse(line))
    },
  }
}

/** A folder that stands for all folders of programs. */
function noProgram (t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'programs-'))
  const { PATH } = process.env
  process.env.PATH = folder
  t.teardown(() => {
    process.env.PATH = PATH
    rmSync(folder, { recursive: true, force: true })
  })
  return folder
}
