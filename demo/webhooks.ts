/**
 * Webhooks: what happens to a user's things is posted to a URL of that user, signed as Standard Webhooks does it (standardwebhooks.com).
 *
 * Threat: a URL that leads inside (CWE-918), one that never answers or answers without end, one user's that keeps those of others waiting, and somebody who posts in the portal's name.
 * Defence: everything goes through `app.outbound`; no redirects; time, bytes, attempts and what waits are bounded, for each user too; an HMAC over id, time and body.
 * Not covered: that it arrives. What waits when the portal ends is gone.
 */
import { createHmac, randomBytes } from 'node:crypto'
import { setMaxListeners } from 'node:events'
import { setTimeout as pause } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { OutboundFault, type OutboundOptions } from '../plugins/outbound/index.js'
import type { Sql } from '../plugins/sql.js'
import { newId } from './accounts.js'
import { build, first, type CommentRow, type WebhookRow } from './data/tables.js'
import { commentShape } from './routes/shapes.js'

/** Where webhooks may lead: https on its own port; while somebody develops, whatever listens on this machine too. */
export function reachOf (isProduction: boolean): Required<Pick<OutboundOptions, 'allowHttp' | 'allowLoopback' | 'ports'>> {
  return isProduction
    ? { allowHttp: false, allowLoopback: false, ports: [443] }
    : { allowHttp: true, allowLoopback: true, ports: Array.from({ length: 65_535 }, (_none, i) => i + 1) }
}

/** Milliseconds before a second and a third attempt. */
const RETRY_AFTER = [2_000, 30_000]
/** Milliseconds of one attempt. */
const TIMEOUT = 3_000
/** Bytes of an answer, of which nothing but the status is looked at. */
const MAX_ANSWER = 65_536
/** Deliveries at once. */
const CONCURRENCY = 8
/** Deliveries that are begun, all of them, and those of one user that wait. */
const MAX_UNDER_WAY = 1_000
const MAX_WAITING = 20
/** Deliveries begun for one user: whoever comments on himself makes the portal no hammer. */
const BUDGET = ['60/minute']
/** Statuses by which a receiver says that it may take it later. */
const isLater = (status: number) => status === 408 || status === 425 || status === 429 || status >= 500

export interface Outcome {
  delivered: boolean
  /** What was answered; null where nothing was, whatever stood against it. */
  status: number | null
}

export interface Webhooks {
  /** Sets a user's URL, and makes the secret, which is told this once. */
  set: (userId: string, url: string) => Promise<{ webhook: WebhookRow, secret: string }>
  find: (userId: string) => Promise<WebhookRow | null>
  /** True where there was one. */
  remove: (userId: string) => Promise<boolean>
  /** Delivers a sample at once, and says what came of it. */
  test: (webhook: WebhookRow) => Promise<Outcome>
  /** Has the author of the post told, beside the request. */
  commented: (comment: CommentRow) => Promise<void>
}

export interface WebhookParts {
  app: FastifyInstance
  sql: Sql
  /** From which secrets are derived. */
  key: Buffer
  /** Milliseconds since the epoch. */
  now: () => number
  /** Milliseconds before each further attempt. */
  retryAfter?: readonly number[]
  /** Milliseconds of one attempt. */
  timeout?: number
}

/** `comment`: what it tells of. */
interface Message { id: string, body: string, comment?: string }

