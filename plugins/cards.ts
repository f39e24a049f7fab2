/**
 * Card numbers: no body brings one in.
 *
 * Threat: numbers and security codes of payment cards in databases, logs and backups of a service that was never meant to see them (PCI DSS 4.0, 3.3 and 3.5; CWE-359): by a client that
 * posts them itself instead of a token of its payment provider, or by people who write them into a text.
 * Defence: every parsed body is looked through before it is validated, and so is the name of a file that is uploaded. A card number, in whatever digits, or a field that is called as a security code is, refuses it; the answer and the event
 * say that it was so, never what it was.
 * Not covered: what is in files, URLs, and numbers that somebody takes apart on purpose.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { createRefusal } from './refusal.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * `'cards'`, what holds where nothing is said: numbers of the ranges and lengths that card brands use, written as people write them. `'strict'`, for routes that are about payments: whatever
     * 13 to 19 digits have the check digit of a card number, however they are separated but by letters, as those of ids are; UUIDs are let through. `false`: bodies are not looked through.
     */
    cards?: 'cards' | 'strict' | false
  }
  interface FastifyInstance {
    /** Card numbers in what comes another way than by a parsed body. */
    cards: Cards
  }
}

export interface Cards {
  /**
   * Looks through something that came with this request, as its route says: the name of a file, for one.
   *
   * @throws CardRefused
   */
  refuse: (request: FastifyRequest, value: unknown) => void
}

/** A body holds the number or the security code of a payment card. */
export const CardRefused = createRefusal('FST_BASTION_CARDS_REFUSED', 'Card numbers and security codes are not accepted: send the token of your payment provider', 400)

/** What was found of a card. */
export type CardFinding = 'number' | 'security-code'
export interface CardSearch {
  /** Whatever has the check digit, not only what is of the ranges of a brand and written as people write it (default false). */
  strict?: boolean
}

