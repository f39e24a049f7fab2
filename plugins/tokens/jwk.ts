/** JSON Web Keys (RFC 7517), as far as they say what a key is for. */
import { createHash, type JsonWebKey, type KeyObject } from 'node:crypto'

export type Jwk = JsonWebKey & { kid?: string, alg?: string, use?: string, key_ops?: readonly string[] }
export interface JwkSet { keys: readonly Jwk[] }

const MAX_KID = 200
const OPERATIONS = ['sign', 'verify'] as const
type Operation = typeof OPERATIONS[number]

export function isJwk (value: unknown): value is Jwk {
  return typeof value === 'object' && value !== null && typeof (value as Jwk).kty === 'string'
}

export function isJwkSet (value: unknown): value is JwkSet {
  return typeof value === 'object' && value !== null && Array.isArray((value as JwkSet).keys)
}

/** What a JWK says against being used for this; null where it says nothing. Never a value of its members. */
export function useFault ({ kid, alg, use, key_ops: operations }: Jwk, algorithm: string, needed: readonly Operation[]): string | null {
  if (kid !== undefined && !(typeof kid === 'string' && kid !== '' && kid.length <= MAX_KID)) return `kid: must be a text of 1 to ${MAX_KID} characters`
  // RFC 9864 has a name of its own for what EdDSA is on this curve.
  if (alg !== undefined && alg !== algorithm && !(algorithm === 'EdDSA' && alg === 'Ed25519')) return `its alg is not ${algorithm}`
  if (use !== undefined && use !== 'sig') return 'its use is not sig'
  if (operations === undefined) return null
  const areFit = Array.isArray(operations) && operations.every(operation => OPERATIONS.includes(operation)) && needed.every(operation => operations.includes(operation))
  return areFit ? null : `its key_ops must be of sign and verify, with ${needed.join(' and ') || 'one of them'}`
}

export function publicJwk (key: KeyObject): Record<string, string> {
  return key.export({ format: 'jwk' }) as Record<string, string>
}

/** RFC 7638: of a public key itself, not of its JWK, which may spell one key in several ways. */
export function thumbprintOf (key: KeyObject): string {
  const { crv, e, kty, n, x, y } = publicJwk(key)
  const members = Object.entries({ crv, e, kty, n, x, y }).filter(([, value]) => value !== undefined)
  return createHash('sha256').update(JSON.stringify(Object.fromEntries(members))).digest('base64url')
}
