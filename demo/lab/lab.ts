/**
 * The lab of the pages: a range that is opened when it is first needed, kept while it is used, and closed when nobody uses it any more, or with the
 * portal. One attack at a time; the others wait for it.
 */
import { openRange, type Duel, type Range } from './range.js'

export interface Lab {
  /** @throws LabFull, RangeError where there is no such attack */
  run: (name: string) => Promise<Duel>
  /** Ends what runs, and its processes. */
  close: () => Promise<void>
}

/** Too many wait already. */
export class LabFull extends Error {}

/** Milliseconds after which a range that nobody uses is closed, and between two looks at that. */
export const IDLE_MS = 300_000
const LOOK_MS = 500
/** Runs that wait for the one that goes on. */
const MAX_WAITING = 8

/** `now`: milliseconds since the epoch. */
export function openLab (now: () => number): Lab {
  let range: Promise<Range> | null = null
  let ending = new AbortController()
  let last: Promise<unknown> = Promise.resolve()
  let running = 0
  let usedAt = 0
  let isOver = false
  let timer: NodeJS.Timeout | undefined
  /** Ranges that are being closed. */
  const closing = new Set<Promise<void>>()

  return {
    run (name) {
      if (isOver || running > MAX_WAITING) throw new LabFull()
      running++
      const mine = last.then(() => fight(name)).finally(() => {
        running--
        usedAt = now()
      })
      last = mine.catch(() => {})
      return mine
    },
    async close () {
      isOver = true
      putAway()
      await Promise.all(closing)
    },
  }

  async function fight (name: string): Promise<Duel> {
    if (isOver) throw new LabFull()
    range ??= open()
    try {
      const duel = await (await range).run(name)
      // What could not be carried out may have met a server that is gone: the next attack gets new ones.
      if (duel.twin.decisive === -1 || duel.portal.decisive === -1) putAway()
      return duel
    } catch (error) {
      putAway()
      throw isOver ? new LabFull() : error
    }
  }

  function open (): Promise<Range> {
    timer = setInterval(() => { if (running === 0 && now() - usedAt >= IDLE_MS) putAway() }, LOOK_MS).unref()
    ending = new AbortController()
    return openRange(ending.signal)
  }

  function putAway (): void {
    if (range === null) return
    clearInterval(timer)
    ending.abort()
    const closed = range.then(open => open.close(), () => {}) // one that did not open has closed what it had
    range = null
    closing.add(closed)
    closed.finally(() => { closing.delete(closed) })
  }
}
