/** Times to live, the same rules for every store. */

/**
 * Milliseconds as a whole number, never less than asked for.
 *
 * @throws TypeError where that is no time to live: nothing is kept for ever
 */
export function wholeTtl (key: string, ms: number): number {
  const whole = Math.ceil(ms)
  if (whole >= 1 && Number.isSafeInteger(whole)) return whole
  throw new TypeError(`state: the time to live of ${key.split(':', 1)[0]} must be above 0 ms, and finite`)
}
