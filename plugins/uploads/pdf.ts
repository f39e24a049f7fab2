/**
 * PDF: its frame, and what it would do when it is opened.
 *
 * Threat: scripts, actions, programs and files in documents (CWE-434), written so that a search for their names misses them: with escapes
 * (`/J#61vaScript`), inside compressed object streams, or encrypted; documents that are something else too.
 * Defence: it begins and ends as a PDF does; names are looked for with their escapes decoded, in all of it and in all that it inflates to, within a
 * bound; what cannot be looked into (encrypted documents, object streams behind other filters) is refused like what is found.
 * Not covered: an action that a reader takes for one and the standard does not; faults of readers. It is a search, not a reader.
 */
import type { FileHandle } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { createInflate } from 'node:zlib'
import { UploadActive, UploadDamaged } from './errors.js'
import type { SettledRule } from './rule.js'

const CHUNK = 65_536
const TAIL = 2048
/** Bytes before `stream` in which its dictionary stands. */
const DICTIONARY = 4096
/** Longest name that is looked at, escapes and all. */
const MAX_NAME = 96
/** Bytes before `stream` that make it the end of one. */
const BACK = 3
const MAX_STREAMS = 20_000
/** In any place, also where a name can stand by chance: they are too long for that. */
const ACTIVE: ReadonlySet<string> = new Set([
  'JavaScript', 'OpenAction', 'Launch', 'EmbeddedFile', 'EmbeddedFiles', 'SubmitForm', 'ImportData', 'RichMedia', 'Rendition', 'GoToR', 'GoToE', 'XFA', 'FileAttachment',
])
/** So short that compressed bytes look like them: outside of streams only. None of them does anything without one of the others. */
const SHORT: ReadonlySet<string> = new Set(['JS', 'AA'])
/** Filters whose output is not looked into. */
const OPAQUE: ReadonlySet<string> = new Set(['ASCIIHexDecode', 'AHx', 'ASCII85Decode', 'A85', 'LZWDecode', 'LZW', 'RunLengthDecode', 'Crypt'])

/** @throws UploadDamaged, UploadActive */
export async function checkPdf (file: FileHandle, size: number, { active, maxInflated }: SettledRule): Promise<void> {
  await checkFrame(file, size)
  if (active === 'keep') return
  const streams = await searchRaw(file, size)
  if (streams.length > MAX_STREAMS) throw new UploadDamaged()
  // Streams that lie in one another would be inflated once for each: their input has a bound too.
  const left = { output: maxInflated, input: 2 * size + CHUNK }
  for (const start of streams) await searchInflated(file, start, size, left)
}

async function checkFrame (file: FileHandle, size: number): Promise<void> {
  const head = (await read(file, 0, 16)).toString('latin1')
  const tail = (await read(file, Math.max(0, size - TAIL), TAIL)).toString('latin1')
  const end = /startxref\s+(\d{1,10})\s+%%EOF[\s\0]*$/.exec(tail)
  if (!/^%PDF-[12]\.\d/.test(head) || end === null) throw new UploadDamaged()
  const table = (await read(file, Number(end[1]), 64)).toString('latin1')
  // A linearized document has its first table last.
  if (!/^\s*(?:xref\s|\d+\s+\d+\s+obj)/.test(table)) throw new UploadDamaged()
}

/** Looks through the document as it is; answers where its streams begin. */
async function searchRaw (file: FileHandle, size: number): Promise<number[]> {
  const streams: number[] = []
  const seen = new Set<string>()
  let isInStream = false
  let carried = Buffer.alloc(0)
  for (let position = 0; position < size; position += CHUNK) {
    const chunk = await read(file, position, CHUNK)
    const base = position - carried.length
    const bytes = carried.length === 0 ? chunk : Buffer.concat([carried, chunk])
    const isLast = position + CHUNK >= size
    // What may go on in the next chunk is looked at there.
    const limit = isLast ? bytes.length : Math.max(0, bytes.length - MAX_NAME)
    for (const { at, name, keyword } of marksOf(bytes, Math.min(BACK, carried.length), limit)) {
      if (keyword === 'endstream') isInStream = false
      else if (keyword === 'stream') {
        await lookAtDictionary(file, base + at)
        streams.push(base + at + afterKeyword(bytes, at))
        isInStream = true
      } else if (ACTIVE.has(name!) || (!isInStream && SHORT.has(name!))) throw new UploadActive()
      else if (!isInStream) seen.add(name!)
    }
    carried = isLast ? Buffer.alloc(0) : Buffer.from(bytes.subarray(Math.max(0, limit - BACK)))
  }
  if (seen.has('Encrypt')) throw new UploadActive()
  return streams
}

