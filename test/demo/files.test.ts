/** Files of the portal: who may put what into it, who gets it back, and what is left of them. What uploads and files do by themselves is tested there. */
import { createHash } from 'node:crypto'
import { createWriteStream, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import multipart from '@fastify/multipart'
import Fastify from 'fastify'
import sharp from 'sharp'
import t from 'tap'
import { QUOTA } from '../../demo/routes/files.js'
import { dial, until } from '../uploads/build.js'
import { docx, DOCX_TYPE, formOf, IMAGE_TYPES, pdf, picture, type Format, type Part } from '../uploads/forms.js'
import { build, buildOn, folderOf, freshDatabase } from './portal.js'

const MIB = 1_048_576
const DATA_DIR = folderOf(t)
const UPLOADS = join(DATA_DIR, 'uploads')
const portal = await build(t, { DATA_DIR })
const { call, newcomer, token, sql, app } = portal

const png = await picture('png')
const stored = () => readdirSync(UPLOADS)
const digest = (content: Buffer) => createHash('sha256').update(content).digest('hex')

/** Sends a form; by default a picture. */
async function send (bearer: string | undefined, parts: Part | readonly Part[] = { filename: 'a.png', type: 'image/png', content: png }, url = '/upload/image') {
  const { body, type } = formOf([parts].flat() as Part[])
  return call('POST', url, { ...bearer !== undefined && { token: bearer }, raw: body, type })
}
const sendDocument = (bearer: string | undefined, parts: Part = { filename: 'a.pdf', type: 'application/pdf', content: pdf() }) => send(bearer, parts, '/upload/document')

t.test('POST /upload/image takes jpeg, png, gif and webp, and says what it stored under which name', async t => {
  const { token: bearer } = await newcomer()
  for (const format of Object.keys(IMAGE_TYPES) as Format[]) {
    const { status, body, headers } = await send(bearer, { filename: `Hello.${format}`, type: IMAGE_TYPES[format], content: await picture(format, 64, 48) })
    t.equal(status, 201, format)
    t.strictSame(Object.keys(body).sort(), ['height', 'name', 'sha256', 'size', 'type', 'width'])
    t.match(body, { name: new RegExp(`^[0-9a-f]{32}\\.${format === 'jpeg' ? 'jpg' : format}$`), type: IMAGE_TYPES[format], width: 64, height: 48 })
    t.equal(headers['cache-control'], 'no-store')
    const kept = readFileSync(join(UPLOADS, body.name))
    t.equal(kept.length, body.size)
    t.equal(digest(kept), body.sha256)
  }
})

t.test('POST /upload/document takes pdf and docx', async t => {
  const { token: bearer } = await newcomer()
  for (const [filename, type, content] of [['a.pdf', 'application/pdf', pdf()], ['a.docx', DOCX_TYPE, docx()]] as const) {
    const { status, body } = await sendDocument(bearer, { filename, type, content })
    t.equal(status, 201, filename)
    t.strictSame(Object.keys(body).sort(), ['name', 'sha256', 'size', 'type'])
    t.match(body, { type, size: content.length, sha256: digest(content) })
  }
})

t.test('metadata is stripped: who made a picture, where and with what is in no answer and not on the disk', async t => {
  const { token: bearer } = await newcomer()
  const content = await sharp(await picture('jpeg')).withExif({ IFD0: { Artist: 'Ada of Nowhere Street', Copyright: 'Secret-Camera-7' }, IFD3: { GPSLatitude: '52/1 30/1 0/1', GPSLatitudeRef: 'N' } }).jpeg().toBuffer()
  t.ok(content.includes('Secret-Camera-7'), 'the control: it was there')
  const { status, body } = await send(bearer, { filename: 'a.jpg', type: 'image/jpeg', content })
  t.equal(status, 201)
  const kept = readFileSync(join(UPLOADS, body.name))
  for (const secret of ['Secret-Camera-7', 'Nowhere Street', 'Exif']) t.notOk(kept.includes(secret), secret)
  t.equal((await sharp(kept).metadata()).exif, undefined)
})

t.test('each refusal has its status, and leaves nothing', async t => {
  const { token: bearer } = await newcomer()
  const before = stored()
  const image = (more: Partial<Part>) => send(bearer, { filename: 'a.png', type: 'image/png', content: png, ...more })
  const document = (more: Partial<Part>) => sendDocument(bearer, { filename: 'a.pdf', type: 'application/pdf', content: pdf(), ...more })
  for (const [what, answer, status, code] of [
    ['nobody', send(undefined), 401, 'FST_BASTION_ACCESS_UNAUTHENTICATED'],
    ['nobody, a document', sendDocument(undefined), 401, 'FST_BASTION_ACCESS_UNAUTHENTICATED'],
    ['no form', call('POST', '/upload/image', { token: bearer, body: {} }), 415, /^FST_/],
    ['no file', send(bearer, []), 400, 'FST_BASTION_UPLOADS_MALFORMED'],
    ['another field', image({ name: 'image' }), 400, 'FST_BASTION_UPLOADS_MALFORMED'],
    ['two files', send(bearer, [1, 2].map(i => ({ filename: `${i}.png`, type: 'image/png', content: png }))), 400, 'FST_BASTION_UPLOADS_MALFORMED'],
    ['another extension', image({ filename: 'a.jpg' }), 415, 'FST_BASTION_UPLOADS_TYPE'],
    ['a script', image({ filename: 'a.php' }), 415, 'FST_BASTION_UPLOADS_TYPE'],
    ['SVG', image({ filename: 'a.svg', type: 'image/svg+xml', content: '<svg xmlns="http://www.w3.org/2000/svg"/>' }), 415, 'FST_BASTION_UPLOADS_TYPE'],
    ['another declared type', image({ type: 'image/gif' }), 415, 'FST_BASTION_UPLOADS_TYPE'],
    ['another content', image({ content: await picture('gif') }), 415, 'FST_BASTION_UPLOADS_TYPE'],
    ['a document as an image', image({ filename: 'a.pdf', type: 'application/pdf', content: pdf() }), 415, 'FST_BASTION_UPLOADS_TYPE'],
    ['an image as a document', document({ filename: 'a.png', type: 'image/png', content: png }), 415, 'FST_BASTION_UPLOADS_TYPE'],
    ['half a picture', image({ content: png.subarray(0, png.length / 2) }), 400, 'FST_BASTION_UPLOADS_CONTENT'],
    ['too wide', image({ content: await flat(4001, 10) }), 400, 'FST_BASTION_UPLOADS_CONTENT'],
    ['too high', image({ content: await flat(10, 4001) }), 400, 'FST_BASTION_UPLOADS_CONTENT'],
    ['an image over 5 MiB', image({ content: Buffer.concat([png, Buffer.alloc(5 * MIB)]) }), 413, 'FST_BASTION_UPLOADS_TOO_LARGE'],
    ['a document over 10 MiB', document({ content: Buffer.concat([pdf(), Buffer.alloc(10 * MIB)]) }), 413, 'FST_BASTION_UPLOADS_TOO_LARGE'],
    ['a document that runs something', document({ content: pdf({ catalog: '/OpenAction<</S/JavaScript/JS(app.alert(1))>>' }) }), 400, 'FST_BASTION_UPLOADS_ACTIVE'],
    ['a document with macros', document({ filename: 'a.docx', type: DOCX_TYPE, content: docx([{ name: 'word/vbaProject.bin', content: 'x' }]) }), 400, 'FST_BASTION_UPLOADS_ACTIVE'],
  ] as const) {
    const { status: got, body } = await answer
    t.match({ status: got, code: body.code }, { status, code }, what)
  }
  t.strictSame(stored(), before)
  t.equal((await send(bearer, { filename: 'a.png', type: 'image/png', content: await flat(4000, 4000) })).status, 201, 'the control: as large as it may be')
})

t.test('a file comes back to its owner, as an attachment that nothing sniffs at, by both ways', async t => {
  const { token: bearer } = await newcomer()
  const { body: { name, size } } = await send(bearer, { filename: 'Mein Fötö.png', type: 'image/png', content: png })
  const kept = readFileSync(join(UPLOADS, name))
  for (const url of [`/files/${name}`, `/download/${name}`]) {
    const answer = await app.inject({ url, headers: { host: 'localhost:3000', authorization: `Bearer ${bearer}` } })
    t.equal(answer.statusCode, 200, url)
    t.ok(answer.rawPayload.equals(kept))
    t.match(answer.headers, {
      'content-type': 'image/png',
      'content-length': String(size),
      'x-content-type-options': 'nosniff',
      'cache-control': 'no-store',
      'content-disposition': /^attachment; filename="Mein F.+\.png"; filename\*=UTF-8''Mein%20F.+\.png$/,
      'content-security-policy': /default-src 'none'/,
      'cross-origin-resource-policy': 'same-origin',
    })
    const head = await call('HEAD', url, { token: bearer })
    t.match(head, { status: 200, headers: { 'content-length': String(size), 'content-type': 'image/png' } })
    const part = await call('GET', url, { token: bearer, headers: { range: 'bytes=0-7' } })
    t.match(part, { status: 206, headers: { 'content-length': '8', 'content-range': `bytes 0-7/${size}` } })
    t.equal((await call('GET', url, { token: bearer, headers: { range: `bytes=${size}-` } })).status, 416)
    t.equal((await call('GET', url, { token: bearer, headers: { 'if-none-match': String(answer.headers.etag) } })).status, 304)
  }
})

t.test('attack: to everybody else, admins too, a foreign file is as missing as one that is missing [OWASP API1] [ASVS 8.2.2]', async t => {
  const owner = await newcomer()
  const { body: { name } } = await send(owner.token)
  for (const url of [`/files/${name}`, `/download/${name}`]) {
    t.equal((await call('GET', url)).status, 401)
    for (const who of ['bob', 'mona', 'max', 'dora', 'gus', 'admin']) {
      const bearer = await token(who)
      for (const method of ['GET', 'HEAD']) {
        const foreign = await call(method, url, { token: bearer })
        const missing = await call(method, url.replace(name, `${'0'.repeat(32)}.png`), { token: bearer })
        t.equal(foreign.status, 404, `${who}: ${method} ${url}`)
        if (method === 'GET') t.strictSame({ ...foreign.body, requestId: '' }, { ...missing.body, requestId: '' })
        t.strictSame(Object.keys(foreign.headers).sort(), Object.keys(missing.headers).sort())
      }
    }
    t.equal((await call('GET', url, { token: owner.token })).status, 200, 'while its owner has it')
  }
})

t.test('GET /files has one\'s own, and DELETE ends one: its record, and what lies in the folder [OWASP API1]', async t => {
  const [owner, stranger] = [await newcomer(), await newcomer()]
  const { body: one } = await send(owner.token, { filename: 'Mein Fötö.png', type: 'image/png', content: png })
  const { body: two } = await sendDocument(owner.token)
  const { body: foreign } = await send(stranger.token)
  const list = async (bearer: string) => (await call('GET', '/files', { token: bearer })).body
  t.match(await list(owner.token), { items: [{ ...one, originalName: 'Mein Fötö.png', createdAt: /Z$/ }, { ...two, originalName: 'a.pdf' }], nextCursor: null })
  t.strictSame(Object.keys((await list(owner.token)).items[0]).sort(), ['createdAt', 'height', 'name', 'originalName', 'sha256', 'size', 'type', 'width'])
  t.equal((await list(await token('admin'))).items.some(({ name }: { name: string }) => name === one.name), false, 'nor do admins see it')

  await t.test('attack: nobody else ends it, to whom it is as missing as one that is missing', async t => {
    for (const who of ['bob', 'mona', 'admin']) {
      const bearer = await token(who)
      const answers = await Promise.all([one.name, `${'0'.repeat(32)}.png`].map(name => call('DELETE', `/files/${name}`, { token: bearer })))
      t.strictSame(answers.map(({ status }) => status), [404, 404], who)
      t.strictSame({ ...answers[0]!.body, requestId: '' }, { ...answers[1]!.body, requestId: '' })
    }
    t.equal((await call('DELETE', `/files/${one.name}`)).status, 401)
    for (const odd of ['..%2fsecret.txt', '%2e%2e%2fapp-secret', `.%2f${one.name}`, `${one.name}%00`, '*', '%25', 'a'.repeat(201)]) {
      t.ok([400, 404, 414].includes((await call('DELETE', `/files/${odd}`, { token: owner.token })).status), odd)
    }
    t.ok([one, two, foreign].every(({ name }) => stored().includes(name)))
  })

  t.equal((await call('DELETE', `/files/${one.name}`, { token: owner.token })).status, 204)
  t.notOk(stored().includes(one.name))
  t.strictSame((await list(owner.token)).items.map(({ name }: { name: string }) => name), [two.name])
  t.equal((await call('GET', `/files/${one.name}`, { token: owner.token })).status, 404)
  t.equal((await call('DELETE', `/files/${one.name}`, { token: owner.token })).status, 404)
  t.equal((await list(stranger.token)).items.length, 1, 'others keep theirs')
})

t.test('attack: names that lead elsewhere are 400 or 404, over a socket, as they are written [ASVS 5.3.2]', async t => {
  const { token: bearer } = await newcomer()
  const { body: { name } } = await send(bearer)
  writeFileSync(join(DATA_DIR, 'secret.txt'), 'outside of the folder')
  writeFileSync(join(UPLOADS, 'unrecorded.txt'), 'nobody has it')
  mkdirSync(join(UPLOADS, 'folder'), { recursive: true })
  const link = `${'e'.repeat(32)}.png`
  symlinkSync(join(DATA_DIR, 'secret.txt'), join(UPLOADS, link))
  await sql.query("insert into uploads (id, owner, bytes, name, type, sha256, original_name) select $1, owner, 1, $1, 'image/png', '', 'a.png' from uploads where name = $2", [link, name])
  t.teardown(async () => { await sql.query('delete from uploads where name = $1', [link]) })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const ask = (path: string) => new Promise<{ status: number, body: string }>((resolve, reject) => {
    request({ host: '127.0.0.1', port, path, headers: { host: 'localhost:3000', authorization: `Bearer ${bearer}` }, agent: false }, async response => {
      resolve({ status: response.statusCode!, body: await text(response) })
    }).on('error', reject).end()
  })
  for (const root of ['/files/', '/download/']) {
    for (const rest of [
      '../secret.txt', '..%2fsecret.txt', '%2e%2e/secret.txt', '%2e%2e%2fsecret.txt', '%252e%252e%252fsecret.txt', '..%252fsecret.txt', '..%5csecret.txt', '..\\secret.txt', '....//secret.txt', '..;/secret.txt', '..%00/secret.txt', './secret.txt', `x/../${name}`,
      '../../../../../../etc/passwd', '%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd', '/etc/passwd', '%2fetc%2fpasswd', '//etc/passwd', 'file:///etc/passwd', `${name}%00`, `${name}%00.txt`, `%00${name}`, `${name}/`, `./${name}`, `${name}/.`, `${name}.`, `${name}%20`, `${name}::$DATA`, name.toUpperCase(),
      '..%c0%af', '%c0%ae%c0%ae%c0%afsecret.txt', '%uff0e%uff0e/secret.txt', '%ff', 'CON', 'nul.png', 'aux', 'COM1', '~', '.', '..', '.env', '%2e', '*', 'unrecorded.txt', 'folder', 'folder/', link, 'database/', '../lock', '../app-secret', 'a'.repeat(300), '%', '%zz', 'constructor', '__proto__', "' or '1'='1", `${name}' --`,
    ]) {
      const path = `${root}${rest}`.replaceAll(' ', '%20')
      const { status, body } = await ask(path)
      t.ok([400, 404, 414].includes(status), `${path.slice(0, 80)}: ${status}`)
      t.notMatch(body, /outside of the folder|nobody has it|root:/)
    }
    t.equal((await ask(`${root}${name}`)).status, 200, 'while its own name leads to it')
  }
})

t.test('a Content-Length of 10 GB is refused at once; cut off at several stages, uploads leave nothing [TRAP 17] [ASVS 5.2.1]', async t => {
  const { access_token: bearer, id } = await newcomer()
  if (!app.server.listening) await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const headOf = (url: string, type: string, length: number) => [`POST ${url} HTTP/1.1`, 'Host: localhost:3000', `Authorization: Bearer ${bearer}`, `Content-Type: ${type}`, `Content-Length: ${length}`, '', ''].join('\r\n')
  const before = stored()
  for (const url of ['/upload/image', '/upload/document']) {
    const since = performance.now()
    const { socket, answer } = await dial(t, port)
    socket.write(headOf(url, 'multipart/form-data; boundary=b', 10_000_000_000))
    const told = await answer
    t.match(told, /^HTTP\/1\.1 413 [^]*FST_BASTION_UPLOADS_TOO_LARGE/)
    t.match(told, /x-content-type-options: nosniff/i)
    t.ok(performance.now() - since < 2000, `${Math.round(performance.now() - since)} ms`)
  }
  for (const [url, part] of [['/upload/image', { filename: 'a.png', type: 'image/png', content: await picture('png', 300, 300) }], ['/upload/document', { filename: 'a.docx', type: DOCX_TYPE, content: docx() }]] as const) {
    const { body, type } = formOf([part])
    for (const stage of [0, 1, 60, 150, Math.floor(body.length / 2), body.length - 20, body.length - 1]) {
      const { socket, answer } = await dial(t, port)
      socket.write(Buffer.concat([Buffer.from(headOf(url, type, body.length)), body.subarray(0, stage)]))
      await new Promise(resolve => { setTimeout(resolve, 10) })
      socket.destroy()
      await answer
    }
  }
  // What was sent before a socket was cut may be read a moment after it.
  let quiet = 0
  t.ok(await until(() => (quiet = stored().length === before.length ? quiet + 1 : 0) > 20), `${stored().length - before.length} left`)
  t.strictSame(stored().sort(), before.sort())
  const reserved = async () => (await sql.query('select 1 from uploads where owner = $1', [id])).length
  for (let i = 0; i < 100 && await reserved() > 0; i++) await new Promise(resolve => { setTimeout(resolve, 10) })
  t.equal(await reserved(), 0, 'nor is room taken for them')
})

t.test('a user has room for so many files and bytes, and uploads at once do not have more [ASVS 5.2.4]', async t => {
  const person = await newcomer()
  const fill = async (files: number, bytes: number) => sql.query(
    "insert into uploads (id, owner, bytes, name, type, sha256, original_name) select 'fill-' || n, $1, $3::bigint, 'fill-' || n, 'image/png', '', 'a.png' from generate_series(1, $2::int) as n", [person.id, files, bytes])
  await fill(QUOTA.files - 2, 1)
  const statuses = (await Promise.all(Array.from({ length: 6 }, () => send(person.token)))).map(({ status }) => status).sort()
  t.strictSame(statuses, [201, 201, 413, 413, 413, 413])
  t.match((await send(person.token)).body, { code: 'FST_BASTION_UPLOADS_QUOTA' })
  t.equal((await sql.query('select 1 from uploads where owner = $1', [person.id])).length, QUOTA.files)
  await sql.query("delete from uploads where owner = $1 and name like 'fill-%'", [person.id])
  await fill(1, QUOTA.bytes - 1000)
  t.match(await sendDocument(person.token), { status: 413, body: { code: 'FST_BASTION_UPLOADS_QUOTA' } }, 'by bytes')
  t.equal((await send((await newcomer()).token)).status, 201, 'others have their own')
})

t.test('negative control: the official plugin, as its documentation shows it, takes and keeps as many as one sends', async t => {
  const folder = folderOf(t)
  const official = Fastify()
  t.teardown(() => official.close())
  await official.register(multipart)
  official.post('/', async request => {
    const data = await request.file()
    await pipeline(data!.file, createWriteStream(join(folder, data!.filename)))
    return 'kept'
  })
  for (let i = 0; i < QUOTA.files + 5; i++) {
    const { body, type } = formOf([{ filename: `${i}.png`, type: 'image/png', content: png }])
    await official.inject({ method: 'POST', url: '/', headers: { 'content-type': type }, payload: body })
  }
  t.equal(readdirSync(folder).length, QUOTA.files + 5)
})

t.test('files are in the export, and are gone with the account: their records, and what lies in the folder', async t => {
  const person = await newcomer()
  const { body: one } = await send(person.token, { filename: 'Holiday.png', type: 'image/png', content: png })
  const { body: two } = await sendDocument(person.token)
  const { body } = await call('GET', '/users/me/export', { token: person.token })
  t.match(body.files, [{ ...one, originalName: 'Holiday.png', createdAt: /Z$/ }, { ...two, originalName: 'a.pdf' }])
  t.ok([one, two].every(({ name }) => stored().includes(name)))
  t.equal((await call('DELETE', '/users/me', { token: person.token })).status, 204)
  t.notOk([one, two].some(({ name }) => stored().includes(name)))
  t.equal((await sql.query('select 1 from uploads where owner = $1', [person.id])).length, 0)
  const other = await newcomer()
  const { body: third } = await send(other.token)
  t.equal((await call('DELETE', `/users/${other.id}`, { token: await token('admin') })).status, 204)
  t.notOk(stored().includes(third.name), 'also where an admin deletes the account')
})

t.test('at the next start what nobody finished is gone, and what is stored is there', async t => {
  const database = await freshDatabase(t)
  const folder = folderOf(t)
  const first = await buildOn(t, database, { DATA_DIR: folder })
  const person = await first.newcomer()
  const { body: form, type } = formOf([{ filename: 'a.png', type: 'image/png', content: png }])
  const { body: { name } } = await first.call('POST', '/upload/image', { token: person.token, raw: form, type })
  await first.app.close()
  const machine = Buffer.from(hostname()).toString('hex').slice(0, 32)
  writeFileSync(join(folder, 'uploads', `.draft-${machine}-4194304-${'0'.repeat(32)}`), 'half a picture')
  const second = await buildOn(t, database, { DATA_DIR: folder })
  t.strictSame(readdirSync(join(folder, 'uploads')), [name])
  t.equal((await second.call('GET', `/files/${name}`, { token: await second.token(person.username, 'Newcomer-pass-1') })).status, 200)
})

/** A picture of one colour: large in pixels, small in bytes. */
async function flat (width: number, height: number): Promise<Buffer> {
  return sharp({ create: { width, height, channels: 3, background: '#336699' } }).png().toBuffer()
}
