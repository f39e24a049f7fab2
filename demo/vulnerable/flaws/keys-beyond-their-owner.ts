/** A key is given the scopes that are asked for, whatever its owner may do (CWE-269; API5). With `api-keys` nobody hands out what they do not have. */
import { randomBytes } from 'node:crypto'
import type { Twin } from '../app.js'
import { keptOf } from './keys-in-plain-text.js'

export default function keysBeyondTheirOwner ({ app, db, userOf }: Twin): void {
  app.post<{ Body: { name: string, scopes: string[] } }>('/api-keys', async (request, reply) => {
    const { id: userId } = await userOf(request)
    const { name, scopes } = request.body
    const key = `sk_live_${randomBytes(24).toString('hex')}`
    const { rows: [row] } = await db.query<{ id: number }>(
      'insert into api_keys (user_id, name, key, scopes) values ($1, $2, $3, $4) returning id, name, scopes, is_active', [userId, name, keptOf(key), scopes]
    )
    return reply.code(201).send({ ...row, id: String(row!.id), key })
  })
}
