/** What is stolen of a side of the range: its log and its files, searched piece by piece, so that other work of this process goes on in between. */
import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'

/** Bytes that are searched at once, and those that a match may be long. */
const PIECE = 1024 * 1024
const LONGEST = 64 * 1024
/** Characters that are kept of a log. */
const LOG_KEPT = 4 * 1024 * 1024

/** The end of a log. */
export interface Tail { add: (text: string) => void, text: () => string }

/** Keeps between `kept` characters and twice as many. */
export function tail (kept = LOG_KEPT): Tail {
  let all = ''
  return {
    add (text) {
      all += text
      if (all.length > 2 * kept) all = all.slice(-kept)
    },
    text: () => all,
  }
}

/** All matches in each file of a directory and in the log, with their groups. Bytes are letters (latin1); none is longer than 64 KiB. */
export async function search (directory: string, log: Tail, pattern: RegExp): Promise<string[][]> {
  const everywhere = new RegExp(pattern, [...new Set(`${pattern.flags}g`)].join(''))
  const found: string[][] = []
  for await (const piece of piecesOf(directory, log)) {
    // What begins in the overlap is found, and whole, in the next piece.
    for (const match of piece.matchAll(everywhere)) if (match.index < PIECE) found.push([...match])
  }
  return found
}

async function * piecesOf (directory: string, log: Tail): AsyncGenerator<string> {
  const buffer = Buffer.alloc(PIECE + LONGEST)
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const file = await open(join(entry.parentPath, entry.name)).catch(() => null) // it is gone meanwhile
    if (file === null) continue
    try {
      for (let from = 0, length = Infinity; length > PIECE; from += PIECE) {
        length = (await file.read(buffer, 0, buffer.length, from)).bytesRead
        yield buffer.toString('latin1', 0, length)
      }
    } finally {
      await file.close()
    }
  }
  // Afterwards: what was written before the last answer has come by now.
  const text = log.text()
  for (let from = 0; from < text.length; from += PIECE) {
    yield text.slice(from, from + PIECE + LONGEST)
    await setImmediate()
  }
}
