/** How long a process stands still, and what it holds: for figures of one process that was started for them, with `--expose-gc`. */
import { existsSync, openSync, readSync } from 'node:fs'
import { constants, monitorEventLoopDelay, PerformanceObserver, type PerformanceEntry } from 'node:perf_hooks'
import { rounded } from '../statistics.js'

export interface Pauses {
  nanoseconds: number
  /** Milliseconds of the longest turn of the loop; time in which the process waited for a processor is left out, where Linux tells it. */
  longestTurnMs: number
  /** The longest delay that the loop itself has noticed, others on the machine included. */
  loopDelayMs: number
  longestGcMs: number
  gcMs: number
}

export interface Bytes { resident: number, heapAndBuffers: number }

/** What is done in one turn: as many as may come in at once. */
const PER_TURN = 64
/** Collections that {@link held} asks for. */
const FORCED = constants.NODE_PERFORMANCE_GC_FLAGS_FORCED | constants.NODE_PERFORMANCE_GC_FLAGS_ALL_AVAILABLE_GARBAGE
const SCHEDULING = '/proc/thread-self/schedstat'
/** Read into the same buffer each time: what measures must make no garbage of its own. */
const scheduling = existsSync(SCHEDULING) ? openSync(SCHEDULING, 'r') : null
const line = Buffer.alloc(128)

const collections: number[] = []
new PerformanceObserver(list => {
  for (const { duration, detail } of list.getEntries() as (PerformanceEntry & { detail: { flags: number } })[]) {
    if ((detail.flags & FORCED) === 0) collections.push(duration)
  }
}).observe({ entryTypes: ['gc'] })

/** Does something so often, a few in each turn of the loop. */
export async function doing (times: number, what: (i: number) => unknown): Promise<Pauses> {
  collections.length = 0
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  let longest = 0
  const begun = performance.now()
  for (let i = 0; i < times;) {
    const [from, waited] = [performance.now(), waitedMs()]
    for (const end = Math.min(times, i + PER_TURN); i < end; i++) {
      const answer = what(i)
      if (answer instanceof Promise) await answer
    }
    longest = Math.max(longest, performance.now() - from - (waitedMs() - waited))
    await turn()
  }
  const took = performance.now() - begun
  await new Promise(resolve => setTimeout(resolve, 5))
  delay.disable()
  return {
    nanoseconds: rounded(took * 1e6 / times, 0),
    longestTurnMs: rounded(longest, 1),
    loopDelayMs: rounded(delay.max / 1e6, 1),
    longestGcMs: rounded(Math.max(0, ...collections), 1),
    gcMs: rounded(collections.reduce((sum, ms) => sum + ms, 0), 0),
  }
}

/** What the process holds, once all garbage is collected. */
export async function held (): Promise<Bytes> {
  for (let i = 0; i < 3; i++) {
    (globalThis as unknown as { gc: () => void }).gc()
    await turn()
  }
  const { rss, heapUsed, external } = process.memoryUsage()
  return { resident: rss, heapAndBuffers: heapUsed + external }
}

export function bytesOfOne (before: Bytes, after: Bytes, entries: number): Bytes {
  return { resident: rounded((after.resident - before.resident) / entries, 0), heapAndBuffers: rounded((after.heapAndBuffers - before.heapAndBuffers) / entries, 0) }
}

function turn (): Promise<void> {
  return new Promise(resolve => { setImmediate(resolve) })
}

/** Milliseconds for which this thread was ready and no processor free. */
function waitedMs (): number {
  if (scheduling === null) return 0
  return Number(line.toString('latin1', 0, readSync(scheduling, line, 0, line.length, 0)).split(' ')[1]) / 1e6
}
