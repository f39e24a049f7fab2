/** One key a purpose, all from the master secret; keys of the other algorithms from a JWK Set. */
import { createPrivateKey, createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto'
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
  /** Names what this portal keeps in Redis. */
  stateNames: Buffer
  /** Tags and hashes API keys. */
  apiKeys: Buffer
  /** Encrypts the secrets of second factors. */
  mfa: Buffer
}

export function makeKeys (secret: string, { JWT_ALGORITHM, JWT_KEYS }: Pick<PortalSettings, 'JWT_ALGORITHM' | 'JWT_KEYS'>): PortalKeys {
  const master = decodeSecret(secret)
  if (master === null || master.length < 32) throw new Error('APP_SECRET must be base64url or hex of 32 bytes or more: make one with `openssl rand -base64 48`')
  const refresh = deriveKey(master, 'tokens:refresh')
  const pepper = deriveKey(master, 'passwords:pepper')
  const stateNames = deriveKey(master, 'state:names')
  const apiKeys = deriveKey(master, 'api-keys')
  const mfa = deriveKey(master, 'mfa:factors')
  if (JWT_ALGORITHM === 'HS256') return { tokens: { access: deriveKey(master, 'tokens:access'), refresh }, pepper, stateNames, apiKeys, mfa }
  const keys = JWT_KEYS !== undefined ? readKeys(JWT_KEYS, JWT_ALGORITHM) : [ed25519Key(master, JWT_ALGORITHM)]
  return { tokens: { access: keys.map(pemPair), refresh }, pepper, stateNames, apiKeys, mfa }
}

function ed25519Key (master: Buffer, algorithm: string): KeyObject {
  if (algorithm !== 'EdDSA') throw new Error(`JWT_ALGORITHM=${algorithm} needs JWT_KEYS, the path of a private JWK Set`)
  return createPrivateKey({ key: Buffer.concat([ED25519_PREFIX, deriveKey(master, 'tokens:access:ed25519')]), format: 'der', type: 'pkcs8' })
}

/** The keys for this algorithm in a private JWK Set, in their order: the first signs, all verify. */
function readKeys (path: string, algorithm: string): KeyObject[] {
  let keys: KeyObject[]
  try {
    const set = JSON.parse(readFileSync(path, 'utf8')) as { keys: JsonWebKey[] }
    keys = set.keys.map(key => createPrivateKey({ key, format: 'jwk' })).filter(key => key.asymmetricKeyType === KEY_TYPES[algorithm])
  } catch {
    throw new Error(`JWT_KEYS: ${path} is not a readable JWK Set of private keys`)
  }
  if (keys.length === 0) throw new Error(`JWT_KEYS: ${path} has no private key for ${algorithm}`)
  return keys
}

function pemPair (key: KeyObject): { private: string, public: string } {
  return { private: key.export({ format: 'pem', type: 'pkcs8' }).toString(), public: createPublicKey(key).export({ format: 'pem', type: 'spki' }).toString() }
}
