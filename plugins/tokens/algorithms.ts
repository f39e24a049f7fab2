/** Signature algorithms: which keys they want, and how they verify (RFC 7518, 3; RFC 8037). None is symmetric. */
import { constants, verify, type KeyObject } from 'node:crypto'

/** What an algorithm wants of its key, and tells `node:crypto`. */
interface Form { type: 'rsa' | 'ec' | 'ed25519', curve?: string, hash: string | null, isPss?: true, bytes?: number, wanted: string }

const WEAK_RSA_BITS = 2048
/** Beyond these a verification costs more than any issuer needs: whoever brings the key decides what it costs. */
const VAST_RSA_BITS = 8192
const RSA_EXPONENTS = { least: 65_537n, most: 0xffff_ffffn }

const rsa = (hash: string, isPss?: true): Form => ({ type: 'rsa', hash, ...isPss && { isPss }, wanted: `an RSA key of at least ${WEAK_RSA_BITS} bits` })
const ec = (hash: string, curve: string, name: string, bytes: number): Form => ({ type: 'ec', curve, hash, bytes, wanted: `a key on the curve ${name}` })

const FORMS = {
  RS256: rsa('sha256'),
  RS384: rsa('sha384'),
  RS512: rsa('sha512'),
  PS256: rsa('sha256', true),
  PS384: rsa('sha384', true),
  PS512: rsa('sha512', true),
  ES256: ec('sha256', 'prime256v1', 'P-256', 64),
  ES384: ec('sha384', 'secp384r1', 'P-384', 96),
  ES512: ec('sha512', 'secp521r1', 'P-521', 132),
  EdDSA: { type: 'ed25519', hash: null, bytes: 64, wanted: 'an Ed25519 key' } as Form,
}
export type SignatureAlgorithm = keyof typeof FORMS
export const SIGNATURE_ALGORITHMS = Object.keys(FORMS) as SignatureAlgorithm[]

/** Why a key is none for this algorithm: its kind, its curve, its strength; null where it is one. */
export function keyFault (key: KeyObject, algorithm: SignatureAlgorithm): string | null {
  const { type, curve, wanted } = FORMS[algorithm]
  const { asymmetricKeyType, asymmetricKeyDetails: { namedCurve, modulusLength = 0, publicExponent = 0n } = {} } = key
  const isOne = asymmetricKeyType === type && namedCurve === curve && (type !== 'rsa' || modulusLength >= WEAK_RSA_BITS)
  if (!isOne) return `must be ${wanted} for ${algorithm}`
  if (type !== 'rsa') return null
  return modulusLength <= VAST_RSA_BITS && publicExponent >= RSA_EXPONENTS.least && publicExponent <= RSA_EXPONENTS.most
    ? null
    : `must be ${wanted} and at most ${VAST_RSA_BITS}, with an exponent of 65537 or a little more, for ${algorithm}`
}

/** Whether this key made this signature by this algorithm. The key is one that {@link keyFault} has nothing against. */
export function isSignedBy (key: KeyObject, algorithm: SignatureAlgorithm, input: string, signature: Buffer): boolean {
  const { hash, bytes, isPss, type } = FORMS[algorithm]
  if (bytes !== undefined && signature.length !== bytes) return false
  const terms = type === 'ec' ? { key, dsaEncoding: 'ieee-p1363' as const } : isPss === true ? { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST } : key
  try {
    return verify(hash, Buffer.from(input), terms, signature)
  } catch {
    return false
  }
}
