/**
 * Refusals that are held back for a moment: whoever asks again as soon as there is an answer asks no more often than there are
 * answers, so that sixty clients without pause are some hundred requests a second and not ten thousand. What is held is
 * bounded; beyond, refusals leave at once.
 */

/** Milliseconds, the least and how many more. What came together leaves one after the other, or all would ask again in the same moment. */
const HELD_MS = 200
const SPREAD_MS = 101
/** Has no divisor in common with the spread: each comes once before any comes again. */
const STEP_MS = 37
const MAX_HELD = 1000

/** Answers the refusal, a little later where there is room to hold it. */
export type Hold = (refusal: Error) => Error | Promise<Error>

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
