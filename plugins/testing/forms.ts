/** Files and the forms that carry them: small ones that are what they say. */
import { crc32, deflateSync } from 'node:zlib'
import type { UploadPolicy } from './contract.js'

/** Kinds of files that the kit can make. */
export const FILES = {
  png: { extension: 'png', type: 'image/png', content: () => pngOf(1, 1) },
  gif: { extension: 'gif', type: 'image/gif', content: () => Buffer.from('R0lGODlhAQABAIAAAExpcQECAyH5BAUAAAAALAAAAAABAAEAAAICTAEAOw==', 'base64') },
  webp: { extension: 'webp', type: 'image/webp', content: () => Buffer.from('UklGRiQAAABXRUJQVlA4IBgAAAAwAQCdASoBAAEAAUAmJaQAA3AA/v0gUAA=', 'base64') },
  jpeg: { extension: 'jpg', type: 'image/jpeg', content: () => Buffer.from(JPEG, 'base64') },
  pdf: { extension: 'pdf', type: 'application/pdf', content: pdf },
} as const

export type FileKind = keyof typeof FILES

const JPEG = '/9j/2wBDAFBQUFBVUFpkZFp9h3iHfbmqm5uquf/I18jXyP//////////////////////////////////////////////////2wBDAVBQUFBVUFpkZFp9h3iHfbmqm5uquf' +
  '/I18jXyP//////////////////////////////////////////////////wgARCAABAAEDASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAT/xAAUAQEAAAAAAAAAAAAAAAAAAAAA' +
  '/9oADAMBAAIQAxAAAACIH//EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAT8Af//EABQRAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQIBAT8Af//EABQRAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQMBAT8Af//Z'
/** Of each file's name. */
export const STEM = 'attack-kit'
const BOUNDARY = 'attack-kit-attack-kit'

export interface Part {
  name: string
  filename: string
  type: string
  content: Buffer
}

/** The form that a route takes; null where the kit can make no file of its kinds. */
export function formFor ({ field, kinds }: UploadPolicy): { body: Buffer, type: string } | null {
  const kind = kindOf(kinds)
  return kind === null ? null : formOf([partOf(kind, field)])
}

export function kindOf (kinds: readonly string[]): FileKind | null {
  return (Object.keys(FILES) as FileKind[]).find(name => kinds.includes(name)) ?? null
}

/** A file that is what it says, but for what is given. */
export function partOf (kind: FileKind, name = 'file', more: Partial<Part> = {}): Part {
  const { extension, type, content } = FILES[kind]
  return { name, filename: `${STEM}.${extension}`, type, content: content(), ...more }
}

/** A form, the same for the same parts. */
export function formOf (parts: readonly Part[]): { body: Buffer, type: string } {
  const pieces = parts.flatMap(({ name, filename, type, content }) => [
    Buffer.from(`--${BOUNDARY}\r\nContent-Disposition: form-data; name="${name}"; filename="${filename}"\r\nContent-Type: ${type}\r\n\r\n`), content, Buffer.from('\r\n'),
  ])
  return { body: Buffer.concat([...pieces, Buffer.from(`--${BOUNDARY}--\r\n`)]), type: `multipart/form-data; boundary=${BOUNDARY}` }
}

/** A black picture; small, however many pixels it says it has. */
export function pngOf (width: number, height: number): Buffer {
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  // One bit a pixel.
  header[8] = 1
  return Buffer.concat([Buffer.from('\x89PNG\r\n\x1A\n', 'latin1'), chunk('IHDR', header), chunk('IDAT', deflateSync(Buffer.alloc((1 + Math.ceil(width / 8)) * height))), chunk('IEND', Buffer.alloc(0))])
}

function chunk (type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data])
  const frame = Buffer.alloc(8)
  frame.writeUInt32BE(data.length, 0)
  frame.writeUInt32BE(crc32(body), 4)
  return Buffer.concat([frame.subarray(0, 4), body, frame.subarray(4)])
}

/** A document of one empty page. */
function pdf (): Buffer {
  const objects = ['<</Type/Catalog/Pages 2 0 R>>', '<</Type/Pages/Kids[3 0 R]/Count 1>>', '<</Type/Page/Parent 2 0 R/MediaBox[0 0 100 100]>>']
  let text = '%PDF-1.7\n'
  const offsets = objects.map((object, i) => {
    const at = text.length
    text += `${i + 1} 0 obj\n${object}\nendobj\n`
    return `${String(at).padStart(10, '0')} 00000 n \n`
  })
  return Buffer.from(`${text}xref\n0 4\n0000000000 65535 f \n${offsets.join('')}trailer\n<</Size 4/Root 1 0 R>>\nstartxref\n${text.length}\n%%EOF\n`)
}
