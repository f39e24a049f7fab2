/** A counter on Redis: one script decides and counts, for all windows together. */
import { Remembered } from '../remembered.js'
import { checkCost } from './counter-options.js'
import { counterScript } from './counter-scripts.js'
import type { Ask, Line } from './line.js'
import type { Key, Names } from './names.js'
import type { Counter, CounterOptions, Decision, State } from './port.js'

export interface CounterParts {
  line: Line
  /** Milliseconds. */
  deadline: number
  names: Names
  /** The error of a decision for which the store has no memory left. */
  full: (cause: unknown) => Error
  now: (() => number) | undefined
  local: State
}

/** The key of a subject, and all keys of its decision. */
interface Subject { key: Key, names: readonly string[] }
/** A decision that is asked for; without a time it is the server's. */
interface Asked { names: readonly string[], cost: number, time: number | undefined }

const REMEMBERED_SUBJECTS = 10_000
/** Milliseconds that a counter is kept at least where its time is not the server's. */
const INJECTED_TTL = 60_000
const NONE: readonly number[] = Object.freeze([])

export function redisCounter ({ name, windows, algorithm = 'sliding', ban }: CounterOptions, parts: CounterParts): Counter {
  const { line, deadline, names, full, now, local } = parts
  local.counter({ name, windows, algorithm, ...(ban !== undefined && { ban }) }) // refuses wrong options, and one name for two policies
  // Other windows are other keys: what one policy has counted does not fit another.
  const policy = `limits:${name}\0${algorithm} ${windows.map(({ limit, ms }) => `${limit}/${ms}`).join()}\0`
  const minTtl = now === undefined ? 0 : INJECTED_TTL
  const deciding = (counts: boolean): Ask<Asked, Decision> => {
    const one = counterScript({ windows, algorithm, ban, minTtl, counts })
    const command = (asked: readonly Asked[]) => line.evaluate(one, asked.flatMap(({ names }) => names), argsOf(asked))
    return line.batch(deadline, command, (answer: string) => (JSON.parse(answer) as (number[] | null)[]).map(decisionFrom))
  }
  const taking = deciding(true)
  const looking = deciding(false)
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

  function decide (subject: string, cost: number, ask: Ask<Asked, Decision>): Promise<Decision> {
    checkCost(cost)
    const { key, names } = subjectOf(subject)
    return ask(key, { names, cost, time: now?.() })
  }

  function decisionFrom (answer: number[] | null): Decision | Error {
    if (answer === null) return full(new Error('no memory'))
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
      return line.send(key, () => line.client.call('DEL', ...names), () => {}, deadline)
    },
  }
}

/** Nothing where all cost one and time is the server's. */
function argsOf (asked: readonly Asked[]): (string | number)[] {
  return asked.every(({ cost, time }) => cost === 1 && time === undefined) ? [] : asked.flatMap(({ cost, time = '' }) => [cost, time])
}

function bitsOf (bits: number): readonly number[] {
  const set: number[] = []
  for (let bit = 0; bits >> bit > 0; bit++) if ((bits >> bit) & 1) set.push(bit)
  return set
}
