/**
 * Records of keys, remembered in the process and never stale.
 *
 * Beside every record that is remembered stands a token of shared state, one of the key and one of its owner, random and
 * new each time. A change deletes the token after it was made, so that what was read before it matches nothing any more,
 * in no process. Lost state deletes tokens too: then records are read again, and nothing is believed.
 */
import { randomBytes } from 'node:crypto'
import { addressRanges } from '../address.js'
import { Remembered } from '../remembered.js'
import type { MaybePromise, State } from '../state/index.js'
import type { ApiKeyStore, StoredApiKey } from './store.js'

/** The user behind a key, as of now. */
export interface KeyOwner {
  /** A key of somebody who is switched off is dead. */
  isActive: boolean
  roles: readonly string[]
  plan?: string
}

export interface KeyRecord {
  key: StoredApiKey
  /** Null where the user is gone. */
  owner: KeyOwner | null
  isAllowedFrom: ((address: string | undefined) => boolean) | null
}

interface Known extends KeyRecord {
  names: readonly [key: string, owner: string]
  tokens: readonly [key: string, owner: string]
  /** Milliseconds since the epoch. */
  readAt: number
}

interface RecordsParts {
  store: ApiKeyStore
  owner: (userId: string) => Promise<KeyOwner | null>
  state: State
  /** Records at most. */
  max: number
  /** Milliseconds after which a record is read again, changed or not. */
  maxAge: number
  now: () => number
}

const keyName = (id: string) => `api-keys:key:${id}`
const ownerName = (userId: string) => `api-keys:owner:${userId}`
/** Milliseconds that a token is kept: longer than any record. */
const TOKEN_MS = 3_600_000
/** How often a record that changes while it is read is read again. */
const TRIES = 3

export class Records {
  readonly #parts: RecordsParts
  readonly #known: Remembered<Known>
  /** Reads that are under way, by what they stand on: many requests at once are one read. */
  readonly #reading = new Map<string, Promise<Known | null>>()

  constructor (parts: RecordsParts) {
    this.#parts = parts
    this.#known = new Remembered(parts.max)
  }

  /** What was known last, perhaps no longer true: good for counting, for nothing else. */
  last (id: string): KeyRecord | undefined {
    return this.#known.get(id)
  }

  /** What is true of the key now; null where there is none. One look at shared state, none at the store while nothing changes. */
  current (id: string): MaybePromise<KeyRecord | null> {
    const known = this.#known.get(id)
    if (known === undefined || !this.#isFresh(known)) return this.#catchUp(id)
    const found = this.#parts.state.getMany(known.names)
    if (found instanceof Promise) return found.then(tokens => holds(known, tokens) ? known : this.#catchUp(id))
    return holds(known, found) ? known : this.#catchUp(id)
  }

  /** What the store says, without shared state. */
  async read (id: string): Promise<KeyRecord | null> {
    const key = await this.#parts.store.find(id)
    return key === null ? null : recordOf(key, await this.#parts.owner(key.userId))
  }

  /** Changes a key: once it is done, nobody believes what was true before. Where state is away, nothing is done. */
  async change<T> (id: string, work: () => Promise<T>): Promise<T> {
    await this.#parts.state.delete(keyName(id))
    const done = await work()
    await this.#parts.state.delete(keyName(id))
    return done
  }

  async ownerChanged (userId: string): Promise<void> {
    await this.#parts.state.delete(ownerName(userId))
  }

  async #catchUp (id: string): Promise<KeyRecord | null> {
    for (let tries = 0; tries < TRIES; tries++) {
      const token = await this.#token(keyName(id))
      const known = await this.#readOnce(id, token)
      // Whoever joined a read that had begun earlier must not get what was changed meanwhile.
      if (known === null || holds(known, await this.#parts.state.getMany(known.names))) return known
    }
    return this.read(id)
  }

  #readOnce (id: string, token: string): Promise<Known | null> {
    const name = `${id} ${token}`
    let reading = this.#reading.get(name)
    if (reading === undefined) {
      reading = this.#remember(id, token).finally(() => { this.#reading.delete(name) })
      this.#reading.set(name, reading)
    }
    return reading
  }

  async #remember (id: string, token: string): Promise<Known | null> {
    const { store, owner, now } = this.#parts
    const readAt = now()
    const key = await store.find(id)
    if (key === null) return null
    const names = [keyName(id), ownerName(key.userId)] as const
    const tokens = [token, await this.#token(names[1])] as const
    const known = { ...recordOf(key, await owner(key.userId)), names, tokens, readAt }
    this.#known.set(id, known)
    return known
  }

  /** The token that stands there now; where there is none, a new one. Read once more, because two may have put one there. */
  async #token (name: string): Promise<string> {
    const { state } = this.#parts
    const found = await state.get(name)
    if (found !== null) return found
    await state.set(name, randomBytes(12).toString('base64url'), TOKEN_MS)
    return await state.get(name) ?? ''
  }

  #isFresh ({ readAt }: Known): boolean {
    const age = this.#parts.now() - readAt
    return age >= 0 && age < this.#parts.maxAge
  }
}

/** An empty token is one that could not be kept: it holds nothing. */
function holds ({ tokens: [key, owner] }: Known, [keyNow, ownerNow]: readonly (string | null)[]): boolean {
  return key !== '' && owner !== '' && key === keyNow && owner === ownerNow
}

/** No more than is needed of the owner; frozen where principals get it, because what one request wrote into it would be there for the next. */
function recordOf (key: StoredApiKey, owner: KeyOwner | null): KeyRecord {
  return {
    key: { ...key, scopes: Object.freeze([...key.scopes]) },
    owner: owner === null ? null : { isActive: owner.isActive === true, roles: Object.freeze([...owner.roles]), plan: owner.plan },
    isAllowedFrom: key.allowedAddresses === null ? null : addressRanges(key.allowedAddresses),
  }
}
