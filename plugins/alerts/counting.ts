/**
 * Counting: what requests leave behind is counted once they have gone on, together, in shared state where there is one.
 *
 * Events of one rule and subject that come while others are counted become one: a flood costs no more questions than it has subjects.
 */
import type { SecurityEvent } from '../events.js'
import type { Counter, State } from '../state/index.js'
import { subjectOf, type SettledRule } from './rules.js'
import { Tallies } from './tallies.js'

interface Rule {
  settled: SettledRule
  /** Of this process: where there is no other, and where the other is away. */
  tallies: Tallies
  /** Null where the state is this process's own, or the threshold needs no count. */
  counter: Counter | null
  /** Subjects that wait to be counted. */
  waiting: number
}

interface Pending {
  rule: Rule
  subject: string
  times: number
  /** At most as many as the threshold. */
  members: Set<string>
  /** The last of them. */
  event: SecurityEvent
}

export interface CountingParts {
  rules: readonly SettledRule[]
  state: State
  now: () => number
  /** Called once for what is to be told. */
  raise: (rule: SettledRule, subject: string, event: SecurityEvent) => void
  /** Called for what could not be counted, with its cause. */
  failed: (error: unknown) => void
  /** Called for an event that was not counted, because too many others waited. */
  overran: () => void
}

/** Subjects of one rule that wait to be counted: those of others a flood keeps from nothing. */
const MAX_PENDING = 10_000
/** Counted in one go, before other work of the process has its turn. */
const AT_ONCE = 100

export class Counting {
  readonly #parts: CountingParts
  readonly #shared: State | null
  readonly #byType = new Map<string, Rule[]>()
  readonly #ofAll: Rule[] = []
  #pending = new Map<string, Pending>()
  #counting: Promise<void> | null = null

  constructor (parts: CountingParts) {
    this.#parts = parts
    const { state } = parts
    // What one process keeps for itself does not belong on the shelves by whose room sign-in and revocations live.
    this.#shared = state.kind === 'memory' ? null : state
    for (const settled of parts.rules) {
      const { name, threshold, windowMs, distinct, events } = settled
      const isCounted = this.#shared !== null && threshold > 1 && distinct === undefined
      const rule: Rule = {
        settled,
        tallies: new Tallies(settled),
        counter: isCounted ? this.#shared!.counter({ name: `alerts_${name}`, algorithm: 'log', windows: [{ limit: threshold - 1, ms: windowMs }] }) : null,
        waiting: 0,
      }
      if (events === '*') this.#ofAll.push(rule)
      else for (const type of events) this.#byType.set(type, [...this.#byType.get(type) ?? [], rule])
    }
  }

  see (event: SecurityEvent): void {
    for (const rules of [this.#byType.get(event.type) ?? [], this.#ofAll]) {
      for (const rule of rules) {
        try {
          this.#note(rule, event)
        } catch (error) {
          this.#parts.failed(error) // a rule of the service's own; the others count
        }
      }
    }
  }

  /** Once all is counted that was seen before. */
  async settled (): Promise<void> {
    while (this.#counting !== null) await this.#counting
  }

  #note (rule: Rule, event: SecurityEvent): void {
    const { where, by, distinct, name, threshold } = rule.settled
    if (where !== undefined && where(event) !== true) return
    const subject = subjectOf(by, event)
    const member = distinct === undefined ? null : subjectOf(distinct, event)
    if (typeof subject !== 'string' || (distinct !== undefined && member === null)) return
    const key = `${name} ${subject}`
    let pending = this.#pending.get(key)
    if (pending === undefined) {
      if (rule.waiting >= MAX_PENDING) {
        this.#parts.overran()
        return
      }
      rule.waiting += 1
      this.#pending.set(key, pending = { rule, subject, times: 0, members: new Set(), event })
    }
    pending.times += timesOf(event, by)
    pending.event = event
    if (member !== null && pending.members.size < threshold) pending.members.add(member)
    this.#counting ??= this.#countAll().finally(() => { this.#counting = null })
  }

  async #countAll (): Promise<void> {
    do {
      await new Promise(resolve => { setImmediate(resolve) })
      const batch = [...this.#pending.values()]
      this.#pending = new Map()
      for (const { rule } of batch) rule.waiting = 0
      for (let i = 0; i < batch.length; i += AT_ONCE) {
        if (i > 0) await new Promise(resolve => { setImmediate(resolve) })
        await Promise.all(batch.slice(i, i + AT_ONCE).map(async pending => this.#count(pending).catch(this.#parts.failed)))
      }
    } while (this.#pending.size > 0)
  }

  async #count (pending: Pending): Promise<void> {
    const { rule, subject, event } = pending
    if (await this.#isReached(pending) && await this.#mayTell(rule, subject)) this.#parts.raise(rule.settled, subject, event)
  }

  async #isReached ({ rule, subject, times, members }: Pending): Promise<boolean> {
    const { name, threshold, distinct, windowMs } = rule.settled
    if (threshold === 1) return true
    if (this.#shared !== null) {
      try {
        // The counter takes one less than the threshold; what it refuses is the one that reaches it.
        if (rule.counter !== null) return !(await rule.counter.take(subject, times)).allowed
        let number = 0
        for (const member of members) number = await this.#shared.join(`alerts:${name} ${subject}`, member, threshold, windowMs)
        return number >= threshold
      } catch {
        // Away, and state says so itself: this process goes on counting alone.
      }
    }
    const now = this.#parts.now()
    return distinct === undefined ? rule.tallies.add(subject, times, now) : rule.tallies.join(subject, members, now)
  }

  /** Of all processes one may. Where that cannot be found out each may: twice is better than not at all. */
  async #mayTell ({ settled: { name, quietMs }, tallies }: Rule, subject: string): Promise<boolean> {
    if (quietMs === 0) return true
    if (this.#shared !== null) {
      try {
        return await this.#shared.claim(`alerts:quiet ${name} ${subject}`, '1', quietMs)
      } catch {}
    }
    return tallies.claim(subject, this.#parts.now())
  }
}

/** A run is as many as it says; what is shared is of many subjects, and one that is named is in it once. */
function timesOf ({ details: { times, shared } }: SecurityEvent, by: SettledRule['by']): number {
  return Number.isSafeInteger(times) && (times as number) > 0 && (shared !== true || by === 'all') ? times as number : 1
}
