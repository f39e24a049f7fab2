/** Files that are served: what leaves, how, and all the names that lead elsewhere. */
import { linkSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { execFileSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { pathToFileURL } from 'node:url'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { dispositionOf, segmentsOf } from '../plugins/files.js'
import bastion, { server } from '../plugins/index.js'
import { closed } from '../schemas/index.js'
import { Type } from '@sinclair/typebox'
import fc from './fixtures/fast-check.js'

const TEXT = 'The quick brown fox jumps over the lazy dog.'
const SECRET = 'root:x:0:0'
const NAME = 'FST_BASTION_FILES_NAME'
const MISSING = 'FST_BASTION_FILES_NOT_FOUND'

async function build (t: Test) {
  const folder = mkdtempSync(join(tmpdir(), 'files-'))
  t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
  const root = join(folder, 'root')
  mkdirSync(join(root, 'inner/deep'), { recursive: true })
  mkdirSync(join(folder, 'root-beside'))
  for (const [path, text] of [['root/a.txt', TEXT], ['root/inner/deep/b.pdf', '%PDF-'], ['root/x.html', '<script>alert(1)</script>'], ['root/empty.txt', ''], ['root/.hidden', SECRET], ['secret.txt', SECRET], ['root-beside/c.txt', SECRET], ['root/100% safe.txt', TEXT]] as const) {
    writeFileSync(join(folder, path), text)
  }
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion, { files: { roots: { own: root } } })
  let handled = 0
  app.get('/files/*', { schema: { params: closed({ '*': Type.String() }) }, config: { access: 'public', answers: 'raw', limits: false } }, async (request, reply) => {
    handled += 1
    return app.files.send(request, reply, 'own', (request.params as { '*': string })['*'])
  })
  app.get('/note', { schema: { response: { 200: closed({ note: Type.String() }) } }, config: { access: 'public', limits: false } }, async () => ({ note: '<script>alert(1)</script>' }))
  // The control: what a service writes that has not thought of it.
  app.get('/naive/*', { schema: { params: closed({ '*': Type.String() }) }, config: { access: 'public', answers: 'raw', limits: false } }, async request => readFile(join(root, (request.params as { '*': string })['*'])))
  await app.ready()
  const get = async (url: string, headers: Record<string, string> = {}, method: 'GET' | 'HEAD' = 'GET') => {
    const answer = await app.inject({ method, url: `http://localhost${url}`, headers })
    const code = /problem/.test(String(answer.headers['content-type'])) && answer.body !== '' ? answer.json().code : undefined
    return { status: answer.statusCode, headers: answer.headers, body: answer.body, code }
  }
  return { app, folder, root, get, handled: () => handled }
}

t.test('a file is sent as an attachment, of a type that is known or none, and nothing sniffs at it [ASVS 3.2.1] [ASVS 5.3.1] [ASVS 5.4.1]', async t => {
  const { get } = await build(t)
  t.match(await get('/files/a.txt'), {
    status: 200, body: TEXT, headers: { 'content-type': 'text/plain; charset=utf-8', 'content-length': String(TEXT.length), 'content-disposition': 'attachment; filename="a.txt"', 'x-content-type-options': 'nosniff', 'accept-ranges': 'bytes', etag: /^"[\w-]{27}"$/ },
  })
  t.match(await get('/files/inner/deep/b.pdf'), { status: 200, headers: { 'content-type': 'application/pdf', 'content-disposition': 'attachment; filename="b.pdf"' } })
  t.match(await get('/files/x.html'), { status: 200, headers: { 'content-type': 'application/octet-stream', 'content-disposition': 'attachment; filename="x.html"', 'content-security-policy': /^default-src 'none';/, 'x-content-type-options': 'nosniff' } }, 'no page of ours')
  t.match(await get('/note'), { status: 200, body: /<script>/, headers: { 'content-type': 'application/json; charset=utf-8', 'content-security-policy': /^default-src 'none';/, 'x-content-type-options': 'nosniff' } }, 'nor is an answer for programs')
  t.match(await get('/files/empty.txt'), { status: 200, body: '', headers: { 'content-length': '0' } })
  t.match(await get('/files/100%25%20safe.txt'), { status: 200, body: TEXT })
})

t.test('negative control: a service that runs what it finds runs what was uploaded, and one that tells the type of a page shows it', async t => {
  const { root, get } = await build(t)
  const ran: string[] = []
  const programs = { 'shell.mjs': 'process.emit("ran-by-upload", "shell.mjs")', 'shell.cjs': 'process.emit("ran-by-upload", "shell.cjs")' }
  for (const [name, text] of Object.entries(programs)) writeFileSync(join(root, name), text)
  const note = (name: string) => { ran.push(name) }
  process.on('ran-by-upload' as never, note)
  t.teardown(() => process.off('ran-by-upload', note))
  for (const [name, body] of Object.entries(programs)) t.match(await get(`/files/${name}`), { status: 200, body, headers: { 'content-type': 'application/octet-stream', 'content-disposition': `attachment; filename="${name}"` } }, 'ours sends its text')
  t.strictSame(ran, [])

  const host = Fastify()
  t.teardown(() => host.close())
  host.get('/run/:name', async request => { await import(pathToFileURL(join(root, (request.params as { name: string }).name)).href); return 'ran' })
  host.get('/show/:name', async (request, reply) => reply.type('text/html').send(await readFile(join(root, (request.params as { name: string }).name))))
  for (const name of Object.keys(programs)) t.equal((await host.inject(`/run/${name}`)).statusCode, 200)
  t.strictSame(ran, Object.keys(programs))
  const { headers, body } = await host.inject('/show/x.html')
  t.match(body, '<script>')
  t.strictSame(['content-disposition', 'content-security-policy', 'x-content-type-options'].filter(name => headers[name] !== undefined), [], 'nothing keeps a browser from running it')
  t.match(headers['content-type'], 'text/html')
})

t.test('HEAD says what GET would, and sends nothing', async t => {
  const { get } = await build(t)
  const [whole, head] = [await get('/files/a.txt'), await get('/files/a.txt', {}, 'HEAD')]
  t.equal(head.status, 200)
  t.equal(head.body, '')
  for (const name of ['content-type', 'content-length', 'content-disposition', 'etag', 'accept-ranges']) t.equal(head.headers[name], whole.headers[name], name)
})

t.test('what the client has is not sent again', async t => {
  const { get, root } = await build(t)
  const { etag } = (await get('/files/a.txt')).headers as { etag: string }
  for (const tags of [etag, `W/${etag}`, `"other", ${etag}`, '*']) t.match(await get('/files/a.txt', { 'if-none-match': tags }), { status: 304, body: '', headers: { etag } }, tags)
  for (const tags of ['"other"', etag.slice(1, -1), '']) t.equal((await get('/files/a.txt', { 'if-none-match': tags })).status, 200, tags)
  writeFileSync(join(root, 'a.txt'), `${TEXT}!`)
  t.equal((await get('/files/a.txt', { 'if-none-match': etag })).status, 200, 'it changed')
})

t.test('ranges', async t => {
  const { get } = await build(t)
  const { etag } = (await get('/files/a.txt')).headers as { etag: string }
  const size = TEXT.length
  for (const [range, start, end] of [['bytes=0-0', 0, 0], ['bytes=4-8', 4, 8], ['bytes=40-', 40, size - 1], ['bytes=-4', size - 4, size - 1], ['bytes=0-99999', 0, size - 1], ['bytes=-99999', 0, size - 1], [`bytes=${size - 1}-${size - 1}`, size - 1, size - 1]] as const) {
    t.match(await get('/files/a.txt', { range }), { status: 206, body: TEXT.slice(start, end + 1), headers: { 'content-range': `bytes ${start}-${end}/${size}`, 'content-length': String(end - start + 1) } }, range)
  }
  for (const range of [`bytes=${size}-`, 'bytes=-0', 'bytes=999-1000', 'bytes=999999999999999-']) {
    t.match(await get('/files/a.txt', { range }), { status: 416, code: 'FST_BASTION_FILES_RANGE', headers: { 'content-range': `bytes */${size}` } }, range)
  }
  for (const range of ['bytes=5-2', 'bytes=-', 'bytes=a-b', 'items=0-1', '0-1', 'bytes=0-1,4-5', `bytes=${'0-,'.repeat(1000)}0-`, 'bytes=0x1-2', 'bytes=1e3-', '']) t.match(await get('/files/a.txt', { range }), { status: 200, body: TEXT }, `ignored: ${range.slice(0, 20)}`)
  t.equal((await get('/files/a.txt', { range: 'bytes=0-0', 'if-range': etag })).status, 206)
  t.equal((await get('/files/a.txt', { range: 'bytes=0-0', 'if-range': '"older"' })).status, 200)
  t.match(await get('/files/a.txt', { range: 'bytes=0-3' }, 'HEAD'), { status: 206, body: '', headers: { 'content-length': '4' } })
})

const TRAVERSALS = [
  '../secret.txt', '..%2fsecret.txt', '%2e%2e/secret.txt', '%2e%2e%2fsecret.txt', '%252e%252e%252fsecret.txt', '..%252fsecret.txt', '..%5csecret.txt', '..\\secret.txt', 'inner/../../secret.txt', 'inner%2f..%2f..%2fsecret.txt', '....//secret.txt',
  '..;/secret.txt', '.%00./secret.txt', '%2e%2e%00/secret.txt', 'a.txt%00.png', 'a.txt%0a', '/etc/passwd', '%2fetc%2fpasswd', '//etc/passwd', '../root-beside/c.txt', '..%2froot-beside%2fc.txt', '%c0%ae%c0%ae/secret.txt', '%uff0e%uff0e/secret.txt',
  'C:/windows/win.ini', 'C:%5cwindows', 'c:a.txt', 'a.txt::$DATA', 'a.txt:stream', 'CON', 'nul', 'NUL.txt', 'com1.log', 'LPT9', 'aux.', 'a.txt.', 'a.txt%20', 'a.txt%2e', '%20a.txt', '.hidden', '.', '..', '', 'inner/', 'inner//deep', 'inner/./deep/b.pdf', './a.txt',
  'a%E2%80%AE.txt', 'file:///etc/passwd', '~root/.bashrc', '%5c%5cserver%5cshare', '\\\\?\\C:\\x', '%2e', '%2e%2e', '..%2f', `${'a/'.repeat(40)}a`, 'a'.repeat(300), `${'x'.repeat(2000)}`, '*', '?', 'a%3Fb', '%3C%3E',
]

t.test('a name has one spelling: no other leads anywhere, out of the root least of all [ASVS 5.3.2]', async t => {
  const { get, app } = await build(t)
  await app.listen({ host: '127.0.0.1', port: 0 })
  t.match(await asWritten(app, '/naive/../secret.txt'), { status: 200, body: SECRET }, 'negative control: a route that joins root and name leaves the root')
  for (const name of TRAVERSALS) {
    const { status, body } = await asWritten(app, `/files/${name}`)
    t.ok([400, 404, 414].includes(status), `${name.slice(0, 40)}: ${status}`)
    t.notMatch(body, SECRET)
    const decoded = decodedOnce(name)
    const error = await app.files.open('own', decoded).then(async ({ handle }) => { await handle.close(); return null }, fault => fault)
    t.ok(error !== null && [NAME, MISSING].includes(error.code), `by itself: ${name.slice(0, 40)}: ${error?.code}`)
  }
  t.equal((await get('/files/nothing.txt')).code, MISSING)
  t.equal((await get('/files/inner')).code, MISSING, 'a folder')
  t.equal((await get('/files/a.txt/b')).code, MISSING, 'a file is no folder')
  await t.rejects(app.files.open('other', 'a.txt'), { code: 'FST_BASTION_FILES_MISCONFIGURED' })
  for (const odd of [undefined, null, 7, {}, ['a.txt']]) await t.rejects(app.files.open('own', odd as never), { code: NAME })
})

t.test('whatever the name, what is opened is in the root, under exactly that name', async t => {
  const { app, root } = await build(t)
  const piece = fc.constantFrom('..', '.', '/', '\\', '%2e', '%2f', 'a.txt', 'inner', 'deep', 'b.pdf', '\0', ' ', ':', 'CON', 'secret.txt', '~', '\u202E', '\uD800')
  await fc.assert(fc.asyncProperty(fc.oneof(fc.array(piece, { maxLength: 8 }).map(pieces => pieces.join('')), fc.string({ unit: 'binary', maxLength: 40 })), async name => {
    try {
      const { handle } = await app.files.open('own', name)
      await handle.close()
    } catch (error) {
      if (![NAME, MISSING].includes((error as { code: string }).code)) throw error
      return
    }
    if (join(root, name) !== `${root}/${name}` || !segmentsOf(name).every(segment => segment !== '..')) throw new Error(`opened ${JSON.stringify(name)}`)
  }), { numRuns: 2000 })
})

t.test('links lead nowhere: to files, to folders, to the root itself; nor do pipes and devices', async t => {
  const { get, root, folder } = await build(t)
  symlinkSync(join(folder, 'secret.txt'), join(root, 'link.txt'))
  symlinkSync(folder, join(root, 'up'))
  symlinkSync(join(root, 'inner'), join(root, 'within'))
  symlinkSync(join(root, 'a.txt'), join(root, 'same.txt'))
  symlinkSync('loop', join(root, 'loop'))
  symlinkSync('/dev/zero', join(root, 'zero'))
  execFileSync('mkfifo', [join(root, 'pipe')])
  t.match((await get('/naive/link.txt')).body, SECRET, 'the control')
  t.match((await get('/naive/up/secret.txt')).body, SECRET, 'the control')
  for (const name of ['link.txt', 'up/secret.txt', 'up/root/a.txt', 'within/deep/b.pdf', 'same.txt', 'loop', 'zero', 'pipe']) t.match(await get(`/files/${name}`), { status: 404, code: MISSING }, name)
})

t.test('a file or a folder that becomes a link between look and opening gives nothing away: 3000 times [ASVS 15.4.2]', async t => {
  const { app, root, folder } = await build(t)
  writeFileSync(join(root, 'race.txt'), TEXT)
  mkdirSync(join(root, 'dir'))
  mkdirSync(join(folder, 'outside'))
  writeFileSync(join(root, 'dir/race.txt'), TEXT)
  writeFileSync(join(folder, 'outside/race.txt'), SECRET)
  const done = new AbortController()
  const swap = async () => {
    while (!done.signal.aborted) {
      unlinkSync(join(root, 'race.txt'))
      symlinkSync(join(folder, 'secret.txt'), join(root, 'race.txt'))
      renameSync(join(root, 'dir'), join(root, 'aside'))
      symlinkSync(join(folder, 'outside'), join(root, 'dir'))
      await new Promise(resolve => { setImmediate(resolve) })
      unlinkSync(join(root, 'race.txt'))
      writeFileSync(join(root, 'race.txt'), TEXT)
      unlinkSync(join(root, 'dir'))
      renameSync(join(root, 'aside'), join(root, 'dir'))
      await new Promise(resolve => { setImmediate(resolve) })
    }
  }
  const swapping = swap()
  const seen = { text: 0, refused: 0, naive: 0 }
  for (let i = 0; i < 1500; i++) {
    for (const name of ['race.txt', 'dir/race.txt']) {
      const opened = await app.files.open('own', name).catch(() => null)
      if (opened === null) seen.refused += 1
      else {
        const text = await opened.handle.readFile('utf8')
        await opened.handle.close()
        if (text.includes(SECRET)) t.fail('it leaked')
        seen.text += 1
      }
    }
    if (i % 10 === 0 && (await readFile(join(root, 'dir/race.txt'), 'utf8').catch(() => '')).includes(SECRET)) seen.naive += 1
  }
  done.abort()
  await swapping
  t.ok(seen.text > 0 && seen.refused > 0, `opened ${seen.text} times, refused ${seen.refused} times`)
  t.ok(seen.naive > 0, `negative control: who opens what its name leads to reads the secret, ${seen.naive} times`)
})

t.test('names in headers: one line, quoted, and whole for those who read RFC 8187 [ASVS 5.4.2]', async t => {
  for (const [name, header] of [
    ['a.txt', 'attachment; filename="a.txt"'],
    ['Grüße.pdf', "attachment; filename=\"Gru_e.pdf\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe.pdf"],
    ['a"b.txt', "attachment; filename=\"a_b.txt\"; filename*=UTF-8''a%22b.txt"],
    ['a\r\nSet-Cookie: x=1.txt', "attachment; filename=\"a__Set-Cookie_ x=1.txt\"; filename*=UTF-8''a__Set-Cookie%3A%20x%3D1.txt"],
    ['../../x', 'attachment; filename=".._.._x"'],
    ["it's (1)*.txt", "attachment; filename=\"it_s (1)_.txt\"; filename*=UTF-8''it%27s%20%281%29%2A.txt"],
    ['漢字.png', "attachment; filename=\"__.png\"; filename*=UTF-8''%E6%BC%A2%E5%AD%97.png"],
    ['a\u202Egpj.exe', 'attachment; filename="a_gpj.exe"'],
    ['a\\b%41.txt', "attachment; filename=\"a_b_41.txt\"; filename*=UTF-8''a_b%2541.txt"],
  ] as const) t.equal(dispositionOf(name), header)
  fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 60 }), name => /^attachment; filename="[ !#-[\]-~]*"(?:; filename\*=UTF-8''[\w!#$&+.^`|~%-]*)?$/.test(dispositionOf(name))), { numRuns: 2000 })

  const evil = 'report.pdf"; filename*=UTF-8\'\'setup.exe; x="'
  t.equal(savedAs(dispositionOf(evil)), evil, 'it is one name')
  const bare = Fastify()
  t.teardown(() => bare.close())
  bare.get('/:name', async (request, reply) => reply.header('content-disposition', `attachment; filename="${(request.params as { name: string }).name}"`).send('x'))
  const { headers } = await bare.inject(`/${encodeURIComponent(evil)}`)
  t.equal(savedAs(String(headers['content-disposition'])), 'setup.exe', 'negative control: plain Fastify, with the header that people write, has it saved as a program')
})

t.test('misconfiguration stops boot', async t => {
  const { root, folder } = await build(t)
  for (const [options, message] of [
    [{}, /roots/], [{ roots: {} }, /roots/], [{ roots: { own: 'relative' } }, /roots\.own: must be an absolute path/], [{ roots: { own: join(root, 'none') } }, /roots\.own: is not there/], [{ roots: { own: join(folder, 'secret.txt') } }, /roots\.own: is no folder/],
    [{ roots: { own: '/' } }, /roots\.own: is no folder to serve/], [{ roots: { '../x': root } }, /roots/], [{ roots: { own: root }, dotfiles: 'allow' }, /dotfiles/],
  ] as const) {
    const app = Fastify({ logger: false })
    t.teardown(() => app.close())
    await t.rejects(async () => { await app.register(bastion, { files: options as never }); await app.ready() }, { code: 'FST_BASTION_FILES_MISCONFIGURED', message }, JSON.stringify(options))
  }
})

t.test('hard links are not told apart: who may write into the root may serve from it', async t => {
  const { get, root, folder } = await build(t)
  linkSync(join(folder, 'secret.txt'), join(root, 'hard.txt'))
  t.equal((await get('/files/hard.txt')).status, 200)
})

/** The name under which a browser saves it: the extended one comes first (RFC 6266, 4.3). */
function savedAs (header: string): string | undefined {
  const given = new Map([...header.matchAll(/; ([a-z]+\*?)=(?:"([^"]*)"|([^;]*))/g)].map(([, name, quoted, plain]) => [name, quoted ?? plain]))
  const extended = given.get('filename*')
  return extended === undefined ? given.get('filename') : decodeURIComponent(extended.replace(/^UTF-8''/i, ''))
}

/** Over a socket: a path of which no client of ours takes a segment away. */
function asWritten (app: FastifyInstance, path: string): Promise<{ status: number, body: string }> {
  return new Promise((resolve, reject) => {
    request({ host: '127.0.0.1', port: (app.server.address() as AddressInfo).port, path, headers: { host: 'localhost' }, agent: false }, async response => {
      resolve({ status: response.statusCode!, body: await text(response) })
    }).on('error', reject).end()
  })
}

/** Decoded once, as a route's parameter is. */
function decodedOnce (name: string): string {
  try {
    return decodeURIComponent(name)
  } catch {
    return name
  }
}
