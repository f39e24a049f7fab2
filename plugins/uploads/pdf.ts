/**
 * PDF: its frame, and what it would do when it is opened.
 *
 * Threat: scripts, actions, programs and files in documents (CWE-434), written so that a search for their names misses them: with escapes
 * (`/J#61vaScript`), inside compressed object streams, or encrypted; documents that are something else too.
 * Defence: it begins and ends as a PDF does; names are looked for with their escapes decoded, in all of it and in all that it inflates to, within a
 * bound; what cannot be looked into (encrypted documents, streams whose dictionary is unclear, object streams that are more than deflated) is refused like what is found.
 * Not covered: an action that a reader takes for one and the standard does not; faults of readers. It is a search, not a reader.
 */
import type { FileHandle } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { createInflate } from 'node:zlib'
import { UploadActive, UploadDamaged } from './errors.js'
import type { SettledRule } from './rule.js'

const CHUNK = 65_536
const TAIL = 2048
/** Bytes before `stream` in which its dictionary stands; where that is not enough, the second. */
const DICTIONARY = [4096, 65_536]
/** Longest name that is looked at, escapes and all. */
const MAX_NAME = 96
/** Bytes before `stream` that say whether it begins one, or ends one. */
const BACK = 1024
/** Bytes behind it in which its line ends. */
const LINE = 256
const MAX_STREAMS = 20_000
/** In any place, also where a name can stand by chance: they are too long for that. */
const ACTIVE: ReadonlySet<string> = new Set([
  'JavaScript', 'Launch', 'EmbeddedFile', 'EmbeddedFiles', 'SubmitForm', 'ImportData', 'RichMedia', 'Rendition', 'GoToR', 'GoToE', 'XFA', 'FileAttachment', 'OnInstantiate', 'Encrypt',
])
/** So short that compressed bytes look like them: outside of streams only. Scripts are called JavaScript, too. */
const SHORT: ReadonlySet<string> = new Set(['JS', 'AA'])
/** Anywhere: with what it has in a dictionary, other actions, which could be any. */
const ACTIONS = /^\/[^\0\s()<>[\]{}/%]+(?:[\0\s]|%[^\r\n]*[\r\n])*(?:<<|\d{1,10}[\0\s]+\d{1,5}[\0\s]+R|[\0\s]{48})/
/** Where a document opens is a list; whatever else stands there could be an action. */
const PLACE = /^\/[^\0\s()<>[\]{}/%]+[\0\s]*\[/
/** White space of PDF, and one token of it that can stand in the dictionary of a stream: no comment does. Texts in parentheses are another matter. */
const TOKEN = /[\0\t\n\f\r ]+|<<|>>|\/[^\0\t\n\f\r ()<>[\]{}/%]*|<[0-9A-Fa-f\0\t\n\f\r ]*>|[[\]]|[^\0\t\n\f\r ()<>[\]{}/%]+/y
/** The numbers of an object. */
const OBJECT = /(?<!\d)\d{1,10}[\0\t\n\f\r ]+\d{1,5}[\0\t\n\f\r ]+$/
/** Beside its `N`, `First`, `Type` and `Length`, what would make more of an object stream than a deflated one. */
const UNCLEAR: ReadonlySet<string> = new Set(['/DecodeParms', '/DP', '/F', '/FFilter', '/FDecodeParms'])

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
  const end = /(?:startxref\s+(\d{1,10})\s+)?%%EOF[\s\0]*$/.exec(tail)
  if (!/^%PDF-[12]\.\d/.test(head) || end === null) throw new UploadDamaged()
  const table = end[1] === undefined ? '' : (await read(file, Number(end[1]), 64)).toString('latin1')
  // A linearized document has its first table last.
  if (/^\s*(?:xref\s|\d+\s+\d+\s+obj)/.test(table)) return
  // Where there is none, readers make one of the objects that they find.
  const begin = (await read(file, 0, CHUNK)).toString('latin1')
  if (!/\s\d{1,10}\s{1,9}\d{1,5}\s{1,9}obj\b/.test(begin) || !/\btrailer\s*<</.test(tail)) throw new UploadDamaged()
}

