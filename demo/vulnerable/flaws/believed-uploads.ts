/**
 * Of a file what its sender says is believed: that it is an image (CWE-434), how it is called (CWE-73), how large it is (CWE-770) and becomes (CWE-409; API4, API8). It is shown
 * in the page's own origin, SVG with its scripts among it (CWE-79). `uploads` looks at the content, counts the bytes and the pixels, and names files itself.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { extname, join } from 'node:path'
import multipart from '@fastify/multipart'
import sharp from 'sharp'
import type { Twin } from '../app.js'

const TYPES: Record<string, string> = { '.png': 'image/png', '.jpg': 'image/jpeg', '.gif': 'image/gif', '.webp': 'image/webp', '.svg': 'image/svg+xml', '.html': 'text/html', '.txt': 'text/plain' }
const GIB = 2 ** 30

export function typeOf (name: string): string {
  return TYPES[extname(name)] ?? 'application/octet-stream'
}

export default async function believedUploads ({ app, db, directory, userOf }: Twin): Promise<void> {
  const folder = join(directory, 'uploads')
  await mkdir(folder, { recursive: true })
  await app.register(multipart, { limits: { fileSize: GIB } })

  app.post('/upload/image', async (request, reply) => {
    const { id } = await userOf(request)
    const part = await request.file()
    if (part === undefined || !part.mimetype.startsWith('image/')) return reply.code(415).send({ error: 'Send an image' })
    const content = await part.toBuffer()
    const name = part.filename
    await writeFile(join(folder, name), content)
    await db.query('insert into files (owner_id, name, type, size) values ($1, $2, $3, $4)', [id, name, part.mimetype, content.length])
    return reply.code(201).send({ name, type: part.mimetype, size: content.length, ...await previewed(content) })
  })
}

/** A small one is made for lists. */
async function previewed (content: Buffer): Promise<object> {
  try {
    const image = sharp(content, { limitInputPixels: false })
    const { width, height } = await image.metadata()
    const preview = await image.resize(64).png().toBuffer()
    return { width, height, preview: preview.toString('base64') }
  } catch {
    return {}
  }
}
