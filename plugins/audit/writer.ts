/**
 * The writer: events go to the database in batches, in their order, and while it is away to the spool.
 *
 * A batch is under way at a time; what is recorded meanwhile is the next one. What a promise waits for is fulfilled once it is committed, or on the
 * disk in the spool. Memory is bounded: what there is no room for goes to the spool too, and what that cannot take is refused where it was promised,
 * and counted as lost where it was not.
 */
import { withoutContent, type Entry } from './content.js'
import { AuditBroken, AuditUnavailable } from './errors.js'
import type { Spool } from './spool.js'

export interface WriterParts {
  /** Writes a batch to the database; `mayBeKept`: it may be there already. */
  write: (entries: readonly Entry[], mayBeKept: boolean) => Promise<void>
  spool: Spool
  /** Milliseconds that an event waits for others, that a batch may take, and between two attempts while the database is away. */
  delayMs: number
  deadlineMs: number
  retryMs: number
  /** Events in memory; what comes beyond waits for the disk, up to ten times as many. */
  queue: number
  onAway: (error: unknown) => void
  onBack: () => void
  /** Events that nothing could keep, or not their content. */
  onLost: (count: number, error: unknown) => void
  onWritten: () => void
}

interface Waiting {
  entry: Entry
  /** Null where nobody waits. */
  promise: { resolve: () => void, reject: (error: Error) => void } | null
}

const BATCH = 1000
/** So many times the queue's room may wait for a disk that is slow, too. */
const OVERFLOW = 10

export class Writer {
  readonly #parts: WriterParts
  #queue: Waiting[] = []
  #timer: NodeJS.Timeout | null = null
  /** The loop that empties the queue, and the one that empties the spool. */
  #emptying: Promise<void> | null = null
  #replaying: Promise<void> | null = null
  /** New events go to the spool, behind those that are in it. */
  #isSpooling = false
  /** The queue waits for a moment, so that the spool can be emptied behind it. */
  #isHeld = false
  #isClosing = false
  #wake = () => {}
  /** Events that were taken, and how many of them are kept or lost. */
  #taken = 0
  #settled = 0
  #flushing: (() => void)[] = []

