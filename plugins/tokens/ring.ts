/**
 * Key rings: one a purpose, all keys of one algorithm. The first signs, all verify, so that a key is rotated by putting
 * the new one in front and taking the old one away when its last token has expired.
 */
import Fastify from 'fastify'
import jwt from '@fastify/jwt'
import { parseJws } from './jws.js'
import { algorithmOf, KINDS, publicKeys, readKeys, type Algorithm, type Kind, type RingKey, type TokenKeys } from './keys.js'

const TYPES: Record<Kind, string> = { access: 'at+jwt', refresh: 'rt+jwt' }

export interface Ring {
  sign: (claims: object) => string
  /** What a token says whose header is one that a key of this ring writes; null for every other text. Who signed it is not looked at. */
  read: (token: string) => Record<string, unknown> | null
  /** Whether a key of this ring signed what {@link read} read. */
  isSigned: (token: string) => boolean
}

/** Whoever holds it reads its members at each use: a rotation puts others there, all at once. */
export interface Rings extends Record<Kind, Ring> {
  /** The public keys of the access ring. */
  jwks: { keys: Record<string, string>[] }
  /** The secrets of the refresh ring, in their order. */
  secrets: readonly Buffer[]
}

interface Signer { sign: (claims: object) => string, verify: (token: string) => { header: Record<string, unknown> } }

const REQUIRED_CLAIMS = ['iss', 'aud', 'exp', 'iat', 'sub', 'jti']
/** Header parameters that would let a token bring its own key or rules (RFC 8725, 3.10; RFC 7515, 4.1.11). */
const FOREIGN = ['jku', 'jwk', 'x5u', 'x5c', 'x5t', 'x5t#S256', 'crit', 'zip', 'b64']

/** @throws TokensMisconfigured */
export async function makeRings (given: TokenKeys, algorithm: Algorithm): Promise<Rings> {
  const keys = readKeys(given, algorithm)
  const [access, refresh] = await Promise.all(KINDS.map(async kind => makeRing(keys[kind], await signersOf(keys[kind], kind, algorithmOf(kind, algorithm))))) as [Ring, Ring]
  return { access, refresh, jwks: publicKeys(keys.access, algorithm), secrets: keys.refresh.map(({ material }) => material as Buffer) }
}

/** @fastify/jwt, once a key, in an instance that serves nobody: the service's own takes no plugins once it runs. */
async function signersOf (keys: readonly RingKey[], kind: Kind, algorithm: Algorithm): Promise<Signer[]> {
  const workshop = Fastify()
  for (const [i, { kid, material }] of keys.entries()) {
    workshop.register(jwt, {
      secret: material as Buffer,
      namespace: `key${i}`,
      sign: { algorithm, header: { typ: TYPES[kind], kid } } as never,
      // Time is ours to judge (`now`); the cache too, because ours checks expiry and standing every time.
      verify: { algorithms: [algorithm], complete: true, cache: false, errorCacheTTL: -1, ignoreExpiration: true, ignoreNotBefore: true, checkTyp: TYPES[kind], requiredClaims: REQUIRED_CLAIMS } as never,
    })
  }
  await workshop.ready()
  const signers = workshop.jwt as unknown as Record<string, Signer>
  return keys.map((_key, i) => signers[`key${i}`]!)
}

/**
 * A token's header must be, byte for byte, one that a key of this ring writes. So no header of a stranger's is ever
 * interpreted: `alg: none`, another algorithm, a key of its own are refused before anything is computed.
 */
function makeRing (keys: readonly RingKey[], signers: readonly Signer[]): Ring {
  const written = JSON.parse(Buffer.from(headerOf(signers[0]!.sign({})), 'base64url').toString()) as object
  // By its thumbprint too: before it was given a `kid` of its own, its tokens carried that.
  const byHeader = new Map(keys.flatMap(({ kid, thumbprint }, i) => [thumbprint, kid].map(id => [Buffer.from(JSON.stringify({ ...written, kid: id })).toString('base64url'), signers[i]!] as const)))
  return {
    sign: claims => signers[0]!.sign(claims),
    // One token must not have several texts: what is no canonical base64url is none.
    read: token => byHeader.has(headerOf(token)) ? parseJws(token)?.claims ?? null : null,
    isSigned (token) {
      try {
        const { header } = byHeader.get(headerOf(token))!.verify(token)
        return !FOREIGN.some(name => name in header)
      } catch {
        return false
      }
    },
  }
}

function headerOf (token: string): string {
  return token.slice(0, token.indexOf('.'))
}
