/** Files: what users put into their own part of the portal, and get back. */
import { Type } from '@sinclair/typebox'
import { resourceOf } from '../../plugins/access/index.js'
import { NotFound } from '../../plugins/errors.js'
import { principalOf } from '../../plugins/identity.js'
import type { UploadRecord } from '../../plugins/uploads/index.js'
import { closed, page } from '../../schemas/index.js'
import type { Portal } from '../app.js'

const MIB = 1_048_576
/** What one user may have stored. */
export const QUOTA = { files: 100, bytes: 200 * MIB }

const FileName = Type.String({ minLength: 1, maxLength: 200 })
const common = { name: Type.String(), size: Type.Integer(), type: Type.String(), sha256: Type.String() }
const StoredImage = Type.Object({ ...common, width: Type.Integer(), height: Type.Integer() }, { additionalProperties: false })
const StoredDocument = Type.Object(common, { additionalProperties: false })

/** A file as its owner sees it, in the list and in the export. */
export const StoredFile = Type.Object({
  ...common, originalName: Type.String(), width: Type.Optional(Type.Integer()), height: Type.Optional(Type.Integer()), createdAt: Type.String({ format: 'date-time' }),
}, { additionalProperties: false })

export function fileShape ({ owner, createdAt, ...facts }: UploadRecord) {
  return { ...facts, createdAt: createdAt.toISOString() }
}

export function fileRoutes ({ app, uploads }: Portal): void {
  app.post('/upload/image', {
    schema: { response: { 201: StoredImage } },
    config: { access: 'user', audit: 'data_modification', upload: { kinds: ['jpeg', 'png', 'gif', 'webp'], maxBytes: 5 * MIB, maxWidth: 4000, maxHeight: 4000 } },
  }, async (request, reply) => {
    const { width = 0, height = 0, ...file } = await (await request.upload()).save()
    reply.code(201)
    return { ...file, width, height }
  })

  app.post('/upload/document', {
    schema: { response: { 201: StoredDocument } },
    config: { access: 'user', audit: 'data_modification', upload: { kinds: ['pdf', 'docx'], maxBytes: 10 * MIB } },
  }, async (request, reply) => {
    const file = await (await request.upload()).save()
    reply.code(201)
    return file
  })

  // All of them: there are no more than the quota allows.
  app.get('/files', {
    schema: { response: { 200: page(StoredFile) } },
    config: { access: 'user' },
  }, async request => ({ items: (await uploads.list(principalOf(request).userId)).map(fileShape), nextCursor: null }))

  app.delete('/files/:name', {
    schema: { params: closed({ name: FileName }), response: { 204: Type.Null() } },
    config: { access: { resource: 'file', action: 'delete' }, audit: 'data_modification' },
  }, async (request, reply) => {
    if (!await app.uploads.remove(resourceOf(request, 'file').name, request)) throw new NotFound()
    reply.code(204)
  })

  for (const [url, param] of [['/files/:name', 'name'], ['/download/*', '*']] as const) {
    app.get(url, {
      schema: { params: closed({ [param]: FileName }) },
      config: { access: { resource: 'file', action: 'read' }, audit: 'data_access', answers: 'raw' },
    }, async (request, reply) => {
      const { name, originalName } = resourceOf(request, 'file')
      return app.files.send(request, reply, 'uploads', name, originalName)
    })
  }
}
