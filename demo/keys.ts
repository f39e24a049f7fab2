/** One key a purpose, all from the master secret; keys of the other algorithms from a JWK Set. */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { RingKey } from '../plugins/cipher/index.js'
import { decodeSecret, deriveKey } from '../plugins/settings/index.js'
import type { Jwk, JwkSet, KeyPair, TokensOptions } from '../plugins/tokens/index.js'
import type { PortalSettings } from './settings.js'

/** DER of an Ed25519 private key up to its 32 bytes (RFC 8410, 7). */
const ED25519_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex')
const KEY_TYPES: Record<string, string> = { RS256: 'RSA', ES256: 'EC', EdDSA: 'OKP' }

export interface PortalKeys {
  tokens: TokensOptions['keys']
  pepper: Buffer
  /** Names what this portal keeps in Redis. */
  stateNames: Buffer
  /** Tags and hashes API keys. */
  apiKeys: Buffer
  /** Encrypts the secrets of second factors. */
  mfa: Buffer
  /** Signs the cookies of sessions. */
  sessions: Buffer
  /** Makes the tokens that guard them. */
  csrf: Buffer
  /** From which the secrets of webhooks are derived. */
  webhooks: Buffer
  /** Stands in for names that are typed at sign-in. */
  alerts: Buffer
  /** Names people in the receipts of their erasure. */
  privacy: Buffer
  /** Seals the audit trail. */
  audit: Buffer
  /** Encrypt fields: the newest first, then the older ones, and the next. */
  encryption: readonly RingKey[]
  /** Index them. */
  indexes: readonly RingKey[]
}

export function makeKeys (secret: string, { JWT_ALGORITHM, JWT_KEYS, ENCRYPTION_VERSION = 1 }: Pick<PortalSettings, 'JWT_ALGORITHM' | 'JWT_KEYS' | 'ENCRYPTION_VERSION'>): PortalKeys {
  const master = decodeSecret(secret)
  if (master === null || master.length < 32) throw new Error('APP_SECRET must be base64url or hex of 32 bytes or more: make one with `npx fastify-bastion secret`')
  const refresh = deriveKey(master, 'tokens:refresh')
  const pepper = deriveKey(master, 'passwords:pepper')
  const stateNames = deriveKey(master, 'state:names')
  const apiKeys = deriveKey(master, 'api-keys')
  const mfa = deriveKey(master, 'mfa:factors')
  const sessions = deriveKey(master, 'sessions:cookies')
  const csrf = deriveKey(master, 'csrf:tokens')
  const webhooks = deriveKey(master, 'webhooks:secrets')
  const alerts = deriveKey(master, 'alerts:names')
  const privacy = deriveKey(master, 'privacy:receipts')
  const audit = deriveKey(master, 'audit:chain')
  // The next one is known already, so that a process that has not been told of it reads what the others write.
  const versions = [...Array.from({ length: ENCRYPTION_VERSION }, (_none, i) => ENCRYPTION_VERSION - i), ENCRYPTION_VERSION + 1].map(version => `v${version}`)
  const encryption = versions.map(id => ({ id, key: deriveKey(master, `encryption:${id}`) }))
  const indexes = versions.map(id => ({ id, key: deriveKey(master, `encryption:indexes:${id}`) }))
  if (JWT_ALGORITHM === 'HS256') return { tokens: { access: deriveKey(master, 'tokens:access'), refresh }, pepper, stateNames, apiKeys, mfa, sessions, csrf, webhooks, alerts, privacy, audit, encryption, indexes }
  const access = JWT_KEYS !== undefined ? readKeys(JWT_KEYS, JWT_ALGORITHM) : [pemPair(ed25519Key(master, JWT_ALGORITHM))]
  return { tokens: { access, refresh }, pepper, stateNames, apiKeys, mfa, sessions, csrf, webhooks, alerts, privacy, audit, encryption, indexes }
}

function ed25519Key (master: Buffer, algorithm: string): KeyObject {
  if (algorithm !== 'EdDSA') throw new Error(`JWT_ALGORITHM=${algorithm} needs JWT_KEYS, the path of a private JWK Set`)
  return createPrivateKey({ key: Buffer.concat([ED25519_PREFIX, deriveKey(master, 'tokens:access:ed25519')]), format: 'der', type: 'pkcs8' })
}

/** Whether JWT_KEYS is the path of a JWK Set; where a source of secrets has it, it is the set itself. */
export function isPath (keys: string | undefined): keys is string {
  return keys !== undefined && !keys.trimStart().startsWith('{')
}

/** The keys for this algorithm in a private JWK Set, in their order: the first signs, all verify. Whether they are good is for tokens to say. */
function readKeys (given: string, algorithm: string): Jwk[] {
  // What is no JWK Set may be a key in another form, and is not told.
  const name = isPath(given) ? 'the file that it names' : 'what it holds'
  let keys: Jwk[]
  try {
    const set = JSON.parse(isPath(given) ? readFileSync(given, 'utf8') : given) as JwkSet
    keys = set.keys.filter(({ kty }) => kty === KEY_TYPES[algorithm])
  } catch {
    throw new Error(`JWT_KEYS: ${name} is not a readable JWK Set of private keys`)
  }
  if (keys.length === 0) throw new Error(`JWT_KEYS: ${name} has no private key for ${algorithm}`)
  return keys
}

function pemPair (key: KeyObject): KeyPair {
  return { private: key.export({ format: 'pem', type: 'pkcs8' }).toString(), public: createPublicKey(key).export({ format: 'pem', type: 'spki' }).toString() }
}
