/**
 * Verification: walks along the chain, a batch of rows at a time, and tells the first break and its kind.
 *
 * That it breaks is proven by the seals. What was done to it is read from them too: a row is good for one place alone, so one that is good for
 * another was moved there. Who knows the keys can forge; who can only write the database cannot.
 */
import { checkpointText, digestText, GENESIS, headText, isSame, linkText, purgedText, type Head, type KeyRing, type Row } from './chain.js'
import type { BreakKind, Checkpoint, Verdict, VerifyOptions } from './contract.js'

/** Where the rows of a chain are. */
export interface ChainSource {
  head: () => Promise<Head | null>
  /** Rows beyond `after` up to `to`, in the order of their places. */
  rows: (after: number, to: number, limit: number) => Promise<readonly Row[]>
  checkpoints: (after: number, limit: number) => Promise<readonly Checkpoint[]>
  /** The first place of somebody who is not known by a seal of this service; null where there is none. */
  stranger: () => Promise<number | null>
}

/** How far away the place is looked for at which a row was written. */
const REACH = 10_000

interface Parts {
  source: ChainSource
  ring: KeyRing
  /** A head that is known to have been one. */
  seen: Pick<Head, 'seq' | 'link'> | null
}

/** Batches of some rows beyond a place, each of them once. */
async function * batches<R extends { seq: number }> (read: (after: number) => Promise<readonly R[]>, after: number, limit: number): AsyncGenerator<R> {
  for (let at = after; ;) {
    const batch = await read(at)
    yield * batch
    if (batch.length < limit) return
    at = batch.at(-1)!.seq
  }
}

