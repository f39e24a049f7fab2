/** Passkeys as browsers write them in JSON (WebAuthn Level 3, 5.1 and 5.8): `PublicKeyCredential.toJSON()` and what `parse…OptionsFromJSON()` takes. */
import { Type, type Static, type StringOptions } from '@sinclair/typebox'
import { closed } from './closed.js'

/** Without padding. */
const base64url = (maxLength: number, more: StringOptions = {}) => Type.String({ minLength: 1, maxLength, pattern: '^[A-Za-z0-9_-]+$', ...more })

/** Of at most 1023 bytes (WebAuthn, 4). */
export const CredentialId = base64url(1364, { examples: ['TtZ6wHN2xR1bIYgBzY9nWQ'] })
const ClientData = base64url(4096)
const AuthenticatorData = base64url(8192)
const Attachment = Type.Optional(Type.String({ maxLength: 32, pattern: '^[a-z-]*$' }))
/** What a client knows of the ways to its authenticator; new ones may come. */
const Transports = Type.Array(Type.String({ minLength: 1, maxLength: 32, pattern: '^[a-z-]+$' }), { maxItems: 16 })

const Plain = [Type.Boolean(), Type.Number({ minimum: Number.MIN_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER }), Type.Null(), Type.String({ maxLength: 1024 })]
const Shallow = Type.Union([...Plain, Type.Array(Type.Union(Plain), { maxItems: 16 }), Type.Object({}, { additionalProperties: Type.Union(Plain), maxProperties: 16 })])
const Result = Type.Union([...Plain, Type.Array(Shallow, { maxItems: 16 }), Type.Object({}, { additionalProperties: Shallow, maxProperties: 16 })])
/** What extensions answered: of any name, not deep and not large. Nothing is decided by it. */
const ExtensionResults = Type.Object({}, { additionalProperties: Result, maxProperties: 16 })

const credential = { id: CredentialId, rawId: CredentialId, type: Type.Literal('public-key'), authenticatorAttachment: Attachment, clientExtensionResults: ExtensionResults }
const EXAMPLE = { id: 'TtZ6wHN2xR1bIYgBzY9nWQ', rawId: 'TtZ6wHN2xR1bIYgBzY9nWQ', type: 'public-key' }

/** `RegistrationResponseJSON`: a passkey that was just made. */
export const PasskeyRegistration = closed({
  ...credential,
  response: closed({
    clientDataJSON: ClientData,
    attestationObject: base64url(16_384),
    transports: Type.Optional(Transports),
    // What browsers say beside the attestation, which holds the same: not read.
    authenticatorData: Type.Optional(AuthenticatorData),
    publicKey: Type.Optional(base64url(4096)),
    publicKeyAlgorithm: Type.Optional(Type.Integer({ minimum: -65_536, maximum: 65_535 })),
  }),
}, { examples: [{ ...EXAMPLE, clientExtensionResults: { credProps: { rk: true } }, response: { clientDataJSON: 'eyJ0eXBlIjoi', attestationObject: 'o2NmbXRk', transports: ['internal', 'hybrid'] } }] })
export type PasskeyRegistration = Static<typeof PasskeyRegistration>

/** `AuthenticationResponseJSON`: a passkey that was just shown. */
export const PasskeyAssertion = closed({
  ...credential,
  response: closed({
    clientDataJSON: ClientData,
    authenticatorData: AuthenticatorData,
    signature: base64url(2048),
    userHandle: Type.Optional(base64url(86)),
  }),
}, { examples: [{ ...EXAMPLE, clientExtensionResults: {}, response: { clientDataJSON: 'eyJ0eXBlIjoi', authenticatorData: 'SZYN5YgO', signature: 'MEUCIQDx', userHandle: 'q1w2e3r4' } }] })
export type PasskeyAssertion = Static<typeof PasskeyAssertion>

const Descriptor = closed({ id: CredentialId, type: Type.Literal('public-key'), transports: Type.Optional(Transports) })
const Verification = Type.Union([Type.Literal('required'), Type.Literal('preferred'), Type.Literal('discouraged')])
const Milliseconds = Type.Integer({ description: 'Milliseconds' })

/** `PublicKeyCredentialCreationOptionsJSON`: what `navigator.credentials.create()` is asked. */
export const PasskeyCreationOptions = closed({
  challenge: Type.String(),
  rp: closed({ id: Type.String(), name: Type.String() }),
  user: closed({ id: Type.String({ description: 'Opaque: random bytes' }), name: Type.String(), displayName: Type.String() }),
  pubKeyCredParams: Type.Array(closed({ type: Type.Literal('public-key'), alg: Type.Integer({ description: 'COSE algorithm' }) })),
  timeout: Milliseconds,
  attestation: Type.Literal('none'),
  excludeCredentials: Type.Array(Descriptor, { description: 'Those that the account has already' }),
  authenticatorSelection: closed({ residentKey: Type.Literal('required'), requireResidentKey: Type.Literal(true), userVerification: Verification }),
  extensions: closed({ credProps: Type.Literal(true) }),
})
export type PasskeyCreationOptions = Static<typeof PasskeyCreationOptions>

/** `PublicKeyCredentialRequestOptionsJSON`: what `navigator.credentials.get()` is asked. */
export const PasskeyRequestOptions = closed({
  challenge: Type.String(),
  rpId: Type.String(),
  timeout: Milliseconds,
  userVerification: Verification,
  allowCredentials: Type.Array(Descriptor, { description: 'Empty where nobody knows yet who signs in' }),
})
export type PasskeyRequestOptions = Static<typeof PasskeyRequestOptions>
