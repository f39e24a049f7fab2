/**
 * Rows of numbers that grow a piece at a time: however many there are, nothing is ever copied, and no row is an object that the garbage
 * collector has to visit. Each piece is twice as large as the one before; what nobody has written to yet is no memory.
 */

/** Rows of the first piece, and the leading zeroes of that number. */
const FIRST_ROWS = 64
const ZEROES = Math.clz32(FIRST_ROWS)

type Numbers = Float64Array | Int32Array

export class Rows<Piece extends Numbers> {
  readonly #Piece: new (length: number) => Piece
  readonly #stride: number
  readonly #pieces: Piece[] = []

  /** @param stride numbers of a row */
  constructor (Piece: new (length: number) => Piece, stride: number) {
    this.#Piece = Piece
    this.#stride = stride
  }

  /** The piece in which a row is; from {@link at} on its numbers are this row's. */
  of (row: number): Piece { return this.#pieces[ZEROES - Math.clz32(row + FIRST_ROWS)]! }

  at (row: number): number {
    const place = row + FIRST_ROWS
    return (place - (0x80000000 >>> Math.clz32(place))) * this.#stride
  }

  /** Makes the piece of this row, where it is not there yet. Rows are begun in their order; a new one is all zeroes. */
  begin (row: number): void {
    const piece = ZEROES - Math.clz32(row + FIRST_ROWS)
    if (piece === this.#pieces.length) this.#pieces.push(new this.#Piece((FIRST_ROWS << piece) * this.#stride))
  }
}
