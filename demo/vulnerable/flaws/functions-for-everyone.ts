/** What is for admins asks for a sign-in and no more, as only their pages show the buttons (CWE-862; API5). `access` names on each route who may call it. */
import type { Twin } from '../app.js'

interface Params { userId: string }

export default function functionsForEveryone ({ app, db, userOf }: Twin): void {
  app.delete<{ Params: Params }>('/users/:userId', async (request, reply) => {
    await userOf(request)
    await db.query('delete from users where id = $1', [Number(request.params.userId)])
    return reply.code(204).send()
  })

  app.get('/posture', async request => {
    await userOf(request)
    return { routes: app.printRoutes({ commonPrefix: false }).split('\n') }
  })
}
