/** One route decodes the token where the others verify it (CWE-347, CWE-345; API2). With `identity` no route reads a credential by itself. */
import { bearerIn } from '../bearer.js'
import type { Twin } from '../app.js'

export default function tokenDecodedOnly ({ app, db, userById }: Twin): void {
  app.get('/users/me/export', async (request, reply) => {
    const profile = await userById(bearerIn(request)?.claims.sub)
    if (profile === null) return reply.code(401).send({ error: 'Sign in first' })
    const { rows: orders } = await db.query('select * from orders where user_id = $1', [profile.id])
    const { rows: documents } = await db.query('select * from documents where owner_id = $1', [profile.id])
    return { profile, orders, documents }
  })
}
