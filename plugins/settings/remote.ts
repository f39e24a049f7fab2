/** What all sources beyond this machine share: time that is bounded, attempts that are few, and what was read last while nothing answers. */
import { Type } from '@sinclair/typebox'
import { jittered, SYSTEM_CLOCK, type Clock } from './clock.js'
import { SettingsUnavailable, SourceFault } from './errors.js'
import type { Reading, Source } from './source.js'

/** Options of every remote source. */
export const REMOTE_OPTIONS = {
  timeout: Type.Optional(Type.Integer({ minimum: 1, maximum: 60_000, default: 5000, description: 'Milliseconds for one request, from the connection to the last byte' })),
  attempts: Type.Optional(Type.Integer({ minimum: 1, maximum: 10, default: 4, description: 'Requests at most where one fails in passing: no answer, 429 or 5xx. What is refused is not asked again' })),
  backoff: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000, default: 200, description: 'Milliseconds before the second attempt, doubled before each that follows (10 s at most), half of it by chance' })),
  cache: Type.Optional(Type.Integer({ minimum: 0, maximum: 3_600_000, default: 1000, description: 'Milliseconds in which a reading is used again without asking, unless it is asked for by hand' })),
  staleFor: Type.Optional(Type.Integer({ minimum: 0, default: 86_400_000, description: 'Milliseconds for which the last reading is good while no newer one can be had' })),
}

export interface RemoteOptions {
  timeout?: number
  attempts?: number
  backoff?: number
  cache?: number
  staleFor?: number
  /** For tests. */
  clock?: Clock
}

/** Milliseconds between two attempts at most. */
const MAX_BACKOFF = 10_000
/** Codes of Node's own errors may be told: they hold nothing of what was sent. */
const CODE = /^[A-Z][A-Z0-9_]{1,63}$/
/** Certificates and headers do not get better by themselves. */
const FINAL = /CERT|TLS|SSL|SIGN|UNABLE_TO|ERR_INVALID|HPE_/

export interface Retry {
  clock: Clock
  timeout: number
  attempts: number
  backoff: number
  /** No more attempts. */
  closing: AbortSignal
}

/**
 * Runs `attempt` until it goes well, fails for good, or was tried often enough.
 *
 * @throws SourceFault that tells nothing of what was sent or answered
 */
export async function retrying<T> ({ clock, timeout, attempts, backoff, closing }: Retry, attempt: (signal: AbortSignal) => Promise<T>): Promise<T> {
  for (let i = 1; ; i++) {
    const fault = await inTime(attempt, timeout, closing).then(value => ({ value }), error => faultOf(error, timeout))
    if (!(fault instanceof SourceFault)) return fault.value
    if (closing.aborted) throw new SourceFault('it is closed')
    if (!fault.isPassing || i >= attempts) throw i === 1 ? fault : new SourceFault(`${fault.message}, ${i} attempts`, fault)
    await pause(clock, Math.min(Math.max(jittered(backoff * 2 ** (i - 1)), fault.retryAfter ?? 0), MAX_BACKOFF), closing)
  }
}

/** Also where what is asked does not look at the signal. */
async function inTime<T> (attempt: (signal: AbortSignal) => Promise<T>, timeout: number, closing: AbortSignal): Promise<T> {
  const late = new AbortController()
  const end = () => { late.abort() }
  const timer = setTimeout(end, timeout)
  closing.addEventListener('abort', end)
  if (closing.aborted) end()
  try {
    return await Promise.race([attempt(late.signal), new Promise<never>((_resolve, reject) => {
      const refuse = () => { reject(new SourceFault(`no answer within ${timeout} ms`, { isPassing: true })) }
      if (late.signal.aborted) refuse()
      late.signal.addEventListener('abort', refuse)
    })])
  } finally {
    clearTimeout(timer)
    closing.removeEventListener('abort', end)
  }
}

function pause (clock: Clock, ms: number, closing: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (closing.aborted) return resolve()
    const cancel = clock.after(ms, done, true)
    function done (): void {
      closing.removeEventListener('abort', done)
      cancel()
      resolve()
    }
    closing.addEventListener('abort', done)
  })
}

/** What of an error may be told. Messages of drivers hold headers, bodies and URLs. */
export function faultOf (error: unknown, timeout: number): SourceFault {
  if (error instanceof SourceFault) return error
  const { name, code } = error as { name?: unknown, code?: unknown }
  if (name === 'AbortError' || name === 'TimeoutError') return new SourceFault(`no answer within ${timeout} ms`, { isPassing: true })
  const told = typeof code === 'string' && CODE.test(code) ? code : 'for an unknown reason'
  return new SourceFault(`no connection (${told})`, { isPassing: !FINAL.test(told) })
}

export interface RemoteParts {
  name: string
  options: RemoteOptions
  fetch: (retry: Retry, names: readonly string[], isProduction: boolean) => Promise<Pick<Reading, 'texts' | 'faults'>>
  open?: Source['open']
  /** Called with what still works for a moment. */
  close?: (retry: Retry) => Promise<void>
}

/** A source that asks somebody: one flight at a time, and what was read last while it fails. */
export function remote ({ name, options, fetch, open, close }: RemoteParts): Source & { retry: Retry, forget: () => void } {
  const { timeout = 5000, attempts = 4, backoff = 200, cache = 1000, staleFor = 86_400_000, clock = SYSTEM_CLOCK } = options
  const closing = new AbortController()
  const retry: Retry = { clock, timeout, attempts, backoff, closing: closing.signal }
  let kept: { reading: Pick<Reading, 'texts' | 'faults'>, at: number, isFresh: boolean } | null = null
  let flight: Promise<Reading> | null = null

  async function ask (names: readonly string[], isProduction: boolean): Promise<Reading> {
    try {
      const reading = await fetch(retry, names, isProduction)
      kept = { reading, at: clock.now(), isFresh: true }
      return reading
    } catch (error) {
      const { message } = faultOf(error, timeout)
      if (kept !== null && clock.now() - kept.at <= staleFor) return { ...kept.reading, stale: message }
      throw new SettingsUnavailable(`${name}: ${message}${kept === null ? '' : `, and what was read last is older than ${staleFor} ms`}`)
    }
  }

  return {
    name,
    retry,
    /** Asks at the next reading, whatever is kept. */
    forget () { if (kept !== null) kept.isFresh = false },
    async read (names, { isForced, isProduction }) {
      if (closing.signal.aborted) throw new SettingsUnavailable(`${name}: it is closed`)
      if (!isForced && kept?.isFresh === true && clock.now() - kept.at < cache) return kept.reading
      flight ??= ask(names, isProduction).finally(() => { flight = null })
      return flight
    },
    open,
    async close () {
      closing.abort()
      await flight?.catch(() => {})
      await close?.({ ...retry, attempts: 1, closing: new AbortController().signal }).catch(() => {})
    },
  }
}
