/** A proof of possession: what one request says of itself, signed by the key that it shows (RFC 9449, 4.2 and 4.3). */
import { createHash } from 'node:crypto'
import { Remembered } from '../../remembered.js'
import { parseJws } from '../jws.js'
import { proofKeyOf, type ProofAlgorithm, type ProofKey } from './jwk.js'
import { namesTarget } from './target.js'

/** A proof that is good for this request; whether it came before is not known here. */
export interface Proof {
  /** Thumbprint of the key (RFC 7638). */
  jkt: string
  jti: string
  nonce: unknown
}

/** Why it is none; for the log. */
export interface ProofFault {
  fault: string
  /** Nothing else is wrong: with a nonce of ours it may be good. */
  wantsNonce?: true
}

export interface ProofTerms {
  method: string
  /** Canonical. */
  origin: string
  /** As it stands in the request line. */
  target: string
  /** The access token that comes with it, and the thumbprint that this one is bound to. */
  accessToken?: string
  jkt?: string
  /** One of these must stand in it. */
  nonces?: readonly string[]
}

interface ProofReaderParts {
  algorithms: readonly ProofAlgorithm[]
  /** Seconds. */
  maxAge: number
  clockTolerance: number
  /** Seconds since the epoch. */
  seconds: () => number
}

export type ProofReader = (text: string, terms: ProofTerms) => Proof | ProofFault

const MAX_LENGTH = 4096
const MAX_JTI = 256
/** Header parameters that would bring other keys or rules along (RFC 8725, 3.10; RFC 7515, 4.1.11). */
const FOREIGN = ['jku', 'x5u', 'x5c', 'x5t', 'x5t#S256', 'crit', 'zip', 'b64', 'enc']
/** A client's header is the same in all its proofs: so many of them are remembered, with their keys. */
const REMEMBERED = 5000

export function proofReader ({ algorithms, maxAge, clockTolerance, seconds }: ProofReaderParts): ProofReader {
  const keys = new Remembered<ProofKey>(REMEMBERED)

  return function readProof (text, terms) {
    // Two header fields that were joined into one have a comma, which is no part of a JWS.
    const jws = text.length <= MAX_LENGTH ? parseJws(text) : null
    if (jws === null) return { fault: 'is no compact JWS' }
    const { header, claims, input, signature } = jws
    const encoded = input.slice(0, input.indexOf('.'))
    const known = keys.get(encoded)
    const key = known ?? keyOf(header)
    if (typeof key === 'string') return { fault: key }
    // All that costs less than a signature comes before it.
    if (terms.jkt !== undefined && key.jkt !== terms.jkt) return { fault: 'is by another key' }
    const fault = faultOf(claims, terms)
    if (fault !== null) return fault
    if (!key.hasSigned(input, signature)) return { fault: 'signature is wrong' }
    if (known === undefined) keys.set(encoded, key)
    return { jkt: key.jkt, jti: claims.jti as string, nonce: claims.nonce }
  }

  function keyOf (header: Record<string, unknown>): ProofKey | string {
    const { typ, alg, jwk } = header
    if (typ !== 'dpop+jwt') return 'typ is not dpop+jwt'
    if (!algorithms.includes(alg as ProofAlgorithm)) return 'alg is not accepted'
    if (FOREIGN.some(name => Object.hasOwn(header, name))) return 'a header parameter is not accepted'
    return proofKeyOf(jwk, alg as ProofAlgorithm)
  }

  function faultOf (claims: Record<string, unknown>, { method, origin, target, accessToken, nonces }: ProofTerms): ProofFault | null {
    const { jti, htm, htu, iat, exp, nbf, ath, nonce } = claims
    if (typeof jti !== 'string' || jti === '' || jti.length > MAX_JTI) return { fault: 'jti is missing or too long' }
    if (htm !== method) return { fault: 'is for another method' }
    if (typeof htu !== 'string' || !namesTarget(htu, origin, target)) return { fault: 'is for another URL' }
    const time = seconds()
    if (typeof iat !== 'number' || !(iat >= time - maxAge && iat <= time + clockTolerance)) return { fault: 'is too old, or of the future' }
    if (exp !== undefined && !(typeof exp === 'number' && exp + clockTolerance > time)) return { fault: 'has expired' }
    if (nbf !== undefined && !(typeof nbf === 'number' && nbf - clockTolerance <= time)) return { fault: 'is not good yet' }
    if (accessToken !== undefined && ath !== hashOf(accessToken)) return { fault: 'is for another access token' }
    if (nonces !== undefined && !nonces.includes(nonce as string)) return { fault: 'has no nonce of ours', wantsNonce: true }
    return null
  }
}

function hashOf (accessToken: string): string {
  return createHash('sha256').update(accessToken).digest('base64url')
}
