/**
 * Work that one process does at a time: it holds a row for a while, by the clock of the database, and prolongs that while it works. Of a
 * process that was killed the time runs out, and another one does it.
 */

export interface Lease {
  /** False from the moment on when somebody else may be at it. */
  isHeld: () => boolean
}

/** How often one attempt may be prolonged: what takes longer hangs. */
const PROLONGED = 30
/** A third of it, so that one that fails does not cost it. */
const EARLY = 3

/** @param prolong answers false where it is held no more */
export async function holding<T> (leaseMs: number, prolong: () => Promise<boolean>, work: (lease: Lease) => Promise<T>): Promise<T> {
  let isHeld = true
  let times = 0
  const beat = setInterval(async () => {
    times += 1
    if (times >= PROLONGED) isHeld = false
    else isHeld = await prolong().catch(() => isHeld) && isHeld
    if (!isHeld) clearInterval(beat)
  }, leaseMs / EARLY).unref()
  try {
    return await work({ isHeld: () => isHeld })
  } finally {
    clearInterval(beat)
  }
}

/** The time after which an attempt is given up. */
export function patienceOf (leaseMs: number): number {
  return leaseMs / EARLY * PROLONGED
}

/**
 * @param keepsAlive whether the process must not end meanwhile
 * @throws Error where it takes longer; what it does then nobody waits for
 */
export async function within<T> (ms: number, work: Promise<T>, { keepsAlive }: { keepsAlive: boolean }): Promise<T> {
  let timer: NodeJS.Timeout
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`it took longer than ${ms} ms`)), ms)
    if (!keepsAlive) timer.unref()
  })
  return Promise.race([work, late]).finally(() => { clearTimeout(timer) })
}
