/**
 * The line to a store that is elsewhere: gives every operation its deadline, and knows whether the store is away.
 *
 * Threat: a store that hangs holds every request for as long as its client is willing to wait (CWE-400).
 * Defence: the first operation that fails or is late closes the line; what comes after fails at once, without being
 * sent, until the store has answered a probe. A store that comes and goes has to answer several in a row.
 */

/** Milliseconds between two probes of a store that is away, and what one of them may take. */
const PROBE_EVERY_MS = 100
const PROBE_MS = 1000
/** A store that goes away again within this many milliseconds has to answer twice as many probes as before, up to the most. */
const STEADY_MS = 10_000
const MOST_PROBES = 8
/** A timer that comes so many milliseconds late tells that this process was busy; so often in a row it gets as many more. */
const LATE_MS = 20
const PATIENCE = 5

export interface LinkParts {
  /** Sends what any operation would send; rejects where one would fail. */
  probe: () => Promise<unknown>
  /** Called with each change. */
  changed: (isAway: boolean, cause: unknown) => void
  /** The error that operations fail with while the store is away. */
  unavailable: (cause: unknown) => Error
  /** Turns an error of the store into the one to throw; null where the store is as good as away. */
  judge: (error: Error) => Error | null
  /** Milliseconds after which a late answer means that the store is away; with less it is late for who asked, and for nobody else. */
  deadline: number
  /** Told the seconds from an operation to its answer, late ones too. */
  took: (seconds: number) => void
}

interface Pending { isDone: boolean, expires: number, reject: (error: Error) => void }

export class Link {
  readonly #parts: LinkParts
  readonly #queues = new Map<number, Deadlines>()
  #cause: unknown = null
  #isAway = false
  #isClosed = false
  #cameBack = -Infinity
  #wanted = 1
  #timer: NodeJS.Timeout | undefined

  constructor (parts: LinkParts) { this.#parts = parts }

  get isAway (): boolean { return this.#isAway }

  /** What `read` makes of what `send`, which is so many operations, answers in time. */
  run<T> (send: () => Promise<unknown>, read: (answer: unknown) => T, deadlineMs: number, operations: number): Promise<T> {
    if (this.#isAway) return Promise.reject(this.#parts.unavailable(this.#cause))
    return new Promise((resolve, reject) => {
      const began = performance.now()
      const pending: Pending = { isDone: false, expires: began + deadlineMs, reject }
      send().then(answer => {
        pending.isDone = true
        const seconds = (performance.now() - began) / 1000
        for (let i = 0; i < operations; i++) this.#parts.took(seconds)
        try {
          resolve(read(answer))
        } catch (error) {
          reject(error)
        }
      }, (error: Error) => {
        if (pending.isDone) return
        pending.isDone = true
        const judged = this.#parts.judge(error)
        reject(judged ?? this.#gone(error))
      })
      this.#queueOf(deadlineMs).add(pending)
    })
  }

  /** The store is away, until it answers a probe. */
  leave (cause: unknown): void {
    if (this.#isAway || this.#isClosed) return
    this.#isAway = true
    this.#cause = cause
    this.#wanted = performance.now() - this.#cameBack < STEADY_MS ? Math.min(MOST_PROBES, this.#wanted * 2) : 1
    this.#parts.changed(true, cause)
    this.#timer = setTimeout(() => { this.#probe(this.#wanted) }, PROBE_EVERY_MS).unref()
  }

  close (): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
    for (const queue of this.#queues.values()) queue.close()
  }

  /** One probe at a time: what is sent to a store that hangs is answered once it goes on. */
  #probe (left: number): void {
    if (this.#isClosed) return
    const began = performance.now()
    const again = (stillLeft: number) => { this.#timer = setTimeout(() => { this.#probe(stillLeft) }, PROBE_EVERY_MS).unref() }
    this.#parts.probe().then(() => {
      // An answer that was long in coming says that it goes on, not that it is well.
      if (performance.now() - began > PROBE_MS) return again(this.#wanted)
      if (left > 1) return again(left - 1)
      if (this.#isClosed) return
      this.#isAway = false
      this.#cameBack = performance.now()
      this.#parts.changed(false, null)
    }, () => { again(this.#wanted) })
  }

  #gone (cause: Error): Error {
    this.leave(cause)
    return this.#parts.unavailable(cause)
  }

  #queueOf (deadlineMs: number): Deadlines {
    let queue = this.#queues.get(deadlineMs)
    if (queue === undefined) {
      const { deadline, unavailable } = this.#parts
      const late = () => new Error(`no answer within ${deadlineMs} ms`)
      queue = new Deadlines(deadlineMs < deadline ? () => unavailable(late()) : () => this.#gone(late()))
      this.#queues.set(deadlineMs, queue)
    }
    return queue
  }
}

/** Operations of one deadline, in the order in which it comes: one timer for all of them. */
class Deadlines {
  #queue: Pending[] = []
  #planned = 0
  #patience = PATIENCE
  #timer: NodeJS.Timeout | undefined
  readonly #missed: () => Error

  constructor (missed: () => Error) { this.#missed = missed }

  add (pending: Pending): void {
    this.#queue.push(pending)
    if (this.#timer === undefined) this.#wakeAt(pending.expires)
  }

  close (): void { clearTimeout(this.#timer) }

  #wakeAt (time: number): void {
    this.#planned = time
    this.#timer = setTimeout(this.#wake, Math.max(1, time - performance.now())).unref()
  }

  /** Answers that arrived while this process was busy are read first, and what it could not even send gets a moment more: it was late, not the store. */
  readonly #wake = (): void => {
    const time = performance.now()
    if (time - this.#planned < LATE_MS || this.#patience === 0) setImmediate(this.#expire)
    else {
      this.#patience -= 1
      this.#wakeAt(time + LATE_MS)
    }
  }

  readonly #expire = (): void => {
    const time = performance.now()
    this.#patience = PATIENCE
    let first = 0
    for (; first < this.#queue.length; first++) {
      const pending = this.#queue[first]!
      if (pending.isDone) continue
      if (pending.expires > time) break
      pending.isDone = true
      pending.reject(this.#missed())
    }
    this.#queue = this.#queue.slice(first)
    this.#timer = undefined
    if (this.#queue.length > 0) this.#wakeAt(this.#queue[0]!.expires)
  }
}
