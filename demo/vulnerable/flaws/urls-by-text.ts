/**
 * Where a user's URL leads is told by its text (CWE-918; API7), and where the receiver sends on to is not looked at at all (CWE-601; API10). `outbound` looks at the addresses that it
 * connects to, and follows no redirect that it was not told to.
 */
import type { Twin } from '../app.js'

const INSIDE = /localhost|127\.0\.0\.1|\/10\.|192\.168\.|169\.254\./i

export default function urlsByText ({ app, userOf }: Twin): void {
  const webhooks = new Map<number, string>()

  app.put<{ Body: { url: string } }>('/users/me/webhook', async (request, reply) => {
    const { id } = await userOf(request)
    const { url } = request.body
    if (INSIDE.test(url)) return reply.code(400).send({ error: 'This address is not allowed' })
    webhooks.set(id, url)
    return { url }
  })

  app.post('/users/me/webhook/test', async (request, reply) => {
    const { id } = await userOf(request)
    const url = webhooks.get(id)
    if (url === undefined) return reply.code(404).send({ error: 'No webhook' })
    const answer = await fetch(url, { method: 'POST', body: JSON.stringify({ type: 'webhook.test' }), headers: { 'content-type': 'application/json' } })
    return { delivered: answer.ok, status: answer.status, answer: await answer.text() }
  })
}
