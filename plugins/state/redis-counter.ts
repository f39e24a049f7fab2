/** A counter on Redis: one script decides and counts, for all windows together. */
import { Remembered } from '../remembered.js'
import { checkCost } from './counter-options.js'
import { counterScript } from './counter-scripts.js'
import type { Line } from './line.js'
import type { Key, Names } from './names.js'
import type { Counter, CounterOptions, Decision, State } from './port.js'
import type { Script } from './scripts.js'

export interface CounterParts {
  send: <T>(key: Key, operation: (line: Line) => Promise<unknown>, read: (answer: any) => T) => Promise<T>
  names: Names
  now: (() => number) | undefined
  local: State
}

/** The key of a subject, and all keys of its script. */
interface Subject { key: Key, names: readonly string[] }

const REMEMBERED_SUBJECTS = 10_000
/** Milliseconds that a counter is kept at least where its time is not the server's. */
const INJECTED_TTL = 60_000
const NONE: readonly number[] = Object.freeze([])

export function redisCounter ({ name, windows, algorithm = 'sliding', ban }: CounterOptions, { send, names, now, local }: CounterParts): Counter {
  local.counter({ name, windows, algorithm, ...(ban !== undefined && { ban }) }) // refuses wrong options, and one name for two policies
  // Other windows are other keys: what one policy has counted does not fit another.
  const policy = `limits:${name}\0${algorithm} ${windows.map(({ limit, ms }) => `${limit}/${ms}`).join()}\0`
  const minTtl = now === undefined ? 0 : INJECTED_TTL
  const taking = counterScript({ windows, algorithm, ban, minTtl, counts: true })
  const looking = counterScript({ windows, algorithm, ban, minTtl, counts: false })
  const subjects = new Remembered<Subject>(REMEMBERED_SUBJECTS)

  function subjectOf (subject: string): Subject {
    let known = subjects.get(subject)
    if (known === undefined) {
      const key = names.make('count', policy + subject)
      known = { key, names: ban === undefined ? [key.name] : [key.name, names.make('ban', policy + subject).name] }
      subjects.set(subject, known)
    }
    return known
  }

  function decide (subject: string, cost: number, one: Script): Promise<Decision> {
    checkCost(cost)
    const { key, names } = subjectOf(subject)
    return send(key, line => line.evaluate(one, names, now === undefined ? cost === 1 ? [] : [cost] : [cost, now()]), decisionFrom)
  }

  function decisionFrom (answer: number[]): Decision {
    const [window, remaining, resetMs, retryMs, violated, banned] = answer as [number, number, number, number?, number?, number?]
    const { limit } = windows[window]!
    if (retryMs === undefined) return { allowed: true, window, limit, remaining, resetMs, retryMs: 0, violated: NONE, banned: false }
    return { allowed: false, window, limit, remaining, resetMs, retryMs, violated: bitsOf(violated!), banned: banned === 1 }
  }

  return {
    windows: windows.map(({ limit, ms }) => ({ limit, ms })),
    take: (subject, cost = 1) => decide(subject, cost, taking),
    peek: subject => decide(subject, 1, looking),
    reset (subject) {
      const { key, names } = subjectOf(subject)
      return send(key, ({ client }) => client.call('DEL', ...names), () => {})
    },
  }
}

function bitsOf (bits: number): readonly number[] {
  const set: number[] = []
  for (let bit = 0; bits >> bit > 0; bit++) if ((bits >> bit) & 1) set.push(bit)
  return set
}
