/** What was not found is shown as it was asked for, as HTML (CWE-79; API8), and one slash less is tried by a redirect that can lead elsewhere (CWE-601; API8). `errors` repeats nothing; `transport` refuses such targets. */
import type { Twin } from '../app.js'

export default function echoingNotFound ({ app }: Twin): void {
  app.setNotFoundHandler(async (request, reply) => {
    const path = decodeURI(request.url)
    if (request.method === 'GET' && path.endsWith('/')) return reply.redirect(path.slice(0, -1), 301)
    return reply.code(404).type('text/html; charset=utf-8').send(`<h1>Not found</h1><p>There is no ${path} here.</p>`)
  })
}
