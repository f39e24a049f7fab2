/**
 * Guesses: how many wrong signatures are looked at for an address.
 *
 * A signature costs more than an answer, and whoever makes tokens up chooses how many there are (CWE-400). So a wrong one is a guess of its
 * address. Who has none left, or has made one while all together make too many, is refused whatever is not known to be good, before it is
 * looked at. What is known costs no signature, so whoever shares the address with a guesser, and was seen or signed in here before, gets through.
 * It is counted in the process's own memory: a question to shared state would cost as much as what it saves.
 */
import type { FastifyRequest } from 'fastify'
import { addressKey } from '../address.js'
import type { SecurityEvents } from '../events.js'
import type { Decision, MaybePromise, State } from '../state/index.js'
import { TokensGuessed } from './errors.js'

export interface Guesses {
  /** A signature from there was wrong. */
  count: (request: FastifyRequest) => void
  /** Nobody has guessed in the last minute. */
  areNone: () => boolean
  /** Why nothing new is looked at from there; null where it is. */
  refusalOf: (request: FastifyRequest) => Error | null
}

interface GuessParts {
  /** In a minute; `false`: any number. */
  perAddress: number | false
  state: State
  events: SecurityEvents
  now: () => number
}

const WINDOW_MS = 60_000
/** Of all addresses together, in a second: one or two hundredths of a processor's time, or some more where keys are large. */
const TOGETHER = 100
const EVERYBODY = 'everybody'

export function makeGuesses ({ perAddress, state, events, now }: GuessParts): Guesses {
  if (perAddress === false) return { count: () => {}, areNone: () => true, refusalOf: () => null }
  const own = state.local.counter({ name: 'tokens:guesses', windows: [{ limit: perAddress, ms: WINDOW_MS }], algorithm: 'fixed' })
  const all = state.local.counter({ name: 'tokens:guesses-together', windows: [{ limit: TOGETHER, ms: 1000 }], algorithm: 'bucket' })
  const runs = events.runs('rate_limited', { quietMs: WINDOW_MS, max: 1000, now })
  /** Until then some guess counts. */
  let until = -Infinity

  const areNone = () => until === -Infinity || now() >= until

  return {
    areNone,
    count (request) {
      until = now() + WINDOW_MS
      own.take(addressKey(request.ip))
      all.take(EVERYBODY)
    },
    refusalOf (request) {
      if (areNone()) return null
      const address = addressKey(request.ip)
      const mine = settled(own.peek(address))
      if (mine.allowed && (mine.remaining === perAddress - 1 || settled(all.peek(EVERYBODY)).allowed)) return null
      runs.record(address, request, { budget: 'tokens:guesses', limit: perAddress })
      return Object.assign(new TokensGuessed(), { headers: { 'retry-after': String(Math.max(1, Math.ceil(mine.retryMs / 1000))) } })
    },
  }
}

/** State in memory answers at once. */
function settled (decision: MaybePromise<Decision>): Decision {
  return decision as Decision
}
