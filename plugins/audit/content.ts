/**
 * What is kept of an event: who, whence, what and how it ended, in one canonical text.
 *
 * Secrets are taken out by the names under which they stand and by how they look, whoever recorded them; what is left is bounded in
 * depth, number and length. Users stand in it as marks, which become pseudonyms when it is written.
 */
import { randomBytes } from 'node:crypto'
import { findCard } from '../cards.js'
import type { SecurityEvent } from '../events.js'
import { conceal, isSecret } from '../log.js'
import { outcomeOf } from './vocabulary.js'

/** An event that waits to be written. */
export interface Entry {
  id: string
  time: string
  type: string
  /** Id of the user who did it, and of the one to whom it was done, where that is another. */
  actor: string | null
  subject: string | null
  /** JSON, in which users are marked. */
  content: string
}

export interface ContentOptions {
  /** E-mail addresses are taken out. */
  emails: boolean
  /** Resources whose id is that of a user. */
  people: ReadonlySet<string>
}

export type EntryOf = (event: SecurityEvent) => Entry

const REDACTED = '[redacted]'
const CUT = '[cut]'
const DEPTH = 4
/** Values of one object or list, and of one event. */
const ITEMS = 32
const VALUES = 128
const NAME_LENGTH = 64
const TEXT_LENGTH = 512
/** What lies beyond is not looked at, and not kept. */
const LOOKED_AT = 4096
/** Characters of a content; of a longer one the details are left out. */
const CONTENT = 8192
/** Around the id of a user, as JSON writes it: no text keeps control characters of its own. What else JSON escapes is passed over whole: who writes `\u0001` in letters makes no mark. */
const MARK = /\\u0001((?:[^\\"]|\\.)*?)\\u0002|\\./g
const CONTROLS = /\p{Cc}/gu
const USER_NAMES: ReadonlySet<string> = new Set(['user', 'userId', 'user_id'])
/** As the limits write a subject; anywhere else it is only what somebody wrote, and makes nobody known. */
const USER_SUBJECT = /(^|\|)user:([^|]+)/g
const LONG_RUN = /[A-Za-z0-9+/_-]{32,}={0,2}/g
const EMAIL = /[^\s@<>"',;:]{1,64}@[^\s@<>"',;:]{1,255}\.[A-Za-z]{2,63}/g
/** A text without any of this holds no secret that is known by its shape. */
const SUSPICIOUS = /[@?=]|:\/\/|eyJ|_(?:live|test)_|bearer |basic |\p{Nd}(?:\P{Nd}{0,3}\p{Nd}){12}|\S{32}|&#|[\p{Cf}<]/iu

interface Redaction {
  emails: boolean
  /** Ids of the users of this event. */
  users: readonly (string | null)[]
  /** Values that may still be kept. */
  left: number
}

/** Makes entries of events. */
export function entryMaker ({ emails, people }: ContentOptions): EntryOf {
  return function entryOf (event) {
    const { time, principal, via, address, userAgent, requestId, method, route } = event
    const type = event.type.replace(/[^\w.-]/g, '_').slice(0, NAME_LENGTH)
    const { status, resource, ...rest } = event.details
    const object = event.resource ?? (isResource(resource) ? resource : undefined)
    const details: Record<string, unknown> = { ...rest, ...status !== undefined && !Number.isSafeInteger(status) && { status }, ...resource !== undefined && resource !== object && { resource } }
    const [actor = null, subject = null] = new Set([event.user, ...[...USER_NAMES].map(name => details[name]), people.has(object?.type ?? '') ? object?.id : undefined].filter(isId))
    const redaction: Redaction = { emails, users: [actor, subject], left: VALUES }
    const about = {
      outcome: outcomeOf(event.type, details),
      via,
      ...principal !== undefined && principal !== event.user && { keyId: redactText(principal, redaction) },
      address,
      ...userAgent !== undefined && { userAgent: redactText(userAgent, redaction) },
      requestId,
      method,
      route,
      ...object !== undefined && { resource: { type: object.type, ...object.id !== undefined && { id: people.has(object.type) ? marked(object.id) : redactText(object.id, redaction) } } },
      ...Number.isSafeInteger(status) && { status },
    }
    let content = JSON.stringify({ ...about, details: redact(details, redaction, DEPTH) })
    if (content.length > CONTENT) content = JSON.stringify({ ...about, details: { cut: true } })
    return { id: newId(), time, type, actor, subject, content }
  }
}

/** All users that stand in an entry. */
export function usersOf ({ actor, subject, content }: Entry): string[] {
  return [actor, subject].filter(id => id !== null).concat([...content.matchAll(MARK)].flatMap(([, id]) => id === undefined ? [] : [unescaped(id)]))
}

/** The content with pseudonyms where users are marked. */
export function withPseudonyms (content: string, pseudonymOf: (userId: string) => string): string {
  return content.replace(MARK, (found, id?: string) => id === undefined ? found : pseudonymOf(unescaped(id)))
}

/** What is left of an event whose content no database takes. */
export function withoutContent ({ id, time, type }: Entry): Entry {
  return { id, time, type, actor: null, subject: null, content: JSON.stringify({ outcome: 'unknown', details: { unreadable: true } }) }
}

/** Sorts by time, roughly, so that an index of it grows at its end. */
function newId (): string {
  return Date.now().toString(36).padStart(9, '0') + randomBytes(12).toString('base64url')
}

function redact (value: unknown, redaction: Redaction, depth: number): unknown {
  if (typeof value === 'string') return redactText(value, redaction)
  if (typeof value === 'number') return findCard(value) === null ? value : REDACTED
  if (value === null || value === undefined || typeof value === 'boolean') return value
  if (typeof value === 'bigint') return redactText(String(value), redaction)
  if (typeof value !== 'object') return undefined
  if (depth === 0 || (redaction.left -= 1) < 0) return CUT
  try {
    if (value instanceof Date) return value.toISOString()
    if (value instanceof Error) return redactText(String((value as Error & { code?: string }).code ?? value.name), redaction)
    if (ArrayBuffer.isView(value)) return REDACTED
    if (Array.isArray(value)) return value.slice(0, ITEMS).map(item => redact(item, redaction, depth - 1)).concat(value.length > ITEMS ? [CUT] : [])
    return redactObject(value as Record<string, unknown>, redaction, depth)
  } catch {
    return '[unreadable]'
  }
}

function redactObject (object: Record<string, unknown>, redaction: Redaction, depth: number): Record<string, unknown> {
  const kept: Record<string, unknown> = {}
  const names = Object.keys(object)
  for (const name of names.slice(0, ITEMS)) {
    const value = object[name]
    if (isSecret(name)) kept[redactName(name, redaction)] = typeof value === 'boolean' || value === null ? value : REDACTED
    else if (USER_NAMES.has(name)) kept[name] = Array.isArray(value) ? value.slice(0, ITEMS).map(id => isId(id) ? marked(id) : REDACTED) : isId(value) ? marked(value) : value === null ? null : REDACTED
    else if (name === 'subject' && typeof value === 'string') kept[name] = redactText(value, redaction).replace(USER_SUBJECT, (_all, before: string, id: string) => `${before}user:${marked(id)}`)
    else kept[redactName(name, redaction)] = redact(value, redaction, depth - 1)
  }
  if (names.length > ITEMS) kept[CUT] = names.length - ITEMS
  return kept
}

function redactName (name: string, redaction: Redaction): string {
  const safe = redactText(name, redaction)
  // Half a mark is none.
  return safe.length > NAME_LENGTH && safe.startsWith('\u0001') ? REDACTED : safe.slice(0, NAME_LENGTH)
}

function redactText (text: string, { emails, users }: Redaction): string {
  if (users.includes(text)) return marked(text)
  let safe = text.slice(0, LOOKED_AT).replace(CONTROLS, ' ')
  if (SUSPICIOUS.test(safe)) {
    // Before anything is cut: half a secret looks like none.
    if (findCard(safe) !== null) return REDACTED
    safe = conceal(safe).replace(LONG_RUN, run => looksRandom(run) ? REDACTED : run)
    if (emails) safe = safe.replace(EMAIL, REDACTED)
  }
  return safe.length > TEXT_LENGTH ? `${safe.slice(0, TEXT_LENGTH)}…` : safe
}

/** Hexadecimal, or letters of both cases and digits: as keys and hashes are written, and words and paths are not. */
function looksRandom (run: string): boolean {
  return /^[0-9a-f]+$/i.test(run) ? /\d/.test(run) : run.length >= 40 && /[a-z]/.test(run) && /[A-Z]/.test(run) && /\d/.test(run)
}

function marked (userId: string): string {
  return `\u0001${userId.replace(CONTROLS, ' ')}\u0002`
}

function unescaped (id: string): string {
  return JSON.parse(`"${id}"`) as string
}

function isId (value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value.length <= 128 && !/[\p{Cc}\p{Cs}]/u.test(value)
}

function isResource (value: unknown): value is { type: string, id?: string } {
  const { type, id } = (value ?? {}) as { type?: unknown, id?: unknown }
  return typeof type === 'string' && (id === undefined || typeof id === 'string')
}
