/**
 * Runs: what anybody can multiply must be no flood of events. Of a run of like ones the first is recorded, then at most one in a time, with how
 * many there were; what was left out is recorded when its run is over, and at close. What is held is bounded: runs for which there is no room
 * are one.
 */
type Details = Record<string, unknown>

export interface RunTerms {
  /** Milliseconds in which a run is recorded once. */
  quietMs: number
  /** Runs that are held; what there is no room for shares one. */
  max: number
  /** Milliseconds since the epoch; for tests. */
  now?: () => number
}

export interface RunNote {
  /** Instead of those of the terms, until this run is recorded again. */
  quietMs?: number
  /** Recorded at once where what was recorded last of its run was not grave. */
  isGrave?: boolean
  /** Details where there was no room for a run of its own. Default: the same, and `shared: true`. */
  shared?: Details
}

/** How events are made and recorded. */
export interface RunParts<Subject, Event extends { time: string, details: Details }> {
  compose: (subject: Subject, details: Details) => Event
  publish: (event: Event, subject: Subject | null) => void
  /** Called for each that is left out. */
  leave: (subject: Subject) => void
}

interface Run<Event> {
  toldAt: number
  quietMs: number
  isGrave: boolean
  /** Since it was recorded. */
  untold: number
  /** The first of these. */
  left: Event | null
}

/** Of what comes before anything limits it: handshakes, what is no HTTP, requests to hosts that are not ours. */
export const UNGUARDED: Readonly<RunTerms> = { quietMs: 60_000, max: 1000 }
/** Runs that are told of by themselves, of those that end at once; the rest is told of together. */
const MAX_ENDS = 100

export class Runs<Subject, Event extends { time: string, details: Details }> {
  readonly #parts: RunParts<Subject, Event>
  readonly #terms: RunTerms
  readonly #now: () => number
  readonly #runs = new Map<string, Run<Event>>()
  readonly #others: Run<Event>
  #madeRoomAt = -Infinity
  #timer: NodeJS.Timeout | null = null

  constructor (parts: RunParts<Subject, Event>, terms: RunTerms) {
    this.#parts = parts
    this.#terms = terms
    this.#now = terms.now ?? Date.now
    this.#others = this.#begin()
  }

  /** `times` is added to the details of what is recorded: how many there were since the last, with this one. */
  record (key: string, subject: Subject, details: Details, { quietMs = this.#terms.quietMs, isGrave = false, shared }: RunNote = {}): void {
    const now = this.#now()
    const run = this.#runOf(key, now)
    const isShared = run === this.#others
    const said = isShared ? shared ?? { ...details, shared: true } : details
    run.untold += 1
    if (isQuiet(run, now) && (isShared || !isGrave || run.isGrave)) {
      this.#parts.leave(subject)
      run.left ??= copyOf(this.#parts.compose(subject, said))
      this.#watch()
      return
    }
    const { untold } = run
    Object.assign(run, { toldAt: now, quietMs: isShared ? this.#terms.quietMs : quietMs, isGrave, untold: 0, left: null })
    this.#parts.publish(this.#parts.compose(subject, { ...said, times: untold }), subject)
  }

  /** What comes next is recorded. */
  forget (key: string): void {
    const run = this.#runs.get(key)
    if (run === undefined) return
    this.#runs.delete(key)
    this.#end(run, this.#now())
  }

  /** Records what was left out; `isOver`: of those runs alone that are over. */
  flush (isOver = false): void {
    clearTimeout(this.#timer ?? undefined)
    this.#timer = null
    const now = this.#now()
    const ended: [key: string, run: Run<Event>][] = []
    let isWaiting = false
    for (const entry of this.#runs) {
      const [key, run] = entry
      if (isQuiet(run, now) && (isOver || run.untold === 0)) isWaiting ||= run.untold > 0
      else if (run.untold > 0) ended.push(entry)
      else this.#runs.delete(key)
    }
    // The largest by themselves: who makes many small ones has not hidden a large one among the others.
    ended.sort(([, a], [, b]) => b.untold - a.untold)
    for (const [, run] of ended.slice(0, MAX_ENDS)) this.#end(run, now)
    for (const [key, run] of ended.slice(MAX_ENDS)) {
      this.#runs.delete(key)
      this.#merge(run)
    }
    if (!isOver || !isQuiet(this.#others, now)) this.#end(this.#others, now)
    if (isWaiting || this.#others.untold > 0) this.#watch()
  }

  #runOf (key: string, now: number): Run<Event> {
    const known = this.#runs.get(key)
    if (known !== undefined) return known
    if (this.#runs.size >= this.#terms.max) this.#makeRoom(now)
    if (this.#runs.size >= this.#terms.max) return this.#others
    const run = this.#begin()
    this.#runs.set(key, run)
    return run
  }

  #begin (): Run<Event> {
    return { toldAt: -Infinity, quietMs: this.#terms.quietMs, isGrave: false, untold: 0, left: null }
  }

  /** Looks through all of them, and so not for each that comes. */
  #makeRoom (now: number): void {
    if (isQuiet({ toldAt: this.#madeRoomAt, quietMs: this.#terms.quietMs }, now)) return
    this.#madeRoomAt = now
    this.flush(true)
  }

  #merge ({ untold, left }: Run<Event>): void {
    if (left === null) return
    this.#others.untold += untold
    this.#others.left ??= { ...left, details: { ...left.details, shared: true } }
  }

  /** It begins anew: this too is recorded once in its time. */
  #end (run: Run<Event>, now: number): void {
    const { left, untold } = run
    if (left === null) return
    Object.assign(run, { ...this.#begin(), toldAt: now })
    this.#parts.publish({ ...left, time: new Date().toISOString(), details: { ...left.details, times: untold } }, null)
  }

  /** An attack that ends is told of to its end. */
  #watch (): void {
    this.#timer ??= setTimeout(() => this.flush(true), this.#terms.quietMs).unref()
  }
}

/** A clock that was set back makes nobody quiet. */
function isQuiet ({ toldAt, quietMs }: { toldAt: number, quietMs: number }, now: number): boolean {
  return now >= toldAt && now - toldAt < quietMs
}

/** What is kept holds nothing else in memory: a part of a header would hold all of it. */
function copyOf<Event> (event: Event): Event {
  try {
    return structuredClone(event)
  } catch {
    return event // whose details nobody can copy
  }
}
