/** One file a request: what is taken, and what is refused before anybody looks into it. */
import { createHash } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import multipart from '@fastify/multipart'
import Fastify from 'fastify'
import sharp from 'sharp'
import t from 'tap'
import bastion from '../../plugins/index.js'
import uploads from '../../plugins/uploads/index.js'
import { noBody } from '../../schemas/index.js'
import { build, CODES, folderOf, MIB } from './build.js'
import { docx, DOCX_TYPE, formOf, IMAGE_TYPES, pdf, picture, type Format, type Part } from './forms.js'

const FORMATS = Object.keys(IMAGE_TYPES) as Format[]
const EXTENSIONS: Record<Format, string> = { jpeg: 'jpg', png: 'png', gif: 'gif', webp: 'webp' }

t.test('an image of each kind is stored under a name of ours, as its own bytes say [ASVS 5.2.2] [ASVS 5.3.2]', async t => {
  const { send, folder, stored, events } = await build(t)
  for (const format of FORMATS) {
    const { status, body } = await send('/image', { filename: `Ünder the sea.${EXTENSIONS[format]}`, type: IMAGE_TYPES[format], content: await picture(format, 60, 20) })
    t.equal(status, 201, format)
    t.match(body, { type: IMAGE_TYPES[format], width: 60, height: 20, originalName: `Ünder the sea.${EXTENSIONS[format]}` })
    t.match(body.name, new RegExp(`^[0-9a-f]{32}\\.${EXTENSIONS[format]}$`))
    const bytes = readFileSync(join(folder, body.name))
    t.equal(body.size, bytes.length)
    t.equal(body.sha256, createHash('sha256').update(bytes).digest('hex'))
    t.equal((await sharp(bytes).metadata()).format, format)
    t.equal(statSync(join(folder, body.name)).mode & 0o777, 0o600)
  }
  t.equal(stored().length, FORMATS.length, 'and nothing else is left')
  t.equal(events.filter(({ type }) => type === 'upload_stored').length, FORMATS.length)
})

t.test('documents are stored as they came', async t => {
  const { send, folder } = await build(t)
  for (const [content, filename, type] of [[pdf(), 'a.pdf', 'application/pdf'], [docx(), 'a.DOCX', DOCX_TYPE]] as const) {
    const { status, body } = await send('/document', { filename, type, content })
    t.equal(status, 201, filename)
    t.strictSame(readFileSync(join(folder, body.name)), content)
    t.notOk('width' in body)
  }
})

t.test('a file that nobody saves is gone with the answer: the handler failed, or forgot it', async t => {
  const { send, stored, handled } = await build(t)
  const part = { filename: 'a.png', type: 'image/png', content: await picture('png') }
  t.equal((await send('/image', part, { 'x-handler': 'fails' })).status, 500)
  t.equal((await send('/image', part, { 'x-handler': 'forgets' })).status, 201)
  t.equal(handled(), 2)
  await new Promise(resolve => { setTimeout(resolve, 50) })
  t.strictSame(stored(), [])
})

