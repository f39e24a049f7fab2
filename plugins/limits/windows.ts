/** Windows as people write them: `5/second`, `100/minute`, `30/15m`. */
import type { Window } from '../state/index.js'

const UNITS: Record<string, number> = {
  s: 1000, second: 1000, seconds: 1000, m: 60_000, minute: 60_000, minutes: 60_000, h: 3_600_000, hour: 3_600_000, hours: 3_600_000, d: 86_400_000, day: 86_400_000, days: 86_400_000,
}
const WINDOW = /^(\d{1,9})\/([\da-z ]{1,13})$/
const SPAN = /^(\d{0,5}) ?([a-z]{1,7})$/

/**
 * Reads one window.
 *
 * @returns null where the text is not of the form `<count>/<unit>` or `<count>/<n><unit>` (unit: s, m, h, d or their words)
 */
export function parseWindow (text: string): Window | null {
  const [, count = '', span = ''] = WINDOW.exec(text) ?? []
  const limit = Number(count)
  const ms = parseSpan(span)
  return ms === null || limit < 1 ? null : { limit, ms }
}

/** Reads a time (`15m`, `1 hour`, `day`); milliseconds, or null where it is none. */
export function parseSpan (text: string): number | null {
  const [, times = '', unit = ''] = SPAN.exec(text) ?? []
  const ms = UNITS[unit]
  const count = times === '' ? 1 : Number(times)
  return ms === undefined || !(count >= 1) ? null : ms * count
}
