/** Tokens as forgers write them. */
import { createHmac, sign, type KeyObject } from 'node:crypto'

type Fields = Record<string, unknown>

const encoded = (fields: Fields) => Buffer.from(JSON.stringify(fields)).toString('base64url')
const decoded = (part = '') => JSON.parse(Buffer.from(part, 'base64url').toString()) as Fields

/** What a token says: of itself, and of whom it is. */
export function partsOf (token: string): { header: Fields, claims: Fields } {
  const [header, claims] = token.split('.')
  return { header: decoded(header), claims: decoded(claims) }
}

/** The text that a signature is over. */
export function textOf (header: Fields, claims: Fields): string {
  return `${encoded(header)}.${encoded(claims)}`
}

/** A token of these parts with a signature of one's own making: by this secret, or what `make` makes of the text. */
export function forged (header: Fields, claims: Fields, make: string | Buffer | ((text: string) => Buffer)): string {
  const text = textOf(header, claims)
  const signature = typeof make === 'function' ? make(text) : createHmac('sha256', make).update(text).digest()
  return `${text}.${signature.toString('base64url')}`
}

/** Signs by ES256. */
export function by (key: KeyObject): (text: string) => Buffer {
  return text => sign('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' })
}
