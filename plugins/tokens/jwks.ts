/**
 * The keys of another issuer, from its JWK Set: fetched, held, and fetched anew.
 *
 * Threat: requests that make this service fetch (CWE-918, CWE-400), keys of somebody between (CWE-300), weak or unfit keys in a set.
 * Defence: the address is the service's own setting, HTTPS, and no redirect is followed; time, bytes and keys are bounded; one
 * fetch at a time, and none within the cool-down, whatever tokens say; what is not fit to verify is left out. While the issuer
 * is away the keys that are known go on, for a while.
 */
import { createPublicKey, type KeyObject } from 'node:crypto'
import type { FastifyBaseLogger } from 'fastify'
import { keyFault, type SignatureAlgorithm } from './algorithms.js'
import { IssuerAway } from './errors.js'
import { isJwk, isJwkSet, useFault, type JwkSet } from './jwk.js'

export interface KeySource {
  /**
   * The one key of this name for this algorithm, or null; without a name the only one for it.
   * @throws IssuerAway where no keys are known
   */
  find: (algorithm: SignatureAlgorithm, kid: string | undefined) => KeyObject | null
  /** Fetches the keys where that is due. A promise where a token has to wait for it: never rejects. */
  prepare: (algorithm: SignatureAlgorithm, kid: string | undefined) => Promise<void> | undefined
  /** Another number once there are other keys; null while none are known. */
  version: () => number | null
}

interface VerifyingKey { kid: string | undefined, key: KeyObject, algorithms: readonly SignatureAlgorithm[] }

export interface FetchTerms {
  url: string
  algorithms: readonly SignatureAlgorithm[]
  /** Milliseconds. */
  timeout: number
  cooldown: number
  staleFor: number
  maxBytes: number
  maxKeys: number
  /** Milliseconds since the epoch. */
  now: () => number
  log: FastifyBaseLogger
  /** Ends a fetch that is under way. */
  closing: AbortSignal
}

/** Milliseconds for which a set that was fetched is fresh, whatever its answer says. */
const FRESH = { least: 300_000, most: 86_400_000 }
/** Milliseconds after which a fetch that failed is tried again while nothing is known, where the cool-down is longer. */
const RETRY = 5000
/** Members of private and symmetric keys (RFC 7518, 6): who publishes one has no secret any more. */
const SECRET = ['d', 'k', 'p', 'q', 'dp', 'dq', 'qi', 'oth']

/** Keys that never change; null where one of them is not fit. */
export function knownKeys (set: JwkSet, algorithms: readonly SignatureAlgorithm[]): KeySource | null {
  const keys = verifyingKeys(set, algorithms)
  if (keys.length < set.keys.length) return null
  return { find: (algorithm, kid) => keyFor(keys, algorithm, kid), prepare: () => undefined, version: () => 0 }
}

