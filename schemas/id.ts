import { Type } from '@sinclair/typebox'

/** An opaque id. */
export const Id = Type.String({ minLength: 1, maxLength: 64, pattern: '^[A-Za-z0-9_-]+$', examples: ['Q6onQYz4Mkw-p5yG', '1'] })

/** RFC 9562, in lower case: the one form in which it is compared. */
export const Uuid = Type.String({
  minLength: 36, maxLength: 36, pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$', examples: ['8f3b1c1e-6f0b-4c53-9b3c-0b1d4a5b6c7d'],
})
