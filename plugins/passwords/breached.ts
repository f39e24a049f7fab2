/**
 * Passwords that were in a breach, asked for without telling them: only the first five hex digits of their SHA-1 leave, and all
 * that begin with those come back (k-anonymity).
 */
import { createHash } from 'node:crypto'

/** Answers lines of the form `<other 35 hex digits>:<times>` for five hex digits. */
export type BreachRange = (prefix: string, signal: AbortSignal) => Promise<string>

const PREFIX = 5
const RANGE = 'https://api.pwnedpasswords.com/range/'

/** The range service of Have I Been Pwned; answers are padded, so that their length tells nothing. */
export const pwnedPasswords: BreachRange = async (prefix, signal) => {
  const answer = await fetch(`${RANGE}${prefix}`, { signal, headers: { 'add-padding': 'true' }, redirect: 'error' })
  if (!answer.ok) throw new Error(`the range service answered ${answer.status}`)
  return answer.text()
}

/** @throws what the range service does, or where it takes longer than so many milliseconds */
export async function isInBreach (password: string, range: BreachRange, timeoutMs: number): Promise<boolean> {
  const digest = createHash('sha1').update(password).digest('hex').toUpperCase()
  const late = new AbortController()
  const timer = setTimeout(() => { late.abort(new Error(`no answer within ${timeoutMs} ms`)) }, timeoutMs)
  const isLate = new Promise<never>((_resolve, reject) => { late.signal.addEventListener('abort', () => { reject(late.signal.reason) }, { once: true }) })
  let lines
  try {
    lines = await Promise.race([range(digest.slice(0, PREFIX), late.signal), isLate])
  } finally {
    clearTimeout(timer)
  }
  const rest = digest.slice(PREFIX)
  // Padding is told by 0 times.
  return lines.split('\n').some(line => line.slice(0, rest.length).toUpperCase() === rest && line[rest.length] === ':' && Number(line.slice(rest.length + 1)) > 0)
}
