/**
 * Key rings: one a purpose, all keys of one algorithm. The first signs, all verify, so that a key is rotated by putting
 * the new one in front and taking the old one away when its last token has expired.
 */
import { createHash, createHmac, createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import jwt from '@fastify/jwt'

export type Algorithm = 'HS256' | 'RS256' | 'ES256' | 'EdDSA'
/** PEM. */
export interface KeyPair { private: string, public: string }
/** An HMAC secret of at least 32 bytes, or a pair of keys. */
export type Key = Buffer | KeyPair

/** One key, or several: the first signs, all verify. */
export interface TokenKeys { access: Key | readonly Key[], refresh: Buffer | readonly Buffer[] }

export type Kind = 'access' | 'refresh'
export const TYPES: Record<Kind, string> = { access: 'at+jwt', refresh: 'rt+jwt' }

export interface Ring {
  sign: (claims: object) => string
  /** The payload of a token that one of the ring's keys signed; throws for every other. */
  verify: (token: string) => Record<string, unknown>
}

export type Rings = Record<Kind, Ring>

interface Signer { sign: (claims: object) => string, verify: (token: string) => { header: Record<string, unknown>, payload: Record<string, unknown> } }

const WEAK_BYTES = 32
const WEAK_RSA_BITS = 2048
const KINDS = ['access', 'refresh'] as const
const REQUIRED_CLAIMS = ['iss', 'aud', 'exp', 'iat', 'sub', 'jti']
/** Header parameters that would let a token bring its own key or rules (RFC 8725, 3.10; RFC 7515, 4.1.11). */
const FOREIGN = ['jku', 'jwk', 'x5u', 'x5c', 'x5t', 'x5t#S256', 'crit', 'zip', 'b64']

/** What is wrong with the keys; null where nothing is. Never a part of a key. */
export function faultOf (keys: TokenKeys | undefined, algorithm: Algorithm): string | null {
  if (typeof keys !== 'object' || keys === null) return 'keys: must be { access, refresh }'
  const seen: string[] = []
  for (const kind of KINDS) {
    const ring = ringOf(keys[kind])
    if (ring.length === 0) return `keys.${kind}: must hold a key`
    for (const key of ring) {
      const isSymmetric = kind === 'refresh' || algorithm === 'HS256'
      const fault = isSymmetric ? secretFault(key) : pairFault(key, algorithm)
      if (fault !== null) return `keys.${kind}: ${fault}`
      const id = keyId(key)
      if (seen.includes(id)) return `keys.${kind}: the same key stands here twice, or serves two purposes: one key a purpose`
      seen.push(id)
    }
  }
  return null
}

/** The public keys as a JWK Set (RFC 7517), each with the `kid` that its tokens carry; empty for HMAC secrets. */
export function publicKeys (keys: TokenKeys, algorithm: Algorithm): { keys: Record<string, string>[] } {
  if (algorithm === 'HS256') return { keys: [] }
  const jwks = ringOf(keys.access).map(key => ({ ...publicJwk(publicOf(key as KeyPair)), kid: keyId(key), alg: algorithm, use: 'sig' }))
  return { keys: jwks }
}

/** @fastify/jwt in a scope of its own, once a key: it adds no decorators to the service. */
export async function makeRings (app: FastifyInstance, keys: TokenKeys, algorithm: Algorithm): Promise<Rings> {
  const rings: Partial<Record<Kind, Ring>> = {}
  await app.register(async function tokenSigners (scope) {
    for (const kind of KINDS) {
      const alg = kind === 'access' ? algorithm : 'HS256'
      const signers: Signer[] = []
      for (const [i, key] of ringOf(keys[kind]).entries()) {
        const namespace = `${kind}${i}`
        await scope.register(jwt, {
          secret: Buffer.isBuffer(key) ? key : normalized(key),
          namespace,
          sign: { algorithm: alg, header: { typ: TYPES[kind], kid: keyId(key) } } as never,
          // Time is ours to judge (`now`); the cache too, because ours checks expiry and standing every time.
          verify: { algorithms: [alg], complete: true, cache: false, errorCacheTTL: -1, ignoreExpiration: true, ignoreNotBefore: true, checkTyp: TYPES[kind], requiredClaims: REQUIRED_CLAIMS } as never,
        })
        signers.push((scope.jwt as unknown as Record<string, Signer>)[namespace]!)
      }
      rings[kind] = makeRing(signers)
    }
  })
  return rings as Rings
}

/**
 * A token's header must be, byte for byte, one that a key of this ring writes. So no header of a stranger's is ever
 * interpreted: `alg: none`, another algorithm, a key of its own are refused before anything is computed.
 */
function makeRing (signers: readonly Signer[]): Ring {
  const byHeader = new Map(signers.map(signer => [headerOf(signer.sign({})), signer]))
  return {
    sign: claims => signers[0]!.sign(claims),
    verify (token) {
      const signer = byHeader.get(headerOf(token))
      if (signer === undefined || !isCanonical(token.slice(token.lastIndexOf('.') + 1))) throw new TypeError('not signed by a key of ours')
      const { header, payload } = signer.verify(token)
      if (FOREIGN.some(name => name in header)) throw new TypeError('a header of a stranger')
      return payload
    },
  }
}

function headerOf (token: string): string {
  return token.slice(0, token.indexOf('.'))
}

/** Base64url has several texts for the same bytes, and one token must not have several. */
function isCanonical (signature: string): boolean {
  return Buffer.from(signature, 'base64url').toString('base64url') === signature
}

function ringOf<K extends Key> (keys: K | readonly K[]): readonly K[] {
  return Array.isArray(keys) ? keys as readonly K[] : [keys as K]
}

function secretFault (key: Key): string | null {
  return Buffer.isBuffer(key) && key.length >= WEAK_BYTES ? null : `must be a Buffer of at least ${WEAK_BYTES} bytes for HS256`
}

function pairFault (key: Key, algorithm: Algorithm): string | null {
  if (Buffer.isBuffer(key) || typeof key?.private !== 'string' || typeof key.public !== 'string') return `must be { private, public } in PEM for ${algorithm}`
  let privateKey, publicKey
  try {
    privateKey = createPrivateKey(key.private)
    publicKey = publicOf(key)
  } catch {
    return 'is no PEM that can be read'
  }
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = privateKey
  if (algorithm === 'RS256' && (type !== 'rsa' || (details?.modulusLength ?? 0) < WEAK_RSA_BITS)) return `must be an RSA key of at least ${WEAK_RSA_BITS} bits for RS256`
  if (algorithm === 'ES256' && (type !== 'ec' || details?.namedCurve !== 'prime256v1')) return 'must be a key on the curve P-256 for ES256'
  if (algorithm === 'EdDSA' && type !== 'ed25519') return 'must be an Ed25519 key for EdDSA'
  return createPublicKey(privateKey).equals(publicKey) ? null : 'private and public are not a pair'
}

function publicOf (key: KeyPair): KeyObject {
  return createPublicKey(key.public)
}

/** PKCS #8 and SPKI, whatever the keys were written in. */
function normalized (key: KeyPair): KeyPair {
  return {
    private: createPrivateKey(key.private).export({ format: 'pem', type: 'pkcs8' }).toString(),
    public: publicOf(key).export({ format: 'pem', type: 'spki' }).toString(),
  }
}

function publicJwk (key: KeyObject): Record<string, string> {
  return key.export({ format: 'jwk' }) as Record<string, string>
}

/** The thumbprint of a public key (RFC 7638); for a secret a MAC by it, which tells nothing of it. */
function keyId (key: Key): string {
  if (Buffer.isBuffer(key)) return createHmac('sha256', key).update('fastify-bastion key id').digest('base64url').slice(0, 16)
  const { crv, e, kty, n, x, y } = publicJwk(publicOf(key))
  const members = Object.entries({ crv, e, kty, n, x, y }).filter(([, value]) => value !== undefined)
  return createHash('sha256').update(JSON.stringify(Object.fromEntries(members))).digest('base64url')
}
