/**
 * Files: what is served from a folder by a name that a client gives.
 *
 * Threat: names that leave the folder (CWE-22), links that lead out of it (CWE-59), a link that is put there between the check and the
 * opening (CWE-367), files that a browser runs in the name of this origin (CWE-434), names that break headers (CWE-113).
 * Defence: a name has one spelling, all others are refused; the file is opened first, without following links, and what was opened is what is
 * checked: a regular file, at exactly that place in the root. It is sent as an attachment, of a known type or of none.
 * Not covered: who may have it (that is access); hard links that somebody with rights on the folder makes.
 * Sources: OWASP ASVS 5.0 (5.3.2, 5.4.1, 5.4.2), RFC 9110 (13, 14), RFC 6266, RFC 8187.
 */
import { createHash } from 'node:crypto'
import { constants, realpathSync, statSync, type BigIntStats } from 'node:fs'
import { lstat, open as openFile, readlink, type FileHandle } from 'node:fs/promises'
import { isAbsolute, join, sep } from 'node:path'
import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { createError } from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { checkOptions } from './options.js'
import { createRefusal } from './refusal.js'

declare module 'fastify' {
  interface FastifyInstance {
    files: Files
  }
}

/** An option of the files concern is wrong, or one of its folders is not there. */
export const FilesMisconfigured = createError<[string]>('FST_BASTION_FILES_MISCONFIGURED', '%s', 500, TypeError)
/** The name is none that a file in a root could have, or another spelling of one. */
export const FileNameRefused = createRefusal('FST_BASTION_FILES_NAME', 'This is no name of a file here', 400)
/** There is no such file, or it is none that is served. */
export const FileNotFound = createRefusal('FST_BASTION_FILES_NOT_FOUND', 'There is no such file', 404)
/** No part of the range is in the file. */
export const RangeNotSatisfiable = createRefusal('FST_BASTION_FILES_RANGE', 'No part of this range is in the file', 416)

/** A file that was opened and checked. Send it, or close its handle. */
export interface OpenedFile {
  readonly handle: FileHandle
  /** Its last segment. */
  readonly name: string
  /** Bytes. */
  readonly size: number
  /** Strong: changes with the file. */
  readonly etag: string
}

export interface Files {
  /**
   * Opens a file of a root.
   *
   * @param root name of one of the `roots`
   * @param name segments with `/` between them, each decoded once, as a route's parameter is
   * @throws FileNameRefused (400), FileNotFound (404)
   */
  open: (root: string, name: string) => Promise<OpenedFile>
  /**
   * Opens a file and answers with it: whole, or the range that is asked for; nothing where the client has it, or asked by HEAD. The route wants
   * `config: { answers: 'raw' }`.
   *
   * @param as the name under which it is saved; by default its own
   * @throws FileNameRefused (400), FileNotFound (404), RangeNotSatisfiable (416)
   */
  send: (request: FastifyRequest, reply: FastifyReply, root: string, name: string, as?: string) => Promise<FastifyReply>
}

export const FilesOptions = Type.Object({
  roots: Type.Record(Type.String({ pattern: '^[A-Za-z][A-Za-z0-9-]{0,63}$' }), Type.String({ minLength: 1 }), {
    minProperties: 1, additionalProperties: false, description: 'Folders from which files are served, by a name for each; absolute paths. They must be there',
  }),
}, { additionalProperties: false })
export type FilesOptions = Static<typeof FilesOptions>

