/**
 * Uploads: one file a request, streamed to a draft, looked into, and kept only whole, under a name of ours.
 *
 * Threat: files that are not what they are called (CWE-434), too large or too many (CWE-400, CWE-770), that inflate (CWE-409), that leave
 * their folder (CWE-22), that tell where and by whom they were made (CWE-201); uploads that end in the middle and leave a part.
 * Defence: size by Content-Length before anything is read and by the stream; extension, declared type and content agree; images are decoded and
 * written anew; documents are looked into; a scanner and a quota of the service; drafts are removed whatever happens, at the next start too.
 * Not covered: what the content says. Faults of the decoders.
 * Sources: OWASP ASVS 5.0 (5.2, 5.3), OWASP File Upload Cheat Sheet, RFC 7578.
 */
import { randomBytes, createHash } from 'node:crypto'
import multipart from '@fastify/multipart'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { noBody } from '../../schemas/closed.js'
import { measured } from '../measured.js'
import { checkOptions } from '../options.js'
import type { PlannedRoute, Step } from '../plan/index.js'
import type { Upload, UploadScanner } from './contract.js'
import { checkDocx } from './docx.js'
import { UploadCutOff, UploadInfected, UploadQuotaExceeded, UploadsMisconfigured, UploadTooLarge, UploadUndeclared, UploadUnscanned } from './errors.js'
import { loadImages, type Images } from './images.js'
import { KINDS } from './kinds.js'
import { checkPdf } from './pdf.js'
import { FRAME_BYTES, isCutOff, receive, type Received } from './receive.js'
import type { UploadFacts, UploadRecords } from './records.js'
import { promiseOf, settleRule, takesImages, type SettledRule, type UploadRule } from './rule.js'
import { isStoredName, localStorage, type Draft, type UploadStorage } from './storage.js'
import { takeTurns } from './turns.js'

export * from './errors.js'
export type { Upload, UploadScanner } from './contract.js'
export type { UploadRule } from './rule.js'
export { sqlUploads, UPLOADS_TABLE } from './records.js'
export type { UploadFacts, UploadQuota, UploadRecord, UploadRecords } from './records.js'
export { localStorage } from './storage.js'
export type { Draft, UploadStorage } from './storage.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** This route takes one file, which its handler gets by `request.upload()`. */
    upload?: UploadRule
  }
  interface FastifyInstance {
    uploads: Uploads
  }
  interface FastifyRequest {
    /**
     * Receives and checks the file of this request, once: the same one for whoever asks again. Kept only where `save()` is called.
     *
     * @throws UploadMalformed (400), UploadTooLarge (413), UploadTypeRefused (415), UploadDamaged (400), UploadActive (400), UploadInfected (400),
     * UploadUnscanned (503), UploadQuotaExceeded (413), UploadTimeout (408), UploadCutOff (400), UploadsBusy (503)
     */
    upload: () => Promise<Upload>
    /** @internal */
    [incoming]: Incoming | null
  }
}

export interface Uploads {
  readonly storage: UploadStorage
  /** Removes a file and its record; true where there was one. */
  remove: (name: string, request?: FastifyRequest | null) => Promise<boolean>
}

export const UploadsOptions = Type.Object({
  folder: Type.Optional(Type.String({ minLength: 1, description: 'Folder of this machine in which they are kept; or give a `storage` of your own' })),
  quota: Type.Optional(Type.Object({
    files: Type.Integer({ minimum: 1 }),
    bytes: Type.Integer({ minimum: 1 }),
  }, { additionalProperties: false, description: '`files` and `bytes` that one user may have stored. Wants `records`' })),
  timeoutMs: Type.Optional(Type.Integer({ minimum: 100, default: 60_000, description: 'Milliseconds in which an upload must have arrived. `requestTimeout` of `server()` holds too' })),
  idleMs: Type.Optional(Type.Integer({ minimum: 50, default: 10_000, description: 'Milliseconds in which some of it must arrive' })),
  concurrency: Type.Optional(Type.Integer({ minimum: 1, maximum: 64, default: 2, description: 'Files looked into at once' })),
  queue: Type.Optional(Type.Integer({ minimum: 0, default: 256, description: 'Files that wait for that at most' })),
  scanTimeoutMs: Type.Optional(Type.Integer({ minimum: 10, default: 30_000, description: 'Milliseconds that the scanner may take' })),
}, { additionalProperties: false })
export type UploadsOptions = Static<typeof UploadsOptions> & {
  /** Instead of `folder`. */
  storage?: UploadStorage
  /** Who has which files: `sqlUploads(sql)`, or your own. */
  records?: UploadRecords
  scanner?: UploadScanner
}

/** What is under way for one request. */
interface Incoming {
  rule: SettledRule
  reply: FastifyReply
  taken: Promise<Upload> | null
  drafts: Set<Draft>
  reservation: string | null
  /** It is checked, and its handler has it. */
  isChecked: boolean
}

const STORAGE = ['create', 'commit', 'discard', 'open', 'remove'] as const
const RECORDS = ['reserve', 'settle', 'release', 'find', 'list', 'remove', 'known'] as const
/** Milliseconds in which a client that still sends may read why it should not. */
const LINGER_MS = 1000
const FOR_CONTENT: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH'])

const incoming = Symbol('bastion.uploads.incoming')

