/** Names of keys in a shared store: an HMAC, so that who reads them learns neither credentials nor addresses. */
import { createHmac } from 'node:crypto'
import { Remembered } from '../remembered.js'
import { slotOf } from './slot.js'

/** Values and tallies are kept apart, and so are what a counter counts and whom it bans. */
export type Kind = 'value' | 'tally' | 'count' | 'ban'
/** A key as the store knows it. */
export interface Key { name: string, slot: number }

/** Version of what stands under the keys: another form gets another number, so that old and new processes do not read each other. */
const LAYOUT = 1
const REMEMBERED = 20_000
/** Characters of an HMAC: 128 bits. */
const MAC_LENGTH = 22

export class Names {
  readonly #prefix: string
  readonly #secret: string | Buffer
  /** By kind and logical name. */
  readonly #known: Record<Kind, Remembered<Key>>

  constructor (prefix: string, secret: string | Buffer) {
    this.#prefix = prefix
    this.#secret = secret
    const known = () => new Remembered<Key>(REMEMBERED)
    this.#known = { value: known(), tally: known(), count: known(), ban: known() }
  }

  /** The key of what is called `<concern>:<what>` here. */
  of (kind: Kind, logical: string): Key {
    const known = this.#known[kind]
    let key = known.get(logical)
    if (key === undefined) known.set(logical, key = this.make(kind, logical))
    return key
  }

  /** The same, for those who remember it themselves. All kinds of one thing have the same hash tag, and so the same place in a cluster. */
  make (kind: Kind, logical: string): Key {
    const mac = createHmac('sha256', this.#secret).update(logical).digest('base64url').slice(0, MAC_LENGTH)
    const concern = logical.slice(0, Math.max(0, logical.indexOf(':')))
    return { name: `${this.#prefix}:${LAYOUT}:${concern}:{${mac}}:${kind}`, slot: slotOf(mac) }
  }
}
