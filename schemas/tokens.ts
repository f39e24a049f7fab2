import { Type, type Static } from '@sinclair/typebox'

/** The answer of a sign-in, in the form of RFC 6749 (5.1). */
export const TokenPair = Type.Object({
  access_token: Type.String(),
  refresh_token: Type.String(),
  token_type: Type.Literal('Bearer'),
  expires_in: Type.Integer({ description: 'Seconds until the access token expires' }),
}, { additionalProperties: false })
export type TokenPair = Static<typeof TokenPair>
