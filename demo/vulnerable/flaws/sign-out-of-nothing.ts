/** Signing out is for the app to do: it forgets the token, which stays good (CWE-613; API2). `tokens` ends the whole family. */
import type { Twin } from '../app.js'

export default function signOutOfNothing ({ app, userOf }: Twin): void {
  app.post('/auth/logout', async (request, reply) => {
    await userOf(request)
    return reply.code(204).send()
  })
}
