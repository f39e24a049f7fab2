/** What is asked and what comes back. */
import { isSafe, type Caller } from './callers.js'
import type { Route } from './surface.js'
import { TestingMisconfigured } from './checking.js'
import type { AttackOptions } from './contract.js'
import { CLOSED, type Received, type Sent, type Target } from './target.js'

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

/** No JSON: whoever reads it says so, and nothing is done. */
export const UNREADABLE = '{"'

/** The body of a request that must do nothing, whoever lets it in. */
export function unreadable ({ method, body }: Route): Pick<Shot, 'body' | 'type'> {
  return isSafe(method) ? {} : { body: UNREADABLE, type: body?.type ?? 'application/json' }
}

/** Leads elsewhere: as an answer, or as a refusal. */
export function isLead (status: number): boolean {
  return status > 300 && status < 309 && status !== 304
}

export function describe ({ status, sentStatus, json, isCut }: Exchange): string {
  if (status === CLOSED) return 'no answer'
  const { code } = (json ?? {}) as { code?: unknown }
  return `${status}${typeof code === 'string' ? ` ${code}` : ''}${sentStatus === undefined ? '' : `, said in a ${sentStatus}`}${isCut ? ', and did not end' : ''}`
}

/** The service, whose answers are taken for what they say inside. */
export function readBy (target: Target, statusOf: AttackOptions['statusOf']): Target {
  if (statusOf === undefined) return target
  return {
    ...target,
    async ask (sent, timeout) {
      const received = await target.ask(sent, timeout)
      const { status: sentStatus, headers, text } = received
      const status = sentStatus === CLOSED ? sentStatus : statusOf({ status: sentStatus, headers, text, json: jsonOf(received) }) ?? sentStatus
      if (!Number.isInteger(status) || status < 200 || status > 599) throw new TestingMisconfigured(`testing: statusOf: ${JSON.stringify(status)} is no status`)
      return status === sentStatus ? received : { ...received, status, sentStatus }
    },
  }
}

export function jsonOf ({ headers, text }: Received): unknown {
  if (text === '' || !/\bjson\b/.test(String(headers['content-type']))) return undefined
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
