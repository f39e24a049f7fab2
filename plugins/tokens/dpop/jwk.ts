/** The key that a proof brings along: a public one, of the kind that its algorithm wants, and its name (RFC 7517, RFC 7638). */
import { constants, createHash, createPublicKey, verify, type KeyObject } from 'node:crypto'

interface Suite {
  /** `kty` and the members that make the key. */
  kty: string
  members: readonly string[]
  digest: 'sha256' | null
  fits: (key: KeyObject) => boolean
  options: { dsaEncoding?: 'ieee-p1363', padding?: number, saltLength?: number }
}

const MIN_RSA_BITS = 2048
const MAX_RSA_BITS = 4096
/** RSA exponents from 65537 on, and not so long that a verification costs what a signature does (FIPS 186-5, 5.4). */
const MIN_EXPONENT = 65_537n
const MAX_EXPONENT = 2n ** 32n

const RSA: Omit<Suite, 'options'> = { kty: 'RSA', members: ['e', 'n'], digest: 'sha256', fits: isStrongRsa }
const ED25519: Suite = { kty: 'OKP', members: ['crv', 'x'], digest: null, fits: key => key.asymmetricKeyType === 'ed25519', options: {} }
const SUITES = {
  ES256: { kty: 'EC', members: ['crv', 'x', 'y'], digest: 'sha256', fits: isP256, options: { dsaEncoding: 'ieee-p1363' } },
  EdDSA: ED25519,
  Ed25519: ED25519, // the same by its new name (RFC 9864)
  RS256: { ...RSA, options: { padding: constants.RSA_PKCS1_PADDING } },
  PS256: { ...RSA, options: { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST } },
} satisfies Record<string, Suite>

/** Asymmetric signatures, and none else (RFC 9449, 4.2). */
export type ProofAlgorithm = keyof typeof SUITES
export const PROOF_ALGORITHMS = Object.keys(SUITES) as ProofAlgorithm[]

/** Members of a JWK that are for its owner alone (RFC 7518, 6.2.2, 6.3.2, 6.4.1). */
const PRIVATE = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']

export interface ProofKey {
  /** Thumbprint (RFC 7638). */
  jkt: string
  isSignedBy: (data: string, signature: Buffer) => boolean
}

/** The key of a JWK, for that algorithm; a text says why it is none. */
export function proofKeyOf (jwk: unknown, algorithm: ProofAlgorithm): ProofKey | string {
  if (typeof jwk !== 'object' || jwk === null || Array.isArray(jwk)) return 'jwk is missing'
  if (PRIVATE.some(member => Object.hasOwn(jwk, member))) return 'jwk is a private key'
  const { kty, members, digest, fits, options } = SUITES[algorithm] as Suite
  const given = jwk as Record<string, unknown>
  if (given.kty !== kty || (given.use ?? 'sig') !== 'sig') return 'jwk is not for this algorithm'
  let key: KeyObject
  try {
    key = createPublicKey({ key: { kty, ...Object.fromEntries(members.map(member => [member, given[member]])) }, format: 'jwk' })
  } catch {
    return 'jwk is no key'
  }
  if (!fits(key)) return 'jwk is weak, or not for this algorithm'
  return {
    jkt: thumbprintOf(key, members),
    isSignedBy: (data, signature) => verify(digest, Buffer.from(data), { key, ...options }, signature),
  }
}

/** Of the key itself, not of its JWK: which may spell one key in several ways. */
function thumbprintOf (key: KeyObject, members: readonly string[]): string {
  const jwk = key.export({ format: 'jwk' }) as Record<string, string>
  const named = [...members, 'kty'].sort().map(member => [member, jwk[member]])
  return createHash('sha256').update(JSON.stringify(Object.fromEntries(named))).digest('base64url')
}

function isP256 ({ asymmetricKeyType, asymmetricKeyDetails }: KeyObject): boolean {
  return asymmetricKeyType === 'ec' && asymmetricKeyDetails?.namedCurve === 'prime256v1'
}

function isStrongRsa ({ asymmetricKeyType, asymmetricKeyDetails: { modulusLength = 0, publicExponent = 0n } = {} }: KeyObject): boolean {
  return asymmetricKeyType === 'rsa' && modulusLength >= MIN_RSA_BITS && modulusLength <= MAX_RSA_BITS &&
    publicExponent >= MIN_EXPONENT && publicExponent < MAX_EXPONENT
}
