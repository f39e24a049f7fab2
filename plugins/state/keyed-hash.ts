/**
 * HalfSipHash-1-3 of 64 bits, keyed at random: who does not know the key cannot choose names that fall together
 * (CWE-407), nor one that is taken for another's.
 *
 * Source: Aumasson and Bernstein, SipHash: a fast short-input PRF; its 32-bit variant is what Linux keys its hash tables with.
 * Over UTF-16 code units, two to a word, because that is what a string is made of.
 */
import { randomBytes } from 'node:crypto'

const FINAL_ROUNDS = 3

export class KeyedHash {
  readonly #first: number
  readonly #second: number
  /** Asked for several times in turn, of one shelf after the other. */
  #last: string | null = null
  /** The two halves of what {@link of} has made last: no object for each. */
  low = 0
  high = 0

  constructor (key = randomBytes(8)) {
    this.#first = key.readInt32LE(0)
    this.#second = key.readInt32LE(4)
  }

  of (text: string): void {
    if (text === this.#last) return
    this.#last = text
    const { length } = text
    const pairs = length - (length & 1)
    const halfway = pairs + 2 * FINAL_ROUNDS
    const end = halfway + 2 * FINAL_ROUNDS
    let v0 = this.#first
    let v1 = this.#second ^ 0xee
    let v2 = this.#first ^ 0x6c796765
    let v3 = this.#second ^ 0x74656462
    for (let i = 0; i <= end; i += 2) {
      const word = i < pairs
        ? text.charCodeAt(i) | (text.charCodeAt(i + 1) << 16)
        : i > pairs ? 0 : (length << 16) | (pairs < length ? text.charCodeAt(i) : 0)
      v3 ^= word
      v0 = (v0 + v1) | 0
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0
      v0 = (v0 << 16) | (v0 >>> 16)
      v2 = (v2 + v3) | 0
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2
      v0 = (v0 + v3) | 0
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0
      v2 = (v2 + v1) | 0
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2
      v2 = (v2 << 16) | (v2 >>> 16)
      v0 ^= word
      if (i === pairs) v2 ^= 0xee
      else if (i === halfway) {
        this.low = v1 ^ v3
        v1 ^= 0xdd
      }
    }
    this.high = v1 ^ v3
  }
}
