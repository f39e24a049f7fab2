/** Everything that is read may be kept by browsers and proxies, as that is quicker (CWE-525; API8). `headers` lets nothing be kept that was authenticated. */
import type { Twin } from '../app.js'

export default function cachedAnswers ({ app }: Twin): void {
  app.addHook('onSend', async (request, reply) => {
    if (request.method === 'GET') reply.header('cache-control', 'public, max-age=600')
  })
}
