/** A failure counts when it is told, after a pause that is to slow guessers down: whoever asks at once is asked nothing (CWE-362, CWE-367, CWE-307; API2). `sign-in` reserves the attempt first. */
import { setTimeout } from 'node:timers/promises'
import type { User } from '../data.js'

const ALLOWED = 5
const PAUSE_MS = 50
const failures = new Map<string, number>()

export async function signedIn (counted: string, check: () => Promise<User | null>): Promise<User> {
  const count = failures.get(counted) ?? 0
  if (count >= ALLOWED) throw Object.assign(new Error('Too many failed attempts'), { statusCode: 429 })
  await setTimeout(PAUSE_MS)
  const user = await check()
  if (user === null) {
    failures.set(counted, (failures.get(counted) ?? 0) + 1)
    throw Object.assign(new Error('The name or the password is wrong'), { statusCode: 401 })
  }
  failures.delete(counted)
  return user
}
