/** The key that a proof brings along: a public one, of the kind that its algorithm wants. */
import { createPublicKey } from 'node:crypto'
import { isSignedBy, keyFault, type SignatureAlgorithm } from '../algorithms.js'
import { isJwk, thumbprintOf, useFault } from '../jwk.js'

/** Asymmetric signatures, and none else (RFC 9449, 4.2). `Ed25519` is the newer name of what `EdDSA` is here (RFC 9864). */
const SIGNED_AS = { ES256: 'ES256', EdDSA: 'EdDSA', Ed25519: 'EdDSA', PS256: 'PS256', RS256: 'RS256' } as const satisfies Record<string, SignatureAlgorithm>
export type ProofAlgorithm = keyof typeof SIGNED_AS
export const PROOF_ALGORITHMS = Object.keys(SIGNED_AS) as ProofAlgorithm[]

/** Members of a JWK that are for its owner alone (RFC 7518, 6.2.2, 6.3.2, 6.4.1). */
const PRIVATE = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']

export interface ProofKey {
  /** Thumbprint (RFC 7638). */
  jkt: string
  hasSigned: (input: string, signature: Buffer) => boolean
}

/** The key of a JWK, for that algorithm; a text says why it is none. */
export function proofKeyOf (jwk: unknown, name: ProofAlgorithm): ProofKey | string {
  if (!isJwk(jwk)) return 'has no jwk'
  if (PRIVATE.some(member => Object.hasOwn(jwk, member))) return 'shows a private key'
  const algorithm = SIGNED_AS[name]
  if (useFault(jwk, algorithm, ['verify']) !== null) return 'shows a key that is not meant for this'
  try {
    const key = createPublicKey({ key: jwk, format: 'jwk' })
    const fault = keyFault(key, algorithm)
    return fault === null ? { jkt: thumbprintOf(key), hasSigned: (input, signature) => isSignedBy(key, algorithm, input, signature) } : `shows a key that ${fault}`
  } catch {
    return 'shows no key'
  }
}
