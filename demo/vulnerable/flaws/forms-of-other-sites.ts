/** What rides on the cookie is done, whatever page had the browser send it (CWE-352; API2). `csrf` asks for the page's own origin, and for a token. */
import type { Twin } from '../app.js'
import { userOfSession } from '../sessions.js'

export default function formsOfOtherSites (twin: Twin): void {
  const { app, db } = twin
  app.post<{ Body: string | Record<string, string> }>('/session/profile', async request => {
    const { id } = await userOfSession(twin, request)
    // Older clients send JSON without saying so.
    const { phone = null, website = null, bio = null } = typeof request.body === 'string' ? JSON.parse(request.body) : request.body
    const { rows: [user] } = await db.query(
      'update users set phone = coalesce($2, phone), website = coalesce($3, website), bio = coalesce($4, bio) where id = $1 returning *', [id, phone, website, bio]
    )
    return user
  })
}
