/** The sessions of each user: listed, bounded, ended one by one or all at once. */
import type { State } from '../state/index.js'
import { SessionsBusy } from './errors.js'
import { devicesKey, ENDED, generationKey, isAlive, readRecord, recordText, sessionKey, successorIn, type SessionRecord } from './record.js'

/** Where somebody is signed in. */
export interface Device {
  /** Names the session to {@link Sessions.endOne}; no credential. */
  id: string
  createdAt: Date
  /** To the minute. */
  lastSeenAt: Date
  expiresAt: Date
  /** `User-Agent` of the sign-in, cut to 256 characters: what a client says of itself. */
  userAgent: string
  /** From where they signed in. */
  address: string
}

interface DevicesParts {
  state: State
  /** Milliseconds. */
  absoluteMs: number
  idleMs: number
  perUser: number
  now: () => number
}

/** How often a record that changed meanwhile is read again. */
const TRIES = 50
/** Milliseconds. */
const ENDED_MS = 60_000

export type Devices = ReturnType<typeof devicesOf>

export function devicesOf ({ state, absoluteMs, idleMs, perUser, now }: DevicesParts) {
  return { add, remove, list, endOne, endAll, drop }

  /** In the place of `replaces`; where there are too many, the oldest end. */
  async function add (userId: string, id: string, replaces?: string): Promise<void> {
    let ended: string[] = []
    await change(userId, ids => {
      const all = [...ids.filter(other => other !== replaces), id]
      ended = all.slice(0, Math.max(0, all.length - perUser))
      return all.slice(-perUser)
    })
    for (const old of ended) await drop(old)
  }

  async function remove (userId: string, id: string): Promise<void> {
    await change(userId, ids => ids.filter(other => other !== id))
  }

  async function list (userId: string): Promise<Device[]> {
    const ids = idsIn(await state.get(devicesKey(userId)))
    const [generation, ...records] = await state.getMany([generationKey(userId), ...ids.map(sessionKey)])
    const time = now()
    return ids.flatMap((id, i) => {
      const record = readRecord(records[i])
      if (record?.user?.id !== userId || !isAlive(record, generation, time)) return []
      const { created, seen, expires, agent, address } = record
      return [{ id, createdAt: new Date(created), lastSeenAt: new Date(seen), expiresAt: new Date(expires), userAgent: agent, address }]
    })
  }

  async function endOne (userId: string, id: string): Promise<boolean> {
    const text = await state.get(sessionKey(id))
    const successor = successorIn(text)
    if (successor !== null) return endOne(userId, successor)
    if (readRecord(text)?.user?.id !== userId) return false
    await drop(id)
    await remove(userId, id)
    return true
  }

  /**
   * Ends a session, and the one that it became: read and ended in one step, so that nothing can move in between. What
   * stands there then keeps a request in flight from writing it anew.
   */
  async function drop (id: string): Promise<void> {
    for (let tries = 0; tries < TRIES; tries++) {
      const text = await state.get(sessionKey(id))
      if (text === null) return
      const outcome = await state.swap(sessionKey(id), text, ENDED, ENDED_MS)
      if (outcome === 'mismatch') continue
      const successor = successorIn(text)
      if (outcome === 'swapped' && successor !== null) await drop(successor)
      return
    }
    throw new SessionsBusy()
  }

  async function endAll (userId: string, except: string | undefined): Promise<void> {
    // Those that are started from now on are none of these.
    const before = idsIn(await state.get(devicesKey(userId)))
    // Milliseconds as the floor: the number never falls back, even after the key has expired.
    const floor = Math.max(Number(await state.get(generationKey(userId)) ?? 0) + 1, now())
    // The one that stays is lifted first: at no moment does it count as ended.
    if (except !== undefined) await lift(userId, except, floor)
    await state.raise(generationKey(userId), floor, absoluteMs)
    await change(userId, ids => ids.filter(id => id === except || !before.includes(id)))
  }

  async function lift (userId: string, id: string, gen: number): Promise<void> {
    for (let tries = 0; tries < TRIES; tries++) {
      const text = await state.get(sessionKey(id))
      const record = readRecord(text)
      if (record?.user?.id !== userId) return
      if (await state.swap(sessionKey(id), text!, recordText({ ...record, gen }), ttlOf(record)) === 'swapped') return
    }
    // It changes faster than it can be lifted: it ends with the others, which is the safe side.
  }

  function ttlOf (record: SessionRecord): number {
    return Math.max(1, Math.min(idleMs, record.expires - now()))
  }

  async function change (userId: string, next: (ids: string[]) => string[]): Promise<void> {
    const key = devicesKey(userId)
    for (let tries = 0; tries < TRIES; tries++) {
      const text = await state.get(key)
      const ids = next(idsIn(text))
      if (text === JSON.stringify(ids) || (text === null && ids.length === 0)) return
      if (text === null ? await state.claim(key, JSON.stringify(ids), absoluteMs) : await state.swap(key, text, JSON.stringify(ids), absoluteMs) === 'swapped') return
    }
    throw new SessionsBusy()
  }
}

function idsIn (text: string | null): string[] {
  return text === null ? [] : JSON.parse(text) as string[]
}