export function fetchedKeys ({ url, algorithms, timeout, cooldown, staleFor, maxBytes, maxKeys, now, log, closing }: FetchTerms): KeySource {
  let keys: readonly VerifyingKey[] = []
  let text: string | null = null
  let edition = 0
  let freshUntil = 0
  let usableUntil = 0
  /** When the last fetch began, and whether it failed. */
  let last = { began: -Infinity, failed: false }
  let flight: Promise<void> | null = null

  return { find, prepare, version: () => isKnown() ? edition : null }

  function find (algorithm: SignatureAlgorithm, kid: string | undefined): KeyObject | null {
    if (!isKnown()) throw new IssuerAway()
    return keyFor(keys, algorithm, kid)
  }

  function prepare (algorithm: SignatureAlgorithm, kid: string | undefined): Promise<void> | undefined {
    if (!isKnown() || keyFor(keys, algorithm, kid) === null) return refetch()
    if (now() >= freshUntil) refetch()
  }

  function isKnown (): boolean {
    return text !== null && now() < usableUntil
  }

  /** Undefined where it is too early. */
  function refetch (): Promise<void> | undefined {
    if (flight !== null) return flight
    const since = now() - last.began
    // A clock that was set back must not stop all fetches until it has caught up.
    if (since >= 0 && since < (last.failed && !isKnown() ? Math.min(cooldown, RETRY) : cooldown)) return undefined
    last = { began: now(), failed: false }
    flight = bounded(load).catch((error: Error & { cause?: { code?: string } }) => {
      last.failed = true
      log.warn({ url, reason: error.cause?.code ?? error.message }, 'the keys of an issuer could not be fetched')
    }).finally(() => { flight = null })
    return flight
  }

  /** Over in time whatever becomes of its connection: what hangs there must not be what every token waits for from then on. */
  async function bounded (fetching: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const ending = new AbortController()
    let fail = (_error: Error): void => {}
    const ended = new Promise<never>((_resolve, reject) => { fail = reject })
    const end = () => fail(new Error('the service closes'))
    const timer = setTimeout(() => fail(new Error(`no whole answer within ${timeout} ms`)), timeout)
    closing.addEventListener('abort', end)
    try {
      await Promise.race([fetching(ending.signal), ended])
    } finally {
      clearTimeout(timer)
      closing.removeEventListener('abort', end)
      ending.abort()
    }
  }

  async function load (signal: AbortSignal): Promise<void> {
    const began = now()
    // A connection that is kept would be an old one by the next time, and may have been closed by then.
    const response = await fetch(url, { redirect: 'error', signal, headers: { accept: 'application/jwk-set+json, application/json', connection: 'close' } })
    if (response.status !== 200) throw new Error(`status ${response.status}`)
    const found = await textOf(response, maxBytes)
    const set: unknown = JSON.parse(found)
    if (!isJwkSet(set)) throw new Error('no JWK Set')
    if (set.keys.length > maxKeys) throw new Error(`more than ${maxKeys} keys`)
    if (found !== text) {
      keys = verifyingKeys(set, algorithms)
      if (keys.length < set.keys.length) log.warn({ url, keys: set.keys.length, fit: keys.length }, 'keys of an issuer were left out, which are not fit for its algorithms')
      text = found
      edition += 1
    }
    freshUntil = began + freshness(response.headers.get('cache-control') ?? '')
    usableUntil = freshUntil + staleFor
  }
}

/** Without a name, or under one that stands twice, it must be clear which key is meant: nobody's token costs several signatures. */
function keyFor (keys: readonly VerifyingKey[], algorithm: SignatureAlgorithm, kid: string | undefined): KeyObject | null {
  const fit = keys.filter(key => (kid === undefined || key.kid === kid) && key.algorithms.includes(algorithm))
  return fit.length === 1 ? fit[0]!.key : null
}

/** Those of a set that are public, meant to verify, and strong enough. */
function verifyingKeys ({ keys }: JwkSet, algorithms: readonly SignatureAlgorithm[]): VerifyingKey[] {
  return keys.flatMap(jwk => {
    if (!isJwk(jwk) || SECRET.some(member => Object.hasOwn(jwk, member))) return []
    try {
      const key = createPublicKey({ key: jwk, format: 'jwk' })
      const fit = algorithms.filter(algorithm => useFault(jwk, algorithm, ['verify']) === null && keyFault(key, algorithm) === null)
      return fit.length === 0 ? [] : [{ kid: jwk.kid, key, algorithms: fit }]
    } catch {
      return []
    }
  })
}

function freshness (cacheControl: string): number {
  const seconds = Number(/(?:^|[\s,])max-age="?(\d{1,10})/i.exec(cacheControl)?.[1] ?? 0)
  return Math.min(Math.max(seconds * 1000, FRESH.least), FRESH.most)
}

async function textOf (response: Response, maxBytes: number): Promise<string> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  // Not by `for await`, which waits for the rest to be cancelled.
  const reader = response.body?.getReader()
  for (;;) {
    const { done, value } = await reader?.read() ?? { done: true }
    if (done) break
    bytes += value.length
    if (bytes > maxBytes) throw new Error(`more than ${maxBytes} bytes`)
    chunks.push(value)
  }
  return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks))
}
