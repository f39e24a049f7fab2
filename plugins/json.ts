/** JSON as a body is allowed to be: UTF-8, flat enough to be walked, without prototypes and without text that cannot be stored. */
import { isUtf8 } from 'node:buffer'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { createError } from '@fastify/error'

/** Text that cannot be stored as it is: not UTF-8, with U+0000, or with half of a surrogate pair. */
export const TextUnstorable = createError('FST_BASTION_VALIDATION_TEXT', 'Text must be UTF-8 and must not hold U+0000 or half of a surrogate pair', 400)
/** Nested so deeply that whoever walks it runs out of stack (CWE-674). */
export const TooDeep = createError('FST_BASTION_VALIDATION_TOO_DEEP', 'The body is nested too deeply', 400)

/** Levels of lists and objects that a body may have. */
const MAX_DEPTH = 64
/** In JSON only an escape can make such text; `u` finds surrogates that are alone. */
const SUSPICIOUS_ESCAPE = /\\u(?:0000|d[89a-f])/i
const UNSTORABLE = /[\0\p{Surrogate}]/u

type Done = (error: Error | null, body?: unknown) => void

/** The parser for `application/json`. An empty body is no body: whether one is needed is for the schema. */
export function jsonParser (app: FastifyInstance) {
  const parse = app.getDefaultJsonParser('error', 'error') as (request: FastifyRequest, text: string, done: Done) => void

  return function parseStrictly (request: FastifyRequest, bytes: Buffer, done: Done): void {
    if (bytes.length === 0) return done(null, undefined)
    // Decoded as it is, what is no UTF-8 would be replaced in silence.
    if (!isUtf8(bytes)) return done(new TextUnstorable())
    const text = bytes.toString()
    if (text.length > 2 * MAX_DEPTH && isDeeperThan(MAX_DEPTH, text)) return done(new TooDeep())
    if (!SUSPICIOUS_ESCAPE.test(text)) return parse(request, text, done)
    parse(request, text, (error, body) => done(error ?? (isStorable(body) ? null : new TextUnstorable()), body))
  }
}

/** The text itself is one that can be stored. */
export function isStorableText (text: string): boolean {
  return !UNSTORABLE.test(text)
}

function isDeeperThan (limit: number, text: string): boolean {
  let depth = 0
  let inText = false
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (inText) {
      if (code === 0x5c /* \ */) i++
      else if (code === 0x22 /* " */) inText = false
    } else if (code === 0x22) inText = true
    else if (code === 0x7b /* { */ || code === 0x5b /* [ */) {
      if (++depth > limit) return true
    } else if (code === 0x7d /* } */ || code === 0x5d /* ] */) depth--
  }
  return false
}

/** All text in it, names too. No recursion: the nesting is the client's. */
function isStorable (value: unknown): boolean {
  const left = [value]
  while (left.length > 0) {
    const part = left.pop()
    if (typeof part === 'string') {
      if (!isStorableText(part)) return false
    } else if (part !== null && typeof part === 'object') {
      // One by one: spread into `push`, a long list would overflow the stack.
      for (const [key, inner] of Object.entries(part)) left.push(key, inner)
    }
  }
  return true
}
