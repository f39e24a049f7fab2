import { Type } from '@sinclair/typebox'

/** An amount in minor units (cents): never a fraction. */
export const Amount = Type.Integer({ minimum: 0, maximum: 1_000_000_000_000, examples: [0, 1999] })

/** ISO 4217. */
export const Currency = Type.String({ minLength: 3, maxLength: 3, pattern: '^[A-Z]{3}$', examples: ['EUR', 'JPY'] })

export const Money = Type.Object({ amount: Amount, currency: Currency }, { additionalProperties: false, examples: [{ amount: 1999, currency: 'EUR' }] })
