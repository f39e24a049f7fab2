/**
 * DOCX: an archive of XML, looked through entry by entry (yauzl) and never unpacked to anywhere.
 *
 * Threat: archives that inflate to more than anybody holds (CWE-409), names that leave the folder (CWE-22), symlinks, macros and what Word
 * fetches or runs from elsewhere when it opens the document (remote templates, fields), entities of XML (CWE-776); archives that other programs
 * read as other entries (CWE-436): by a second directory, by names that only some believe, by what lies between entries.
 * Defence: entries are counted, what they say they inflate to is summed up and then really inflated, to nowhere, within that sum; the archive is its
 * entries and its directory and nothing else, and names each of them once. XML is of one encoding, and read as what it is.
 * Not covered: faults of the program that opens it.
 */
import { open as openFile } from 'node:fs/promises'
import { open, type Entry, type ZipFile } from 'yauzl'
import { UploadActive, UploadDamaged } from './errors.js'
import type { SettledRule } from './rule.js'

/** An entry that inflates to more than so many times its size, and to more than so many bytes, is made to. */
const MAX_RATIO = 200
const HARMLESS_BYTES = 1_048_576
/** Bytes of an XML part that are read as text at once; of most parts also the most that there may be. */
const TEXT_BYTES = 4 * 1_048_576
/** Bytes of the head of an entry, and of the end of the archive, without names and comments; those that may follow a streamed entry. */
const [LOCAL_BYTES, END_BYTES, DESCRIPTOR_BYTES] = [30, 22, 24]
const STREAMED = 0x8
/** The field in which an entry may have another name, which some believe and some do not. */
const UNICODE_PATH = 0x7075
const ENCRYPTED = 0x1
const [STORED, DEFLATED] = [0, 8]
const [TYPE_OF_FILE, SYMLINK, REGULAR, DIRECTORY] = [0o170000, 0o120000, 0o100000, 0o040000]
const MAIN = 'application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml'
/** That of a workbook, of slides, or of a document with macros. */
const ANY_MAIN = /\bmain\+xml\b/i
/** Parts that are programs, or hold them. */
const ACTIVE_PART = /(?:^|\/)(?:vbaProject|vbaData)[^/]*$|(?:^|\/)(?:activeX|embeddings|ctrlProps)\/|\.(?:bin|exe|dll|js|vbs|hta|scr|cmd|bat|ps1|lnk)$/i
const ACTIVE_TYPE = /macroEnabled|vbaProject|activeX|oleObject|ms-office\.vba|webextension/i
/** What is opened as part of the document, by programs that were not asked for: other formats, workbooks, controls. */
const ACTIVE_RELATIONSHIP = /\/(?:aFChunk|package|control)$/i
const RELATIONSHIP = /<(?:[^\s<>/:]+:)?Relationship\s((?:"[^"]*"|'[^']*'|[^<>"'])*)>/g
const RELATIONSHIPS = /<(?:[^\s<>/:]+:)?Relationship\s/g
const ATTRIBUTE = /([^\s=<>"'/]+)\s*=\s*(?:"([^"]*)"|'([^']*)')/g
/** Where a field begins or ends, and what stands in it. */
const FIELD = /<(?:[^\s<>/:]+:)?(?:fldChar\b|instrText\b(?:"[^"]*"|'[^']*'|[^<>"'])*>([^<]*)(<[!?])?|fldSimple\b((?:"[^"]*"|'[^']*'|[^<>"'])*))/g
/** Fields that run a program or fetch something. */
const ACTIVE_FIELD = /^\s*(?:DDE|DDEAUTO|INCLUDE|INCLUDETEXT|INCLUDEPICTURE|IMPORT|LINK|DATABASE)\b/i
/** Encodings in which what is ASCII stands as ASCII: in another one, markup would be other bytes. */
const DECLARED = /^<\?xml\b[^>]*?\bencoding\s*=\s*["'](?!(?:utf-8|us-ascii|iso-8859-1|windows-1252)["'])/i

/** @throws UploadDamaged, UploadActive */
export async function checkDocx (path: string, { maxInflated, maxEntries, active }: SettledRule): Promise<void> {
  const zip = await openZip(path)
  try {
    const entries = await entriesOf(zip, maxEntries, maxInflated)
    await checkLayout(path, zip, [...entries.values()])
    if (!entries.has('[Content_Types].xml') || !entries.has('word/document.xml')) throw new UploadDamaged()
    for (const [name, entry] of entries) if (!name.endsWith('/')) await inflate(zip, entry, /\.(?:xml|rels)$/i.test(name) ? readerOf(name, active) : null)
    if (active === 'refuse' && [...entries.keys()].some(name => ACTIVE_PART.test(name))) throw new UploadActive()
  } finally {
    zip.close()
  }
}

/** Looks at the text of an XML part, of which a large one comes in pieces that end before a `<`. */
function readerOf (name: string, active: SettledRule['active']): (text: string) => void {
  const isActiveField = fieldSearch()
  let isFirst = true
  return text => {
    // Which encoding hides what is not for us to find out; a document type declares entities.
    if (text.includes('\0') || /<!DOCTYPE/i.test(text) || (isFirst && !isReadable(text))) throw new UploadDamaged()
    isFirst = false
    if (name === '[Content_Types].xml' && ANY_MAIN.test(text) && !text.includes(MAIN) && !(active === 'keep' && ACTIVE_TYPE.test(text))) throw new UploadDamaged()
    if (active === 'refuse' && (isActiveText(name, text) || isActiveField(text))) throw new UploadActive()
  }
}

function isReadable (text: string): boolean {
  const begin = text.replace(/^\uFEFF/, '').trimStart()
  return begin.startsWith('<') && !DECLARED.test(begin)
}

async function openZip (path: string): Promise<ZipFile> {
  const options = { lazyEntries: true, autoClose: false, strictFileNames: true, validateEntrySizes: true }
  const zip = await new Promise<ZipFile>((resolve, reject) => {
    open(path, options, (error, opened) => {
      if (error !== null) reject(damaged(error))
      else resolve(opened!)
    })
  })
  // What stands behind an archive is another file.
  if (zip.comment === '') return zip
  zip.close()
  throw new UploadDamaged()
}

/** All entries, in their order; nothing of them is inflated yet. */
async function entriesOf (zip: ZipFile, maxEntries: number, maxInflated: number): Promise<Map<string, Entry>> {
  if (zip.entryCount > maxEntries) throw new UploadDamaged()
  const entries = new Map<string, Entry>()
  const seen = new Set<string>()
  let inflated = 0
  await new Promise<void>((resolve, reject) => {
    zip.on('error', error => { reject(damaged(error)) })
    zip.on('end', resolve)
    zip.on('entry', (entry: Entry) => {
      inflated += entry.uncompressedSize
      // Two of one name: which of them is opened depends on who opens it.
      const isOdd = !isHarmless(entry) || seen.has(entry.fileName.toLowerCase()) || entries.size >= maxEntries || inflated > maxInflated
      if (isOdd) return reject(new UploadDamaged())
      seen.add(entry.fileName.toLowerCase())
      entries.set(entry.fileName, entry)
      zip.readEntry()
    })
    zip.readEntry()
  })
  return entries
}

function isHarmless ({ fileName, generalPurposeBitFlag, compressionMethod, compressedSize, uncompressedSize, externalFileAttributes, extraFields }: Entry): boolean {
  const kind = (externalFileAttributes >>> 16) & TYPE_OF_FILE
  return isInside(fileName) && !extraFields.some(({ id }) => id === UNICODE_PATH) &&
    (generalPurposeBitFlag & ENCRYPTED) === 0 &&
    (compressionMethod === STORED || compressionMethod === DEFLATED) &&
    kind !== SYMLINK && (kind === 0 || kind === REGULAR || kind === DIRECTORY) &&
    (uncompressedSize <= HARMLESS_BYTES || uncompressedSize <= compressedSize * MAX_RATIO)
}

/** yauzl refuses some of these itself; which, depends on its options. */
function isInside (name: string): boolean {
  return name !== '' && !/^[/\\]|\\|:|\p{Cc}/u.test(name) && !name.split('/').includes('..')
}

/** Entries, one behind the other and each with one name, then the directory, then its end: who reads it in another order finds nothing else. */
async function checkLayout (path: string, { fileSize }: ZipFile, entries: readonly Entry[]): Promise<void> {
  const file = await openFile(path)
  try {
    const end = await readAt(fileSize - END_BYTES, END_BYTES)
    const directory = end.readUInt32LE(16)
    // Those who look for the directory in front of its end would otherwise find another one.
    if (directory + end.readUInt32LE(12) !== fileSize - END_BYTES) throw new UploadDamaged()
    let from = 0
    let until = 0
    for (const { relativeOffsetOfLocalHeader: at, fileNameRaw, compressedSize, generalPurposeBitFlag } of [...entries].sort((a, b) => a.relativeOffsetOfLocalHeader - b.relativeOffsetOfLocalHeader)) {
      const head = await readAt(at, LOCAL_BYTES + fileNameRaw.length)
      if (at < from || at > until || head.readUInt16LE(26) !== fileNameRaw.length || !head.subarray(LOCAL_BYTES).equals(fileNameRaw)) throw new UploadDamaged()
      from = at + head.length + head.readUInt16LE(28) + compressedSize
      until = from + ((generalPurposeBitFlag & STREAMED) === 0 ? 0 : DESCRIPTOR_BYTES)
    }
    if (directory < from || directory > until) throw new UploadDamaged()
  } finally {
    await file.close()
  }

  async function readAt (position: number, length: number): Promise<Buffer> {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, position)
    if (bytesRead < length) throw new UploadDamaged()
    return buffer
  }
}

/** Reads an entry to its end, for what it says of itself is not to be believed; `look` gets its text, where that is looked at. */
async function inflate (zip: ZipFile, entry: Entry, look: ((text: string) => void) | null): Promise<void> {
  if (look !== null && entry.uncompressedSize > TEXT_BYTES && !/^word\/[^/]+\.xml$/.test(entry.fileName)) throw new UploadDamaged()
  const stream = await new Promise<NodeJS.ReadableStream & AsyncIterable<Buffer>>((resolve, reject) => {
    zip.openReadStream(entry, (error, opened) => {
      if (error !== null) reject(damaged(error))
      else resolve(opened as never)
    })
  })
  let chunks: Buffer[] = []
  let held = 0
  try {
    for await (const chunk of stream) {
      if (look === null) continue
      chunks.push(chunk)
      held += chunk.length
      if (held <= TEXT_BYTES) continue
      const bytes = Buffer.concat(chunks)
      const end = bytes.lastIndexOf('<')
      if (end <= 0) throw new UploadDamaged()
      look(bytes.toString('utf8', 0, end))
      chunks = [bytes.subarray(end)]
      held = bytes.length - end
    }
  } catch (error) {
    throw (error as { code?: string }).code?.startsWith('FST_BASTION_') === true ? error : damaged(error as Error)
  }
  look?.(Buffer.concat(chunks).toString('utf8'))
}

/** Word fetches what a relationship calls external, except links, which people click. */
function isActiveText (name: string, text: string): boolean {
  if (name === '[Content_Types].xml') return ACTIVE_TYPE.test(text) || text.includes('&')
  if (!/\.rels$/i.test(name)) return false
  const found = [...text.matchAll(RELATIONSHIP)]
  // One that is none by the rules of XML could be one for a program that is less strict.
  return found.length !== [...text.matchAll(RELATIONSHIPS)].length || found.some(([, inner = '']) => {
    const { Type = '', TargetMode = 'Internal', Target = '' } = attributesOf(inner)
    if (ACTIVE_TYPE.test(Type) || ACTIVE_RELATIONSHIP.test(Type) || Type.includes('&')) return true
    return TargetMode === 'Internal' ? /^\s*(?:[a-z][a-z0-9+.-]*:|[/\\]{2})|&/i.test(Target) : !(TargetMode === 'External' && Type.endsWith('/hyperlink'))
  })
}

function attributesOf (inner: string): Record<string, string | undefined> {
  return Object.fromEntries([...inner.matchAll(ATTRIBUTE)].map(([, name, double, single]) => [name, double ?? single]))
}

/** The code of a field may stand in several runs. */
function fieldSearch (): (text: string) => boolean {
  let code = ''
  let isOpen = false
  return text => {
    if (isOpen && /^<[!?]/.test(text)) return true
    isOpen = false
    return [...text.matchAll(FIELD)].some(({ 0: found, 1: written, 2: other, 3: simple, index }) => {
      if (simple !== undefined) return Object.values(attributesOf(simple)).some(value => isActiveCode(value!))
      if (written === undefined) {
        code = ''
        return false
      }
      isOpen = index + found.length === text.length
      code = (code + written).slice(0, 256)
      return other !== undefined || isActiveCode(code)
    })
  }
}

/** A sign that is written as a number may be any. */
function isActiveCode (code: string): boolean {
  return ACTIVE_FIELD.test(code) || code.includes('&#')
}

function damaged (cause: Error): Error {
  return Object.assign(new UploadDamaged(), { cause })
}