const MAX_NAME = 1024
const MAX_SEGMENT = 255
const MAX_DEPTH = 16
/** Names that are devices on Windows, whatever extension they have. */
const DEVICE = /^(?:con|prn|aux|nul|clock\$|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?$/i
/** What no segment holds: control and invisible characters, half a surrogate pair, the separators and streams of Windows, what is still encoded. */
const ODD = /[\p{Cc}\p{Cf}\p{Cs}\\:*?"<>|]|%[0-9a-f]{2}/iu
/** Types that are told; a browser that is told none saves it. */
const TYPES: Readonly<Record<string, string>> = {
  jpg: 'image/jpeg',
  jpeg: 'image/jpeg',
  png: 'image/png',
  gif: 'image/gif',
  webp: 'image/webp',
  pdf: 'application/pdf',
  docx: 'application/vnd.openxmlformats-officedocument.wordprocessingml.document',
  txt: 'text/plain; charset=utf-8',
  csv: 'text/csv; charset=utf-8',
  json: 'application/json',
  zip: 'application/zip',
  mp4: 'video/mp4',
  mp3: 'audio/mpeg',
}
const UNKNOWN_TYPE = 'application/octet-stream'
/** What the system says where there is no such file, or none that is opened in this way. */
const ABSENT: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'EMLINK', 'ENAMETOOLONG', 'EACCES', 'EPERM', 'EISDIR', 'ENXIO', 'ENODEV', 'EINVAL'])
/** A pipe that nobody writes to would hold the thread that opens it. */
const FLAGS = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0)

