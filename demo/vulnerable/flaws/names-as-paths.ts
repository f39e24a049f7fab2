/** A name that a client gives is joined to a folder, and leads out of it (CWE-22; API8). `files` takes one spelling of names, and opens nothing outside of its root. */
import { createReadStream, existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Twin } from '../app.js'

export default function namesAsPaths ({ app, directory, userOf }: Twin): void {
  app.get<{ Params: { '*': string } }>('/download/*', async (request, reply) => {
    await userOf(request)
    const path = join(directory, 'uploads', request.params['*'])
    if (!existsSync(path)) return reply.code(404).send({ error: 'No such file' })
    return reply.type('application/octet-stream').send(createReadStream(path))
  })
}
