/** What failed is recorded, what was done is not (CWE-778; API8). `audit` keeps a chain of both, and `alerts` tells when somebody probes (CWE-223). */
import type { Twin } from '../app.js'

const RIGHTS: Record<string, { audit?: boolean }> = { admin: { audit: true } }

export default function unrecordedChanges ({ app, db, userOf }: Twin): void {
  app.addHook('onResponse', async (request, reply) => {
    if (reply.statusCode >= 500) await db.query('insert into events (type, details) values ($1, $2)', ['error', { method: request.method, url: request.url, status: reply.statusCode }])
  })

  app.get<{ Querystring: { type?: string } }>('/audit', async (request, reply) => {
    const { role } = await userOf(request)
    const rights = RIGHTS[role] ?? {}
    if (!rights.audit) return reply.code(403).send({ error: 'Not for you' })
    const { rows } = await db.query('select * from events where $1::text is null or type = $1 order by id', [request.query.type ?? null])
    return { items: rows, nextCursor: null }
  })
}
