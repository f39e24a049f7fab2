/**
 * Keys: what a service gives, in the forms that they are kept in, read and held to what their algorithm wants.
 * A weak, contradictory or doubled one stops boot, and is refused at a rotation.
 */
import { createHmac, createPrivateKey, createPublicKey, sign, verify, type KeyObject } from 'node:crypto'
import { keyFault } from './algorithms.js'
import { TokensMisconfigured } from './errors.js'
import { isJwk, isJwkSet, type Jwk, type JwkSet, publicJwk, thumbprintOf, useFault } from './jwk.js'
import { bytesOf } from './jws.js'

export type Algorithm = 'HS256' | 'RS256' | 'ES256' | 'EdDSA'
/** PEM. The public key is in the private one; without a private one it verifies and does not sign. */
export type KeyPair = { private: string, public?: string } | { private?: undefined, public: string }
/** An HMAC secret of at least 32 bytes. */
export type Secret = Buffer | Jwk
/** A secret for HS256; for the other algorithms PEM (a pair, or the text of a private or public key) or a JWK. A `kid` of its own is kept. */
export type Key = Secret | string | KeyPair

/** One key, or several: the first signs, all verify. */
export interface TokenKeys { access: Key | JwkSet | readonly (Key | JwkSet)[], refresh: Secret | JwkSet | readonly (Secret | JwkSet)[] }

export type Kind = 'access' | 'refresh'
export const KINDS = ['access', 'refresh'] as const
/** Of refresh tokens, whatever the access tokens have: nobody else verifies them. */
export const algorithmOf = (kind: Kind, algorithm: Algorithm): Algorithm => kind === 'refresh' ? 'HS256' : algorithm

/** A key that was found good. */
export interface RingKey {
  kid: string
  /** Same keys have the same, whatever they were written in. */
  thumbprint: string
  /** PEM for asymmetric algorithms (PKCS #8, SPKI); without `private` it does not sign. */
  material: Buffer | { private?: string, public: string }
}

const WEAK_BYTES = 32
/** What the halves of a pair are tried on. */
const PROBE = Buffer.from('fastify-bastion key probe')

/**
 * The keys of each ring, in their order.
 * @throws TokensMisconfigured, with never a part of a key
 */
export function readKeys (keys: TokenKeys | undefined, algorithm: Algorithm): Record<Kind, readonly RingKey[]> {
  if (typeof keys !== 'object' || keys === null) throw new TokensMisconfigured('tokens: keys: must be { access, refresh }')
  const seen = new Set<string>()
  const [access, refresh] = KINDS.map(kind => {
    const given = ([keys[kind]].flat() as (Key | JwkSet)[]).flatMap(key => isJwkSet(key) ? [...key.keys] : [key])
    if (given.length === 0) throw new TokensMisconfigured(`tokens: keys.${kind}: must hold a key`)
    const ring: RingKey[] = []
    for (const [i, key] of given.entries()) {
      const known = readKey(key, algorithmOf(kind, algorithm), i === 0)
      if (typeof known === 'string') throw new TokensMisconfigured(`tokens: keys.${kind}: ${known}`)
      if (seen.has(known.thumbprint)) throw new TokensMisconfigured(`tokens: keys.${kind}: the same key stands here twice, or serves two purposes: one key a purpose`)
      if (ring.some(({ kid, thumbprint }) => kid === known.kid || kid === known.thumbprint || thumbprint === known.kid)) throw new TokensMisconfigured(`tokens: keys.${kind}: two keys have the same kid`)
      seen.add(known.thumbprint)
      ring.push(known)
    }
    return ring
  }) as [RingKey[], RingKey[]]
  return { access, refresh }
}

/** The public keys as a JWK Set (RFC 7517), each with the `kid` that its tokens carry; empty for HMAC secrets. */
export function publicKeys (ring: readonly RingKey[], algorithm: Algorithm): { keys: Record<string, string>[] } {
  const keys = ring.flatMap(({ kid, material }) => Buffer.isBuffer(material) ? [] : [{ ...publicJwk(createPublicKey(material.public)), kid, alg: algorithm, use: 'sig' }])
  return { keys }
}

