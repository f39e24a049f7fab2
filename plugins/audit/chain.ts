/**
 * The chain: each row is sealed to what it says and where it stands, and to the row before it, by keys that the database does not have.
 *
 * A digest is of the place and the content; a link, of the digest and of the link before. So content can be taken out by retention, and the
 * chain over what is left still holds; the place of what was taken out has a mark of its own.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'

/** A row as it lies in the table. */
export interface Row {
  seq: number
  id: string | null
  time: string | null
  type: string | null
  person: string | null
  subject: string | null
  content: string | null
  /** Id of the key that sealed it. */
  key: string
  digest: string
  link: string
  /** When retention emptied it, and the mark of that. */
  purged: string | null
  mark: string | null
}
export type Content = Pick<Row, 'id' | 'time' | 'type' | 'person' | 'subject' | 'content'>

/** The end of the chain, as it was signed last. */
export interface Head { seq: number, link: string, key: string, mac: string }

/** Who is behind a pseudonym, sealed: else one person could be put in the place of another. */
export interface Known { who: string, user_id: string | null, pseudonym: string | null, seal: string | null }

/** Where the chain begins. */
export const GENESIS = 'genesis'

type Purpose = 'row' | 'link' | 'head' | 'checkpoint' | 'purged' | 'person' | 'known' | 'name' | 'spool'

/** The keys of a trail: the first seals, all of them verify. */
export class KeyRing {
  readonly #keys: ReadonlyMap<string, Buffer>
  /** Id of the key that seals. */
  readonly current: string

  constructor (keys: readonly Buffer[]) {
    this.#keys = new Map(keys.map(key => [createHash('sha256').update('bastion audit key').update(key).digest('base64url').slice(0, 8), key]))
    this.current = [...this.#keys.keys()][0]!
  }

  get ids (): string[] { return [...this.#keys.keys()] }

  /** Null for a key that is not of this ring. */
  mac (purpose: Purpose, text: string, id = this.current): string | null {
    const key = this.#keys.get(id)
    return key === undefined ? null : createHmac('sha256', key).update(purpose).update('\n').update(text).digest('base64url')
  }

  /** A mac, with the id of its key before it. */
  tag (purpose: Purpose, text: string): string {
    return `${this.current}:${this.mac(purpose, text)!}`
  }

  provesTag (purpose: Purpose, text: string, tag: string | null): boolean {
    const [key = '', mac = null] = tag?.split(':') ?? []
    return this.proves(purpose, text, key, mac)
  }

  proves (purpose: Purpose, text: string, id: string, mac: string | null): boolean {
    const expected = this.mac(purpose, text, id)
    return expected !== null && mac !== null && isSame(expected, mac)
  }
}

/** What a digest is of. A list ends where it says, and the content begins there. */
export function digestText (seq: number, { id, time, type, person, subject, content }: Content): string {
  return JSON.stringify([seq, id, time, type, person, subject]) + content
}

export function linkText (before: string, digest: string): string {
  return `${before}\n${digest}`
}

export function headText ({ seq, link }: Pick<Head, 'seq' | 'link'>): string {
  return `${seq}\n${link}`
}

export function checkpointText ({ seq, link, time }: { seq: number, link: string, time: string }): string {
  return `${seq}\n${link}\n${time}`
}

export function purgedText (seq: number, digest: string, purged: string): string {
  return `${seq}\n${digest}\n${purged}`
}

export function knownText ({ who, user_id: userId, pseudonym }: Known): string {
  return JSON.stringify([who, userId, pseudonym])
}

/** Seals contents to the chain, one after the other. */
export function seal (ring: KeyRing, head: Pick<Head, 'seq' | 'link'>, contents: readonly Content[]): { rows: Omit<Row, 'purged' | 'mark'>[], head: Head } {
  let { seq, link } = head
  const rows = contents.map(content => {
    seq += 1
    const digest = ring.mac('row', digestText(seq, content))!
    link = ring.mac('link', linkText(link, digest))!
    return { ...content, seq, key: ring.current, digest, link }
  })
  return { rows, head: signHead(ring, seq, link) }
}

export function signHead (ring: KeyRing, seq: number, link: string): Head {
  return { seq, link, key: ring.current, mac: ring.mac('head', headText({ seq, link }))! }
}

export function isSame (a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)]
  return left.length === right.length && timingSafeEqual(left, right)
}
