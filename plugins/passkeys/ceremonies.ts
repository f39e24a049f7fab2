/** The two ceremonies of WebAuthn (Level 3, 7.1 and 7.2), verified by @simplewebauthn/server, and what it leaves to us. */
import type { PasskeyAssertion, PasskeyRegistration } from '../../schemas/passkeys.js'
import type { StoredPasskey } from './store.js'

/** ES256, EdDSA, RS256 (IANA, COSE Algorithms): what authenticators have. */
export const ALGORITHMS = [-7, -8, -257] as const

export interface Relying { rpId: string, origins: readonly string[], userVerification: 'required' | 'preferred' | 'discouraged' }
/** What a response tells once it is verified. */
export type Made = Pick<StoredPasskey, 'credentialId' | 'publicKey' | 'counter' | 'isSyncable' | 'isBackedUp'>
export interface Shown { counter: number, isVerified: boolean, isBackedUp: boolean }
/** Why a response is refused: for the log, and for nobody else. */
export interface Fault { fault: string, cause?: unknown }

export interface Ceremonies {
  made: (response: PasskeyRegistration, challenge: string) => Promise<Made | Fault>
  shown: (response: PasskeyAssertion, challenge: string, passkey: StoredPasskey) => Promise<Shown | Fault>
}

/** The challenge that a response says it answers, unverified; null where it says none, or was made inside another site's page. */
export function challengeOf (clientDataJSON: string): string | null {
  try {
    const { challenge, crossOrigin, topOrigin } = JSON.parse(Buffer.from(clientDataJSON, 'base64url').toString()) as Record<string, unknown>
    // The library lets pass a registration in a frame, and a sign-in in a frame whose browser does not say in which page.
    const isEmbedded = (crossOrigin !== undefined && crossOrigin !== false) || topOrigin !== undefined
    return typeof challenge === 'string' && !isEmbedded ? challenge : null
  } catch {
    return null
  }
}

/** @throws where the optional package @simplewebauthn/server is not installed */
export async function loadCeremonies ({ rpId, origins, userVerification }: Relying): Promise<Ceremonies> {
  const { verifyAuthenticationResponse, verifyRegistrationResponse } = await import('@simplewebauthn/server')
  const { decodeAttestationObject, isoBase64URL } = await import('@simplewebauthn/server/helpers')
  const expected = { expectedOrigin: [...origins], expectedRPID: [rpId], requireUserVerification: userVerification === 'required' }

  /** None, or the passkey's own signature. Who sends certificates would have them looked up where they say (CWE-918). */
  function isAsked (attestationObject: string): boolean {
    const attestation = decodeAttestationObject(isoBase64URL.toBuffer(attestationObject))
    const [fmt, statement] = [attestation.get('fmt'), attestation.get('attStmt') as unknown]
    return statement instanceof Map && (fmt === 'none' ? statement.size === 0 : fmt === 'packed' && !statement.has('x5c'))
  }

  return {
    async made (response, challenge) {
      try {
        if (!isAsked(response.response.attestationObject)) return { fault: 'an attestation that nobody asked for' }
        const { verified, registrationInfo } = await verifyRegistrationResponse({
          ...expected, response: response as never, expectedChallenge: challenge, supportedAlgorithmIDs: [...ALGORITHMS],
        })
        if (!verified) return { fault: 'the attestation does not verify' }
        const { credential, credentialDeviceType, credentialBackedUp } = registrationInfo
        if (credential.id !== response.id) return { fault: 'the id is not the one that was attested' }
        return {
          credentialId: credential.id, publicKey: credential.publicKey, counter: credential.counter, isSyncable: credentialDeviceType === 'multiDevice', isBackedUp: credentialBackedUp,
        }
      } catch (cause) {
        return { fault: 'the registration does not verify', cause }
      }
    },
    async shown (response, challenge, { credentialId, publicKey, userHandle, isSyncable }) {
      try {
        const { verified, authenticationInfo } = await verifyAuthenticationResponse({
          ...expected,
          response: response as never,
          expectedChallenge: challenge,
          // The library compares counters before it verifies the signature: whoever knows the id could then accuse the passkey. Compared by the store.
          credential: { id: credentialId, publicKey: new Uint8Array(publicKey), counter: 0 },
        })
        if (!verified) return { fault: 'the signature does not verify' }
        if (response.response.userHandle !== undefined && response.response.userHandle !== userHandle) return { fault: 'the user handle is that of somebody else' }
        const { newCounter, userVerified, credentialBackedUp, credentialDeviceType } = authenticationInfo
        if ((credentialDeviceType === 'multiDevice') !== isSyncable) return { fault: 'it says otherwise than before whether it may be copied' }
        return { counter: newCounter, isVerified: userVerified, isBackedUp: credentialBackedUp }
      } catch (cause) {
        return { fault: 'the response does not verify', cause }
      }
    },
  }
}
