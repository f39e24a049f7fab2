/** The exported document: JSON, written while it is read. */
import { Readable } from 'node:stream'
import type { Sql } from '../sql.js'
import type { PrivacySource } from './contract.js'
import { ExportSuperseded } from './errors.js'

/** UTF-16 units of a chunk at least: a row a chunk would be slow. */
const CHUNK = 16_384

/** Documents of one person that are read at once: each holds a page in memory for as long as its reader likes. */
const AT_ONCE = 2

interface DocumentParts { userId: string, sources: Iterable<PrivacySource>, sql: Sql, exportedAt: Date }

/** Nothing is read before the stream is, and no further ahead than one chunk. */
export function documentOf (parts: DocumentParts): Readable {
  return Readable.from(inChunks(write(parts)), { objectMode: false })
}

/** Where somebody reads more of one person than are read at once, the one that was begun first ends unfinished. */
export function fewAtOnce (): (userId: string, document: Readable) => Readable {
  const open = new Map<string, Set<Readable>>()
  return (userId, document) => {
    const own = open.get(userId) ?? new Set()
    open.set(userId, own.add(document))
    document.once('close', () => {
      own.delete(document)
      if (own.size === 0 && open.get(userId) === own) open.delete(userId)
    })
    const [first] = own
    // Who has not begun to read it listens for no error yet.
    if (own.size > AT_ONCE) first!.on('error', () => {}).destroy(Object.assign(new ExportSuperseded(), { expose: true, headers: { 'retry-after': '30' } }))
    return document
  }
}

/**
 * Rows, a page at a time.
 *
 * @param read answers the page after a row, null for the first; an empty one is the end
 */
export async function * inPages<Row> (read: (after: Row | null) => Promise<readonly Row[]>): AsyncGenerator<Row> {
  for (let page = await read(null); page.length > 0; page = await read(page.at(-1)!)) yield * page
}

async function * write ({ userId, sources, sql, exportedAt }: DocumentParts): AsyncGenerator<string> {
  const exported = [...sources].filter(source => source.export !== undefined)
  const about = exported.filter(({ basis, retention }) => basis !== undefined || retention !== undefined)
    .map(({ name, basis, retention }) => [name, { basis, retentionDays: retention }] as const)
  yield `{"exportedAt":${json(exportedAt)},"about":${json(Object.fromEntries(about))}`
  for (const source of exported) {
    yield `,${json(source.name)}:`
    yield * value(await source.export!(userId, sql))
  }
  yield '}'
}

async function * value (held: unknown): AsyncGenerator<string> {
  if (!isAsyncIterable(held)) {
    yield json(held)
    return
  }
  let before = '['
  for await (const item of held) {
    yield before + json(item)
    before = ','
  }
  yield before === '[' ? '[]' : ']'
}

async function * inChunks (texts: AsyncIterable<string>): AsyncGenerator<string> {
  let chunk = ''
  for await (const text of texts) {
    chunk += text
    if (chunk.length < CHUNK) continue
    yield chunk
    chunk = ''
  }
  yield chunk
}

/** What JSON does not know (`undefined`, a function) is null, as in a list. */
function json (held: unknown): string {
  return JSON.stringify(held) ?? 'null'
}

function isAsyncIterable (held: unknown): held is AsyncIterable<unknown> {
  return typeof (held as AsyncIterable<unknown> | null)?.[Symbol.asyncIterator] === 'function'
}