async function uploads (app: FastifyInstance, options: UploadsOptions): Promise<void> {
  const { storage: own, records, scanner, ...plain } = options
  checkOptions(UploadsOptions, plain, 'uploads', UploadsMisconfigured)
  const { folder, quota = null, timeoutMs = 60_000, idleMs = 10_000, concurrency = 2, queue = 256, scanTimeoutMs = 30_000 } = plain
  if ((folder === undefined) === (own === undefined)) throw new UploadsMisconfigured('uploads: give either a folder or a storage')
  if (own !== undefined) wantMethods('storage', own, STORAGE)
  if (records !== undefined) wantMethods('records', records, RECORDS)
  if (scanner !== undefined) wantMethods('scanner', scanner, ['scan'])
  if (quota !== null && records === undefined) throw new UploadsMisconfigured('uploads: quota: wants records, by which it is counted')
  const storage = own ?? openFolder(folder!)
  const inTurn = takeTurns(concurrency, queue, (running, waiting) => {
    measured(app).gauge('bastion_uploads_running', 'Uploads that are looked into now', running)
    measured(app).gauge('bastion_uploads_waiting', 'Uploads that wait for their turn', waiting)
  })
  const underWay = new Set<Incoming>()
  let images: Images | null = null

  if (!app.hasRequestDecorator('isMultipart')) await app.register(multipart)
  app.decorateRequest(incoming as never, null as never)
  app.decorateRequest('upload', takeUpload)
  app.decorate('uploads', {
    storage,
    async remove (name, request = null) {
      const wasRecorded = await records?.remove(name) ?? false
      const wasThere = await storage.remove(name)
      if (wasThere) app.events.record('upload_removed', request, { name })
      return wasThere || wasRecorded
    },
  })
  app.addHook('onReady', async function sweepUploads () { await storage.sweep?.(records?.known) })
  app.addHook('onClose', async function discardUploads () { await Promise.all([...underWay].map(leaveNothing)) })

  app.plan.contribute({
    concern: 'uploads',
    // Who may not is refused before; the body comes after.
    stage: 'csrf',
    declare (route) {
      const { upload } = (route.options.config ?? {}) as { upload?: { field?: unknown } }
      if (upload === undefined || !isForContent(route)) return
      const schema = (route.options.schema ?? {}) as { body?: unknown }
      if (schema.body !== undefined && schema.body !== noBody) route.object('upload: the form is its whole body: leave schema.body out')
      else route.options.schema = { ...schema, body: formOf(String(upload?.field ?? 'file')) } as never
    },
    async compile (route) {
      const { upload } = (route.options.config ?? {}) as { upload?: unknown }
      if (upload === undefined || route.kind !== 'route') return undefined
      const rule = settleRule(upload)
      if (!isForContent(route)) route.object('upload: only POST, PUT and PATCH carry a file')
      if (quota !== null && route.controls.access === 'public') route.object('upload: a quota is counted by user, and this route is public')
      if (takesImages(rule)) images ??= await neededImages()
      return { step: expectUpload(rule), promise: { ...promiseOf(rule), scanned: scanner !== undefined, quota } }
    },
  })
  app.plan.contribute({
    concern: 'uploads',
    stage: 'record',
    compile: route => (route.options.config as { upload?: unknown } | undefined)?.upload === undefined || route.kind !== 'route' ? undefined : { step: discardUnsaved },
  })

  function expectUpload (rule: SettledRule): Step {
    return function refuseLargeUpload (request, reply) {
      const length = Number(request.headers['content-length'] ?? 0)
      if (length > rule.maxBytes + FRAME_BYTES) throw refuse(request, reply, new UploadTooLarge())
      request[incoming] = { rule, reply, taken: null, drafts: new Set(), reservation: null, isChecked: false }
    }
  }

  async function takeUpload (this: FastifyRequest): Promise<Upload> {
    const own = this[incoming]
    if (own === null) throw new UploadUndeclared()
    own.taken ??= take(this, own)
    return own.taken
  }

  async function take (request: FastifyRequest, own: Incoming): Promise<Upload> {
    const { reply, rule } = own
    underWay.add(own)
    reply.raw.once('close', () => discardUnsaved(request))
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
      const dimensions = await images!.rewrite(draft.path, checked.path, kind, own.rule)
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

  /** Also where the handler failed. While a file is received or checked, whoever does that leaves nothing. */
  function discardUnsaved (request: FastifyRequest): void {
    const own = request[incoming]
    if (own?.isChecked === true && own.drafts.size > 0) leaveNothing(own).catch(error => { app.log.error({ err: error }, 'a draft could not be removed') })
  }

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

function openFolder (folder: string): UploadStorage {
  try {
    return localStorage(folder)
  } catch (cause) {
    throw Object.assign(new UploadsMisconfigured('uploads: folder: cannot be made or read'), { cause })
  }
}

async function neededImages (): Promise<Images> {
  return loadImages().catch(cause => {
    throw Object.assign(new UploadsMisconfigured('upload: images are decoded by the package sharp: npm i sharp'), { cause })
  })
}

function wantMethods (option: string, port: object, names: readonly string[]): void {
  if (names.every(name => typeof (port as Record<string, unknown> | null)?.[name] === 'function')) return
  throw new UploadsMisconfigured(`uploads: ${option}: must be an object with ${names.join(', ')}`)
}

function isForContent ({ kind, options }: PlannedRoute): boolean {
  return kind === 'route' && [options.method].flat().every(method => FOR_CONTENT.has(method))
}

/** The form, for documentation: the parser hands on nothing of it, and `null` is what is validated. */
function formOf (field: string): object {
  return {
    content: {
      'multipart/form-data': {
        schema: {
          type: ['object', 'null'],
          properties: { [field]: { type: 'string', contentMediaType: 'application/octet-stream' } },
          additionalProperties: false,
        },
      },
    },
  }
}

export { isStoredName }
export default fp(uploads, { fastify: '5.x', name: 'bastion-uploads', dependencies: ['bastion-plan', 'bastion-events'] })
