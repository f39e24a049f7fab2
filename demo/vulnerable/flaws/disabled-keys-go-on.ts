/** A key that is switched off is marked as such in the list, and goes on (CWE-613, CWE-672; API2). `api-keys` refuses it at once. */
import type { FastifyRequest } from 'fastify'
import type { Twin } from '../app.js'
import { keptOf } from './keys-in-plain-text.js'

export interface KeyRow { user_id: number, scopes: string[] }

export async function keyIn ({ db }: Twin, { headers }: FastifyRequest): Promise<KeyRow | null> {
  const { 'x-api-key': key } = headers
  if (typeof key !== 'string') return null
  const { rows: [row] } = await db.query<KeyRow>('select * from api_keys where key = $1', [keptOf(key)])
  return row ?? null
}

export default function disabledKeysGoOn ({ app, db, userOf }: Twin): void {
  app.patch<{ Params: { keyId: string }, Body: { isActive: boolean } }>('/api-keys/:keyId', async request => {
    const { id } = await userOf(request)
    const { rows: [row] } = await db.query(
      'update api_keys set is_active = $3 where id = $1 and user_id = $2 returning id, name, scopes, is_active', [Number(request.params.keyId), id, request.body.isActive]
    )
    return row
  })
}
