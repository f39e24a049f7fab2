/**
 * Refusals that are held back for a moment: whoever asks again as soon as there is an answer asks no more often than there are
 * answers, so that sixty clients without pause are some hundred requests a second and not ten thousand. What is held is
 * bounded; beyond, refusals leave at once.
 */
import type { FastifyRequest } from 'fastify'
import { addressKey } from './address.js'
import type { MaybePromise } from './state/index.js'

/** Milliseconds, the least and how many more. What came together leaves one after the other, or all would ask again in the same moment. */
const HELD_MS = 200
const SPREAD_MS = 101
/** Has no divisor in common with the spread: each comes once before any comes again. */
const STEP_MS = 37
const MAX_HELD = 1000

/**
 * Refusals that leave at once, in so many milliseconds: of an address, as of a page whose token expires while it asks for much; of all; and of an
 * address once all were given theirs. A short span, because what leaves at once comes at once.
 */
const SPAN_MS = 20
const OF_ADDRESS = 10
const OF_ALL = 15
const OF_ADDRESS_BESIDE_MANY = 1
const MAX_ADDRESSES = 1000

/** Answers the refusal, a little later where there is room to hold it. */
export type Hold = <Refusal extends Error>(refusal: Refusal) => MaybePromise<Refusal>
/** The same, where its address or all together are given many. */
export type HoldOfMany = <Refusal extends Error>(refusal: Refusal, request: FastifyRequest) => MaybePromise<Refusal>

/** @param now in milliseconds, from any moment on */
export function makeHoldOfMany (now: () => number = () => performance.now()): HoldOfMany {
  const hold = makeHold()
  const given = new Map<string, number>()
  let all = 0
  let span = 0
  return function holdOfMany (refusal, request) {
    const current = Math.floor(now() / SPAN_MS)
    if (current !== span) {
      span = current
      given.clear()
      all = 0
    }
    const address = addressKey(request.ip)
    const count = (given.get(address) ?? 0) + 1
    if (count > 1 || given.size < MAX_ADDRESSES) given.set(address, count)
    all += 1
    return count > OF_ADDRESS || (all > OF_ALL && count > OF_ADDRESS_BESIDE_MANY) ? hold(refusal) : refusal
  }
}

export function makeHold (): Hold {
  let held = 0
  let more = 0
  return function hold (refusal) {
    if (held >= MAX_HELD) return refusal
    held += 1
    more = (more + STEP_MS) % SPREAD_MS
    return new Promise(resolve => {
      setTimeout(() => {
        held -= 1
        resolve(refusal)
      }, HELD_MS + more)
    })
  }
}
