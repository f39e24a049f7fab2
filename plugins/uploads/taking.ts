/** The way of one upload: reserved, received, looked into in its turn, scanned, and kept or thrown away. Whatever happens, it leaves no draft. */
import { createHash, randomBytes } from 'node:crypto'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Upload, UploadScanner } from './contract.js'
import { checkDocx } from './docx.js'
import { UploadCutOff, UploadInfected, UploadQuotaExceeded, UploadUnscanned } from './errors.js'
import type { Images } from './images.js'
import { KINDS } from './kinds.js'
import { checkPdf } from './pdf.js'
import { isCutOff, receive, type Received } from './receive.js'
import type { UploadFacts, UploadQuota, UploadRecords } from './records.js'
import type { SettledRule } from './rule.js'
import type { Draft, UploadStorage } from './storage.js'

export interface TakingParts {
  app: FastifyInstance
  storage: UploadStorage
  records: UploadRecords | undefined
  scanner: UploadScanner | undefined
  quota: UploadQuota | null
  timeoutMs: number
  idleMs: number
  scanTimeoutMs: number
  /** Looks into a file when it is its turn. */
  inTurn: <T>(work: () => Promise<T>) => Promise<T>
  /** There, where a route takes images. */
  images: () => Images
}

/** What is under way for one request. */
export interface Incoming {
  rule: SettledRule
  reply: FastifyReply
  taken: Promise<Upload> | null
  drafts: Set<Draft>
  reservation: string | null
  /** It is checked, and its handler has it. */
  isChecked: boolean
}

export interface Taking {
  take: (request: FastifyRequest, own: Incoming) => Promise<Upload>
  /** Also where the handler failed. While a file is received or checked, whoever does that leaves nothing. */
  discardUnsaved: (own: Incoming | null) => void
  /** Records a refusal; the same error, with the connection closed where its client still sends. */
  refuse: (request: FastifyRequest, reply: FastifyReply, error: Error) => Error
  /** At the end of the service. */
  leaveAll: () => Promise<void>
}

/** Milliseconds in which a client that still sends may read why it should not. */
const LINGER_MS = 1000