t.test('extension, declared type and content agree, or the file is a 415: in every combination [ASVS 5.2.2]', async t => {
  const { send, stored, handled } = await build(t)
  const contents = new Map<string, Buffer>([['gif', await picture('gif')], ['jpg', await picture('jpeg')], ['png', await picture('png')], ['webp', await picture('webp')],
    ['txt', Buffer.from('hello')], ['svg', Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')], ['exe', Buffer.from('MZ\x90\x00')]])
  const types = ['image/jpeg', 'image/png', 'image/gif', 'image/webp', 'image/svg+xml', 'application/octet-stream', 'text/plain', undefined]
  let taken = 0
  for (const extension of ['jpg', 'png', 'gif', 'webp', 'svg', 'php', 'exe', '']) {
    for (const type of types) {
      for (const [kind, content] of contents) {
        const format = FORMATS.find(name => EXTENSIONS[name] === extension)
        const agree = format !== undefined && IMAGE_TYPES[format] === type && EXTENSIONS[format] === kind
        const { status, code } = await send('/image', { filename: `a${extension === '' ? '' : `.${extension}`}`, ...type !== undefined && { type }, content })
        if (agree) taken += 1
        else if (status !== 415 || code !== CODES.type) t.fail(`${extension} ${type} ${kind}: ${status} ${code}`)
      }
    }
  }
  t.equal(taken, 4)
  t.equal(handled(), 4)
  t.equal(stored().length, 4)
  for (const [url, part] of [
    ['/document', { filename: 'a.docx', type: DOCX_TYPE, content: pdf() }], ['/document', { filename: 'a.pdf', type: 'application/pdf', content: docx() }], ['/document', { filename: 'a.pdf', type: DOCX_TYPE, content: pdf() }],
    ['/document', { filename: 'a.png', type: 'image/png', content: contents.get('png')! }], ['/image', { filename: 'a.pdf', type: 'application/pdf', content: pdf() }],
  ] as const) t.equal((await send(url, part)).status, 415, part.filename)
})

t.test('names that clients give open nothing, and are kept as clean text [ASVS 5.3.2] [ASVS 5.4.2]', async t => {
  const { send, stored } = await build(t)
  const content = await picture('png', 8, 8)
  for (const [filename, kept] of [
    ['../../etc/passwd.png', 'passwd.png'], ['..\\\\..\\\\windows\\\\a.png', 'a.png'], ['/etc/cron.d/x.png', 'x.png'], ['C:\\\\x.png', 'x.png'], ['<img src=x onerror=alert(1)>.png', '<img src=x onerror=alert(1)>.png'],
    ['shell.php.png', 'shell.php.png'], [`${'x'.repeat(400)}.png`, `${'x'.repeat(196)}.png`], ['a\u202Egpj.png', 'agpj.png'], ['  spaces   everywhere .png', 'spaces everywhere .png'], ['.htaccess.png', 'htaccess.png'], ['e\u0301.png', 'é.png'],
  ] as const) {
    const { status, body } = await send('/image', { filename, type: 'image/png', content })
    t.equal(status, 201, filename)
    t.equal(body.originalName, kept)
    t.match(body.name, /^[0-9a-f]{32}\.png$/)
  }
  for (const filename of ['a.php\0.png', 'a.png\u0007', 'a.png\u009B']) t.match(await send('/image', { filename, type: 'image/png', content }), { status: 400, code: CODES.malformed }, JSON.stringify(filename))
  for (const filename of ['a.png.', 'a.png ', 'png', '.png', 'a.png/', 'a.png::$DATA', 'a.p%6eg']) t.ok([400, 415].includes((await send('/image', { filename, type: 'image/png', content })).status), filename)
  t.ok(stored().every(name => /^[0-9a-f]{32}\.png$/.test(name)))
})

t.test('one file in its field, and nothing else: all other forms are a 400', async t => {
  const { send, stored, handled, app } = await build(t)
  const file: Part = { filename: 'a.png', type: 'image/png', content: await picture('png') }
  const field: Part = { name: 'title', content: 'x' }
  for (const [what, parts] of Object.entries<Part[]>({
    'no part': [],
    'a field alone': [field],
    'a field before': [field, file],
    'a field after': [file, field],
    'two files': [file, { ...file, filename: 'b.png' }],
    'two files in other fields': [file, { ...file, name: 'other' }],
    'another field': [{ ...file, name: 'picture' }],
    'a file without a name': [{ ...file, filename: '' }],
    'a field of that name': [{ name: 'file', content: 'x' }],
    'many fields': Array.from({ length: 50 }, (_none, i) => ({ name: `f${i}`, content: 'x' })),
    'many files': Array.from({ length: 50 }, () => file),
  })) t.match(await send('/image', parts), { status: 400, code: CODES.malformed }, what)
  for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'valueOf', 'prototype', 'file.__proto__', 'file[]', 'FILE']) {
    t.match(await send('/image', [{ ...file, name }]), { status: 400, code: CODES.malformed }, `${name} [ASVS 15.3.6]`)
    t.match(await send('/image', [file, { name, content: 'x' }]), { status: 400, code: CODES.malformed }, `${name} beside it`)
  }
  t.equal(({} as Record<string, unknown>).filename, undefined)
  const { body } = formOf([file])
  for (const type of ['multipart/form-data', 'multipart/form-data; boundary=', 'multipart/form-data; boundary=other', `multipart/form-data; boundary=${'x'.repeat(300)}`]) {
    const answer = await app.inject({ method: 'POST', url: 'http://localhost/image', headers: { 'content-type': type, 'x-user': 'ada' }, payload: body })
    t.equal(answer.statusCode, 400, type.slice(0, 50))
  }
  for (const type of ['application/json', 'text/plain', 'multipart/mixed; boundary=x', 'application/x-www-form-urlencoded', 'image/png']) {
    t.equal((await app.inject({ method: 'POST', url: 'http://localhost/image', headers: { 'content-type': type, 'x-user': 'ada' }, payload: body })).statusCode, 415, type)
  }
  t.equal((await app.inject({ method: 'POST', url: 'http://localhost/image', headers: { 'x-user': 'ada' } })).statusCode >= 400, true, 'nothing at all')
  t.equal(handled(), 0)
  t.strictSame(stored(), [])
})

t.test('a file over its limit is a 413, always: where the official plugin, as it is documented, truncates it and answers 200 [TRAP 17] [TRAP 32] [ASVS 5.2.1]', async t => {
  const limit = 100_000
  const official = Fastify()
  t.teardown(() => official.close())
  await official.register(multipart, { limits: { fileSize: limit }, throwFileSizeLimit: false })
  let got = 0
  official.post('/', async request => {
    const data = await request.file()
    for await (const chunk of data!.file) got += chunk.length
    return { ok: true }
  })
  const large = formOf([{ filename: 'a.pdf', type: 'application/pdf', content: Buffer.concat([pdf(), Buffer.alloc(2 * limit, 32)]) }])
  t.equal((await official.inject({ method: 'POST', url: '/', headers: { 'content-type': large.type }, payload: large.body })).statusCode, 200, 'the control: truncated, and taken')
  t.equal(got, limit)

  const { send, stored, handled } = await build(t, {}, { '/document': { kinds: ['pdf'], maxBytes: limit } })
  const whole = pdf()
  const padded = (size: number) => pdf({ objects: [`(${'x'.repeat(size - pdf({ objects: [`(${'x'.repeat(limit - 500)})`] }).length + limit - 500)})`] })
  t.equal((await send('/document', { filename: 'a.pdf', type: 'application/pdf', content: whole })).status, 201)
  const exact = padded(limit)
  t.equal(exact.length, limit)
  t.equal((await send('/document', { filename: 'a.pdf', type: 'application/pdf', content: exact })).status, 201, 'the last byte that fits')
  for (let i = 0; i < 20; i++) {
    const size = [limit + 1, limit + 2, limit + 1000, limit + 16_000, limit + 64_000, 5 * limit, 20 * limit][i % 7]!
    const content = Buffer.concat([whole, Buffer.alloc(size - whole.length, 32)])
    t.match(await send('/document', { filename: 'a.pdf', type: 'application/pdf', content }), { status: 413, code: CODES.tooLarge }, `${size} bytes`)
  }
  t.equal(handled(), 2)
  t.equal(stored().length, 2)
})

t.test('who may not is refused before a byte of the form is read', async t => {
  const { app, stored } = await build(t)
  const { body, type } = formOf([{ filename: 'a.png', type: 'image/png', content: await picture('png') }])
  t.equal((await app.inject({ method: 'POST', url: 'http://localhost/image', headers: { 'content-type': type }, payload: body })).statusCode, 401)
  t.strictSame(stored(), [])
})

t.test('what a route takes stands in the plan, and so in the posture report', async t => {
  const { app } = await build(t)
  const route = app.posture().routes.find(({ url }) => url === '/image')!
  t.match(route.controls.uploads, { field: 'file', kinds: ['jpeg', 'png', 'gif', 'webp'], maxBytes: 5 * MIB, maxWidth: 4000, maxHeight: 4000, maxPixels: 16_000_000, scanned: false, quota: null })
  t.match(route.controls.validation, { mediaTypes: ['multipart/form-data'] })
  t.ok(route.order.indexOf('csrf:uploads') > route.order.findIndex(step => step.startsWith('authorize:access')))
})

t.test('beside @fastify/multipart, where a service has registered it itself', async t => {
  const app = Fastify({ logger: false })
  t.teardown(() => app.close())
  await app.register(multipart, { throwFileSizeLimit: false })
  await app.register(bastion, { uploads: { folder: folderOf(t) } })
  app.post('/', { schema: { response: { 200: { type: 'object', additionalProperties: false, properties: { name: { type: 'string' } } } } }, config: { access: 'public', upload: { kinds: ['pdf'], maxBytes: 2000 } } },
    async request => (await request.upload()).save())
  const post = async (content: Buffer) => {
    const { body, type } = formOf([{ filename: 'a.pdf', type: 'application/pdf', content }])
    return (await app.inject({ method: 'POST', url: 'http://localhost/', headers: { 'content-type': type }, payload: body })).statusCode
  }
  t.equal(await post(pdf()), 200)
  t.equal(await post(Buffer.concat([pdf(), Buffer.alloc(3000, 32)])), 413, 'its own options loosen nothing')
})

t.test('misconfiguration stops boot, and names what is wrong', async t => {
  const boot = async (options: object, upload?: object, config: object = {}, method = 'POST') => {
    const app = Fastify({ logger: false })
    t.teardown(() => app.close())
    await app.register(bastion, { uploads: options as never })
    if (upload !== undefined) {
      app.route({ method, url: '/', schema: { response: { 200: { type: 'object', additionalProperties: false, properties: {} } } }, config: { access: 'user', upload, ...config } as never, handler: async () => ({}) })
    }
    await app.ready()
  }
  const folder = folderOf(t)
  const store = { create () {}, commit () {}, discard () {}, open () {}, remove () {} }
  for (const [options, message] of [
    [{}, /either a folder or a storage/], [{ folder, storage: store }, /either a folder or a storage/], [{ folder: 7 }, /folder/], [{ folder, foldr: 1 }, /foldr/], [{ folder: `${process.execPath}/uploads` }, /folder: cannot be made/],
    [{ storage: { create () {} } }, /storage: must be an object with create, commit, discard, open, remove/], [{ folder, scanner: {} }, /scanner: must be an object with scan/], [{ folder, records: {} }, /records: must be/],
    [{ folder, quota: { files: 1, bytes: 1 } }, /quota: wants records/], [{ folder, quota: { files: 0, bytes: 1 } }, /quota\.files/], [{ folder, timeoutMs: 1 }, /timeoutMs/], [{ folder, concurrency: 0 }, /concurrency/],
  ] as const) await t.rejects(boot(options), { code: 'FST_BASTION_UPLOADS_MISCONFIGURED', message }, JSON.stringify(options))
  for (const [upload, message] of [
    [{}, /kinds/], [{ kinds: ['pdf'] }, /maxBytes/], [{ kinds: [], maxBytes: 1 }, /kinds/], [{ kinds: ['svg'], maxBytes: 1 }, /kinds/], [{ kinds: ['pdf', 'pdf'], maxBytes: 1 }, /kinds/], [{ kinds: ['pdf'], maxBytes: 0 }, /maxBytes/],
    [{ kinds: ['pdf'], maxBytes: '1' }, /maxBytes/], [{ kinds: ['pdf'], maxBytes: 1, field: '__proto__' }, /field/], [{ kinds: ['pdf'], maxBytes: 1, maxSize: 1 }, /maxSize/], [{ kinds: ['pdf'], maxBytes: 1, active: 'allow' }, /active/],
  ] as const) await t.rejects(boot({ folder }, upload), { code: 'FST_BASTION_PLAN_REFUSED', message }, JSON.stringify(upload))
  await t.rejects(boot({ folder }, { kinds: ['pdf'], maxBytes: 1 }, {}, 'GET'), { message: /only POST, PUT and PATCH/ })
  const records = { reserve () {}, settle () {}, release () {}, find () {}, list () {}, remove () {}, known: async () => new Set() }
  await t.rejects(boot({ folder, records, quota: { files: 1, bytes: 1 } }, { kinds: ['pdf'], maxBytes: 1 }, { access: 'public' }), { message: /a quota is counted by user/ })
  const bare = Fastify()
  t.teardown(() => bare.close())
  bare.register(uploads, { folder })
  await t.rejects(async () => { await bare.ready() }, /bastion-plan/)
})

t.test('a handler that asks for an upload where none is declared fails, and says so', async t => {
  const app = Fastify({ logger: false })
  t.teardown(() => app.close())
  await app.register(bastion, { uploads: { folder: folderOf(t) } })
  app.post('/', { schema: { body: noBody }, config: { access: 'public', answers: 'raw' } }, async request => {
    await t.rejects(request.upload(), { code: 'FST_BASTION_UPLOADS_UNDECLARED' })
    return 'seen'
  })
  t.equal((await app.inject({ method: 'POST', url: 'http://localhost/' })).statusCode, 200)
})

t.test('the number of a card in the name of a file is refused, and nowhere told', async t => {
  const { send, stored, handled, events } = await build(t, {}, { '/document': { kinds: ['pdf'], maxBytes: MIB } })
  for (const filename of ['4242424242424242.pdf', 'My card 4242 4242 4242 4242.pdf', '４２４２４２４２４２４２４２４２.pdf']) {
    t.match(await send('/document', { filename, type: 'application/pdf', content: pdf() }), { status: 400, code: 'FST_BASTION_CARDS_REFUSED' }, filename)
  }
  t.equal(handled(), 0)
  t.strictSame(stored(), [])
  t.match(events.map(({ type }) => type), ['card_refused', 'upload_refused'])
  t.notMatch(JSON.stringify(events), /4242|４２４２/)
  t.equal((await send('/document', { filename: '4242424242424241.pdf', type: 'application/pdf', content: pdf() })).status, 201, 'the control: another number comes in, and is kept')
})
