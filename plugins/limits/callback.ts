/** Functions that a service gives. They are asked in the middle of a request, so they answer at once. */
import { LimitsMisconfigured } from './errors.js'

/** @throws LimitsMisconfigured for an `async` function: its promise would never be an answer */
export function refuseAsync (option: string, callback: (...parts: never[]) => unknown): void {
  if (callback.constructor.name !== 'AsyncFunction') return
  throw new LimitsMisconfigured(`limits: ${option}: is asked in the middle of a request and must answer at once: it cannot be async`)
}

/** The answer. A promise is none, and must not end the process when it rejects. */
export function answerOf (answer: unknown): unknown {
  if (answer instanceof Promise) answer.catch(() => {})
  return answer
}