interface Mark { at: number, name?: string, keyword?: 'stream' | 'endstream' }

/** Names, and beginnings and ends of streams, that begin in that part of the bytes, in their order. */
function * marksOf (bytes: Buffer, from = 0, limit = bytes.length): Generator<Mark> {
  let slash = bytes.indexOf(0x2f, from)
  let stream = bytes.indexOf('stream', from, 'latin1')
  while (true) {
    const isName = slash !== -1 && (stream === -1 || slash < stream)
    const at = isName ? slash : stream
    if (at === -1 || at >= limit) return
    if (isName) {
      const name = nameAt(bytes, at + 1)
      if (name !== '') yield { at, name }
      slash = bytes.indexOf(0x2f, at + 1)
    } else {
      const isEnd = at >= BACK && bytes.toString('latin1', at - BACK, at) === 'end'
      const next = bytes[at + 6]
      if (isEnd) yield { at, keyword: 'endstream' }
      else if (next === 0x0a || next === 0x0d) yield { at, keyword: 'stream' }
      stream = bytes.indexOf('stream', at + 6, 'latin1')
    }
  }
}

/** A name with its escapes decoded (ISO 32000-1, 7.3.5). */
function nameAt (bytes: Buffer, start: number): string {
  let name = ''
  for (let i = start; i < bytes.length && i < start + MAX_NAME; i++) {
    const byte = bytes[i]!
    if (byte <= 0x20 || DELIMITERS.has(byte)) break
    const digits = byte === 0x23 ? bytes.toString('latin1', i + 1, i + 3) : ''
    if (/^[0-9A-Fa-f]{2}$/.test(digits)) {
      name += String.fromCharCode(Number.parseInt(digits, 16))
      i += 2
    } else name += String.fromCharCode(byte)
  }
  return name
}

const DELIMITERS: ReadonlySet<number> = new Set([...'()<>[]{}/%'].map(character => character.charCodeAt(0)))

function afterKeyword (bytes: Buffer, at: number): number {
  return bytes[at + 6] === 0x0d && bytes[at + 7] === 0x0a ? 8 : 7
}

/** Objects that are compressed in a way that is not undone here could be anything. */
async function lookAtDictionary (file: FileHandle, end: number): Promise<void> {
  const start = Math.max(0, end - DICTIONARY)
  const bytes = await read(file, start, end - start)
  const own = bytes.subarray(Math.max(0, bytes.lastIndexOf('obj', undefined, 'latin1')))
  const names = new Set([...marksOf(own)].flatMap(({ name }) => name ?? []))
  if (names.has('ObjStm') && ([...names].some(name => OPAQUE.has(name)) || names.has('Predictor'))) throw new UploadActive()
}

/** Inflates what begins here, if it is deflated, to its own end, whatever length it is said to have. */
async function searchInflated (file: FileHandle, start: number, size: number, left: { output: number, input: number }): Promise<void> {
  const head = await read(file, start, 2)
  if (head.length < 2 || (head[0]! & 0x0f) !== 8 || head.readUInt16BE() % 31 !== 0) return
  const source = Readable.from(piecesOf(file, start, size), { objectMode: false })
  const inflate = createInflate()
  source.on('error', error => { inflate.destroy(error) })
  source.pipe(inflate)
  let carried = Buffer.alloc(0)
  try {
    for await (const chunk of inflate as AsyncIterable<Buffer>) {
      left.output -= chunk.length
      if (left.output < 0) throw new UploadDamaged()
      const bytes = carried.length === 0 ? chunk : Buffer.concat([carried, chunk])
      for (const { name } of marksOf(bytes)) if (ACTIVE.has(name!)) throw new UploadActive()
      carried = Buffer.from(bytes.subarray(Math.max(0, bytes.length - MAX_NAME)))
    }
  } catch (error) {
    // Readers show what can be inflated of a damaged stream: that has been looked at.
    if (String((error as { code?: string }).code).startsWith('FST_BASTION_')) throw error
  } finally {
    source.destroy()
    inflate.destroy()
  }
  left.input -= inflate.bytesWritten
  if (left.input < 0) throw new UploadDamaged()
}

/** Most streams are short: pieces grow. */
async function * piecesOf (file: FileHandle, start: number, size: number): AsyncGenerator<Buffer> {
  for (let position = start, length = 2048; position < size; position += length) {
    length = Math.min(CHUNK, 2 * length)
    yield await read(file, position, length)
  }
}

async function read (file: FileHandle, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length)
  let filled = 0
  while (filled < length) {
    const { bytesRead } = await file.read(buffer, filled, length - filled, position + filled)
    if (bytesRead === 0) break
    filled += bytesRead
  }
  return buffer.subarray(0, filled)
}
