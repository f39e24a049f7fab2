/** The documentation lists what was made for debugging, and that is still there (CWE-489; API9). The routes of `openapi` are for development alone. */
import type { Twin } from '../app.js'

export default function leftForDebugging ({ app }: Twin): void {
  const paths: Record<string, object> = {}
  app.addHook('onRoute', ({ url, method }) => { paths[url] = { ...paths[url], [String(method).toLowerCase()]: {} } })

  app.get('/docs/json', async () => ({ openapi: '3.1.0', info: { title: 'Member portal', version: '2' }, paths }))

  app.get('/debug/settings', async () => ({ env: process.env }))
}
