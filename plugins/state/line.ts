/** A connection to Redis, or to a cluster of them, as state uses it: what goes out, together with what, and what an error means. */
import { Link, type LinkParts } from './link.js'
import type { Key } from './names.js'
import type { Script } from './scripts.js'

/** What is used of an ioredis client (or iovalkey's), of one server or of a cluster. */
export interface RedisClient {
  readonly status: string
  readonly isCluster?: boolean
  /** Of a cluster: the nodes of each slot, the master first. */
  readonly slots?: readonly (readonly string[] | undefined)[]
  readonly options?: { readonly enableAutoPipelining?: boolean, readonly stringNumbers?: boolean, readonly scaleReads?: unknown, readonly redisOptions?: object }
  /** Of one server: the socket. */
  readonly stream?: { cork: () => void, uncork: () => void } | null
  call: (command: string, ...args: (string | number)[]) => Promise<unknown>
  connect: () => Promise<unknown>
  duplicate: () => unknown
  on: (event: 'error', listener: (error: Error) => void) => unknown
  once: (event: 'ready' | 'end', listener: () => void) => unknown
  quit: () => Promise<unknown>
  disconnect: () => void
}

export interface LineParts {
  /** Whether this state made the client, and so ends it. */
  isOwn: boolean
  /** Called as the first node goes away, and as the last comes back. */
  changed: (isAway: boolean, cause: unknown) => void
  /** The error of an operation whose answer is unknown. */
  unavailable: (cause: unknown) => Error
  /** The error of an operation for which the store has no memory left. */
  full: (cause: unknown) => Error
  /** Milliseconds: who gives it less must not take a late answer for a store that is away. */
  deadline: number
  /** Told the seconds from an operation to its answer. */
  took: (seconds: number) => void
}

type Argument = string | number
interface Asked<Item, Answer> { item: Item, resolve: (answer: Answer) => void, reject: (error: Error) => void }
/** Adds an operation to a batch; all keys of one are in one place of a cluster. */
export type Ask<Item, Answer> = (key: Key, item: Item) => Promise<Answer>

/** Operations that are gathered at most. */
const BURST = 128

/** Does what operations do: a script that writes. */
export const PROBE = "return redis.call('SET', KEYS[1], '1', 'PX', 1000)"

export class Line {
  readonly client: RedisClient
  readonly isCluster: boolean
  readonly #parts: LineParts
  readonly #links = new Map<string, Link>()
  readonly #away = new Set<Link>()
  /** Not where auto-pipelining does the same, at a higher price. */
  readonly #gathers: boolean
  readonly #sendsWhole: boolean
  #batches: (() => void)[] = []
  #stream: RedisClient['stream'] = null
  #gathered = 0

  /** @param sendsWhole scripts are sent whole at once: what follows them must not come before them */
  constructor (client: RedisClient, parts: LineParts, sendsWhole = false) {
    this.client = client
    this.#sendsWhole = sendsWhole
    this.#parts = parts
    this.isCluster = client.isCluster === true
    this.#gathers = !this.isCluster && client.options?.enableAutoPipelining !== true
    client.on('error', () => {}) // what it fails at is seen in the operations
  }

