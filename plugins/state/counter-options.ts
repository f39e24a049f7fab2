/** What a counter may be asked for, whatever store it is in. */
import type { Algorithm, Ban, CounterOptions, Window } from './port.js'

/** The options of a counter: checked, and with their defaults. */
export interface SettledCounter {
  name: string
  windows: readonly Window[]
  algorithm: Algorithm
  ban: Ban | null
}

const MAX_WINDOWS = 8
/** The exact log keeps a time for each request: more of them than this cost too much. */
const MAX_LOGGED = 10_000
/** Up to here the sum of two products of requests and milliseconds is an exact whole number. */
const MAX_PRODUCT = Number.MAX_SAFE_INTEGER / 2
const ALGORITHMS: readonly string[] = ['fixed', 'sliding', 'log', 'bucket'] satisfies Algorithm[]

/** @throws TypeError where a window, the algorithm or the ban is wrong */
export function settleCounter ({ name, windows, algorithm = 'sliding', ban }: CounterOptions): SettledCounter {
  if (windows.length < 1 || windows.length > MAX_WINDOWS || !windows.every(({ limit, ms }) => isCount(limit) && isCount(ms))) {
    throw new TypeError(`counter ${name}: needs one to ${MAX_WINDOWS} windows, each with a limit and milliseconds of at least 1`)
  }
  if (!ALGORITHMS.includes(algorithm)) throw new TypeError(`counter ${name}: the algorithm must be one of ${ALGORITHMS.join(', ')}`)
  if (algorithm === 'log' && windows.some(({ limit }) => limit > MAX_LOGGED)) {
    throw new TypeError(`counter ${name}: a log keeps the time of each request, so its limit must be at most ${MAX_LOGGED}`)
  }
  if ((algorithm === 'sliding' || algorithm === 'bucket') && windows.some(({ limit, ms }) => limit * ms > MAX_PRODUCT)) {
    throw new TypeError(`counter ${name}: limit × milliseconds must be at most ${MAX_PRODUCT}, or it could not be counted exactly`)
  }
  if (ban !== undefined && !(isCount(ban.after) && isCount(ban.ms))) {
    throw new TypeError(`counter ${name}: a ban needs \`after\` and \`ms\`, whole numbers of at least 1`)
  }
  return {
    name,
    windows: windows.map(({ limit, ms }) => ({ limit, ms })),
    algorithm,
    ban: ban === undefined ? null : { after: ban.after, ms: ban.ms },
  }
}

/** @throws TypeError where the same name was given other windows, another algorithm or another ban: two budgets under one name would be one */
export function checkSameCounter (known: SettledCounter, asked: SettledCounter): void {
  if (JSON.stringify(known) !== JSON.stringify(asked)) {
    throw new TypeError(`counter ${asked.name}: is there already, with other windows, another algorithm or another ban`)
  }
}

/** @throws TypeError where the cost would count nothing, or less than nothing */
export function checkCost (cost: number): void {
  if (!isCount(cost)) throw new TypeError('the cost of a request must be a whole number of at least 1')
}

function isCount (value: number): boolean {
  return Number.isSafeInteger(value) && value >= 1
}
