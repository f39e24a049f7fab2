/**
 * Texts outside the heap of the garbage collector, in cells of one size: it never visits or moves them, however many there are, and what
 * one text leaves fits any other.
 */
import { Rows } from './rows.js'

/** Bytes of a cell, and cells of a piece as a power of two. */
const CELL = 64
const PIECE_BITS = 10
/** Before a text stands how many bytes it has; below 0 where a character takes two. */
const HEADER = 4
const NO_CELL = 0
const WIDE = /[^\0-\xff]/

export class Texts {
  readonly #pieces: Buffer[] = []
  /** The cell that follows each, in its text or among the free ones. */
  readonly #next = new Rows(Int32Array, 1)
  #free = NO_CELL
  #end = NO_CELL + 1

  /** Where the text is kept. */
  put (text: string): number {
    const isWide = WIDE.test(text)
    const bytes = isWide ? 2 * text.length : text.length
    const buffer = Buffer.allocUnsafe(HEADER + bytes)
    buffer.writeInt32LE(isWide ? ~bytes : bytes)
    buffer.write(text, HEADER, isWide ? 'utf16le' : 'latin1')
    const first = this.#take()
    let cell = first
    for (let from = 0; ;) {
      buffer.copy(this.#pieceOf(cell), offsetOf(cell), from, from + CELL)
      from += CELL
      const next = from < buffer.length ? this.#take() : NO_CELL
      this.#link(cell, next)
      if (next === NO_CELL) return first
      cell = next
    }
  }

  read (first: number): string {
    const header = this.#pieceOf(first).readInt32LE(offsetOf(first))
    const encoding = header < 0 ? 'utf16le' : 'latin1'
    let rest = HEADER + (header < 0 ? ~header : header)
    let text = ''
    let skip = HEADER
    for (let cell = first; rest > 0; cell = this.#after(cell)) {
      const start = offsetOf(cell)
      let length = CELL
      // What lies side by side is read at once.
      for (; length < rest && this.#after(cell) === cell + 1 && offsetOf(cell + 1) > start; cell++) length += CELL
      text += this.#pieceOf(cell).toString(encoding, start + skip, start + Math.min(length, rest))
      rest -= length
      skip = 0
    }
    return text
  }

  drop (first: number): void {
    let last = first
    while (this.#after(last) !== NO_CELL) last = this.#after(last)
    this.#link(last, this.#free)
    this.#free = first
  }

  #pieceOf (cell: number): Buffer { return this.#pieces[cell >>> PIECE_BITS]! }

  #after (cell: number): number { return this.#next.of(cell)[this.#next.at(cell)]! }

  #link (cell: number, next: number): void { this.#next.of(cell)[this.#next.at(cell)] = next }

  #take (): number {
    const cell = this.#free
    if (cell !== NO_CELL) {
      this.#free = this.#after(cell)
      return cell
    }
    if (this.#end >>> PIECE_BITS >= this.#pieces.length) this.#pieces.push(Buffer.alloc(CELL << PIECE_BITS))
    this.#next.begin(this.#end)
    return this.#end++
  }
}

function offsetOf (cell: number): number { return (cell & ((1 << PIECE_BITS) - 1)) * CELL }
