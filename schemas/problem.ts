import { Type, type Static } from '@sinclair/typebox'

/** A refusal or failure in the form of RFC 9457 (`application/problem+json`). */
export const Problem = Type.Object({
  type: Type.String({ description: 'URI of the kind of problem; `about:blank` where the status says it all' }),
  title: Type.String({ description: 'The status in words' }),
  status: Type.Integer({ minimum: 400, maximum: 599 }),
  detail: Type.Optional(Type.String({ description: 'What the caller can do about it; nothing internal' })),
  code: Type.String({ description: 'Stable code, `FST_…`' }),
  requestId: Type.Optional(Type.String({ description: 'Id under which the log knows this request' })),
  errors: Type.Optional(Type.Array(Type.Object({
    path: Type.String({ description: 'JSON pointer into the part of the request' }),
    message: Type.String({ description: 'What is wrong; the value is never echoed' }),
  }, { additionalProperties: false }))),
  mfaToken: Type.Optional(Type.String({ description: 'Of a sign-in whose second factor is still to come: what a code completes' })),
  factors: Type.Optional(Type.Array(Type.String(), { description: 'The second factors that the account has (`totp`, `passkey`); of a step-up what must be shown (RFC 8176: `pop`, `otp`, …)' })),
  'violated-policies': Type.Optional(Type.Array(Type.String(), { description: 'Names of the quota policies that refuse, as `RateLimit-Policy` names them' })),
}, { additionalProperties: false, title: 'Problem' })
export type Problem = Static<typeof Problem>
