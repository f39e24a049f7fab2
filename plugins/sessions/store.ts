/** Where @fastify/session keeps its sessions: the shared state, in which what has ended is never written anew. */
import type { FastifyBaseLogger } from 'fastify'
import type { FastifySessionObject, SessionStore } from '@fastify/session'
import type { State } from '../state/index.js'
import type { Devices } from './devices.js'
import { generationKey, isAlive, publicId, readRecord, recordText, sessionKey, userIn, type SessionRecord } from './record.js'

/** A session and its record as it was read or written last; `text` is null where it stands in no store: `isOver` where it did, and has ended. */
export interface Held { id: string, record: SessionRecord, text: string | null, isOver?: true }

interface StoreParts {
  state: State
  devices: Devices
  log: FastifyBaseLogger
  /** Milliseconds. */
  idleMs: number
  now: () => number
  /** The record of a session that nobody has signed in to. */
  newRecord: () => SessionRecord
}

const TRIES = 10
/** Of a session object, and no part of what a service has put into it. */
const OWN = ['cookie', 'sessionId', 'encryptedSessionId']

export function storeOf ({ state, devices, log, idleMs, now, newRecord }: StoreParts) {
  /** What stands behind the session objects of requests. */
  const held = new WeakMap<object, Held>()
  let found: Held | 'ended' | null = null

  const store: SessionStore = {
    get (sessionId, done) {
      const userId = userIn(sessionId)
      if (userId === undefined) return done(null, null)
      const id = publicId(sessionId)
      const arrive = ([text = null, generation]: readonly (string | null)[]) => {
        const record = readRecord(text)
        const isGood = record !== null && isAlive(record, generation, now()) && (record.user?.id ?? null) === userId
        found = isGood ? { id, record, text } : record === null && text !== null ? 'ended' : null
        try {
          done(null, isGood ? structuredClone(record.data) as never : null)
        } finally {
          found = null
        }
      }
      try {
        const values = state.getMany(userId === null ? [sessionKey(id)] : [sessionKey(id), generationKey(userId)])
        if (values instanceof Promise) values.then(arrive, done)
        else arrive(values)
      } catch (error) {
        done(error)
      }
    },
    set (sessionId, session, done) { write(sessionId, session as FastifySessionObject).then(() => done(), done) },
    destroy (sessionId, done) {
      const userId = userIn(sessionId) ?? null
      const id = publicId(sessionId)
      devices.drop(id).then(async () => { if (userId !== null) await devices.remove(userId, id) }).then(() => done(), done)
    },
  }

  return { store, heldBy, hold, foundNow, noteSeen }

  /** Undefined for an object that stands in no store and was not meant for one. */
  function heldBy (session: object): Held | undefined {
    return held.get(session)
  }

  function hold (session: object, known: Held): void {
    held.set(session, known)
  }

  /** What the look-up has found that is being answered right now; `ended`: moments ago. */
  function foundNow (): Held | 'ended' | null {
    return found
  }

  async function write (sessionId: string, session: FastifySessionObject): Promise<void> {
    const data = dataOf(session)
    const known = held.get(session) ?? { id: publicId(sessionId), record: newRecord(), text: null }
    // What has ended is not brought back, nor is an object filled that was loaded anew after its session had ended.
    if (known.isOver === true || (!held.has(session) && userIn(sessionId) !== null)) return
    if (known.text === null) {
      const record = { ...known.record, data }
      const text = recordText(record)
      await state.set(sessionKey(known.id), text, ttlOf(record))
      held.set(session, { id: known.id, record, text })
      return
    }
    // Only what this request changed is written: what others changed meanwhile stays.
    const changes = changesOf(known.record.data, data)
    let text: string | null = known.text
    for (let tries = 0; tries < TRIES; tries++) {
      const latest = readRecord(text)
      if (latest === null) break
      const record = { ...latest, seen: now(), data: apply(latest.data, changes) }
      const next = recordText(record)
      const outcome = await state.swap(sessionKey(known.id), text!, next, ttlOf(record))
      if (outcome === 'swapped') {
        held.set(session, { id: known.id, record, text: next })
        return
      }
      if (outcome === 'missing') break
      text = await state.get(sessionKey(known.id))
    }
    held.set(session, { ...known, text: null, isOver: true })
  }

  /** Nobody waits for it; where it fails, a later request says so. */
  function noteSeen ({ id, record, text }: Held): void {
    const writing = async () => state.swap(sessionKey(id), text!, recordText({ ...record, seen: now() }), ttlOf(record))
    writing().catch(error => { log.debug({ err: error }, 'that a session is in use was not noted') })
  }

  function ttlOf ({ expires }: SessionRecord): number {
    return Math.max(1, Math.min(idleMs, expires - now()))
  }
}

/** What a service has put into a session. */
export function dataOf (session: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(session).filter(([key]) => !OWN.includes(key)))
}

/** The keys that are new, other or gone (undefined). */
export function changesOf (before: Record<string, unknown>, after: Record<string, unknown>): Map<string, unknown> {
  const changes = new Map<string, unknown>()
  for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
    if (JSON.stringify(before[key]) !== JSON.stringify(after[key])) changes.set(key, after[key])
  }
  return changes
}

export function apply (data: Record<string, unknown>, changes: ReadonlyMap<string, unknown>): Record<string, unknown> {
  return Object.fromEntries([...Object.entries(data).filter(([key]) => !changes.has(key)), ...[...changes].filter(([, value]) => value !== undefined)])
}
