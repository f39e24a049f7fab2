/** What was seen beside answers: read whole whenever it is asked for, and compared with what was there before. */
import type { RecordedEvent, Texts, Witnesses } from './contract.js'

/** Milliseconds that is waited for what is written beside an answer. */
const PATIENCE_MS = 500
const STEP_MS = 10

/** Every text that a witness has; null where there is no such witness. */
export async function textsOf ({ stored, logged, mailed }: Witnesses, which: 'stored' | 'logged' | 'mailed'): Promise<string[] | null> {
  const witness = { stored, logged, mailed }[which]
  return witness === undefined ? null : listOf(await witness())
}

export async function eventsOf ({ recorded }: Witnesses): Promise<RecordedEvent[]> {
  const events: RecordedEvent[] = []
  for await (const event of await recorded?.() ?? []) events.push(event)
  return events
}

async function listOf (texts: Texts): Promise<string[]> {
  if (typeof texts === 'string') return [texts]
  const list: string[] = []
  for await (const text of texts) list.push(text)
  return list
}

/** What is there now more often than before. */
export function addedTo<T> (before: readonly T[], now: readonly T[]): T[] {
  const counts = new Map<string, number>()
  for (const one of before) counts.set(JSON.stringify(one), (counts.get(JSON.stringify(one)) ?? 0) + 1)
  return now.filter(one => {
    const left = counts.get(JSON.stringify(one)) ?? 0
    counts.set(JSON.stringify(one), left - 1)
    return left <= 0
  })
}

/** Looks again until it is so, or for as long as is waited for what is written beside answers; answers what was seen last. */
export async function seenBy<T> (look: () => Promise<T>, isSo: (seen: T) => boolean, patience = PATIENCE_MS): Promise<T> {
  const started = performance.now()
  for (;;) {
    const seen = await look()
    if (isSo(seen) || performance.now() - started >= patience) return seen
    await new Promise(resolve => { setTimeout(resolve, STEP_MS) })
  }
}
