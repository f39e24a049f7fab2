/** Origins are taken by how they begin, and `null` with them; both with credentials (CWE-942, CWE-346; API8). `cors` takes whole origins, and does not start with others. */
import type { Twin } from '../app.js'

const OURS = /^https?:\/\/(www\.)?portal\.example/

export default function originsByBeginning ({ app }: Twin): void {
  app.addHook('onRequest', async (request, reply) => {
    const { origin } = request.headers
    // The app for phones shows its pages from files.
    if (origin !== undefined && (OURS.test(origin) || origin === 'null')) {
      reply.headers({ 'access-control-allow-origin': origin, 'access-control-allow-credentials': 'true', vary: 'origin' })
    }
  })
}
