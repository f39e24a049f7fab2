/**
 * Refusals that are held back for a moment: whoever asks again as soon as there is an answer asks no more often than there are
 * answers, so that sixty clients without pause are some hundred requests a second and not ten thousand. What is held is
 * bounded; beyond, refusals leave at once.
 */

/** Milliseconds. */
const HELD_MS = 250
const MAX_HELD = 1000

/** Answers the refusal, a little later where there is room to hold it. */
export type Hold = (refusal: Error) => Error | Promise<Error>

export function makeHold (): Hold {
  let held = 0
  return function hold (refusal) {
    if (held >= MAX_HELD) return refusal
    held += 1
    return new Promise(resolve => {
      setTimeout(() => {
        held -= 1
        resolve(refusal)
      }, HELD_MS)
    })
  }
}