  constructor (parts: WriterParts) { this.#parts = parts }

  get queued (): number { return this.#queue.length }
  get isAway (): boolean { return this.#isSpooling }
  /** False where a promise could not be kept. */
  get canPromise (): boolean { return !this.#isSpooling || this.#parts.spool.hasRoom }

  /** Takes an event. `promised`: answers what is fulfilled once it is kept, and rejected with AuditUnavailable where it cannot be. */
  keep (entry: Entry, promised: true): Promise<void>
  keep (entry: Entry, promised: boolean): Promise<void> | undefined
  keep (entry: Entry, promised: boolean): Promise<void> | undefined {
    // There is always room for what tells of this.
    if (this.#queue.length >= OVERFLOW * this.#parts.queue && !entry.type.startsWith('audit_')) return this.#refuse(promised)
    let promise: Waiting['promise'] = null
    const kept = promised ? new Promise<void>((resolve, reject) => { promise = { resolve, reject } }) : undefined
    this.#queue.push({ entry, promise })
    this.#taken += 1
    if (this.#queue.length > this.#parts.queue) this.#goAway(new Error('the database is slower than events come'))
    if (promised || this.#queue.length >= BATCH || this.#isClosing) this.#start()
    else this.#timer ??= setTimeout(() => { this.#start() }, this.#parts.delayMs)
    return kept
  }

  #refuse (promised: boolean): Promise<void> | undefined {
    const fault = new Error('the disk is slower than events come')
    if (promised) return Promise.reject(unavailable(fault))
    this.#parts.onLost(1, fault)
    return undefined
  }

  /** Waits until what was taken so far is kept, or lost; what comes meanwhile is not waited for. */
  async flush (): Promise<void> {
    const target = this.#taken
    this.#start()
    while (this.#settled < target) await new Promise<void>(resolve => { this.#flushing.push(resolve) })
  }

  /** Takes up what processes that have ended left in the spool. */
  async takeUp (): Promise<void> {
    await this.#parts.spool.takeUp(entries => this.#attemptEach(entries), BATCH)
  }

  /** Keeps all that was recorded; the spool is given one more attempt. */
  async close (): Promise<void> {
    this.#isClosing = true
    this.#wake()
    await this.#replaying
    while (this.#queue.length > 0 || this.#emptying !== null) await this.flush()
    await this.#replaying
    await this.#parts.spool.close()
  }

  #start (): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    if (this.#isHeld) return
    this.#emptying ??= this.#emptyQueue().finally(() => { this.#emptying = null })
  }

  async #emptyQueue (): Promise<void> {
    while (this.#queue.length > 0 && !this.#isHeld) {
      const batch = this.#queue.splice(0, BATCH)
      if (this.#isSpooling || !await this.#toDatabase(batch)) await this.#toSpool(batch)
      this.#settled += batch.length
      for (const resolve of this.#flushing.splice(0)) resolve()
    }
  }

  async #toDatabase (batch: readonly Waiting[]): Promise<boolean> {
    try {
      await this.#attempt(batch.map(({ entry }) => entry), false)
    } catch (error) {
      this.#goAway(error)
      return false
    }
    for (const { promise } of batch) promise?.resolve()
    return true
  }

  /** What is not done in time may still be done later: whoever tries again says so. */
  async #attempt (entries: readonly Entry[], mayBeKept: boolean): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => { reject(new Error('the database did not answer in time')) }, this.#parts.deadlineMs)
    })
    const writing = this.#parts.write(entries, mayBeKept)
    writing.catch(() => {}) // nobody may wait any more
    try {
      await Promise.race([writing, late])
    } finally {
      clearTimeout(timer)
    }
    this.#parts.onWritten()
  }

  /** One that the database refuses for what is in it must not hold up the others for ever: it is looked for, and kept without its content. */
  async #attemptEach (entries: readonly Entry[]): Promise<void> {
    try {
      await this.#attempt(entries, true)
    } catch (error) {
      if (!isOfContent(error)) throw error
      if (entries.length === 1) {
        await this.#attempt(entries.map(withoutContent), true)
        this.#parts.onLost(1, error)
      } else {
        const half = entries.length >> 1
        await this.#attemptEach(entries.slice(0, half))
        await this.#attemptEach(entries.slice(half))
      }
    }
  }

  async #toSpool (batch: readonly Waiting[]): Promise<void> {
    let kept = 0
    let fault: unknown = new Error('the spool is full')
    try {
      kept = await this.#parts.spool.append(batch.map(({ entry }) => entry))
    } catch (error) {
      fault = error
    }
    for (const { promise } of batch.slice(0, kept)) promise?.resolve()
    const rest = batch.slice(kept)
    for (const { promise } of rest) promise?.reject(unavailable(fault))
    const lost = rest.filter(({ promise }) => promise === null).length
    if (lost > 0) this.#parts.onLost(lost, fault)
  }

  #goAway (error: unknown): void {
    if (this.#isSpooling) return
    this.#isSpooling = true
    this.#parts.onAway(error)
    const replaying = this.#replay().finally(() => { if (this.#replaying === replaying) this.#replaying = null })
    this.#replaying = replaying
  }

  /** Tries until the spool is empty; then events go to the database again. */
  async #replay (): Promise<void> {
    do {
      await this.#pause()
      try {
        await this.#emptySpool()
        // Nothing may come between what was in the spool and what is in the queue.
        this.#isHeld = true
        await this.#emptying
        await this.#emptySpool()
        this.#isSpooling = false
        this.#parts.onBack()
        return
      } catch (error) {
        if (error instanceof AuditBroken) this.#parts.onAway(error)
      } finally {
        this.#isHeld = false
        if (this.#queue.length > 0) this.#start()
      }
    } while (!this.#isClosing)
  }

  async #emptySpool (): Promise<void> {
    while (this.#parts.spool.waiting > 0) {
      const { entries, done } = await this.#parts.spool.next(BATCH)
      if (entries.length > 0) await this.#attemptEach(entries)
      await done()
    }
    // One that was never asked is not known to be back.
    if (this.#isHeld) await this.#attempt([], false)
  }

  async #pause (): Promise<void> {
    if (this.#isClosing) return
    await new Promise<void>(resolve => {
      const timer = setTimeout(resolve, this.#parts.retryMs).unref()
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}

/** What PostgreSQL calls a data exception (class 22) or a limit of the program (54), and what cannot be read here. */
function isOfContent (error: unknown): boolean {
  return error instanceof SyntaxError || error instanceof RangeError || /^(?:22|54)/.test(String((error as { code?: unknown } | null)?.code))
}

function unavailable (cause: unknown): Error {
  return Object.assign(new AuditUnavailable(), { cause, expose: true, headers: { 'retry-after': '5' } })
}
