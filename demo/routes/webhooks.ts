/** A user's webhook: where the portal posts when somebody comments on a post of that user. */
import { Type, type Static } from '@sinclair/typebox'
import { OutboundRefused } from '../../plugins/outbound/index.js'
import { NotFound } from '../../plugins/errors.js'
import { principalOf } from '../../plugins/identity.js'
import { closed, noBody, Url } from '../../schemas/index.js'
import type { Portal } from '../app.js'
import type { WebhookRow } from '../data/tables.js'
import { reachOf } from '../webhooks.js'
import { notFoundWhereGone } from './shapes.js'

/** A webhook as its user sees it: never its secret. */
export const WebhookShape = closed({ url: Url, createdAt: Type.String({ format: 'date-time' }) })
const MadeWebhook = closed({ ...WebhookShape.properties, secret: Type.String({ description: 'Shown this once; the next PUT makes another' }) })
const Outcome = closed({ delivered: Type.Boolean(), status: Type.Union([Type.Integer(), Type.Null()], { description: 'null: it cannot be reached' }) })

export function webhookShape ({ url, created_at: created }: WebhookRow): Static<typeof WebhookShape> {
  return { url, createdAt: created.toISOString() }
}

export function webhookRoutes ({ app, webhooks, isProduction }: Portal): void {
  const { allowHttp, ports } = reachOf(isProduction)

  app.put('/users/me/webhook', {
    schema: { body: closed({ url: Url }), response: { 200: MadeWebhook } },
    // It hands out a secret, and goes on sending when the session of whoever set it is over.
    config: { access: { stepUp: true }, limits: { windows: ['10/minute'] }, audit: 'data_modification' },
  }, async request => {
    const { protocol, hostname, port } = new URL(request.body.url)
    if (!(protocol === 'https:' || allowHttp) || !ports.includes(Number(port) || (protocol === 'https:' ? 443 : 80))) throw new OutboundRefused()
    // Told early where it leads inside. What decides is asked again, for each delivery.
    await app.outbound.resolve(hostname, { request })
    const { webhook, secret } = await webhooks.set(principalOf(request).userId, request.body.url).catch(notFoundWhereGone)
    return { ...webhookShape(webhook), secret }
  })

  app.get('/users/me/webhook', {
    schema: { response: { 200: WebhookShape } },
    config: { access: 'user' },
  }, async request => webhookShape(await known(principalOf(request).userId)))

  app.delete('/users/me/webhook', {
    schema: { response: { 204: Type.Null() } },
    config: { access: 'user', audit: 'data_modification' },
  }, async (request, reply) => {
    if (!await webhooks.remove(principalOf(request).userId)) throw new NotFound()
    reply.code(204)
  })

  app.post('/users/me/webhook/test', {
    schema: { body: noBody, response: { 200: Outcome } },
    config: { access: 'user', limits: { windows: ['5/minute'] } },
  }, async request => {
    const { delivered, status } = await webhooks.test(await known(principalOf(request).userId))
    return { delivered, status }
  })

  async function known (userId: string): Promise<WebhookRow> {
    const webhook = await webhooks.find(userId)
    if (webhook === null) throw new NotFound()
    return webhook
  }
}
