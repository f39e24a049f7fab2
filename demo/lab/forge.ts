/** Tokens as forgers write them. */
import { createHmac, generateKeyPairSync, sign, type KeyObject } from 'node:crypto'

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

/** Pairs of one's own, one for each algorithm that a service may check with a published key. */
export function ownPairs (): { alg: string, publicKey: KeyObject, privateKey: KeyObject }[] {
  return [{ alg: 'ES256', ...generateKeyPairSync('ec', { namedCurve: 'P-256' }) }, { alg: 'EdDSA', ...generateKeyPairSync('ed25519') }]
}

/** Signs by ES256 or EdDSA, as the key is. */
export function by (key: KeyObject): (text: string) => Buffer {
  return text => key.asymmetricKeyType === 'ed25519' ? sign(null, Buffer.from(text), key) : sign('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' })
}
