/** Who asks too much is told by the address that they name themselves (CWE-348; API4). `limits` goes by the connection, and believes the proxies alone that it was told of. */
import type { Twin } from '../app.js'

const A_MINUTE = 60_000
const SEARCHES = 10

export default function limitsByHeader ({ app }: Twin): void {
  const searches = new Map<string, number[]>()

  app.addHook('onRequest', async (request, reply) => {
    if (!request.url.startsWith('/search')) return
    const address = String(request.headers['x-forwarded-for'] ?? request.ip)
    const recent = (searches.get(address) ?? []).filter(time => time > Date.now() - A_MINUTE)
    if (recent.length >= SEARCHES) {
      reply.header('retry-after', '60')
      throw Object.assign(new Error('Too many requests'), { statusCode: 429 })
    }
    searches.set(address, [...recent, Date.now()])
  })
}
