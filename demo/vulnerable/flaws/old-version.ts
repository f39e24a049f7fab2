/** The first version of a route is still there, from before anybody had to sign in (CWE-1059; API9). `versions` says when it ends, and ends it. */
import type { Twin } from '../app.js'

export default function oldVersion ({ app, db }: Twin): void {
  app.get('/api/v1/users', async () => {
    const { rows } = await db.query('select id, username, email, phone from users order by id')
    return rows
  })
}
