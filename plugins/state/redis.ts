/**
 * State on Redis or Valkey, shared by all processes: one server, Sentinel or Cluster.
 *
 * Each operation is one command or one script, decided by the server on its own clock; each key has a time to live
 * and is named by an HMAC, so that who reads the keys learns neither credentials nor addresses.
 */
import { createHmac } from 'node:crypto'
import { Remembered } from '../remembered.js'
import { Link } from './link.js'
import type { Counter, CounterOptions, Decision, State } from './port.js'
import { counterScript } from './counter-scripts.js'
import { ADD, JOIN, RAISE, SWAP, type Script } from './scripts.js'
import { slotOf } from './slot.js'

/** What is used of an ioredis client (or iovalkey's), of one server or of a cluster. */
export interface RedisClient {
  readonly status: string
  readonly isCluster?: boolean
  /** Of a cluster: the nodes of each slot, the master first. */
  readonly slots?: readonly (readonly string[] | undefined)[]
  call: (command: string, ...args: (string | number)[]) => Promise<unknown>
  on: (event: 'error', listener: (error: Error) => void) => unknown
  once: (event: 'ready' | 'end', listener: () => void) => unknown
  quit: () => Promise<unknown>
  disconnect: () => void
}

export interface RedisParts {
  client: RedisClient
  /** Whether this state made the client, and so ends it. */
  isOwn: boolean
  secret: string | Buffer
  prefix: string
  deadline: number
  /** Replicas that must have a write by which something ends or is spent. */
  replicas: number
  /** Milliseconds since the epoch, for tests of counters; else the server's own clock. */
  now?: (() => number) | undefined
  local: State
  /** Called as the store goes away and comes back. */
  changed: (isAway: boolean, cause: unknown) => void
  /** The error of an operation whose answer is unknown. */
  unavailable: (cause: unknown) => Error
  /** The error of an operation for which the store has no memory left. */
  full: (cause: unknown) => Error
}

/** Version of what stands under the keys: another form gets another number, so that old and new processes do not read each other. */
const LAYOUT = 1
/** Names of keys that are remembered. */
const REMEMBERED = 20_000
const REMEMBERED_SUBJECTS = 10_000
/** Characters of a key's HMAC: 128 bits. */
const MAC_LENGTH = 22
/** Milliseconds that a counter is kept at least where its time is not the server's. */
const INJECTED_TTL = 60_000
const NONE: readonly number[] = Object.freeze([])

type Kind = 'value' | 'tally' | 'count' | 'ban'
interface Key { name: string, slot: number }
/** A counter's subject: its key, and all keys of its script. */
interface Subject { key: Key, names: readonly string[] }

