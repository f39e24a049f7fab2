/** Links in mails lead to the host that the request names (CWE-644; API8). `transport` answers for its own names alone. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Twin } from '../app.js'

export default function linksByHost ({ app, directory, userById }: Twin): void {
  app.addHook<{ Params: { documentId: string }, Body: { userId: string } }>('onResponse', async (request, reply) => {
    if (request.routeOptions.url !== '/documents/:documentId/shares' || reply.statusCode !== 201) return
    const user = await userById(request.body.userId)
    const folder = join(directory, 'mail')
    await mkdir(folder, { recursive: true })
    const link = `${request.protocol}://${request.headers.host}/#/documents/${request.params.documentId}`
    await writeFile(join(folder, `${request.id}.txt`), `To: ${user?.email}\nSubject: A document was shared with you\n\nSign in and read it: ${link}\n`)
  })
}
