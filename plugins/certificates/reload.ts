/**
 * Reload: what the files hold now is taken over, each pair by itself. Files that do not belong together are read again: whoever renews them
 * writes one after the other.
 */
import type { FastifyInstance } from 'fastify'
import { CertificateRefused } from './errors.js'
import { inspect, uncovered, type Terms } from './inspection.js'
import type { TlsListener } from './listener.js'
import type { CertificatePair } from './pairs.js'

export interface ReloadParts {
  events: FastifyInstance['events']
  terms: () => Terms
  /** Names that the certificates must be good for. */
  names: () => readonly string[]
  /** Called once something else is served: all pairs, and the warnings of those that are new. */
  taken: (pairs: readonly CertificatePair[], found: ReadonlyMap<CertificatePair, string[]>) => void
}

/** Milliseconds between two attempts to read files that do not belong together yet, and how many of them. */
const RETRY_MS = 250
const RETRIES = 4

export class Reload {
  readonly #listener: TlsListener
  readonly #parts: ReloadParts
  #reloading: Promise<boolean> | null = null
  /** Asked for, and nothing read yet. */
  #waiting: Promise<boolean> | null = null
  #isClosed = false
  /** What was last refused: the same is told once. */
  #lastRefusal = ''

  constructor (listener: TlsListener, parts: ReloadParts) {
    this.#listener = listener
    this.#parts = parts
  }

  /** @returns whether something else is served than before */
  ask (): Promise<boolean> {
    if (this.#waiting !== null) return this.#waiting
    // Whoever asks while files are being read is told of a reading that began after they asked.
    const next = (this.#reloading ?? Promise.resolve(false)).catch(() => false).then(() => {
      this.#waiting = null
      return this.#takeOver()
    }).finally(() => { if (this.#reloading === next) this.#reloading = null })
    this.#waiting = this.#reloading = next
    return next
  }

  async close (): Promise<void> {
    this.#isClosed = true
    await this.#reloading?.catch(() => {})
  }

  async #takeOver (): Promise<boolean> {
    let hasChanged = false
    for (let attempt = 0; ; attempt += 1) {
      const { changed, refusal } = this.#attempt()
      hasChanged ||= changed
      if (refusal === null) {
        this.#lastRefusal = ''
        return hasChanged
      }
      if (this.#isClosed) return hasChanged
      if (attempt === RETRIES) {
        if (refusal !== this.#lastRefusal) this.#parts.events.record('certificate_refused', null, { reason: refusal, severity: 'critical' })
        this.#lastRefusal = refusal
        return hasChanged
      }
      await new Promise(resolve => { setTimeout(resolve, RETRY_MS).unref() })
    }
  }

  /** Each pair by itself: one that is bad keeps no other from being renewed. */
  #attempt (): { changed: boolean, refusal: string | null } {
    const listener = this.#listener
    const { terms, names, taken } = this.#parts
    const refusals: string[] = []
    const guarded = <Value>(read: () => Value, kept: Value): Value => {
      try {
        return read()
      } catch (error) {
        refusals.push((error as Error).message)
        return kept
      }
    }
    const before = listener.pairs
    const found = new Map<CertificatePair, string[]>()
    const pairs = before.map((old, place) => guarded(() => {
      const pair = listener.readPair(place)
      if (pair.digest === old.digest) return old
      const { faults, warnings } = inspect(pair, terms())
      const lost = uncovered([pair], names().filter(name => uncovered([old], [name]).length === 0))
      if (lost.length > 0) faults.push(`${pair.files.cert} is not good for ${lost.join(', ')}, as the one before it was: have it issued for all names`)
      if (faults.length > 0) throw new CertificateRefused(faults.join('; '))
      found.set(pair, warnings)
      return pair
    }, old))
    const ca = guarded(() => listener.readCa(), listener.ca)
    const isChanged = found.size > 0 || ca.join() !== listener.ca.join()
    if (isChanged) {
      guarded(() => {
        listener.take(pairs, ca)
        taken(pairs, found)
      }, undefined)
    }
    return { changed: listener.pairs !== before, refusal: refusals.length > 0 ? refusals.join('; ') : null }
  }
}
