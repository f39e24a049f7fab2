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
import multipart from '@fastify/multipart'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { noBody } from '../../schemas/closed.js'
import { measured } from '../measured.js'
import { checkOptions } from '../options.js'
import type { Step } from '../plan/index.js'
import type { Upload, UploadScanner } from './contract.js'
import { UploadsMisconfigured, UploadTooLarge, UploadUndeclared } from './errors.js'
import { formOf, isForContent } from './form.js'
import type { Images } from './images.js'
import { neededImages, openFolder, wantMethods } from './ports.js'
import { FRAME_BYTES } from './receive.js'
import type { UploadRecords } from './records.js'
import { promiseOf, settleRule, takesImages, type SettledRule, type UploadRule } from './rule.js'
import type { UploadStorage } from './storage.js'
import { takeUploads, type Incoming } from './taking.js'
import { takeTurns } from './turns.js'

export * from './errors.js'
export type { Upload, UploadScanner } from './contract.js'
export type { UploadRule } from './rule.js'
export { sqlUploads, UPLOADS_TABLE } from './records.js'
export type { UploadFacts, UploadQuota, UploadRecord, UploadRecords } from './records.js'
export { isStoredName, localStorage } from './storage.js'
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

const STORAGE = ['create', 'commit', 'discard', 'open', 'remove'] as const
const RECORDS = ['reserve', 'settle', 'release', 'find', 'list', 'remove', 'known'] as const

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
  let images: Images | null = null
  const taking = takeUploads({ app, storage, records, scanner, quota, timeoutMs, idleMs, scanTimeoutMs, inTurn, images: () => images! })

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
  app.addHook('onClose', async function discardUploads () { await taking.leaveAll() })

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
    touches: ({ options }) => (options.config as { upload?: unknown } | undefined)?.upload !== undefined,
    compile: route => (route.options.config as { upload?: unknown } | undefined)?.upload === undefined || route.kind !== 'route' ? undefined : { step: discardUnsaved },
  })

  function expectUpload (rule: SettledRule): Step {
    return function refuseLargeUpload (request, reply) {
      const length = Number(request.headers['content-length'] ?? 0)
      if (length > rule.maxBytes + FRAME_BYTES) throw taking.refuse(request, reply, new UploadTooLarge())
      request[incoming] = { rule, reply, taken: null, drafts: new Set(), reservation: null, isChecked: false }
    }
  }

  async function takeUpload (this: FastifyRequest): Promise<Upload> {
    const own = this[incoming]
    if (own === null) throw new UploadUndeclared()
    own.taken ??= taking.take(this, own)
    return own.taken
  }

  function discardUnsaved (request: FastifyRequest): void {
    taking.discardUnsaved(request[incoming])
  }
}

export default fp(uploads, { fastify: '5.x', name: 'bastion-uploads', dependencies: ['bastion-plan', 'bastion-events'] })