export async function verifyChain ({ source, ring, seen }: Parts, { checkpoints = [], since, batch = 1000 }: VerifyOptions = {}): Promise<Verdict> {
  const head = await source.head()
  const start = since === undefined ? 0 : since.seq
  let link = since === undefined ? GENESIS : since.link
  let place = start
  let purged = 0
  const broken = (seq: number, kind: BreakKind, reason: string): Verdict => ({ whole: false, events: place - start, purged, seq: place, break: { seq, kind, reason } })

  if (since !== undefined && !isSigned(since)) return broken(start, 'changed', 'the checkpoint to begin at is not signed by this service')
  if (head === null) return known().length === 0 && await isEmpty() ? { whole: true, events: 0, purged: 0, seq: 0, break: null } : broken(1, 'truncated', 'the head is gone')
  const isHeadSigned = ring.proves('head', headText(head), head.key, head.mac)
  // Up to the head that was read first: what is added meanwhile is for the next time.
  const end = isHeadSigned ? head.seq : Number.MAX_SAFE_INTEGER - 1
  const marks = batches(after => source.checkpoints(after, batch), start, batch)
  let mark = (await marks.next()).value as Checkpoint | undefined
  const given = known().filter(({ seq }) => seq > start).sort((a, b) => a.seq - b.seq)

  const rows = batches(after => source.rows(after, end + 1, batch), start, batch)
  let row = (await rows.next()).value as Row | undefined
  // One more than belongs to it, for what it says of the one before.
  while (row !== undefined && row.seq <= end) {
    const next = (await rows.next()).value as Row | undefined
    const fault = faultOf(row, next, place + 1, link)
    if (fault !== null) return broken(...fault)
    link = row.link
    place = row.seq
    if (row.content === null) purged += 1
    const strayed = await passMarks()
    if (strayed !== null) return strayed
    row = next
  }
  if (!isHeadSigned) return broken(head.seq, 'changed', 'the head is not signed by this service')
  if (place < head.seq) return broken(place + 1, 'truncated', `the chain should end at ${head.seq}`)
  if (link !== head.link) return broken(place, 'changed', 'the last link is not that of the head')
  if (mark !== undefined || given.length > 0) {
    const current = await source.head()
    const beyond = mark?.seq ?? given[0]!.seq
    if (current === null || current.seq < beyond) return broken(place + 1, 'truncated', `a checkpoint knows of place ${beyond}: the chain was set back`)
  }
  const stray = await strayRow(place)
  if (stray !== null) return broken(stray, 'inserted', 'it lies beyond the head')
  const stranger = since === undefined ? await source.stranger() : null
  if (stranger !== null) return broken(stranger, 'changed', 'who is behind its pseudonym is not what was signed')
  return { whole: true, events: place - start, purged, seq: place, break: null }

  /** Heads that were kept elsewhere. */
  function known (): Pick<Checkpoint, 'seq' | 'link'>[] {
    return [...checkpoints, ...seen === null ? [] : [seen]]
  }

  async function isEmpty (): Promise<boolean> {
    return (await source.rows(0, Number.MAX_SAFE_INTEGER, 1)).length === 0 && (await source.checkpoints(0, 1)).length === 0
  }

  function isSigned (checkpoint: Checkpoint): boolean {
    return ring.proves('checkpoint', checkpointText(checkpoint), checkpoint.key, checkpoint.mac)
  }

  /** Checkpoints of the table and of the caller at this place say the same link. */
  async function passMarks (): Promise<Verdict | null> {
    while (mark !== undefined && mark.seq <= place) {
      if (!isSigned(mark) || (mark.seq === place && mark.link !== link)) return broken(mark.seq, 'changed', 'a checkpoint of the table is not what was signed here')
      mark = (await marks.next()).value as Checkpoint | undefined
    }
    while (given[0] !== undefined && given[0].seq <= place) {
      const { seq, link: expected } = given.shift()!
      if (seq === place && !isSame(expected, link)) return broken(seq, 'changed', 'a checkpoint that was kept elsewhere says another link')
    }
    return null
  }

  /** A row beyond the head of the same moment; null where the head has moved on to it. */
  async function strayRow (after: number): Promise<number | null> {
    const [first] = await source.rows(after, Number.MAX_SAFE_INTEGER, 1)
    if (first === undefined) return null
    const current = await source.head()
    return current === null || current.seq < first.seq ? first.seq : null
  }

  function faultOf (row: Row, next: Row | undefined, expected: number, before: string): [number, BreakKind, string] | null {
    if (row.seq > expected) return [expected, 'removed', 'there is no row at this place']
    if (row.seq < expected) return [row.seq, 'inserted', 'two rows are at this place']
    const isContentGood = isWrittenAt(row, expected)
    const isLinkGood = ring.proves('link', linkText(before, row.digest), row.key, row.link)
    if (isContentGood && isLinkGood) return null
    if (isContentGood) return [expected, 'changed', 'its link is not what was signed']
    if (isLinkGood && row.content === null && row.mark === null && row.purged === null) return [expected, 'removed', 'its content was taken out, and not by retention']
    if (isLinkGood) return [expected, 'changed', 'its content is not what was signed']
    if (next !== undefined && next.seq === expected + 1 && isWrittenAt(next, expected)) {
      return isWrittenAt(row, expected + 1) ? [expected, 'reordered', `it was written at ${expected + 1}`] : [expected, 'inserted', 'what follows was moved on']
    }
    const written = placeOf(row, expected, head!.seq)
    if (written !== null && written < expected) return [expected, 'inserted', `it is a copy of ${written}`]
    if (written !== null) {
      const isShifted = next === undefined || isWrittenAt(next, written + 1)
      return isShifted ? [expected, 'removed', `what follows was moved up from ${written}`] : [expected, 'reordered', `it was written at ${written}`]
    }
    return [expected, 'changed', 'its content is not what was signed']
  }

  /** Whether this row, as it is, was sealed for this place: by its digest, or once it was emptied by the mark of that. */
  function isWrittenAt (row: Row, seq: number): boolean {
    if (row.purged === null && row.mark === null) return row.content !== null && ring.proves('row', digestText(seq, row), row.key, row.digest)
    const isEmptied = [row.id, row.time, row.type, row.person, row.subject, row.content].every(value => value === null)
    return isEmptied && row.purged !== null && ring.provesTag('purged', purgedText(seq, row.digest, row.purged), row.mark)
  }

  /** The place at which it was written, the nearest first; null where there is none. */
  function placeOf (row: Row, near: number, last: number): number | null {
    for (let away = 1; away <= REACH && (near - away >= 1 || near + away <= last); away++) {
      if (near + away <= last && isWrittenAt(row, near + away)) return near + away
      if (near - away >= 1 && isWrittenAt(row, near - away)) return near - away
    }
    return null
  }
}
