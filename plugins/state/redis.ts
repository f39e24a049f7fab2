/**
 * State on Redis or Valkey (6 or newer), shared by all processes: one server, Sentinel or Cluster.
 *
 * Each operation is one command or one script, decided by the server on its own clock; each key has a time to live.
 */
import { Line, type LineParts, type RedisClient } from './line.js'
import { Names, type Key } from './names.js'
import type { State } from './port.js'
import { redisCounter } from './redis-counter.js'
import { ADD, JOIN, LOOK_UP, RAISE, SWAP, type Script } from './scripts.js'
import { wholeTtl } from './ttl.js'

export interface RedisParts extends LineParts {
  client: RedisClient
  secret: string | Buffer
  prefix: string
  deadline: number
  /** Replicas that must have a write by which something ends or is spent. */
  replicas: number
  /** Milliseconds since the epoch, for tests of counters; else the server's own clock. */
  now?: (() => number) | undefined
  local: State
  /** Called where too few replicas have a write. */
  unconfirmed: (cause: Error) => void
}

type Argument = string | number
type Send = <T>(key: Key, operation: (line: Line) => Promise<unknown>, read: (answer: any) => T) => Promise<T>
type Found = (string | null)[]

const nothing = () => {}
const itself = (answer: unknown) => answer as never

export function redisState (parts: RedisParts): State {
  const { client, isOwn, replicas, local, unavailable } = parts
  const names = new Names(parts.prefix, parts.secret)
  const awayLines = new Set<string>()
  const lineParts = (name: string): LineParts => ({
    ...parts,
    changed (isAway, cause) {
      const wasAway = awayLines.size > 0
      if (isAway) awayLines.add(name)
      else awayLines.delete(name)
      if ((awayLines.size > 0) !== wasAway) parts.changed(!wasAway, cause)
    },
  })
  const line = new Line(client, lineParts('operations'))
  // Who waits for replicas waits on a connection of its own: what is asked meanwhile does not stand behind it.
  const confirming = replicas === 0 ? null : new Line(client.duplicate() as RedisClient, { ...parts, isOwn: true, changed: nothing }, true)
  const views = new Map<number, State>()

  function view (deadline: number): State {
    const known = views.get(deadline)
    if (known !== undefined) return known

    const send: Send = (key, operation, read) => line.send(key, () => operation(line), read, deadline)

    /** The same for what ends or spends something: a replica that takes over must not have missed it. */
    const confirmed: Send = confirming === null
      ? send
      : (key, operation, read) => confirming.send(key, () => Promise.all([operation(confirming), confirming.client.call('WAIT', replicas, Math.ceil(deadline / 2))]), ([answer, number]) => {
          if (Number(number) < replicas) {
            const cause = new Error(`${number} of ${replicas} replicas have the write`)
            parts.unconfirmed(cause)
            throw unavailable(cause)
          }
          return read(answer)
        }, deadline)

    const command = (name: string, key: Key, ...args: Argument[]) => ({ client }: Line) => client.call(name, key.name, ...args)
    const script = (one: Script, key: Key, ...args: Argument[]) => (line: Line) => line.evaluate(one, [key.name], args)
    const lookUp = line.batch<readonly string[], Found>(deadline, items => line.evaluate(LOOK_UP, items.flat(), []), (answer: string, items) => {
      const found = JSON.parse(answer) as Found
      let end = 0
      return items.map(({ length }) => {
        end += length
        return found.slice(end - length, end)
      })
    })
    const value = (key: string) => names.of('value', key)
    const tally = (key: string) => names.of('tally', key)

    const state: State = {
      kind: 'redis',
      within: view,
      local,
      async answers () {
        const key = value('state:answers')
        return send(key, command('SET', key, '1', 'PX', 1000), () => awayLines.size === 0).catch(() => false)
      },
      counter: options => redisCounter(options, { line, deadline, names, full: parts.full, now: parts.now, local }),
      async get (logical) {
        const key = value(logical)
        return (await lookUp(key, [key.name]))[0]!
      },
      getMany (logical) {
        if (logical.length === 0) return []
        const keys = logical.map(value)
        if (line.isCluster) return Promise.all(keys.map(async key => (await lookUp(key, [key.name]))[0]!))
        return lookUp(keys[0]!, keys.map(({ name }) => name))
      },
      async set (logical, text, ttlMs, pinned = false) {
        const key = value(logical)
        await (pinned ? confirmed : send)(key, command('SET', key, text, 'PX', wholeTtl(logical, ttlMs)), nothing)
      },
      async claim (logical, text, ttlMs) {
        const key = value(logical)
        return confirmed(key, command('SET', key, text, 'NX', 'PX', wholeTtl(logical, ttlMs)), answer => answer === 'OK')
      },
      async swap (logical, expected, next, ttlMs) {
        const key = value(logical)
        return confirmed(key, script(SWAP, key, expected, next, wholeTtl(logical, ttlMs)), itself)
      },
      async delete (logical) {
        const key = value(logical)
        await confirmed(key, command('DEL', key, tally(logical).name), nothing)
      },
      async raise (logical, floor, ttlMs) {
        const key = value(logical)
        return confirmed(key, script(RAISE, key, floor, wholeTtl(logical, ttlMs)), Number)
      },
      async add (logical, by, ttlMs) {
        const key = tally(logical)
        return send(key, script(ADD, key, by, wholeTtl(logical, ttlMs)), ([count, left]) => ({ count, ttlMs: left }))
      },
      async join (logical, member, max, ttlMs) {
        const key = tally(logical)
        return send(key, script(JOIN, key, member, max, wholeTtl(logical, ttlMs)), itself)
      },
      async leave (logical, member) {
        const key = tally(logical)
        await send(key, command('SREM', key, member), nothing)
      },
      async size () {
        return send(value('state:size'), ({ client }) => client.call('DBSIZE'), entries => ({ entries, counters: 0 }))
      },
      async close () {
        line.close()
        confirming?.close()
        confirming?.client.disconnect()
        if (!isOwn) return
        if (client.status === 'ready') await Promise.race([client.quit().catch(nothing), new Promise(resolve => { setTimeout(resolve, deadline).unref() })])
        client.disconnect()
      },
    }
    views.set(deadline, state)
    return state
  }

  return view(parts.deadline)
}
