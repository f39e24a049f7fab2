/**
 * DOCX: an archive of XML, looked through entry by entry (yauzl) and never unpacked to anywhere.
 *
 * Threat: archives that inflate to more than anybody holds (CWE-409), names that leave the folder (CWE-22), symlinks, macros and what Word
 * fetches from elsewhere when it opens the document (remote templates), entities of XML (CWE-776).
 * Defence: entries are counted, what they say they inflate to is summed up and then really inflated, to nowhere, within that sum.
 * Not covered: faults of the program that opens it.
 */
import { open, type Entry, type ZipFile } from 'yauzl'
import { UploadActive, UploadDamaged } from './errors.js'
import type { SettledRule } from './rule.js'

/** An entry that inflates to more than so many times its size, and to more than so many bytes, is made to. */
const MAX_RATIO = 200
const HARMLESS_BYTES = 1_048_576
/** Bytes of an XML part that is read as text. */
const TEXT_BYTES = 4 * 1_048_576
const ENCRYPTED = 0x1
const [STORED, DEFLATED] = [0, 8]
const [TYPE_OF_FILE, SYMLINK, REGULAR, DIRECTORY] = [0o170000, 0o120000, 0o100000, 0o040000]
const MAIN = 'application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml'
/** Parts that are programs, or hold them. */
const ACTIVE_PART = /(?:^|\/)(?:vbaProject|vbaData)[^/]*$|(?:^|\/)(?:activeX|embeddings|ctrlProps)\/|\.(?:bin|exe|dll|js|vbs|hta|scr|cmd|bat|ps1|lnk)$/i
const ACTIVE_TYPE = /macroEnabled|vbaProject|activeX|oleObject|ms-office\.vba/i

/** @throws UploadDamaged, UploadActive */
export async function checkDocx (path: string, { maxInflated, maxEntries, active }: SettledRule): Promise<void> {
  const zip = await openZip(path)
  try {
    const entries = await entriesOf(zip, maxEntries, maxInflated)
    if (!entries.has('[Content_Types].xml') || !entries.has('word/document.xml')) throw new UploadDamaged()
    for (const [name, entry] of entries) {
      if (name.endsWith('/')) continue
      const text = await inflate(zip, entry, /\.(?:xml|rels)$/i.test(name))
      if (text === null) continue
      // Which encoding hides what is not for us to find out; a document type declares entities.
      if (text.includes('\0') || /<!DOCTYPE/i.test(text)) throw new UploadDamaged()
      if (name === '[Content_Types].xml' && !text.includes(MAIN) && !(active === 'keep' && ACTIVE_TYPE.test(text))) throw new UploadDamaged()
      if (active === 'refuse' && isActiveText(name, text)) throw new UploadActive()
    }
    if (active === 'refuse' && [...entries.keys()].some(name => ACTIVE_PART.test(name))) throw new UploadActive()
  } finally {
    zip.close()
  }
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

function isHarmless ({ fileName, generalPurposeBitFlag, compressionMethod, compressedSize, uncompressedSize, externalFileAttributes }: Entry): boolean {
  const kind = (externalFileAttributes >>> 16) & TYPE_OF_FILE
  return isInside(fileName) &&
    (generalPurposeBitFlag & ENCRYPTED) === 0 &&
    (compressionMethod === STORED || compressionMethod === DEFLATED) &&
    kind !== SYMLINK && (kind === 0 || kind === REGULAR || kind === DIRECTORY) &&
    (uncompressedSize <= HARMLESS_BYTES || uncompressedSize <= compressedSize * MAX_RATIO)
}

/** yauzl refuses some of these itself; which, depends on its options. */
function isInside (name: string): boolean {
  return name !== '' && !/^[/\\]|\\|:|\p{Cc}/u.test(name) && !name.split('/').includes('..')
}

/** Reads an entry to its end, for what it says of itself is not to be believed; answers its text, where that is asked for. */
async function inflate (zip: ZipFile, entry: Entry, isText: boolean): Promise<string | null> {
  if (isText && entry.uncompressedSize > TEXT_BYTES && !/^word\/[^/]+\.xml$/.test(entry.fileName)) throw new UploadDamaged()
  const stream = await new Promise<NodeJS.ReadableStream & AsyncIterable<Buffer>>((resolve, reject) => {
    zip.openReadStream(entry, (error, opened) => {
      if (error !== null) reject(damaged(error))
      else resolve(opened as never)
    })
  })
  const chunks: Buffer[] = []
  let kept = 0
  try {
    for await (const chunk of stream) {
      if (!isText || kept >= TEXT_BYTES) continue
      chunks.push(chunk)
      kept += chunk.length
    }
  } catch (error) {
    throw damaged(error as Error)
  }
  return isText ? Buffer.concat(chunks).toString('utf8') : null
}

/** Word fetches what a relationship calls external, except links, which people click. */
function isActiveText (name: string, text: string): boolean {
  if (name === '[Content_Types].xml') return ACTIVE_TYPE.test(text) || text.includes('&')
  if (!/\.rels$/i.test(name)) return false
  return [...text.matchAll(/<(?:[\w-]+:)?Relationship\s[^>]*>/g)].some(([relationship]) => {
    const type = /\bType\s*=\s*(["'])(.*?)\1/.exec(relationship)?.[2] ?? ''
    const mode = /\bTargetMode\s*=\s*(["'])(.*?)\1/.exec(relationship)?.[2] ?? 'Internal'
    return ACTIVE_TYPE.test(type) || type.includes('&') || (mode !== 'Internal' && !(mode === 'External' && type.endsWith('/hyperlink')))
  })
}

function damaged (cause: Error): Error {
  return Object.assign(new UploadDamaged(), { cause })
}
