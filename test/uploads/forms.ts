/** Forms and files, good and bad ones, as the tests of uploads send them. */
import { randomBytes } from 'node:crypto'
import { crc32 as crcOf, deflateRawSync, deflateSync } from 'node:zlib'
import sharp from 'sharp'

export const DOCX_TYPE = 'application/vnd.openxmlformats-officedocument.wordprocessingml.document'

export interface Part {
  /** Absent: a field. */
  filename?: string
  name?: string
  type?: string
  content: Buffer | string
}

/** A form and its media type. */
export function formOf (parts: readonly Part[], { boundary = `b${randomBytes(8).toString('hex')}`, end = true } = {}): { body: Buffer, type: string } {
  const pieces = parts.flatMap(({ filename, name = 'file', type, content }) => [
    Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="${name}"${filename === undefined ? '' : `; filename="${filename}"`}\r\n${type === undefined ? '' : `Content-Type: ${type}\r\n`}\r\n`),
    Buffer.from(content as string),
    Buffer.from('\r\n'),
  ])
  return { body: Buffer.concat([...pieces, Buffer.from(end ? `--${boundary}--\r\n` : '')]), type: `multipart/form-data; boundary=${boundary}` }
}

export type Format = 'jpeg' | 'png' | 'gif' | 'webp'
export const IMAGE_TYPES: Record<Format, string> = { jpeg: 'image/jpeg', png: 'image/png', gif: 'image/gif', webp: 'image/webp' }

/** A picture of noise, so that it is as large as it looks. */
export async function picture (format: Format, width = 40, height = 30): Promise<Buffer> {
  const noise = { width, height, channels: 3 as const, background: { r: 90, g: 120, b: 150 }, noise: { type: 'gaussian' as const, mean: 128, sigma: 60 } }
  return sharp({ create: noise }).toFormat(format).toBuffer()
}

/** A PNG that says it is that large; its pixels are all the same, so a few kilobytes inflate to all of them. */
export function bombOf (width: number, height: number): Buffer {
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  header.set([8, 2, 0, 0, 0], 8)
  return Buffer.concat([Buffer.from('\x89PNG\r\n\x1A\n', 'latin1'), chunk('IHDR', header), chunk('IDAT', deflateSync(Buffer.alloc(1 << 24))), chunk('IEND', Buffer.alloc(0))])
}

function chunk (type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data])
  const length = Buffer.alloc(4)
  length.writeUInt32BE(data.length)
  return Buffer.concat([length, body, checksum(body)])
}

function checksum (bytes: Buffer): Buffer {
  const sum = Buffer.alloc(4)
  sum.writeUInt32BE(crc32(bytes))
  return sum
}

/** zlib's own came with Node 20.15 and 22.2. */
function crc32 (bytes: Buffer): number {
  return crcOf(bytes) >>> 0
}

export interface ZipEntry { name: string, content?: Buffer | string, stored?: boolean, mode?: number, flags?: number, method?: number, claims?: number, path?: string }

/** An archive, also one that no honest program writes: `path` is another name of the entry, which only the directory has. */
export function zipOf (entries: readonly ZipEntry[], { comment = '' } = {}): Buffer {
  const locals: Buffer[] = []
  const central: Buffer[] = []
  let offset = 0
  for (const { name, content = '', stored = false, mode = 0o100644, flags = 0x800, method = stored ? 0 : 8, claims, path } of entries) {
    const raw = Buffer.from(content as string)
    const data = stored ? raw : deflateRawSync(raw)
    const title = Buffer.from(name)
    const common = Buffer.alloc(26)
    common.writeUInt16LE(20, 0)
    common.writeUInt16LE(flags, 2)
    common.writeUInt16LE(method, 4)
    common.writeUInt32LE(0x21_0000, 6)
    common.writeUInt32LE(crc32(raw), 10)
    common.writeUInt32LE(data.length, 14)
    common.writeUInt32LE(claims ?? raw.length, 18)
    common.writeUInt16LE(title.length, 22)
    const tail = Buffer.alloc(14)
    const extra = path === undefined ? Buffer.alloc(0) : unicodePathOf(title, path)
    tail.writeUInt32LE((mode << 16) >>> 0, 6)
    tail.writeUInt32LE(offset, 10)
    const local = Buffer.concat([Buffer.from('PK\x03\x04', 'latin1'), common, title, data])
    locals.push(local)
    const listed = Buffer.from(common)
    listed.writeUInt16LE(extra.length, 24)
    central.push(Buffer.concat([Buffer.from('PK\x01\x02\x14\x03', 'latin1'), listed, tail, title, extra]))
    offset += local.length
  }
  const directory = Buffer.concat(central)
  const end = Buffer.alloc(18)
  end.writeUInt16LE(entries.length, 4)
  end.writeUInt16LE(entries.length, 6)
  end.writeUInt32LE(directory.length, 8)
  end.writeUInt32LE(offset, 12)
  end.writeUInt16LE(comment.length, 16)
  return Buffer.concat([...locals, directory, Buffer.from('PK\x05\x06', 'latin1'), end, Buffer.from(comment)])
}

/** The field in which Info-ZIP keeps a name in UTF-8. */
function unicodePathOf (title: Buffer, path: string): Buffer {
  const field = Buffer.concat([Buffer.alloc(9), Buffer.from(path)])
  field.writeUInt16LE(0x7075, 0)
  field.writeUInt16LE(field.length - 4, 2)
  field[4] = 1
  field.writeUInt32LE(crc32(title), 5)
  return field
}

const XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
const CONTENT_TYPES = `${XML}<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>` +
  `<Override PartName="/word/document.xml" ContentType="${DOCX_TYPE}.main+xml"/></Types>`
const DOCUMENT = `${XML}<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r><w:t>Hello</w:t></w:r></w:p></w:body></w:document>`
const OFFICE = 'http://schemas.openxmlformats.org/officeDocument/2006/relationships'

/** A part of relationships with this in it. */
export function relationships (inner: string): string {
  return `${XML}<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">${inner}</Relationships>`
}

export function relationship (type: string, target: string, mode?: string): string {
  return relationships(`<Relationship Id="rId1" Type="${OFFICE}/${type}" Target="${target}"${mode === undefined ? '' : ` TargetMode="${mode}"`}/>`)
}

/** A document of Word; `more` replaces entries of the same name. */
export function docx (more: readonly ZipEntry[] = [], options = {}): Buffer {
  const own: ZipEntry[] = [
    { name: '[Content_Types].xml', content: CONTENT_TYPES },
    { name: '_rels/.rels', content: relationship('officeDocument', 'word/document.xml') },
    { name: 'word/document.xml', content: DOCUMENT },
    { name: 'word/_rels/document.xml.rels', content: relationship('hyperlink', 'https://example.com/', 'External') },
  ]
  return zipOf([...own.filter(({ name }) => !more.some(other => other.name === name)), ...more], options)
}

export { CONTENT_TYPES }

export interface PdfOptions {
  /** Entries of the catalog. */
  catalog?: string
  /** More objects, each whole. */
  objects?: readonly (string | Buffer)[]
  /** Entries of the trailer. */
  trailer?: string
  after?: string
}

/** A document of one empty page. */
export function pdf ({ catalog = '', objects = [], trailer = '', after = '' }: PdfOptions = {}): Buffer {
  const pieces: Buffer[] = [Buffer.from('%PDF-1.7\n%\xE2\xE3\xCF\xD3\n', 'latin1')]
  const offsets: number[] = []
  const all: (string | Buffer)[] = [`<</Type/Catalog/Pages 2 0 R${catalog}>>`, '<</Type/Pages/Kids[3 0 R]/Count 1>>', '<</Type/Page/Parent 2 0 R/MediaBox[0 0 100 100]>>', ...objects]
  const length = () => pieces.reduce((sum, piece) => sum + piece.length, 0)
  for (const [i, object] of all.entries()) {
    offsets.push(length())
    pieces.push(Buffer.from(`${i + 1} 0 obj\n`), Buffer.from(object as string), Buffer.from('\nendobj\n'))
  }
  const table = length()
  pieces.push(Buffer.from(`xref\n0 ${all.length + 1}\n0000000000 65535 f \n${offsets.map(offset => `${String(offset).padStart(10, '0')} 00000 n \n`).join('')}trailer\n<</Size ${all.length + 1}/Root 1 0 R${trailer}>>\nstartxref\n${table}\n%%EOF\n${after}`))
  return Buffer.concat(pieces)
}

/** A stream object, deflated unless `encode` says otherwise. */
export function stream (dictionary: string, content: string | Buffer, encode: (bytes: Buffer) => Buffer = deflateSync): Buffer {
  const data = encode(Buffer.from(content as string))
  return Buffer.concat([Buffer.from(`<<${dictionary}/Length ${data.length}>>\nstream\n`), data, Buffer.from('\nendstream')])
}
