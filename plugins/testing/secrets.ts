/** Secrets as they pass: in answers, in mails, and in what callers send. */
import { isSecret } from '../log.js'
import { cookiesOf, isOfSession } from './cookies.js'
import type { Exchange } from './exchange.js'

export interface Secret {
  /** Of the field, the cookie or the parameter. */
  name: string
  value: string
}

const SHORTEST = 8
/** What is of fewer characters, such as `xxxxxxxx`, was made to try bounds. */
const FEWEST = 5
const PASSWORD = /pass(?:word|wd|phrase|code)|^pwd$/i
const CODES = /recovery_?codes?/i
const NAMED = /token|secret|code|key|otp|pin|sig/i

/** What an answer gives: fields by their names, and cookies of sessions. */
export function answeredSecrets (exchange: Exchange): Secret[] {
  const cookies = cookiesOf(exchange).filter(({ name }) => isOfSession(name)).map(({ name, value }) => ({ name, value: decoded(value) }))
  return [...secretsIn(exchange.json), ...cookies].filter(isWhole)
}

/** Passwords that the caller sent in a body. */
export function sentPasswords ({ sent: { body, headers } }: Exchange): Secret[] {
  return fieldsOf(body, headers['content-type']).filter(({ name }) => PASSWORD.test(name)).filter(isWhole)
}

/** Texts of a body that stand under other names: whoever reads them has read no secret. */
export function sentTexts ({ sent: { body, headers } }: Exchange): string[] {
  return fieldsOf(body, headers['content-type']).filter(({ name }) => !isNamed(name)).map(({ value }) => value)
}

/** By which the caller is known. */
export function credentialsOf ({ caller }: Exchange): Secret[] {
  const { token = '', key = '', csrf = '', cookie = '' } = caller?.principal ?? {}
  const cookies = cookie.split('; ').map(pair => ({ name: 'cookie', value: pair.slice(pair.indexOf('=') + 1) }))
  return [{ name: 'authorization', value: token }, { name: 'x-api-key', value: key }, { name: 'x-csrf-token', value: csrf }, ...cookies].filter(isWhole)
}

/** Tokens and codes of a mail: in links, alone on a line, and after what says what they are. */
export function mailedSecrets (text: string): Secret[] {
  const links = [...text.matchAll(/\bhttps?:\/\/[^\s<>"']+/g)].flatMap(([link]) => inLink(link))
  const lines = [...text.matchAll(/^[ \t]*([\w.~+/=-]{16,})[ \t]*$/gm)].map(([, value]) => ({ name: 'a line of its own', value: value! }))
  const codes = [...text.matchAll(/\b(code|pin|token|otp)\b\D{0,20}\b(\d{3,10})\b/gi)].map(([, name, value]) => ({ name: name!, value: value! }))
  return [...new Map([...links, ...lines.filter(({ value }) => isOpaque(value)), ...codes].map(secret => [secret.value, secret])).values()]
}

function inLink (link: string): Secret[] {
  const [before = '', after = ''] = link.split(/[?#](.*)/s)
  const params = after.split(/[&#?]/).filter(pair => pair.includes('=')).map(pair => ({ name: pair.slice(0, pair.indexOf('=')), value: decoded(pair.slice(pair.indexOf('=') + 1)) }))
  const segments = `${before.replace(/^https?:\/\/[^/]*/, '')}/${after.includes('=') ? '' : after}`.split('/').map(value => ({ name: 'its path', value: decoded(value) }))
  return [...params.filter(({ name, value }) => NAMED.test(name) || isOpaque(value)), ...segments.filter(({ value }) => isOpaque(value))].filter(({ value }) => value !== '')
}

/** Of letters and digits that mean nothing to a reader. */
function isOpaque (text: string): boolean {
  return text.length >= 16 && /^[\w.~+/=-]+$/.test(text) && text.replace(/\D/g, '').length >= 3 && (/^[\da-f-]+$/i.test(text) || (/[a-z]/.test(text) && /[A-Z]/.test(text)) || text.length >= 24)
}

function fieldsOf (body: string | Buffer | undefined, type = ''): Secret[] {
  if (typeof body !== 'string') return []
  if (type.includes('x-www-form-urlencoded')) return [...new URLSearchParams(body)].map(([name, value]) => ({ name, value }))
  try {
    return textsIn(JSON.parse(body), '')
  } catch {
    return []
  }
}

function secretsIn (value: unknown): Secret[] {
  return textsIn(value, '').filter(({ name, value }) => isNamed(name) && !/\s/.test(value))
}

function textsIn (value: unknown, name: string): Secret[] {
  if (typeof value === 'string') return [{ name, value }]
  if (typeof value !== 'object' || value === null) return []
  return Array.isArray(value) ? value.flatMap(part => textsIn(part, name)) : Object.entries(value).flatMap(([key, part]) => textsIn(part, key))
}

function isNamed (name: string): boolean {
  return isSecret(name) || CODES.test(name)
}

function isWhole ({ value }: Secret): boolean {
  return value.length >= SHORTEST && new Set(value).size >= FEWEST
}

function decoded (text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