async function files (app: FastifyInstance, options: FilesOptions): Promise<void> {
  checkOptions(FilesOptions, options, 'files', FilesMisconfigured)
  const roots = new Map(Object.entries(options.roots).map(([name, path]) => [name, rootOf(name, path)]))

  app.decorate('files', { open, send })

  async function open (root: string, name: string): Promise<OpenedFile> {
    const folder = roots.get(root)
    if (folder === undefined) throw new FilesMisconfigured(`files: ${JSON.stringify(root)} is none of the roots`)
    const segments = segmentsOf(name)
    const path = join(folder, ...segments)
    const handle = await openFile(path, FLAGS).catch(refuseAbsent)
    try {
      const stats = await handle.stat({ bigint: true })
      if (!stats.isFile() || !await isAt(handle, stats, folder, segments)) throw new FileNotFound()
      return { handle, name: segments.at(-1)!, size: Number(stats.size), etag: etagOf(stats) }
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  async function send (request: FastifyRequest, reply: FastifyReply, root: string, name: string, as?: string): Promise<FastifyReply> {
    const opened = await open(root, name)
    const { handle, size, etag } = opened
    let isSent = false
    try {
      reply.headers({
        'accept-ranges': 'bytes',
        'content-disposition': dispositionOf(as ?? opened.name),
        'x-content-type-options': 'nosniff',
        etag,
      })
      if (isKnown(request.headers['if-none-match'], etag)) return reply.code(304).send()
      const range = rangeOf(request, size, etag)
      if (range === 'none') {
        reply.header('content-range', `bytes */${size}`).removeHeader('content-disposition').removeHeader('etag')
        throw new RangeNotSatisfiable()
      }
      const { start, end } = range ?? { start: 0, end: size - 1 }
      if (range !== null) reply.code(206).header('content-range', `bytes ${start}-${end}/${size}`)
      reply.type(typeOf(opened.name)).header('content-length', end - start + 1)
      // An empty stream: for a HEAD that answers nothing at all, Fastify writes the length anew.
      if (request.method === 'HEAD') return reply.send(Readable.from([]))
      if (size === 0) return reply.send()
      isSent = true
      return reply.send(handle.createReadStream({ start, end }))
    } finally {
      if (!isSent) await handle.close()
    }
  }
}

/**
 * The segments of a name, which has no other spelling.
 *
 * @throws FileNameRefused
 */
export function segmentsOf (name: string): string[] {
  const segments = typeof name === 'string' && name.length <= MAX_NAME ? name.split('/') : []
  if (segments.length === 0 || segments.length > MAX_DEPTH || !segments.every(isSegment)) throw new FileNameRefused()
  return segments
}

function isSegment (segment: string): boolean {
  // Hidden files are not served; Windows drops dots and spaces at the end, and opens another file.
  return segment !== '' && Buffer.byteLength(segment) <= MAX_SEGMENT && !/^[. ]|[. ]$/.test(segment) && !ODD.test(segment) && !DEVICE.test(segment)
}

/** What was opened stands at exactly this place: no segment of the way was a link, when it was opened or since. */
async function isAt (handle: FileHandle, { dev, ino }: BigIntStats, folder: string, segments: readonly string[]): Promise<boolean> {
  const path = join(folder, ...segments)
  if (process.platform === 'linux') {
    const real = await readlink(`/proc/self/fd/${handle.fd}`).catch(() => null)
    if (real !== null) return real === path
  }
  for (let i = 1; i < segments.length; i++) if (!(await lstat(join(folder, ...segments.slice(0, i))).catch(refuseAbsent)).isDirectory()) return false
  const found = await lstat(path, { bigint: true }).catch(refuseAbsent)
  return found.dev === dev && found.ino === ino
}

function rootOf (name: string, path: string): string {
  if (!isAbsolute(path)) throw new FilesMisconfigured(`files: roots.${name}: must be an absolute path`)
  try {
    const real = realpathSync(path)
    if (statSync(real).isDirectory() && real !== sep) return real
  } catch (cause) {
    throw Object.assign(new FilesMisconfigured(`files: roots.${name}: is not there`), { cause })
  }
  throw new FilesMisconfigured(`files: roots.${name}: is no folder to serve files from`)
}

function refuseAbsent (error: NodeJS.ErrnoException): never {
  throw ABSENT.has(error.code) ? Object.assign(new FileNotFound(), { cause: error }) : error
}

function etagOf ({ dev, ino, size, mtimeNs }: BigIntStats): string {
  return `"${createHash('sha256').update(`${dev}.${ino}.${size}.${mtimeNs}`).digest('base64url').slice(0, 27)}"`
}

function typeOf (name: string): string {
  return TYPES[/\.([a-z0-9]+)$/i.exec(name)?.[1]?.toLowerCase() ?? ''] ?? UNKNOWN_TYPE
}

/** `attachment`, with a name in ASCII for old readers and the whole one for all others (RFC 6266, 4.3; RFC 8187). */
export function dispositionOf (name: string): string {
  const whole = name.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}/\\]/gu, '_')
  const plain = whole.normalize('NFKD').replace(/\p{M}/gu, '').replace(/[^ !#$&+\-.0-9A-Z^_`a-z{}~()@,;=[\]]/g, '_')
  const encoded = encodeURIComponent(whole).replace(/['()*]/g, character => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)
  return `attachment; filename="${plain}"${plain === whole ? '' : `; filename*=UTF-8''${encoded}`}`
}

/** RFC 9110, 13.1.2: compared weakly. */
function isKnown (header: string | undefined, etag: string): boolean {
  return header !== undefined && (header.trim() === '*' || header.split(',').some(tag => tag.trim().replace(/^W\//, '') === etag))
}

/** The one range that is asked for; null for the whole file (also where several are asked for, RFC 9110, 14.2), `none` where it is outside. */
function rangeOf ({ headers }: FastifyRequest, size: number, etag: string): { start: number, end: number } | 'none' | null {
  const [, first = '', last = ''] = /^bytes=\s*(\d{0,15})-(\d{0,15})\s*$/.exec(headers.range ?? '') ?? []
  if (first === '' && last === '') return null
  const condition = headers['if-range']
  if (condition !== undefined && condition !== etag) return null
  if (first !== '' && last !== '' && Number(last) < Number(first)) return null
  const start = first === '' ? Math.max(0, size - Number(last)) : Number(first)
  const end = first === '' || last === '' ? size - 1 : Math.min(size - 1, Number(last))
  return start >= size || (first === '' && Number(last) === 0) ? 'none' : { start, end }
}

export default fp(files, { fastify: '5.x', name: 'bastion-files' })