export function redisState (parts: RedisParts): State {
  const { client, prefix, secret, replicas, local } = parts
  const keys = new Remembered<Key>(REMEMBERED)
  const links = new Map<string, Link>()
  const away = new Set<Link>()
  const views = new Map<number, State>()
  const isCluster = client.isCluster === true
  client.on('error', () => {}) // what it fails at is seen in the operations

  function keyOf (kind: Kind, logical: string): Key {
    const id = kind + logical
    let key = keys.get(id)
    if (key === undefined) keys.set(id, key = makeKey(kind, logical))
    return key
  }

  function makeKey (kind: Kind, logical: string): Key {
    const mac = createHmac('sha256', secret).update(logical).digest('base64url').slice(0, MAC_LENGTH)
    const concern = logical.slice(0, Math.max(0, logical.indexOf(':')))
    return { name: `${prefix}:${LAYOUT}:${concern}:{${mac}}:${kind}`, slot: isCluster ? slotOf(mac) : 0 }
  }

  /** Of a cluster every node has a line of its own: one that is away keeps nobody from the others. */
  function linkTo (key: Key): Link {
    const node = isCluster ? client.slots?.[key.slot]?.[0] ?? '' : ''
    let link = links.get(node)
    if (link === undefined) {
      link = new Link({
        probe: () => client.status === 'ready' ? client.call('SET', key.name.replace(/[^:]*$/, 'probe'), '1', 'PX', 1000) : Promise.reject(new Error(client.status)),
        changed: (isAway, cause) => { changed(link!, isAway, cause) },
        unavailable: parts.unavailable,
        judge,
      })
      links.set(node, link)
    }
    return link
  }

  function changed (link: Link, isAway: boolean, cause: unknown): void {
    if (isAway) {
      away.add(link)
      if (away.size === 1) parts.changed(true, cause)
      return
    }
    away.delete(link)
    if (away.size === 0) parts.changed(false, cause)
  }

  /** Where the server does not know a script (yet, or any more), it is sent whole. */
  function evaluate ({ lua, sha }: Script, names: readonly string[], args: readonly (string | number)[]): Promise<unknown> {
    return client.call('EVALSHA', sha, names.length, ...names, ...args).catch((error: Error) => {
      if (!error.message.startsWith('NOSCRIPT')) throw error
      return client.call('EVAL', lua, names.length, ...names, ...args)
    })
  }

  /** Null: as good as away. What else a server says of an operation is about the operation. */
  function judge (error: Error): Error | null {
    const { message } = error
    if (message.startsWith('OOM')) return parts.full(error)
    if (message.startsWith('WRONGTYPE')) return new TypeError('state: a key is used both as a number and as a set', { cause: error })
    return message.startsWith('BASTION ') ? new TypeError(`state: ${message.slice(8)}`) : null
  }

  function view (deadline: number): State {
    const known = views.get(deadline)
    if (known !== undefined) return known

    function send<T> (key: Key, operation: () => Promise<unknown>, read: (answer: any) => T = itself): Promise<T> {
      const link = linkTo(key)
      if (client.status !== 'ready') link.leave(new Error(`the connection is ${client.status}`))
      return link.run(operation, read, deadline)
    }
    const command = (key: Key, name: string, ...args: (string | number)[]): Promise<any> => send(key, () => client.call(name, key.name, ...args))
    const script = (key: Key, one: Script, ...args: (string | number)[]): Promise<any> => send(key, () => evaluate(one, [key.name], args))

    /** The same for what ends or spends something: a replica that takes over must not have missed it. */
    async function confirmed<T> (key: Key, operation: () => Promise<T>): Promise<T> {
      if (replicas === 0) return operation()
      const [answer, acknowledged] = await Promise.all([operation(), send(key, () => client.call('WAIT', replicas, Math.ceil(deadline / 2)))])
      if (Number(acknowledged) < replicas) throw parts.unavailable(new Error(`${acknowledged} of ${replicas} replicas have the write`))
      return answer
    }

    const state: State = {
      kind: 'redis',
      within: view,
      local,
      async answers () {
        try {
          await command(keyOf('value', 'state:answers'), 'SET', '1', 'PX', 1000)
          return away.size === 0
        } catch {
          return false
        }
      },
      counter: options => counter(options),
      get: key => command(keyOf('value', key), 'GET'),
      getMany (logical) {
        if (logical.length === 0) return []
        const wanted = logical.map(key => keyOf('value', key))
        if (isCluster) return Promise.all(wanted.map(key => command(key, 'GET')))
        return send(wanted[0]!, () => client.call('MGET', ...wanted.map(({ name }) => name)))
      },
      async set (key, value, ttlMs, pinned = false) {
        const named = keyOf('value', key)
        const operation = () => command(named, 'SET', value, 'PX', ttl(key, ttlMs))
        await (pinned ? confirmed(named, operation) : operation())
      },
      claim (key, value, ttlMs) {
        const named = keyOf('value', key)
        return confirmed(named, async () => await command(named, 'SET', value, 'NX', 'PX', ttl(key, ttlMs)) === 'OK')
      },
      swap (key, expected, next, ttlMs) {
        const named = keyOf('value', key)
        return confirmed(named, () => script(named, SWAP, expected, next, ttl(key, ttlMs)))
      },
      async delete (key) {
        const named = keyOf('value', key)
        await confirmed(named, () => command(named, 'DEL', keyOf('tally', key).name))
      },
      raise (key, floor, ttlMs) {
        const named = keyOf('value', key)
        return confirmed(named, async () => Number(await script(named, RAISE, floor, ttl(key, ttlMs))))
      },
      async add (key, by, ttlMs) {
        const [count, left] = await script(keyOf('tally', key), ADD, by, ttl(key, ttlMs))
        return { count, ttlMs: left }
      },
      join: (key, member, max, ttlMs) => script(keyOf('tally', key), JOIN, member, max, ttl(key, ttlMs)),
      async leave (key, member) { await command(keyOf('tally', key), 'SREM', member) },
      async size () {
        const key = keyOf('value', 'state:size')
        return { entries: Number(await send(key, () => client.call('DBSIZE'))), counters: 0 }
      },
      async close () {
        for (const link of links.values()) link.close()
        if (!parts.isOwn) return
        if (client.status === 'ready') await Promise.race([client.quit().catch(() => {}), new Promise(resolve => { setTimeout(resolve, deadline).unref() })])
        client.disconnect()
      },
    }
    views.set(deadline, state)
    return state

    function counter ({ name, windows, algorithm = 'sliding', ban }: CounterOptions): Counter {
      local.counter({ name, windows, algorithm, ...(ban !== undefined && { ban }) }) // refuses wrong options, and one name for two policies
      // Other windows are other keys: what one policy has counted does not fit another.
      const policy = `limits:${name}\0${algorithm} ${windows.map(({ limit, ms }) => `${limit}/${ms}`).join()}\0`
      const [taking, looking] = [true, false].map(counts => counterScript({ windows, algorithm, ban, counts, minTtl: parts.now === undefined ? 0 : INJECTED_TTL })) as [Script, Script]
      const subjects = new Remembered<Subject>(REMEMBERED_SUBJECTS)

      function subjectOf (subject: string): Subject {
        let known = subjects.get(subject)
        if (known === undefined) {
          const key = makeKey('count', policy + subject)
          known = { key, names: ban === undefined ? [key.name] : [key.name, makeKey('ban', policy + subject).name] }
          subjects.set(subject, known)
        }
        return known
      }

      function decide (subject: string, cost: number, one: Script): Promise<Decision> {
        if (!Number.isSafeInteger(cost) || cost < 1) throw new TypeError('the cost of a request must be a whole number of at least 1')
        const { key, names } = subjectOf(subject)
        return send(key, () => evaluate(one, names, parts.now === undefined ? cost === 1 ? [] : [cost] : [cost, parts.now()]), decisionFrom)
      }

      function decisionFrom (answer: unknown): Decision {
        const [window, remaining, resetMs, retryMs, violated, banned] = answer as [number, number, number, number?, number?, number?]
        const limit = windows[window]!.limit
        if (retryMs === undefined) return { allowed: true, window, limit, remaining, resetMs, retryMs: 0, violated: NONE, banned: false }
        return { allowed: false, window, limit, remaining, resetMs, retryMs, violated: bitsOf(violated!), banned: banned === 1 }
      }

      return {
        windows: windows.map(({ limit, ms }) => ({ limit, ms })),
        take: (subject, cost = 1) => decide(subject, cost, taking),
        peek: subject => decide(subject, 1, looking),
        async reset (subject) {
          const { key, names } = subjectOf(subject)
          await send(key, () => client.call('DEL', ...names), nothing)
        },
      }
    }
  }

  return view(parts.deadline)
}

const itself = (answer: unknown) => answer as never
const nothing = () => {}

function bitsOf (bits: number): readonly number[] {
  const set: number[] = []
  for (let bit = 0; bits >> bit > 0; bit++) if ((bits >> bit) & 1) set.push(bit)
  return set
}

function ttl (key: string, ms: number): number {
  if (!(ms > 0)) throw new TypeError(`state: the time to live of ${key.split(':', 1)[0]} must be above 0 ms`)
  return Math.ceil(ms)
}
