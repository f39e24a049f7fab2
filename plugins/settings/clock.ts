/** Time, as sources meet it. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now: () => number
  /** Runs something once in so many milliseconds, unless what it returns is called before; `isAwaited`: the process waits for it. */
  after: (ms: number, run: () => void, isAwaited?: boolean) => () => void
}

/** More than that Node does not count; who asks for longer looks again then. */
const LONGEST = 2 ** 31 - 1

export const SYSTEM_CLOCK: Clock = {
  now: Date.now,
  after (ms, run, isAwaited = false) {
    const timer = setTimeout(run, Math.min(ms, LONGEST))
    if (!isAwaited) timer.unref()
    return () => { clearTimeout(timer) }
  },
}

/** Half of it to all of it, by chance: many processes that began together do not go on together. */
export function jittered (ms: number): number {
  return ms / 2 + Math.random() * ms / 2
}
