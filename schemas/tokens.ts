/** Credentials and tokens. */
import { Type, type Static } from '@sinclair/typebox'
import { PasswordInput } from './account.js'
import { closed } from './closed.js'

/** A name and a password, as they are typed: which names exist is told by nothing, and so not by their form either. */
export const Credentials = closed({ username: Type.String({ minLength: 1, maxLength: 254 }), password: PasswordInput }, {
  examples: [{ username: 'alice', password: 'correct horse battery staple' }],
})
export type Credentials = Static<typeof Credentials>

/** A token as it comes in a body; what is in it is for those who made it. */
export const TokenInput = Type.String({ minLength: 1, maxLength: 4096, pattern: '^[A-Za-z0-9_~+/.-]+=*$', examples: ['eyJhbGciOiJIUzI1NiJ9.e30.c2ln'] })

/** The answer of a sign-in, in the form of RFC 6749 (5.1). */
export const TokenPair = Type.Object({
  access_token: Type.String(),
  refresh_token: Type.String(),
  token_type: Type.Unsafe<'Bearer' | 'DPoP'>(Type.String({ enum: ['Bearer', 'DPoP'], description: 'DPoP: bound to the key that was shown (RFC 9449, 5)' })),
  expires_in: Type.Integer({ description: 'Seconds until the access token expires' }),
}, { additionalProperties: false })
export type TokenPair = Static<typeof TokenPair>
