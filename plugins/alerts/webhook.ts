/**
 * A webhook of the operator's own, signed as Standard Webhooks (standardwebhooks.com): who receives it can tell that it is ours, whole, and of now.
 *
 * Alerts wait in a bounded queue and are sent in their order; what fails is sent again, later and later. The URL is configured, and no user's: private addresses are good.
 * Redirects are not followed, and nothing of the answer is read.
 */
import { createHmac } from 'node:crypto'
import type { Alert } from './alert.js'

export interface WebhookParts {
  url: string
  /** The first signs first; with several, each signs. */
  keys: readonly Buffer[]
  /** Milliseconds. */
  timeout: number
  attempts: number
  /** Milliseconds before the second attempt; doubled before each that follows. */
  backoff: number
  queue: number
  /** Called for an alert that nobody received. */
  gaveUp: (alert: Alert, reason: string) => void
  /** Milliseconds since the epoch. */
  now: () => number
}

const MAX_BACKOFF = 60_000
/** The receiver says that it is gone for good (RFC 9110, 15.5.11). */
const GONE = 410

export class Webhook {
  readonly #parts: WebhookParts
  readonly #queue: Alert[] = []
  /** Aborts waits between attempts. */
  readonly #closing = new AbortController()
  /** No more attempts. */
  #isEnding = false
  /** The attempt that is under way. */
  #attempt: AbortController | null = null
  #sending: Promise<void> | null = null

  constructor (parts: WebhookParts) { this.#parts = parts }

  get waiting (): number { return this.#queue.length }

  send (alert: Alert): void {
    if (this.#queue.length >= this.#parts.queue) {
      this.#parts.gaveUp(alert, 'the queue is full')
      return
    }
    this.#queue.push(alert)
    this.#sending ??= this.#sendAll().finally(() => { this.#sending = null })
  }

  /** Sends once more what waits, and what that does not bring there in so many milliseconds is given up. */
  async close (drainMs: number): Promise<void> {
    this.#closing.abort()
    const timer = setTimeout(() => {
      this.#isEnding = true
      this.#attempt?.abort()
    }, drainMs)
    while (this.#sending !== null) await this.#sending
    clearTimeout(timer)
  }

  async #sendAll (): Promise<void> {
    for (let alert = this.#queue[0]; alert !== undefined; alert = this.#queue[0]) {
      const reason = await this.#deliver(alert)
      this.#queue.shift()
      if (reason !== null) this.#parts.gaveUp(alert, reason)
    }
  }

  /** Null once it was received, else the last that went wrong. */
  async #deliver (alert: Alert): Promise<string | null> {
    const { attempts, backoff } = this.#parts
    let reason = 'the service ended'
    for (let attempt = 1; attempt <= attempts && !this.#isEnding; attempt++) {
      const wasClosing = this.#closing.signal.aborted
      const answer = await this.#post(alert)
      if (answer === null) return null
      reason = answer.reason
      if (answer.isFinal || wasClosing) break
      // Not all processes of a service at the same moment.
      if (attempt < attempts) await this.#pause(Math.min(MAX_BACKOFF, backoff * 2 ** (attempt - 1)) * (0.75 + Math.random() / 2))
    }
    return reason
  }

  async #post (alert: Alert): Promise<{ reason: string, isFinal: boolean } | null> {
    const { url, keys, timeout, now } = this.#parts
    const body = JSON.stringify({ type: 'alert.raised', timestamp: alert.time, data: alert })
    const time = String(Math.floor(now() / 1000))
    const signatures = keys.map(key => `v1,${createHmac('sha256', key).update(`${alert.id}.${time}.${body}`).digest('base64')}`)
    const underWay = this.#attempt = new AbortController()
    const timer = setTimeout(() => { underWay.abort() }, timeout)
    try {
      const response = await fetch(url, {
        method: 'POST',
        body,
        redirect: 'manual',
        headers: { 'content-type': 'application/json', 'webhook-id': alert.id, 'webhook-timestamp': time, 'webhook-signature': signatures.join(' ') },
        signal: underWay.signal,
      })
      response.body?.cancel().catch(() => {})
      return response.status >= 200 && response.status < 300 ? null : { reason: `answered ${response.status}`, isFinal: response.status === GONE }
    } catch (error) {
      const { name, cause } = error as Error & { cause?: { code?: string } }
      return { reason: this.#isEnding ? 'the service ended' : underWay.signal.aborted ? `no answer within ${timeout} ms` : cause?.code ?? name, isFinal: false }
    } finally {
      clearTimeout(timer)
    }
  }

  /** Never longer than until the service ends. */
  #pause (ms: number): Promise<void> {
    const { signal } = this.#closing
    return new Promise(resolve => {
      const end = () => {
        clearTimeout(timer)
        signal.removeEventListener('abort', end)
        resolve()
      }
      const timer = setTimeout(end, ms).unref()
      signal.addEventListener('abort', end)
      if (signal.aborted) end()
    })
  }
}