const SHORTEST = 13
const LONGEST = 19
/** Lengths by first digits: Visa; Mastercard; American Express; Discover, Maestro, UnionPay, RuPay; Diners Club; JCB; Mir; Troy. */
const BRANDS: readonly [first: RegExp, lengths: readonly number[]][] = [
  [/^4/, [13, 16, 18, 19]],
  [/^(?:5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720)/, [16]],
  [/^3[47]/, [15]],
  [/^(?:50|5[6-9]|6)/, [16, 17, 18, 19]],
  [/^3(?:0[0-59]|6|8|9)/, [14, 15, 16, 17, 18, 19]],
  [/^35(?:2[89]|[3-8])/, [16, 17, 18, 19]],
  [/^(?:220[0-4]|9792)/, [16, 17, 18, 19]],
]
/** How people group the digits of a card. */
const GROUPINGS = new Set(['4 4 4 4', '4 4 4 4 1', '4 4 4 4 2', '4 4 4 4 3', '4 6 5', '4 6 4', '6 13', '4 4 5'])
/** Digits with at most three signs between them, which are neither letters nor digits. */
const DIGITS = /\d(?:[^\p{L}\p{N}]{0,3}\d){12,}/gu
/** An id (RFC 9562), of hexadecimal digits that cannot all be a number's. */
const UUID = /^(?=.*[a-f])[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i
const MAYBE = /\d(?:\D{0,3}\d){12}/
const NOT_ASCII = /[^\0-\x7f]/
const MARKUP = /[<&]/
/** Names of security codes, once they are in lower case and without separators. */
const SECURITY_CODE = /(?:cvv|cvc|cvn)2?(?:code|number|value)?$|^(?:card)?(?:verification|security)(?:code|number|value)$|^card(?:verification|security)?code$|^csc$/
/** A name that can be told to those who look for a fault. */
const TELLABLE = /^[A-Za-z_]{1,40}$/

async function cards (app: FastifyInstance): Promise<void> {
  app.decorate('cards', {
    refuse (request, value) {
      const { cards: rule = 'cards' } = request.routeOptions.config
      if (rule !== false) refuseCard(request, value, { strict: rule === 'strict' })
    },
  })
  app.plan.contribute({
    concern: 'cards',
    // Before validation, whose messages name unknown fields.
    stage: 'body',
    compile (route) {
      const { cards: rule = 'cards' } = (route.options.config ?? {}) as { cards?: unknown }
      if (rule !== false && rule !== 'cards' && rule !== 'strict') route.object("cards: write 'cards', 'strict' or false")
      if (route.kind === 'not-found' || rule === false) return { promise: rule }
      const search: CardSearch = { strict: rule === 'strict' }
      return {
        promise: rule,
        step (request) {
          const { body } = request
          if (body === undefined || body === null) return
          refuseCard(request, body, search)
        },
      }
    },
  })

  function refuseCard (request: FastifyRequest, value: unknown, search: CardSearch): void {
    const place: string[] = []
    const kind = findCard(value, search, place)
    if (kind === null) return
    app.events.record('card_refused', request, { kind, place: place.map(name => TELLABLE.test(name) ? `/${name}` : '/*').join('') })
    throw new CardRefused()
  }
}

/**
 * Looks for the number or the security code of a card in a value, in all that is in it, and in its names.
 *
 * @param place filled with the names that lead to what was found
 * @returns null where there is none
 */
export function findCard (value: unknown, search: CardSearch = {}, place: string[] = []): CardFinding | null {
  if (typeof value === 'string') return holdsCardNumber(value, search) ? 'number' : null
  if (typeof value === 'number') return Number.isInteger(value) && Math.abs(value) >= 1e12 && holdsCardNumber(String(Math.abs(value)), search) ? 'number' : null
  if (!isData(value)) return null
  for (const [name, inner] of Object.entries(value)) {
    place.push(name)
    const found = !Array.isArray(value) && isSecurityCode(name) ? 'security-code' : findCard(name, search) ?? findCard(inner, search, place)
    if (found !== null) return found
    place.pop()
  }
  return null
}

/** What parsers make of a text; not a stream, nor a part of a form that is still to come. */
function isData (value: unknown): value is Record<string, unknown> | unknown[] {
  if (value === null || typeof value !== 'object') return false
  const prototype = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null || Array.isArray(value)
}

/** The check digit is that of the digits before it (ISO/IEC 7812-1, annex B). */
export function passesLuhn (digits: string): boolean {
  let sum = 0
  for (let i = digits.length - 1, isSecond = false; i >= 0; i--, isSecond = !isSecond) {
    const digit = digits.charCodeAt(i) - 48
    sum += isSecond ? digit > 4 ? digit * 2 - 9 : digit * 2 : digit
  }
  return sum % 10 === 0
}

/** What may be shown and kept of a card number (PCI DSS 4.0, 3.4.1). Null where it is none. */
export function lastFour (cardNumber: string): string | null {
  const digits = cardNumber.replace(/[ -]/g, '')
  return /^\d{13,19}$/.test(digits) && passesLuhn(digits) ? digits.slice(-4) : null
}

function holdsCardNumber (text: string, { strict = false }: CardSearch): boolean {
  const plain = NOT_ASCII.test(text) || MARKUP.test(text) ? plainOf(text) : text
  if (!MAYBE.test(plain)) return false
  if (strict) return !UUID.test(plain) && [...plain.matchAll(DIGITS)].some(([run]) => holdsAny(run.replace(/\D/g, '')))
  return [...plain.matchAll(DIGITS)].some(match => holdsWritten(plain, match))
}

/** 13 to 19 of the digits in a row that are a card number. */
function holdsAny (digits: string): boolean {
  if (digits.length <= LONGEST && passesLuhn(digits)) return true
  for (let start = 0; start + SHORTEST <= digits.length; start++) {
    for (let length = SHORTEST; length <= LONGEST && start + length <= digits.length; length++) {
      const part = digits.slice(start, start + length)
      if (isOfBrand(part) && passesLuhn(part)) return true
    }
  }
  return false
}

/** A number that stands by itself, in one piece or grouped as on a card. A plus before it makes it a telephone's. */
function holdsWritten (text: string, { 0: run, index }: RegExpExecArray): boolean {
  const pieces = [...run.matchAll(/\d+/g)].map(({ 0: digits, index: at }) => ({ digits, start: at, end: at + digits.length }))
  return pieces.some((first, i) => {
    let near = 0
    for (let j = i; j < i + 5 && j < pieces.length; j++) near += pieces[j]!.digits.length
    if (near < SHORTEST) return false
    if (isJoined(text[index + first.start - 1]) || text[index + first.start - 1] === '+') return false
    let digits = ''
    const groups: number[] = []
    for (const piece of pieces.slice(i, i + 5)) {
      digits += piece.digits
      groups.push(piece.digits.length)
      if (digits.length > LONGEST) return false
      if (digits.length < SHORTEST || isJoined(text[index + piece.end])) continue
      if ((groups.length === 1 || GROUPINGS.has(groups.join(' '))) && isOfBrand(digits) && passesLuhn(digits)) return true
    }
    return false
  })
}

/** Inside of an id the digits are no number. */
function isJoined (neighbour: string | undefined): boolean {
  return neighbour !== undefined && /[\p{L}\p{N}_]/u.test(neighbour)
}

function isOfBrand (digits: string): boolean {
  return BRANDS.some(([first, lengths]) => lengths.includes(digits.length) && first.test(digits))
}

function isSecurityCode (name: string): boolean {
  return name.length <= 64 && SECURITY_CODE.test(name.normalize('NFKC').replace(/[\p{Cf}\p{P}\p{S}\s]/gu, '').toLowerCase())
}

/** Digits of any script as ASCII, without what cannot be seen, without markup. */
function plainOf (text: string): string {
  return text
    .replace(/&(?:nbsp|e[mn]sp|thinsp|hyphen|dash|[mn]dash);?/g, ' ')
    .replace(/&(?:shy|zwn?j);?/g, '')
    .replace(/&#(?:x0*([0-9a-f]{1,6})|0*(\d{1,7}));?/gi, (_all, hex?: string, decimal?: string) => signOf(hex === undefined ? Number(decimal) : Number.parseInt(hex, 16)))
    .replace(/<[^<>]*>/g, '')
    .normalize('NFKC')
    .replace(/[\p{Cf}\p{Default_Ignorable_Code_Point}]/gu, '')
    .replace(/(?![0-9])\p{Nd}/gu, digitOf)
}

function signOf (code: number): string {
  return code <= 0x10ffff ? String.fromCodePoint(code) : ''
}

/** Those that came: there are some hundreds. */
const digits = new Map<string, string>()

/** Unicode gives every script its ten digits in a row, zero first. */
function digitOf (sign: string): string {
  let digit = digits.get(sign)
  if (digit === undefined) {
    let value = 0
    while (/\p{Nd}/u.test(String.fromCodePoint(sign.codePointAt(0)! - value - 1))) value++
    digit = String(value % 10)
    digits.set(sign, digit)
  }
  return digit
}

export default fp(cards, { fastify: '5.x', name: 'bastion-cards', dependencies: ['bastion-plan', 'bastion-events'] })
