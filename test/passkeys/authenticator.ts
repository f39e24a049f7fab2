/** An authenticator in software, and the browser before it: what it makes is right unless it is told to be wrong. */
import { createHash, generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto'
import type { PasskeyAssertion, PasskeyCreationOptions, PasskeyRegistration, PasskeyRequestOptions } from '../../schemas/index.js'

export const ORIGIN = 'http://localhost:3000'

/** What is told wrongly. */
export interface Wrong {
  origin?: string
  rpId?: string
  challenge?: string
  type?: string
  crossOrigin?: boolean
  topOrigin?: string
  /** Bits of the authenticator data: 1 present, 4 verified, 8 may be copied, 16 is copied. */
  flags?: number
  counter?: number
  /** Undefined leaves it out. */
  userHandle?: string | undefined
  credentialId?: string
  /** Signed with another key. */
  isForged?: boolean
  attestation?: { fmt: string, attStmt: Map<string, unknown> }
}

interface Credential { id: Buffer, privateKey: KeyObject, cose: Buffer, hash: string | null, rpId: string, userHandle: string, counter: number }

export type Kind = 'ES256' | 'EdDSA' | 'RS256'
export interface Authenticator {
  create: (options: PasskeyCreationOptions, wrong?: Wrong) => PasskeyRegistration
  get: (options: PasskeyRequestOptions, wrong?: Wrong) => PasskeyAssertion
  /** The same keys and counters in a second device, from now on apart. */
  copy: () => Authenticator
  credentials: readonly Credential[]
}

const PRESENT = 1
const VERIFIED = 4
const ATTESTED = 64

/** @param counts whether it counts its signatures; many passkeys that are copied do not */
export function authenticator ({ kind = 'ES256', counts = true, flags = PRESENT | VERIFIED, credentials = [] as Credential[] }: { kind?: Kind, counts?: boolean, flags?: number, credentials?: Credential[] } = {}): Authenticator {
  return {
    credentials,
    create (options, wrong = {}) {
      const id = wrong.credentialId === undefined ? randomBytes(32) : Buffer.from(wrong.credentialId, 'base64url')
      const credential = { id, ...newKey(kind), rpId: options.rp.id, userHandle: options.user.id, counter: 0 }
      const attested = Buffer.concat([Buffer.alloc(16), uint16(id.length), id, credential.cose])
      const authenticatorData = dataOf(wrong.rpId ?? options.rp.id, (wrong.flags ?? flags) | ATTESTED, wrong.counter ?? 0, attested)
      const { fmt, attStmt } = wrong.attestation ?? { fmt: 'none', attStmt: new Map() }
      credentials.push(credential)
      return {
        id: id.toString('base64url'),
        rawId: id.toString('base64url'),
        type: 'public-key',
        authenticatorAttachment: 'platform',
        clientExtensionResults: { credProps: { rk: true } },
        response: {
          clientDataJSON: clientData('webauthn.create', options.challenge, wrong).toString('base64url'),
          attestationObject: cbor(new Map<string, unknown>([['fmt', fmt], ['attStmt', attStmt], ['authData', authenticatorData]])).toString('base64url'),
          transports: ['internal', 'hybrid'],
        },
      }
    },
    get (options, wrong = {}) {
      const credential = credentials.find(({ id, rpId }) => rpId === options.rpId &&
        (options.allowCredentials.length === 0 || options.allowCredentials.some(one => one.id === id.toString('base64url'))))
      if (credential === undefined) throw new Error('no passkey for this')
      if (counts) credential.counter += 1
      const authenticatorData = dataOf(wrong.rpId ?? options.rpId, wrong.flags ?? flags, wrong.counter ?? credential.counter)
      const client = clientData('webauthn.get', options.challenge, wrong)
      const signed = Buffer.concat([authenticatorData, createHash('sha256').update(client).digest()])
      const id = wrong.credentialId ?? credential.id.toString('base64url')
      const userHandle = 'userHandle' in wrong ? wrong.userHandle : credential.userHandle
      return {
        id,
        rawId: id,
        type: 'public-key',
        clientExtensionResults: {},
        response: {
          clientDataJSON: client.toString('base64url'),
          authenticatorData: authenticatorData.toString('base64url'),
          signature: sign(credential.hash, signed, wrong.isForged === true ? newKey(kind).privateKey : credential.privateKey).toString('base64url'),
          ...(userHandle !== undefined && { userHandle }),
        },
      }
    },
    copy: () => authenticator({ kind, counts, flags, credentials: credentials.map(one => ({ ...one })) }),
  }
}

function clientData (type: string, challenge: string, wrong: Wrong): Buffer {
  const { origin = ORIGIN, crossOrigin = false, topOrigin } = wrong
  return Buffer.from(JSON.stringify({ type: wrong.type ?? type, challenge: wrong.challenge ?? challenge, origin, crossOrigin, ...(topOrigin !== undefined && { topOrigin }) }))
}

function dataOf (rpId: string, flags: number, counter: number, attested = Buffer.alloc(0)): Buffer {
  const count = Buffer.alloc(4)
  count.writeUInt32BE(counter)
  return Buffer.concat([createHash('sha256').update(rpId).digest(), Buffer.from([flags]), count, attested])
}

function newKey (kind: Kind): Pick<Credential, 'privateKey' | 'cose' | 'hash'> {
  const { publicKey, privateKey } = kind === 'ES256'
    ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
    : kind === 'EdDSA' ? generateKeyPairSync('ed25519') : generateKeyPairSync('rsa', { modulusLength: 2048 })
  const jwk = publicKey.export({ format: 'jwk' })
  const bytes = (text: unknown) => Buffer.from(String(text), 'base64url')
  const cose = new Map<number, unknown>({
    ES256: [[1, 2], [3, -7], [-1, 1], [-2, bytes(jwk.x)], [-3, bytes(jwk.y)]],
    EdDSA: [[1, 1], [3, -8], [-1, 6], [-2, bytes(jwk.x)]],
    RS256: [[1, 3], [3, -257], [-1, bytes(jwk.n)], [-2, bytes(jwk.e)]],
  }[kind] as [number, unknown][])
  return { privateKey, cose: cbor(cose), hash: kind === 'EdDSA' ? null : 'sha256' }
}

/** As much of CBOR (RFC 8949) as authenticators speak. */
export function cbor (value: unknown): Buffer {
  if (typeof value === 'number') return value >= 0 ? head(0, value) : head(1, -1 - value)
  if (typeof value === 'string') return Buffer.concat([head(3, Buffer.byteLength(value)), Buffer.from(value)])
  if (Buffer.isBuffer(value)) return Buffer.concat([head(2, value.length), value])
  if (Array.isArray(value)) return Buffer.concat([head(4, value.length), ...value.map(cbor)])
  const entries = [...(value as Map<unknown, unknown>).entries()]
  return Buffer.concat([head(5, entries.length), ...entries.flatMap(([name, one]) => [cbor(name), cbor(one)])])
}

function head (kind: number, n: number): Buffer {
  if (n < 24) return Buffer.from([kind << 5 | n])
  if (n < 256) return Buffer.from([kind << 5 | 24, n])
  return Buffer.concat([Buffer.from([kind << 5 | 25]), uint16(n)])
}

function uint16 (n: number): Buffer {
  return Buffer.from([n >> 8, n & 255])
}
