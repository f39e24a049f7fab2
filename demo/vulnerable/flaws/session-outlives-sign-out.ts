/** Signing out takes the cookie from the browser, and leaves the session where it is (CWE-613; API2). `sessions` ends it, and never brings it back. */
import type { Twin } from '../app.js'

export default function sessionOutlivesSignOut ({ app }: Twin): void {
  app.post('/session/logout', async (_request, reply) => reply.header('set-cookie', 'session=; Path=/; Max-Age=0').code(204).send())
}
