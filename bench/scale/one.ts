/** One figure in a process of its own: `node --expose-gc one.js <what> [whose] [entries]` writes it as JSON. */
import { devicesOf } from '../../plugins/sessions/devices.js'
import { recordText, sessionKey } from '../../plugins/sessions/record.js'
import { memoryState } from '../../plugins/state/memory.js'
import { makeRevocation } from '../../plugins/tokens/revocation.js'
import { median, rounded } from '../statistics.js'
import { client, LIMITERS } from './limiters.js'
import { services } from './roles.js'
import { bytesOfOne, doing, held } from './turns.js'

const HOUR = 3_600_000
const OFFENDERS = 100
const ID = 'i'.repeat(24)

const figures: Record<string, (whose: string, entries: number) => Promise<object>> = { clients, cost, sessions, revocations, roles: services }

/** Memory of a client; pauses while they come, while others come when it is full, and while all expire. */
async function clients (whose: string, entries: number) {
  const { decide, take, size, elapse } = await LIMITERS[whose]!(entries)
  await doing(2000, i => decide(client(i)))
  const before = await held()
  const coming = await doing(entries, i => decide(client(i)))
  const bytes = bytesOfOne(before, await held(), entries)
  if (take === undefined) return { bytes, coming }
  const offenders = Array.from({ length: OFFENDERS }, (_none, i) => client(i))
  for (const one of offenders) while (take(one).allowed);
  const beforeFlood = await held()
  const flood = await doing(entries, i => decide(client(entries + i)))
  const growth = bytesOfOne(beforeFlood, await held(), entries)
  const washedOut = offenders.filter(one => take(one).allowed).length
  const isHeld = size!() <= entries
  elapse!(3 * HOUR)
  const expiring = await doing(entries, i => decide(client(2 * entries + i)))
  return { bytes, coming, flood, expiring, bound: { isHeld, growth, offenders: OFFENDERS, washedOut } }
}

/** One decision of clients at random, among so many. */
async function cost (whose: string, entries: number) {
  const { decide } = await LIMITERS[whose]!(entries)
  for (let i = 0; i < entries; i++) await decide(client(i))
  const rounds: number[] = []
  for (let round = 0; round < 9; round++) {
    const asked = Array.from({ length: 50_000 }, () => client(Math.floor(Math.random() * entries)))
    const begun = process.cpuUsage()
    for (const one of asked) {
      const answer = decide(one)
      if (answer instanceof Promise) await answer
    }
    const { user, system } = process.cpuUsage(begun)
    rounds.push((user + system) * 1000 / asked.length)
  }
  return { nanoseconds: rounded(median(rounds.slice(2)), 0) }
}

/** As they are started: a record, and the list of the sessions of its user. */
async function sessions (_whose: string, entries: number) {
  const { state, now, elapse } = clocked(entries)
  const devices = devicesOf({ state, absoluteMs: 12 * HOUR, idleMs: HOUR, perUser: 50, now })
  const begin = (i: number) => {
    const [time, id] = [now(), `${ID}${i.toString(36).padStart(8, '0')}`]
    const user = { id: `user-${i}`, roles: ['member'], authTime: Math.floor(time / 1000), amr: ['pwd', 'otp'] }
    const agent = 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0'
    const record = { user, gen: 0, created: time, seen: time, expires: time + 12 * HOUR, agent, address: client(i), data: {} }
    state.set(sessionKey(id), recordText(record), HOUR) as void
    return devices.add(user.id, id)
  }
  return fillAndExpire(entries, begin, () => { elapse(13 * HOUR) })
}

async function revocations (_whose: string, entries: number) {
  const { state, now, elapse } = clocked(entries)
  const { revokeUser } = makeRevocation({ state, refreshTtl: 3600, familyTtl: 3600, clockTolerance: 5, now })
  return fillAndExpire(entries, i => revokeUser(`user-${i}`), () => { elapse(2 * HOUR) })
}

async function fillAndExpire (entries: number, make: (i: number) => Promise<void>, expire: () => void) {
  await doing(2000, make)
  const before = await held()
  const coming = await doing(entries, i => make(2000 + i))
  const bytes = bytesOfOne(before, await held(), entries)
  expire()
  const expiring = await doing(entries, i => make(2000 + entries + i))
  return { bytes, coming, expiring, growth: bytesOfOne(before, await held(), entries) }
}

function clocked (entries: number) {
  let time = Date.now()
  const now = () => time
  const state = memoryState({ maxEntries: 5 * entries, maxSubjects: 100, now, forgot () {}, refuse () { throw new Error('full') } })
  return { state, now, elapse: (ms: number) => { time += ms } }
}

const [, , what = '', whose = '', entries = '0'] = process.argv
process.stdout.write(JSON.stringify(await figures[what]!(whose, Number(entries))), () => process.exit())
