/**
 * How a token can be reckoned by somebody who was not given it: from what is known of whom it is for, from a counter or the time, from the one before it, or by trying all
 * that there are (OWASP ASVS 5.0, 6.5.3, 6.5.4 and 7.2.3; CWE-330, CWE-340, CWE-640).
 */
import { createHash } from 'node:crypto'
import { claimsOf } from './callers.js'

const HASHES = ['md5', 'sha1', 'sha256', 'sha512'] as const
const COUNTED = 1000
/** Bits of a token that nobody tries: of one that machines carry, and of a code that people type and that is good for minutes (six digits). */
const CARRIED_BITS = 64
const TYPED_BITS = 19
/** Bits in which two tokens differ at least. */
const APART_BITS = 40
/** Characters of a hash that are no coincidence. */
const SHORTEST = 8

/** What is known to whoever asks. */
export interface Known {
  facts: readonly string[]
  /** Milliseconds since the epoch, between which the token was made. */
  from: number
  to: number
}

const counters = once(() => formsOf(Array.from({ length: COUNTED + 1 }, (_none, i) => String(i)), () => 'a counter'))

/** What the token is made of, where that can be seen; null otherwise. */
export function origin (token: string, { facts, from, to }: Known): string | null {
  const times = Array.from({ length: Math.min(to - from, 5000) + 1 }, (_none, i) => from + i)
  const seconds = [...new Set(times.map(time => Math.floor(time / 1000)))]
  const own = new Map([...formsOf([...times, ...seconds].map(String), () => 'the time'), ...formsOf([...times, ...seconds].flatMap(time => [time.toString(36), time.toString(16)]), () => 'the time', false), ...formsOf(facts, fact => JSON.stringify(fact))])
  const plain = token.replace(/=+$/, '')
  for (const known of [own, counters()]) {
    for (const text of [plain, plain.toLowerCase()]) {
      const way = known.get(text)
      if (way !== undefined) return way
      if (text.length >= SHORTEST) for (const [form, of] of known) if (form.length > text.length && form.startsWith(text)) return `the beginning of ${of}`
    }
  }
  return null
}

/** The texts as they are, written otherwise, and hashed. */
function formsOf (texts: readonly string[], name: (text: string) => string, isHashed = true): Map<string, string> {
  const forms = new Map<string, string>()
  for (const text of texts) {
    forms.set(text, name(text))
    for (const encoding of ['hex', 'base64', 'base64url'] as const) forms.set(Buffer.from(text).toString(encoding).replace(/=+$/, ''), `${name(text)} in ${encoding}`)
    for (const hash of isHashed ? HASHES : []) {
      const digest = createHash(hash).update(text).digest()
      for (const encoding of ['hex', 'base64', 'base64url'] as const) forms.set(digest.toString(encoding).replace(/=+$/, ''), `${hash} of ${name(text)}`)
    }
  }
  return forms
}

/** How much alike two tokens are that were asked for one after the other; null where the second cannot be told from the first. */
export function likeness (one: string, other: string): string | null {
  if (isSigned(one) && isSigned(other)) return null
  if (one === other) return 'the same for two asks'
  if (bitsOf(one) < CARRIED_BITS) return null
  let start = 0
  while (start < Math.min(one.length, other.length) && one[start] === other[start]) start += 1
  let end = 0
  while (end < Math.min(one.length, other.length) - start && one.at(-1 - end) === other.at(-1 - end)) end += 1
  const rest = [one, other].map(text => text.slice(start, text.length - end)).sort((a, b) => b.length - a.length)[0]!
  const bits = bitsOf(rest, one + other)
  return bits < APART_BITS ? `like the one before but for ${rest.length} characters` : null
}

/** Where so few tokens are possible that all can be tried. */
export function shortness (token: string): string | null {
  const isTyped = /^\d+$/.test(token) && token.length <= 10
  const bits = bitsOf(token)
  return bits < (isTyped ? TYPED_BITS : CARRIED_BITS) ? `of ${Math.floor(bits)} bits` : null
}

/** As many as the text may have, by the characters that are in it, or in all texts of its kind. */
function bitsOf (text: string, kind = text): number {
  const each = /^\d*$/.test(kind) ? Math.log2(10) : /^[\da-f-]*$/i.test(kind) ? 4 : /^(?:[\da-z_-]*|[\dA-Z_-]*)$/.test(kind) ? Math.log2(36) : 6
  return text.replaceAll('-', '').length * each
}

/** What makes a JWT is its signature: the rest may be told to anybody. */
function isSigned (token: string): boolean {
  return token.split('.').length === 3 && claimsOf(token) !== null
}

function once<T> (make: () => T): () => T {
  let made: T | undefined
  return () => (made ??= make())
}