/** Looks through the document as it is; answers where its streams begin. */
async function searchRaw (file: FileHandle, size: number): Promise<number[]> {
  const streams: number[] = []
  let isInStream = false
  let carried = Buffer.alloc(0)
  for (let position = 0; position < size; position += CHUNK) {
    const chunk = await read(file, position, CHUNK)
    const base = position - carried.length
    const bytes = carried.length === 0 ? chunk : Buffer.concat([carried, chunk])
    const isLast = position + CHUNK >= size
    // What may go on in the next chunk is looked at there.
    const limit = isLast ? bytes.length : Math.max(0, bytes.length - LINE - MAX_NAME)
    for (const { at, name, keyword } of marksOf(bytes, Math.min(BACK, carried.length), limit)) {
      if (keyword === 'endstream') isInStream = false
      else if (keyword === 'stream') {
        if (!mayBeginStream(bytes.toString('latin1', Math.max(0, at - BACK), at))) continue
        if (!isClear(await dictionaryBefore(file, base + at))) throw new UploadActive()
        streams.push(...startsAfter(bytes.toString('latin1', at + 6, at + 6 + LINE)).map(start => base + at + 6 + start))
        isInStream = true
      } else if (ACTIVE.has(name!) || (!isInStream && SHORT.has(name!)) || hasActions(bytes, at, name!)) throw new UploadActive()
    }
    carried = isLast ? Buffer.alloc(0) : Buffer.from(bytes.subarray(Math.max(0, limit - BACK)))
  }
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
      yield { at, keyword: bytes.toString('latin1', Math.max(0, at - 3), at) === 'end' ? 'endstream' : 'stream' }
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

function hasActions (bytes: Buffer, at: number, name: string): boolean {
  if (name === 'AA') return ACTIONS.test(bytes.toString('latin1', at, at + LINE))
  return name === 'OpenAction' && !PLACE.test(bytes.toString('latin1', at, at + LINE))
}

/** A dictionary ends before it, as far as one can see: a comment may stand between. */
function mayBeginStream (before: string): boolean {
  const text = before.replace(/[\0\t\n\f\r ]+$/, '')
  const line = text.slice(Math.max(text.lastIndexOf('\n'), text.lastIndexOf('\r')) + 1)
  return text === '' || text.endsWith('>>') || (line.includes('%') && /[\n\r]/.test(before.slice(text.length)))
}

/** Where the bytes of a stream begin, behind its keyword: on the next line, or, for some readers of what is malformed, at once. */
function startsAfter (behind: string): number[] {
  const [regular] = /^[\0\t\f ]*(?:\r\n|\n|\r)/.exec(behind) ?? []
  if (regular !== undefined) return [regular.length]
  const [line] = /^[^\r\n]*(?:\r\n|\n|\r)/.exec(behind) ?? []
  return line === undefined ? [0] : [0, line.length]
}

/** The tokens of the dictionary that ends here, names with their escapes decoded; null where none begins before it that could not be something else, too. */
async function dictionaryBefore (file: FileHandle, end: number): Promise<string[] | null> {
  for (const length of DICTIONARY) {
    const start = Math.max(0, end - length)
    const text = (await read(file, start, end - start)).toString('latin1')
    const at = lastObject(text)
    if (at === -1) continue
    const line = text.slice(Math.max(text.lastIndexOf('\n', at), text.lastIndexOf('\r', at)) + 1, at)
    // In a comment it would be none.
    if (!line.includes('%') && (start === 0 || line.length < at)) return tokensOf(text.slice(text.indexOf('obj', at) + 3))
  }
  return null
}

/** Where the head of the last object stands; -1 where there is none. */
function lastObject (text: string): number {
  for (let at = text.lastIndexOf('obj'); at > 0; at = text.lastIndexOf('obj', at - 1)) {
    const head = text.charCodeAt(at - 1) > 0x20 ? null : OBJECT.exec(text.slice(Math.max(0, at - 40), at))
    if (head !== null) return at - head[0].length
  }
  return -1
}

/** Those of exactly one dictionary. */
function tokensOf (text: string): string[] | null {
  const tokens: string[] = []
  let depth = 0
  for (let at = 0; at < text.length;) {
    if (text[at] === '(') {
      at = endOfText(text, at)
      if (at === -1) return null
      tokens.push('()')
      continue
    }
    TOKEN.lastIndex = at
    const token = TOKEN.exec(text)?.[0]
    if (token === undefined) return null
    at += token.length
    if (/^[\0\t\n\f\r ]/.test(token)) continue
    if (token === '<<') depth++
    else if (depth === 0) return null
    else if (token === '>>') depth--
    tokens.push(token.startsWith('/') ? `/${nameAt(Buffer.from(token, 'latin1'), 1)}` : token)
    if (depth === 0 && !/^[\0\t\n\f\r ]*$/.test(text.slice(at))) return null
  }
  return depth === 0 && tokens.length > 0 ? tokens : null
}

/** Where the text ends that begins here with a parenthesis; -1 where it does not (ISO 32000-1, 7.3.4.2). */
function endOfText (text: string, start: number): number {
  let depth = 0
  for (let i = start; i < text.length; i++) {
    if (text[i] === '\\') i++
    else if (text[i] === '(') depth++
    else if (text[i] === ')' && --depth === 0) return i + 1
  }
  return -1
}

/** Objects that are compressed in a way that is not undone here could be anything. */
function isClear (tokens: string[] | null): boolean {
  if (tokens === null) return false
  if (!tokens.includes('/ObjStm') && !tokens.includes('/First')) return true
  const filters = tokens.flatMap((token, i) => token === '/Filter' ? [tokens.slice(i + 1, i + 4)] : [])
  return !tokens.some(token => UNCLEAR.has(token)) && filters.length <= 1 &&
    filters.every(([first, second, third]) => first === '/FlateDecode' || (first === '[' && (second === ']' || (second === '/FlateDecode' && third === ']'))))
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
      for (const { at, name } of marksOf(bytes)) if (ACTIVE.has(name!) || hasActions(bytes, at, name!)) throw new UploadActive()
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
