/** What every store of shared state holds to (plugins/state/port.ts), whether it answers at once or with promises. */
import { randomBytes } from 'node:crypto'
import type { Test } from 'tap'
import type { State } from '../../plugins/state/index.js'
import { holdsBans } from './contract-bans.js'
import { holdsCounters } from './contract-counters.js'
import { holdsTraffic } from './contract-traffic.js'
import { holdsValues } from './contract-values.js'

export interface Opened {
  state: State
  /** The time of counters. What a counter keeps must not run out by another clock meanwhile. */
  clock: { ms: number }
  /** Lets the time go by by which values and tallies live. */
  elapse: (ms: number) => Promise<void>
}

/** Opens a store that is empty below the prefix and ends with the test; several of them may share one server. */
export type Open = (t: Test, options: { prefix: string }) => Promise<Opened>

/** @param rounds of random traffic, an algorithm each */
export async function holdsContract (t: Test, name: string, open: Open, { rounds }: { rounds: number }): Promise<void> {
  const begin = (t: Test) => open(t, { prefix: `t${randomBytes(6).toString('hex')}` })
  await t.test(`${name}: values and tallies`, t => holdsValues(t, begin))
  await t.test(`${name}: counters`, t => holdsCounters(t, begin))
  await t.test(`${name}: counters under random traffic`, t => holdsTraffic(t, begin, rounds))
  await t.test(`${name}: bans`, t => holdsBans(t, begin))
}