  get isAway (): boolean { return this.#away.size > 0 }

  /** What `read` makes of what the server answers to `operation` within so many milliseconds. */
  send<T> (key: Key, operation: () => Promise<unknown>, read: (answer: any) => T, deadlineMs: number): Promise<T> {
    if (this.#gathers) this.#gather()
    return this.#run(key, operation, read, deadlineMs, 1)
  }

  /**
   * A kind of operation of which one command does many: those of one turn of the loop share what a command costs, here and at the server.
   *
   * @param command does them all
   * @param read the answer of each, in their order; an error is what that one fails with
   */
  batch<Item, Answer> (
    deadlineMs: number, command: (items: readonly Item[]) => Promise<unknown>, read: (answer: any, items: readonly Item[]) => (Answer | Error)[]
  ): Ask<Item, Answer> {
    let asked: Asked<Item, Answer>[] = []
    const sendAll = (key: Key) => {
      const batch = asked
      asked = []
      const items = batch.map(({ item }) => item)
      this.#run(key, () => command(items), answer => read(answer, items), deadlineMs, batch.length).then(answers => {
        for (const [i, answer] of answers.entries()) {
          if (answer instanceof Error) batch[i]!.reject(answer)
          else batch[i]!.resolve(answer)
        }
      }, error => { for (const { reject } of batch) reject(error) })
    }
    return (key, item) => new Promise((resolve, reject) => {
      const number = asked.push({ item, resolve, reject })
      if (!this.#gathers) return sendAll(key)
      if (number === 1) this.#batches.push(() => { sendAll(key) })
      this.#gather()
    })
  }

  /** Where the server does not know a script (yet, or any more), it is sent whole. */
  evaluate ({ lua, sha }: Script, names: readonly string[], args: readonly Argument[]): Promise<unknown> {
    const rest = [names.length, ...names, ...args]
    if (this.#sendsWhole) return this.client.call('EVAL', lua, ...rest)
    return this.client.call('EVALSHA', sha, ...rest).catch((error: Error) => {
      if (!error.message.startsWith('NOSCRIPT')) throw error
      return this.client.call('EVAL', lua, ...rest)
    })
  }

  close (): void {
    this.#sendBatches()
    for (const link of this.#links.values()) link.close()
  }

  /** Of a cluster every node has a link of its own: one that is away keeps nobody from the others. */
  #linkTo ({ name, slot }: Key): Link {
    const node = this.isCluster ? this.client.slots?.[slot]?.[0] ?? '' : ''
    let link = this.#links.get(node)
    if (link === undefined) {
      const { client } = this
      const probe = name.replace(/[^:]*$/, 'probe')
      const { unavailable, isOwn, deadline, took } = this.#parts
      const parts: LinkParts = {
        deadline,
        probe: async () => {
          if (client.status === 'ready') return client.call('EVAL', PROBE, 1, probe)
          // ioredis gives up for good where a failover is announced while it connects. Who closed a client of their own meant it.
          if (client.status === 'wait' || (client.status === 'end' && isOwn)) client.connect().catch(() => {})
          throw new Error(client.status)
        },
        changed: (isAway, cause) => { this.#changed(link!, isAway, cause) },
        unavailable,
        took,
        judge: error => this.#judge(error),
      }
      link = new Link(parts)
      this.#links.set(node, link)
    }
    return link
  }

  #changed (link: Link, isAway: boolean, cause: unknown): void {
    const wasAway = this.isAway
    if (isAway) this.#away.add(link)
    else this.#away.delete(link)
    if (this.isAway !== wasAway) this.#parts.changed(this.isAway, cause)
  }

  #run<T> (key: Key, operation: () => Promise<unknown>, read: (answer: any) => T, deadlineMs: number, operations: number): Promise<T> {
    const link = this.#linkTo(key)
    if (this.client.status !== 'ready') link.leave(new Error(`the connection is ${this.client.status}`))
    return link.run(operation, read, deadlineMs, operations)
  }

  /** What is sent in one turn of the loop goes out as one write: a request's look-up and its counter, and those of its neighbours. */
  #gather (): void {
    if (this.#gathered++ === 0) {
      const stream = this.#stream = typeof this.client.stream?.cork === 'function' ? this.client.stream : null
      stream?.cork()
      setImmediate(() => {
        this.#gathered = 0
        this.#sendBatches()
        stream?.uncork()
      })
    } else if (this.#gathered % BURST === 0) {
      // More go out at once, so that the server works while the rest is made.
      this.#sendBatches()
      this.#stream?.uncork()
      this.#stream?.cork()
    }
  }

  #sendBatches (): void {
    const batches = this.#batches
    this.#batches = []
    for (const send of batches) send()
  }

  /** Null: as good as away, as are a broken connection, a server that loads or a node that is no master. What it says of one operation is about that. */
  #judge (error: Error): Error | null {
    const { message } = error
    if (message.includes('OOM command not allowed')) return this.#parts.full(error)
    if (message.startsWith('WRONGTYPE')) return new TypeError('state: a key is used both as a number and as a set', { cause: error })
    if (message.startsWith('BASTION ')) return new TypeError(`state: ${message.slice(8)}`)
    return /^(?:ERR (?!max number of clients)|NOPERM)/.test(message) ? new Error('state: the server refuses an operation', { cause: error }) : null
  }
}