/** The key, or what is wrong with it. */
function readKey (key: Key, algorithm: Algorithm, signs: boolean): RingKey | string {
  if (algorithm === 'HS256') return readSecret(key, signs)
  const halves = isJwk(key) ? halvesOfJwk(key, algorithm, signs) : halvesOfPem(key, algorithm)
  if (typeof halves === 'string') return halves
  const { privateKey, publicKey } = halves
  const fault = keyFault(publicKey, algorithm)
  if (fault !== null) return fault
  if (privateKey !== null && !arePair(privateKey, publicKey)) return 'private and public are not a pair'
  if (privateKey === null && signs) return 'the first key signs, so it must be a private one'
  const thumbprint = thumbprintOf(publicKey)
  return {
    kid: isJwk(key) && key.kid !== undefined ? key.kid : thumbprint,
    thumbprint,
    material: {
      ...(privateKey !== null && { private: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString() }),
      public: publicKey.export({ format: 'pem', type: 'spki' }).toString(),
    },
  }
}

function readSecret (key: Key, signs: boolean): RingKey | string {
  const fault = `must be a Buffer of at least ${WEAK_BYTES} bytes for HS256, or an oct JWK of so many`
  const jwk = !Buffer.isBuffer(key) && isJwk(key) ? key : undefined
  const secret = jwk === undefined ? key : jwk.kty === 'oct' ? bytesOf(jwk.k) : null
  if (!Buffer.isBuffer(secret) || secret.length < WEAK_BYTES) return fault
  const contradiction = jwk === undefined ? null : useFault(jwk, 'HS256', signs ? ['sign', 'verify'] : ['verify'])
  if (contradiction !== null) return contradiction
  // A MAC by the secret tells nothing of it.
  const thumbprint = createHmac('sha256', secret).update('fastify-bastion key id').digest('base64url').slice(0, 16)
  return { kid: jwk?.kid ?? thumbprint, thumbprint, material: Buffer.from(secret) }
}

interface Halves { privateKey: KeyObject | null, publicKey: KeyObject }

function halvesOfJwk (jwk: Jwk, algorithm: Algorithm, signs: boolean): Halves | string {
  const isPrivate = jwk.d !== undefined
  const fault = useFault(jwk, algorithm, isPrivate ? (signs ? ['sign'] : []) : ['verify'])
  if (fault !== null) return fault
  try {
    const privateKey = isPrivate ? createPrivateKey({ key: jwk, format: 'jwk' }) : null
    return { privateKey, publicKey: privateKey === null ? createPublicKey({ key: jwk, format: 'jwk' }) : createPublicKey(privateKey) }
  } catch {
    return `is no JWK that can be read for ${algorithm}`
  }
}

function halvesOfPem (key: unknown, algorithm: Algorithm): Halves | string {
  const pair = (typeof key === 'string' ? { [key.includes('PRIVATE KEY-----') ? 'private' : 'public']: key } : key) as { private?: unknown, public?: unknown } | null | undefined
  const { private: secret, public: open } = typeof pair === 'object' && pair !== null && !Buffer.isBuffer(pair) ? pair : {}
  const isText = (part: unknown) => part === undefined || typeof part === 'string'
  if (!isText(secret) || !isText(open) || (secret === undefined && open === undefined)) return `must be { private, public } in PEM for ${algorithm}, or a JWK`
  try {
    const privateKey = secret === undefined ? null : createPrivateKey(secret as string)
    return { privateKey, publicKey: createPublicKey((open ?? secret) as string) }
  } catch {
    return 'is no PEM that can be read'
  }
}

/** Tried, not compared: a JWK may hold a public half that is not that of its private one. */
function arePair (privateKey: KeyObject, publicKey: KeyObject): boolean {
  const hash = privateKey.asymmetricKeyType === 'ed25519' ? null : 'sha256'
  try {
    return verify(hash, PROBE, publicKey, sign(hash, PROBE, privateKey))
  } catch {
    return false
  }
}
