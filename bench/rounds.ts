/**
 * Processes on cores of their own, and rounds in turn: what the parts of the benchmark share. It runs compiled (`npm run bench`): a
 * loader's transformations would be measured too.
 *
 * A process that was started answers each message of its parent with one of its own.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { cpus } from 'node:os'
import { fileURLToPath } from 'node:url'
import type { Order, Outcome } from './load.js'
import type { Settings } from './question.js'
import type { Serving, Usage } from './serve.js'

export const SERVER_CORE = 0
export const LOAD_CORE = 1
export const isPinned = existsSync('/usr/bin/taskset') && cpus().length > 1
/** As many clients ask at once. */
export const CONNECTIONS = 64
/** The Python of FastAPI. */
export const PYTHON = process.env.PYTHON ?? 'python3'
/** The project's folder. */
export const root = fileURLToPath(new URL('../../..', import.meta.url))

export interface Server extends Serving { child: ChildProcess }

/** Runs a compiled file of this folder on one core, or on several (`0,1`); its standard output and errors are ours. */
export function start (file: string, args: string[], core: number | string, execArgv: string[] = []): ChildProcess {
  const pinned = isPinned ? { execPath: '/usr/bin/taskset', execArgv: ['-c', String(core), process.execPath, ...execArgv] } : { execArgv }
  return fork(fileURLToPath(new URL(file, import.meta.url)), args, { ...pinned, env: { ...process.env, NODE_ENV: 'production' } })
}

/** Starts a contender, and answers when it listens. */
export async function serve (contender: string, settings: Settings = {}, execArgv: string[] = []): Promise<Server> {
  const child = start('serve.js', [contender, JSON.stringify(settings)], SERVER_CORE, execArgv)
  return { ...await answerOf<Serving>(child), child }
}

/** The process that makes requests: `order` tells it which. */
export function startLoad (): ChildProcess {
  return start('load.js', [], LOAD_CORE)
}

export async function order (load: ChildProcess, what: Order): Promise<Outcome> {
  load.send(what)
  return answerOf<Outcome>(load)
}

/** Processor time and memory that a contender has used so far. */
export async function usage ({ child }: Server): Promise<Usage> {
  child.send('usage')
  return answerOf<Usage>(child)
}

export async function stop ({ child }: Server): Promise<void> {
  child.send('stop')
  if (child.exitCode === null) await once(child, 'exit')
}

/** One measurement of each name in turn, so often, so that whatever else the machine does falls on all of them. */
export async function alternate<Name extends string, Result> (
  names: readonly Name[], rounds: number, measure: (name: Name) => Promise<Result>, title = ''
): Promise<Record<Name, Result[]>> {
  const measured = Object.fromEntries(names.map(name => [name, [] as Result[]])) as Record<Name, Result[]>
  for (let round = 0; round < rounds; round++) {
    for (const name of names) measured[name].push(await measure(name))
    if (title !== '') process.stderr.write(`\r${title}: round ${round + 1} of ${rounds} `)
  }
  if (title !== '') process.stderr.write('\n')
  return measured
}

/** What a process tells next; rejects where it ends instead. */
export async function answerOf<T> (child: ChildProcess): Promise<T> {
  const ending = new AbortController()
  const ended = once(child, 'exit', { signal: ending.signal }).then(([code]) => { throw new Error(`${child.spawnargs.at(-2)} ended with ${code}`) })
  try {
    return await Promise.race([once(child, 'message').then(([message]) => message as T), ended])
  } finally {
    ended.catch(() => {})
    ending.abort()
  }
}
