/** What the shared state holds of a session, and by which id it is known to whom. */
import { createHash, randomBytes } from 'node:crypto'

/** Who signed in, and how. */
export interface SignedIn {
  id: string
  roles: readonly string[]
  plan?: string
  /** Seconds since the epoch. */
  authTime: number
  amr?: readonly string[]
}

/** Times in milliseconds since the epoch. */
export interface SessionRecord {
  /** Null for a session of somebody who has not signed in. */
  user: SignedIn | null
  /** The generation of the user's sessions at the time of sign-in. */
  gen: number
  created: number
  seen: number
  /** When it ends at the latest. */
  expires: number
  /** Of the sign-in, for the list of devices. */
  agent: string
  address: string
  data: Record<string, unknown>
}

const MAX_USER_ID = 128
const ID = /^[\w-]{43}(?:~([\w-]+))?$/
const MOVED = 'moved '
/** What stands in the place of a session that was ended. */
export const ENDED = 'ended'

/** 256 bits, and whose it is: so that the session and what ends all of the user's sessions are read in one go. */
export function newSessionId (userId: string | null): string {
  const secret = randomBytes(32).toString('base64url')
  if (userId === null) return secret
  if (userId === '' || userId.length > MAX_USER_ID) throw new TypeError(`sessions: the id of a user must have 1 to ${MAX_USER_ID} characters`)
  return `${secret}~${Buffer.from(userId).toString('base64url')}`
}

/** The user in an id; null where it names none. Undefined for what is no id of ours. */
export function userIn (sessionId: string): string | null | undefined {
  const found = ID.exec(sessionId)
  if (found === null) return undefined
  return found[1] === undefined ? null : Buffer.from(found[1], 'base64url').toString()
}

/** By this a session is kept, listed and ended: it tells nothing of the id. */
export function publicId (sessionId: string): string {
  return createHash('sha256').update(sessionId).digest('base64url').slice(0, 32)
}

export const sessionKey = (id: string) => `sessions:session:${id}`
export const devicesKey = (userId: string) => `sessions:devices:${userId}`
export const generationKey = (userId: string) => `sessions:generation:${userId}`

export function recordText (record: SessionRecord): string {
  return JSON.stringify(record)
}

/** Null for what is no session any more. */
export function readRecord (text: string | null | undefined): SessionRecord | null {
  return text?.startsWith('{') === true ? JSON.parse(text) as SessionRecord : null
}

/** What stands in the place of a session that goes on by another id, so that whoever ends the old one ends the new one. */
export const movedText = (successor: string) => `${MOVED}${successor}`
export const successorIn = (text: string | null) => text?.startsWith(MOVED) === true ? text.slice(MOVED.length) : null

/** Alive: in its time, and not ended with all of the user's. */
export function isAlive ({ expires, gen }: SessionRecord, generation: string | null | undefined, time: number): boolean {
  return time < expires && (generation === null || generation === undefined || Number(generation) <= gen)
}
