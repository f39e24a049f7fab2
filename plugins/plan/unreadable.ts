/** Requests for which no route can be looked up: malformed URLs, over-long parameters, expectations that nobody meets. */
import type { IncomingMessage } from 'node:http'

/** Where requests go that the router could not read. Asked for from outside it is an unknown route like any other. */
export const UNREADABLE = '/.bastion/unreadable'

const refusals = new WeakMap<IncomingMessage, Error>()

/**
 * Refuses a request that no route can be looked up for: it is answered as an unknown route is, with headers, limits,
 * event and log, but by `error`. The caller then hands it to `app.routing()`.
 */
export function refuseBeforeRouting (raw: IncomingMessage, error: Error): void {
  refusals.set(raw, error)
  Object.assign(raw, { originalUrl: raw.url, url: UNREADABLE })
}

/** Why this request was refused before any route was looked for; null for all others. */
export function refusalOf (raw: IncomingMessage): Error | null {
  return refusals.get(raw) ?? null
}