export function takeUploads ({ app, storage, records, scanner, quota, timeoutMs, idleMs, scanTimeoutMs, inTurn, images }: TakingParts): Taking {
  const underWay = new Set<Incoming>()
  return { take, discardUnsaved, refuse, async leaveAll () { await Promise.all([...underWay].map(leaveNothing)) } }

  async function take (request: FastifyRequest, own: Incoming): Promise<Upload> {
    const { reply, rule } = own
    underWay.add(own)
    reply.raw.once('close', () => discardUnsaved(own))
    try {
      const id = randomBytes(16).toString('hex')
      await reserve(request, own, id)
      const draft = await newDraft(own)
      const received = await receive(request, rule, draft, { timeoutMs, idleMs })
      if (app.hasDecorator('cards')) app.cards.refuse(request, received.originalName)
      const { draft: checked, facts } = await inTurn(async () => {
        if (isCutOff(request)) throw new UploadCutOff()
        return inspect(own, draft, received, id)
      })
      if (reply.raw.destroyed) throw new UploadCutOff()
      own.isChecked = true
      let saved: Promise<UploadFacts> | null = null
      return { ...facts, save: () => { saved ??= save(request, own, checked, facts, id); return saved } }
    } catch (error) {
      await leaveNothing(own)
      throw refuse(request, reply, error as Error)
    }
  }

  async function reserve (request: FastifyRequest, own: Incoming, id: string): Promise<void> {
    const owner = ownerOf(request)
    if (records === undefined || owner === null) return
    if (!await records.reserve(id, owner, own.rule.maxBytes, quota)) throw new UploadQuotaExceeded()
    own.reservation = id
  }

  async function newDraft (own: Incoming): Promise<Draft> {
    const draft = await storage.create()
    own.drafts.add(draft)
    return draft
  }

  /** Looks into what was received; answers the draft that is to be kept. */
  async function inspect (own: Incoming, draft: Draft, { kind, originalName, size, sha256 }: Received, id: string): Promise<{ draft: Draft, facts: UploadFacts }> {
    const { extensions: [extension], type, content } = KINDS[kind]
    const common = { name: `${id}.${extension}`, type, originalName }
    let checked = draft
    let facts: UploadFacts = { ...common, size, sha256 }
    if (content === 'image') {
      checked = await newDraft(own)
      const dimensions = await images().rewrite(draft.path, checked.path, kind, own.rule)
      facts = { ...common, ...await weigh(checked), ...dimensions }
      await storage.discard(draft)
      own.drafts.delete(draft)
    } else if (content === 'pdf') await checkPdf(draft.file, size, own.rule)
    else await checkDocx(draft.path, own.rule)
    await scan(checked, facts)
    return { draft: checked, facts }
  }

  async function scan ({ path }: Draft, facts: UploadFacts): Promise<void> {
    if (scanner === undefined) return
    let found: string | null
    try {
      found = await inTime(scanner.scan({ ...facts, path }), scanTimeoutMs)
    } catch (cause) {
      throw Object.assign(new UploadUnscanned(), { cause, expose: true, headers: { 'retry-after': '30' } })
    }
    if (found !== null) throw Object.assign(new UploadInfected(), { cause: new Error(String(found)) })
  }

  async function save (request: FastifyRequest, own: Incoming, draft: Draft, facts: UploadFacts, id: string): Promise<UploadFacts> {
    const { name, size, type } = facts
    try {
      if (own.reply.raw.destroyed || !own.drafts.has(draft)) throw new UploadCutOff()
      own.drafts.delete(draft) // from here on it is this function that leaves nothing
      await storage.commit(draft, name).catch(async error => {
        await storage.discard(draft)
        throw error
      })
      await record(request, own, facts, id)
    } catch (error) {
      await leaveNothing(own)
      throw refuse(request, own.reply, error as Error)
    }
    underWay.delete(own)
    app.events.record('upload_stored', request, { name, size, type })
    return facts
  }

  async function record (request: FastifyRequest, own: Incoming, facts: UploadFacts, id: string): Promise<void> {
    const owner = ownerOf(request)
    if (records === undefined || owner === null) return
    try {
      if (!await records.settle(id, owner, facts, quota)) throw new UploadQuotaExceeded()
      own.reservation = null
    } catch (error) {
      await storage.remove(facts.name)
      throw error
    }
  }

  function discardUnsaved (own: Incoming | null): void {
    if (own?.isChecked === true && own.drafts.size > 0) leaveNothing(own).catch(error => { app.log.error({ err: error }, 'a draft could not be removed') })
  }

  /** Removes the drafts, and gives back what was reserved. */
  async function leaveNothing (own: Incoming): Promise<void> {
    underWay.delete(own)
    const drafts = [...own.drafts]
    own.drafts.clear()
    const { reservation } = own
    own.reservation = null
    await Promise.all([...drafts.map(draft => storage.discard(draft)), reservation === null ? undefined : records?.release(reservation)])
  }

  function refuse (request: FastifyRequest, reply: FastifyReply, error: Error): Error {
    const { code, statusCode = 500 } = error as { code?: string, statusCode?: number }
    if (!request.raw.complete && !request.raw.readableEnded) {
      reply.header('connection', 'close')
      linger(request)
    }
    if (statusCode < 500 || error instanceof UploadUnscanned) {
      const { cause } = error
      app.events.record('upload_refused', request, { code, ...cause instanceof Error && { reason: cause.message.slice(0, 200) } })
    }
    return error
  }
}

/**
 * A connection that is closed while its client still sends is reset, and with it goes the answer (RFC 9112, 9.6): what still comes is read to nowhere,
 * for a moment.
 */
function linger ({ raw: { socket, httpVersionMajor } }: FastifyRequest): void {
  if (httpVersionMajor !== 1 || typeof socket?.destroySoon !== 'function') return
  socket.destroySoon = function closeSlowly () {
    socket.end()
    const timer = setTimeout(() => socket.destroy(), LINGER_MS)
    socket.once('close', () => clearTimeout(timer))
  }
}

/** A user's files are counted together, whichever of his keys sends them. */
function ownerOf (request: FastifyRequest): string | null {
  return (request as { principal?: { userId: string } | null }).principal?.userId ?? null
}

/** Bytes and digest of what is to be stored. */
async function weigh ({ file }: Draft): Promise<{ size: number, sha256: string }> {
  const hash = createHash('sha256')
  const buffer = Buffer.alloc(65_536)
  let size = 0
  while (true) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, size)
    if (bytesRead === 0) return { size, sha256: hash.digest('hex') }
    hash.update(buffer.subarray(0, bytesRead))
    size += bytesRead
  }
}

async function inTime<T> (work: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => { timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms) })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
