/** What is asked and what comes back. */
import type { Caller } from './callers.js'
import type { Route } from './surface.js'
import { CLOSED, type Received, type Sent } from './target.js'

/** A request, as a family makes it. */
export interface Shot {
  /** The route that is meant; null where it is none. */
  route: Route | null
  method?: string
  path?: string
  /** Name of the principal; null or nothing: nobody. */
  as?: string | null
  headers?: Readonly<Record<string, string>>
  body?: string | Buffer
  type?: string
  address?: string
  /** The object is the caller's own. */
  isOwn?: boolean
  /** The policy lets it through, so that a 401 means that its credential is used up. */
  isAllowed?: boolean
}

export interface Exchange extends Received {
  shot: Shot
  sent: Sent
  caller: Caller | null
  /** Of JSON. */
  json: unknown
}

/** Leads elsewhere: as an answer, or as a refusal. */
export function isLead (status: number): boolean {
  return status > 300 && status < 309 && status !== 304
}

export function describe ({ status, json, isCut }: Exchange): string {
  if (status === CLOSED) return 'no answer'
  const { code } = (json ?? {}) as { code?: unknown }
  return `${status}${typeof code === 'string' ? ` ${code}` : ''}${isCut ? ', and did not end' : ''}`
}

export function jsonOf ({ headers, text }: Received): unknown {
  if (text === '' || !/\bjson\b/.test(String(headers['content-type']))) return undefined
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
