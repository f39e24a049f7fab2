/**
 * JSON as a body is allowed to be: UTF-8, in bounds, each field once, without prototypes, and with nothing in it that is not what was sent once it is read or stored.
 */
import { isUtf8 } from 'node:buffer'
import { errorCodes, type FastifyRequest } from 'fastify'
import { createRefusal } from './refusal.js'

/** Text that cannot be stored as it is: not UTF-8, with U+0000, or with half of a surrogate pair. */
export const TextUnstorable = createRefusal('FST_BASTION_VALIDATION_TEXT', 'Text must be UTF-8 and must not hold U+0000 or half of a surrogate pair', 400)
/** Nested so deeply that whoever walks it runs out of stack (CWE-674). */
export const TooDeep = createRefusal('FST_BASTION_VALIDATION_TOO_DEEP', 'The body is nested too deeply', 400)
/** More fields, items or characters than the route takes (CWE-770). */
export const TooMuch = createRefusal('FST_BASTION_VALIDATION_TOO_MUCH', 'The body holds too many fields, too long a list or too long a text', 400)
/** One name twice in one object: of those who read it, some would take the first value and some the last (CWE-436; RFC 8259, 4). */
export const FieldRepeated = createRefusal('FST_BASTION_VALIDATION_REPEATED', 'A field stands more than once in an object', 400)
/** A field that is called as what every object has (CWE-1321). */
export const NameRefused = createRefusal('FST_BASTION_VALIDATION_NAME', 'No field can be called __proto__ or constructor', 400)
/** An integer that would become another one when it is read (RFC 7493, 2.2). */
export const NumberUnsafe = createRefusal('FST_BASTION_VALIDATION_NUMBER', 'Integers must be between -(2^53 - 1) and 2^53 - 1', 400)

/** Bounds of one body. */
export interface JsonLimits {
  /** Levels of lists and objects. */
  maxDepth: number
  /** Fields, in all of its objects together. */
  maxKeys: number
  /** Items of one list. */
  maxItems: number
  /** UTF-16 units of one text. */
  maxText: number
}

/** In JSON only an escape can make such text; `u` finds surrogates that are alone. */
const SUSPICIOUS_ESCAPE = /\\u(?:0000|d[89a-f])/i
const UNSTORABLE = /[\0\p{Surrogate}]/u
const BYTE_ORDER_MARK = 0xfeff

type Done = (error: Error | null, body?: unknown) => void

/**
 * The parser for `application/json`. An empty body is no body: whether one is needed is for the schema.
 *
 * @param limitsOf the bounds of this request's body
 * @param heard learns of each body how many bytes it had
 */
export function jsonParser (limitsOf: (request: FastifyRequest) => JsonLimits, heard: (request: FastifyRequest, body: unknown, bytes: number) => void = () => {}) {
  return function parseStrictly (request: FastifyRequest, bytes: Buffer, done: Done): void {
    if (bytes.length === 0) return done(null, undefined)
    let body
    try {
      body = readJson(bytes, limitsOf(request))
    } catch (error) {
      return done(error as Error)
    }
    heard(request, body, bytes.length)
    done(null, body)
  }
}

/** The text itself is one that can be stored. */
export function isStorableText (text: string): boolean {
  return !UNSTORABLE.test(text)
}

function readJson (bytes: Buffer, limits: JsonLimits): unknown {
  // Decoded as it is, what is no UTF-8 would be replaced in silence.
  if (!isUtf8(bytes)) throw new TextUnstorable()
  let text = bytes.toString()
  if (text.charCodeAt(0) === BYTE_ORDER_MARK) text = text.slice(1)
  const keys = measure(text, limits)
  let body
  try {
    body = JSON.parse(text)
  } catch {
    // What Node says of it quotes it.
    throw new errorCodes.FST_ERR_CTP_INVALID_JSON_BODY()
  }
  if (inspect(body, limits, SUSPICIOUS_ESCAPE.test(text)) !== keys) throw new FieldRepeated()
  return body
}

/** The fields that the text writes, counted before anything is made of it. */
function measure (text: string, { maxDepth, maxKeys }: JsonLimits): number {
  let depth = 0
  let keys = 0
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code === 0x22 /* " */) i = endOfText(text, i)
    else if (code === 0x3a /* : */) keys++
    else if (code === 0x7b /* { */ || code === 0x5b /* [ */) {
      if (++depth > maxDepth) throw new TooDeep()
    } else if (code === 0x7d /* } */ || code === 0x5d /* ] */) depth--
  }
  if (keys > maxKeys) throw new TooMuch()
  return keys
}

/** Where the text that begins here ends. */
function endOfText (text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let before = end - 1
    while (text.charCodeAt(before) === 0x5c /* \ */) before--
    if ((end - before) % 2 === 1) return end
  }
  return text.length
}

/** The fields that are there. One that is written twice is there once. */
function inspect (body: unknown, { maxItems, maxText }: JsonLimits, isSuspicious: boolean): number {
  let keys = 0

  function look (part: unknown): void {
    if (typeof part === 'string') {
      if (part.length > maxText) throw new TooMuch()
      if (isSuspicious && !isStorableText(part)) throw new TextUnstorable()
    } else if (typeof part === 'number') {
      if (Number.isInteger(part) && !Number.isSafeInteger(part)) throw new NumberUnsafe()
    } else if (Array.isArray(part)) {
      if (part.length > maxItems) throw new TooMuch()
      for (const item of part) look(item)
    } else if (part !== null && typeof part === 'object') {
      for (const key of Object.keys(part)) {
        keys++
        if (key === '__proto__' || key === 'constructor') throw new NameRefused()
        look(key)
        look((part as Record<string, unknown>)[key])
      }
    }
  }

  look(body)
  return keys
}
