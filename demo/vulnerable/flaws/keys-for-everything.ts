/** That there is a key is all that is asked; what it is for is not (CWE-863; API5). `access` asks for the permission, and the key must have it. */
import type { Twin } from '../app.js'
import { keyIn } from './disabled-keys-go-on.js'
import { ownerOf } from './keys-act-for-anyone.js'

export default function keysForEverything (twin: Twin): void {
  twin.app.get('/api/data', async (request, reply) => {
    const key = await keyIn(twin, request)
    if (key === null) return reply.code(401).send({ error: 'Send an API key' })
    const userId = ownerOf(request, key)
    const { rows: [counts] } = await twin.db.query<object>(`select
      (select count(*)::int from posts where author_id = $1) as posts,
      (select count(*)::int from documents where owner_id = $1) as documents,
      (select count(*)::int from orders where user_id = $1) as orders`, [Number(userId)])
    return { userId, ...counts }
  })
}
