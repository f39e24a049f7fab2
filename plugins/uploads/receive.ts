/**
 * Receives one file: from the socket to a draft, with as much of it in memory as one chunk.
 *
 * @fastify/multipart reads the form. What it leaves to its user is settled here: a file over its limit ends as if it were whole, and more
 * parts may follow it; a client that stands still holds the request for ever; whatever goes before the first part is read without end.
 */
import { createHash } from 'node:crypto'
import type { MultipartFile } from '@fastify/multipart'
import type { FastifyRequest } from 'fastify'
import { UploadCutOff, UploadMalformed, UploadTimeout, UploadTooLarge, UploadTypeRefused } from './errors.js'
import { beginsLike, HEAD_BYTES, kindOf, type KindName } from './kinds.js'
import { cleanName, extensionOf, isNameOfFile } from './names.js'
import type { SettledRule } from './rule.js'
import type { Draft } from './storage.js'

/** Bytes of a request beyond those of its file: boundaries and part headers. */
export const FRAME_BYTES = 16_384

/** What came, as its client says; its first bytes agree with that. */
export interface Received { kind: KindName, originalName: string, size: number, sha256: string }

export interface Patience {
  /** Milliseconds for the whole of it. */
  timeoutMs: number
  /** Milliseconds in which something must come. */
  idleMs: number
}

/** @throws UploadMalformed, UploadTypeRefused, UploadTooLarge, UploadTimeout, UploadCutOff */
export async function receive (request: FastifyRequest, rule: SettledRule, draft: Draft, patience: Patience): Promise<Received> {
  const { raw } = request
  if (!request.isMultipart()) throw new UploadTypeRefused()
  if (isCutOff(request)) throw new UploadCutOff()
  // One byte more than is taken shows that there is more; two parts more, that there is a second one. Fields are parts that nobody asked for.
  const parts = request.parts({
    limits: { fileSize: rule.maxBytes + 1, files: 2, fields: 1, fieldSize: 1024, fieldNameSize: 100, parts: 3, headerPairs: 20 },
  })
  let current = null as MultipartFile['file'] | null
  const failure = deferred()
  failure.promise.catch(() => {})
  const fail = (error: Error) => {
    failure.reject(error)
    current?.destroy(error)
  }
  const next = () => Promise.race([parts.next(), failure.promise])
  const whole = setTimeout(fail, patience.timeoutMs, new UploadTimeout())
  const idle = setTimeout(fail, patience.idleMs, new UploadTimeout())
  let arrived = 0
  const count = (chunk: Buffer) => {
    idle.refresh()
    arrived += chunk.length
    if (arrived > rule.maxBytes + FRAME_BYTES) fail(new UploadTooLarge())
  }

  try {
    const first = next() // from here on the form is read
    raw.on('data', count)
    const { value: part, done } = await first
    if (done === true || part.type !== 'file' || part.fieldname !== rule.field || !isNameOfFile(part.filename ?? '')) throw new UploadMalformed()
    const kind = kindOf(extensionOf(part.filename), part.mimetype.toLowerCase(), rule.kinds)
    if (kind === null) throw new UploadTypeRefused()
    current = part.file
    const { size, sha256, head } = await write(part.file, draft, rule.maxBytes)
    if (part.file.truncated) throw new UploadTooLarge()
    if ((await next()).done !== true) throw new UploadMalformed()
    if (!await beginsLike(head, kind)) throw new UploadTypeRefused()
    return { kind, originalName: cleanName(part.filename), size, sha256 }
  } catch (error) {
    const refusal = refusalFor(error as Error & { code?: string }, request)
    raw.unpipe()
    // Who is refused for something else than size or time is read to the end, within its limits: a client that still sends may never read why.
    if (refusal instanceof UploadMalformed || refusal instanceof UploadTypeRefused) await Promise.race([endOf(request), failure.promise]).catch(() => {})
    throw refusal
  } finally {
    clearTimeout(whole)
    clearTimeout(idle)
    raw.off('data', count)
    current?.destroy()
  }
}

function endOf ({ raw }: FastifyRequest): Promise<void> {
  return new Promise(resolve => {
    if (raw.readableEnded || raw.destroyed) return resolve()
    raw.once('end', resolve).once('close', resolve).resume()
  })
}

/** The client is gone, and the whole of its request never came. */
export function isCutOff ({ raw }: FastifyRequest): boolean {
  return raw.destroyed && !raw.complete && !raw.readableEnded
}

async function write (source: AsyncIterable<Buffer>, { file }: Draft, maxBytes: number): Promise<{ size: number, sha256: string, head: Buffer }> {
  const hash = createHash('sha256')
  const heads: Buffer[] = []
  let size = 0
  for await (const chunk of source) {
    if (size < HEAD_BYTES) heads.push(Buffer.from(chunk.subarray(0, HEAD_BYTES - size)))
    size += chunk.length
    if (size > maxBytes) throw new UploadTooLarge()
    hash.update(chunk)
    for (let written = 0; written < chunk.length;) written += (await file.write(chunk, written)).bytesWritten
  }
  return { size, sha256: hash.digest('hex'), head: Buffer.concat(heads) }
}

/** Errors of the form's parser are told apart by who is at fault; those of the disk are nobody's but ours. */
function refusalFor (error: Error & { code?: string, syscall?: string }, request: FastifyRequest): Error {
  const { code = '' } = error
  if (code.startsWith('FST_BASTION_') || error.syscall !== undefined) return error
  if (code === 'FST_REQ_FILE_TOO_LARGE') return new UploadTooLarge()
  const Refusal = code === 'FST_MP_PREMATURE_CLOSE' || isCutOff(request) ? UploadCutOff : UploadMalformed
  return Object.assign(new Refusal(), { cause: error })
}

function deferred (): { promise: Promise<never>, reject: (error: Error) => void } {
  let reject!: (error: Error) => void
  const promise = new Promise<never>((_resolve, _reject) => { reject = _reject })
  return { promise, reject }
}