export function webhooks ({ app, sql, key, now, retryAfter = RETRY_AFTER, timeout = TIMEOUT }: WebhookParts): Webhooks {
  /** What waits for each user; who has a line here is being delivered to. */
  const lines = new Map<string, Message[]>()
  const closing = new AbortController()
  setMaxListeners(0, closing.signal) // one a delivery that waits
  const working = new Set<Promise<void>>()
  const free: (() => void)[] = []
  let waiting = 0
  let busy = 0

  // What is under way ends in its time; what waits is dropped.
  app.addHook('onClose', async function endWebhooks () {
    if (waiting > 0) app.log.warn({ deliveries: waiting }, 'webhooks that wait are dropped')
    closing.abort()
    await Promise.all(working)
  })

  const secretOf = (id: string) => createHmac('sha256', key).update(id).digest()
  const find = (userId: string) => first(sql, build.selectFrom('webhooks').selectAll().where('user_id', '=', userId))

  return {
    async set (userId, url) {
      const id = newId()
      const values = { id, url, created_at: new Date(now()) }
      const webhook = await first(sql, build.insertInto('webhooks').values({ user_id: userId, ...values }).onConflict(conflict => conflict.column('user_id').doUpdateSet(values)).returningAll())
      return { webhook: webhook!, secret: `whsec_${secretOf(id).toString('base64')}` }
    },
    find,
    remove: async userId => await first(sql, build.deleteFrom('webhooks').where('user_id', '=', userId).returning('id')) !== null,
    test: webhook => attempt(webhook, messageOf('webhook.test', {})),
    async commented (comment) {
      try {
        const webhook = await first(sql, build.selectFrom('webhooks').innerJoin('posts', 'posts.author_id', 'webhooks.user_id').select('webhooks.user_id').where('posts.id', '=', comment.post_id))
        if (webhook === null) return
        await app.limits.check('webhooks', BUDGET, webhook.user_id)
        enqueue(webhook.user_id, { ...messageOf('comment.created', commentShape(comment)), comment: comment.id })
      } catch (error) {
        // The comment stands.
        app.log.warn({ err: error }, 'a webhook was not begun')
      }
    },
  }

  function messageOf (type: string, data: object): Message {
    return { id: `msg_${randomBytes(16).toString('hex')}`, body: JSON.stringify({ type, timestamp: new Date(now()).toISOString(), data }) }
  }

  function enqueue (userId: string, message: Message): void {
    const line = lines.get(userId)
    if (closing.signal.aborted || waiting + lines.size >= MAX_UNDER_WAY || (line !== undefined && line.length >= MAX_WAITING)) {
      app.log.warn({ user: userId, message: message.id }, 'a webhook was dropped: too many wait')
      return
    }
    waiting += 1
    if (line !== undefined) {
      line.push(message)
      return
    }
    lines.set(userId, [message])
    const work = empty(userId).finally(() => working.delete(work))
    working.add(work)
  }

  /** One after another: whoever does not answer keeps only his own waiting. */
  async function empty (userId: string): Promise<void> {
    const line = lines.get(userId)!
    for (let message = line.shift(); message !== undefined; message = line.shift()) {
      waiting -= 1
      await deliver(userId, message)
    }
    lines.delete(userId)
  }

  async function deliver (userId: string, message: Message): Promise<void> {
    for (const delay of [0, ...retryAfter]) {
      if (delay > 0) await pause(delay, undefined, { signal: closing.signal, ref: false }).catch(() => {})
      if (closing.signal.aborted) return
      const isOver = await inTurn(() => once(userId, message)).catch(error => {
        app.log.error({ err: error }, 'a webhook was not delivered')
        return false
      })
      if (isOver) return
    }
    app.log.info({ user: userId, message: message.id }, 'a webhook was given up')
  }

  /**
   * To what is set by now: who has taken it away, or is switched off, is sent nothing more. Nor is what was erased meanwhile.
   *
   * @returns true where no other attempt would change anything
   */
  async function once (userId: string, message: Message): Promise<boolean> {
    if (closing.signal.aborted) return true
    const webhook = await first(sql, build.selectFrom('webhooks').innerJoin('users', 'users.id', 'webhooks.user_id').selectAll('webhooks').where('user_id', '=', userId).where('users.is_active', '=', true)
      .$if(message.comment !== undefined, query => query.where(({ exists, selectFrom }) => exists(selectFrom('comments').select('id').where('id', '=', message.comment!)))))
    if (webhook === null) return true
    const { status, isRefused } = await attempt(webhook, message)
    return isRefused || (status !== null && !isLater(status))
  }

  async function attempt ({ id, url }: WebhookRow, message: Message): Promise<Outcome & { isRefused: boolean }> {
    const timestamp = String(Math.floor(now() / 1000))
    const signature = createHmac('sha256', secretOf(id)).update(`${message.id}.${timestamp}.${message.body}`).digest('base64')
    try {
      const { status } = await app.outbound.fetch(url, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'user-agent': 'Member portal', 'webhook-id': message.id, 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${signature}` },
        body: message.body,
      }, { maxRedirects: 0, timeout, maxBytes: MAX_ANSWER })
      return { delivered: status >= 200 && status < 300, status, isRefused: false }
    } catch (error) {
      const { cause } = error as { cause?: unknown }
      if (!(cause instanceof OutboundFault)) throw error
      return { delivered: false, status: null, isRefused: cause.isRefusal }
    }
  }

  async function inTurn<T> (work: () => Promise<T>): Promise<T> {
    if (busy >= CONCURRENCY) await new Promise<void>(resolve => { free.push(resolve) })
    else busy += 1
    try {
      return await work()
    } finally {
      const next = free.shift()
      if (next === undefined) busy -= 1
      else next()
    }
  }
}
