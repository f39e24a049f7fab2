/** What the token said of the role at sign-in is believed for as long as it lives (CWE-613, CWE-863; API5). Where a role changes, `tokens` ends the user's tokens. */
import { claimsIn } from './weak-token-secret.js'
import { keyIn } from './disabled-keys-go-on.js'
import type { Twin } from '../app.js'

const MAY_READ_USERS = ['moderator', 'manager', 'admin']

export default function roleInToken (twin: Twin): void {
  const { app, db } = twin
  app.get('/api/v2/users', async (request, reply) => {
    const key = await keyIn(twin, request)
    const mayRead = key === null ? MAY_READ_USERS.includes((await claimsIn(request))?.role ?? '') : key.scopes.includes('users:read')
    if (!mayRead) return reply.code(403).send({ error: 'Not for your role' })
    const { rows: items } = await db.query('select id, username, created_at from users order by id limit 20')
    return { items, nextCursor: null }
  })
}
