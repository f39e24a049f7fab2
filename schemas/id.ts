import { Type } from '@sinclair/typebox'

/** An opaque id. */
export const Id = Type.String({ minLength: 1, maxLength: 64, pattern: '^[A-Za-z0-9_-]+$', examples: ['Q6onQYz4Mkw-p5yG', '1'] })
