/** What is guarded is told by how the URL begins, as it was written (CWE-647; API5). `access` hangs on the route that runs, however it was spelled. */
import type { Twin } from '../app.js'

export default function guardsByUrl ({ app, db, userOf }: Twin): void {
  app.addHook('onRequest', async request => {
    if (!request.url.startsWith('/api/v2/users')) return
    const { role } = await userOf(request)
    if (!['moderator', 'manager', 'admin'].includes(role)) throw Object.assign(new Error('Not for you'), { statusCode: 403 })
  })

  app.get('/api/v2/users', async () => {
    const { rows } = await db.query('select id, username, created_at from users order by id')
    return { items: rows, nextCursor: null }
  })
}
