/** Ids of requests, under which answers, log and audit trail know them. */
import { randomFillSync } from 'node:crypto'

const ID_BYTES = 16
/** Random bytes are drawn for many ids at once. */
const drawn = Buffer.alloc(ID_BYTES * 256)
let used = drawn.length

/** 32 hexadecimal digits, as the trace ids of W3C's Trace Context: nobody guesses the next, and nobody reads from it how many there were. */
export function requestId (): string {
  if (used === drawn.length) {
    randomFillSync(drawn)
    used = 0
  }
  used += ID_BYTES
  return drawn.toString('hex', used - ID_BYTES, used)
}
