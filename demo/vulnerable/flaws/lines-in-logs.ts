/** What a client sends is written into the log as it is, ends of lines among it (CWE-117; API8). `log` writes one line of JSON for each entry. */
import type { Twin } from '../app.js'

export default function linesInLogs ({ app }: Twin): void {
  app.addHook<{ Querystring: { q?: string } }>('preHandler', async request => {
    if (request.routeOptions.url === '/search') console.log(`${new Date().toISOString()} search for ${request.query.q}`)
  })
}
