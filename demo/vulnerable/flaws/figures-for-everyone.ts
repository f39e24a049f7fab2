/** How the service fares is told to whoever asks, as scrapers do not sign in (CWE-497; API8). `metrics` is a route like any other: it says who may call it. */
import { totalmem } from 'node:os'
import type { Twin } from '../app.js'

export default function figuresForEveryone ({ app, db }: Twin): void {
  app.get('/metrics', async (_request, reply) => {
    const { rows: [found] } = await db.query<{ users: number }>('select count(*)::integer as users from users')
    return reply.type('text/plain').send([
      `portal_users ${found!.users}`, `process_resident_memory_bytes ${process.memoryUsage.rss()}`, `node_memory_bytes ${totalmem()}`, `nodejs_version_info{version="${process.version}"} 1`, '',
    ].join('\n'))
  })
}
