/**
 * What one rule has counted in this process: exact, and bounded.
 *
 * Where there is no room, of some that stand longest the one with the least goes: an attacker who comes from ever new addresses makes others of his
 * own be forgotten first.
 */
interface Entry {
  /** Times of the last events, as many as the threshold. */
  times: number[]
  /** When each of the different ones was seen last. */
  members: Map<string, number>
  /** Not told again until then. */
  quietUntil: number
}

interface Window { threshold: number, windowMs: number, quietMs: number }

const MAX_SUBJECTS = 10_000
/** Places that are looked at to find room. */
const PLACES = 8

export class Tallies {
  readonly #window: Window
  readonly #entries = new Map<string, Entry>()
  readonly #max: number

  constructor (window: Window, max = MAX_SUBJECTS) {
    this.#window = window
    this.#max = max
  }

  get size (): number { return this.#entries.size }

  /** Counts events; true where there are as many as the threshold within the window. */
  add (subject: string, times: number, now: number): boolean {
    const { threshold } = this.#window
    const entry = this.#of(subject, now)
    this.#forget(entry, now)
    for (let i = 0; i < Math.min(times, threshold); i++) entry.times.push(now)
    if (entry.times.length > threshold) entry.times.splice(0, entry.times.length - threshold)
    return entry.times.length >= threshold
  }

  /** Counts different ones; true where there are as many as the threshold within the window. */
  join (subject: string, members: Iterable<string>, now: number): boolean {
    const { threshold } = this.#window
    const entry = this.#of(subject, now)
    this.#forget(entry, now)
    for (const member of members) if (entry.members.size < threshold || entry.members.has(member)) entry.members.set(member, now)
    return entry.members.size >= threshold
  }

  /** True for who may tell it, and false for all others until it may be told again. */
  claim (subject: string, now: number): boolean {
    const entry = this.#of(subject, now)
    if (now < entry.quietUntil) return false
    entry.quietUntil = now + this.#window.quietMs
    return true
  }

  #of (subject: string, now: number): Entry {
    let entry = this.#entries.get(subject)
    if (entry !== undefined) return entry
    if (this.#entries.size >= this.#max) this.#makeRoom(now)
    entry = { times: [], members: new Map(), quietUntil: -Infinity }
    this.#entries.set(subject, entry)
    return entry
  }

  /** A clock that was set back makes nothing older. */
  #forget (entry: Entry, now: number): void {
    const since = now - this.#window.windowMs
    const first = entry.times.findIndex(time => time > since)
    entry.times.splice(0, first === -1 ? entry.times.length : first)
    for (const [member, time] of entry.members) if (time <= since) entry.members.delete(member)
  }

  #makeRoom (now: number): void {
    const oldest: [string, Entry][] = []
    for (const place of this.#entries) {
      if (oldest.push(place) === PLACES) break
    }
    let least = oldest[0]!
    for (const place of oldest) {
      this.#forget(place[1], now)
      if (weightOf(place[1], now) < weightOf(least[1], now)) least = place
    }
    // Those that stay are the youngest again, so that the next time others are looked at.
    for (const [subject, entry] of oldest) {
      this.#entries.delete(subject)
      if (subject !== least[0]) this.#entries.set(subject, entry)
    }
  }
}

/** What was told and must be quiet weighs most: forgotten, it would be told again and again. */
function weightOf ({ times, members, quietUntil }: Entry, now: number): number {
  return now < quietUntil ? Infinity : times.length + members.size
}
