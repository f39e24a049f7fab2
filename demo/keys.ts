/** One key a purpose, all from the master secret; keys of the other algorithms from a JWK Set. */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { decodeSecret, deriveKey } from '../plugins/settings/index.js'
import type { TokensOptions } from '../plugins/tokens/index.js'
import type { PortalSettings } from './settings.js'

/** DER of an Ed25519 private key up to its 32 bytes (RFC 8410, 7). */
const ED25519_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex')
const KEY_TYPES: Record<string, string> = { RS256: 'rsa', ES256: 'ec', EdDSA: 'ed25519' }

export interface PortalKeys {
  tokens: TokensOptions['keys']
  pepper: Buffer
  /** The public keys, for those who verify our tokens: none for HS256. */
  jwks: { keys: Record<string, unknown>[] }
}

export function makeKeys (secret: string, { JWT_ALGORITHM, JWT_KEYS }: Pick<PortalSettings, 'JWT_ALGORITHM' | 'JWT_KEYS'>): PortalKeys {
  const master = decodeSecret(secret)
  if (master === null || master.length < 32) throw new Error('APP_SECRET must be base64url or hex of 32 bytes or more: make one with `openssl rand -base64 48`')
  const refresh = deriveKey(master, 'tokens:refresh')
  const pepper = deriveKey(master, 'passwords:pepper')
  if (JWT_ALGORITHM === 'HS256') return { tokens: { access: deriveKey(master, 'tokens:access'), refresh }, pepper, jwks: { keys: [] } }
  const key = JWT_KEYS !== undefined ? readKey(JWT_KEYS, JWT_ALGORITHM) : ed25519Key(master, JWT_ALGORITHM)
  const publicKey = createPublicKey(key)
  const pem = { private: key.export({ format: 'pem', type: 'pkcs8' }).toString(), public: publicKey.export({ format: 'pem', type: 'spki' }).toString() }
  return { tokens: { access: pem, refresh }, pepper, jwks: { keys: [{ ...publicKey.export({ format: 'jwk' }), alg: JWT_ALGORITHM, use: 'sig' }] } }
}

function ed25519Key (master: Buffer, algorithm: string): KeyObject {
  if (algorithm !== 'EdDSA') throw new Error(`JWT_ALGORITHM=${algorithm} needs JWT_KEYS, the path of a private JWK Set`)
  return createPrivateKey({ key: Buffer.concat([ED25519_PREFIX, deriveKey(master, 'tokens:access:ed25519')]), format: 'der', type: 'pkcs8' })
}

function readKey (path: string, algorithm: string): KeyObject {
  const { keys } = JSON.parse(readFileSync(path, 'utf8')) as { keys?: object[] }
  const key = keys?.[0] === undefined ? null : createPrivateKey({ key: keys[0] as never, format: 'jwk' })
  if (key === null || key.asymmetricKeyType !== KEY_TYPES[algorithm]) throw new Error(`JWT_KEYS: the first key of ${path} is not a private key for ${algorithm}`)
  return key
}
