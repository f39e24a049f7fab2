import { Type } from '@sinclair/typebox'

/** An amount in minor units (cents): never a fraction. */
export const Amount = Type.Integer({ minimum: 0, maximum: 1_000_000_000_000, examples: [0, 1999] })

/** ISO 4217. */
export const Currency = Type.String({ minLength: 3, maxLength: 3, pattern: '^[A-Z]{3}$', examples: ['EUR', 'JPY'] })

export const Money = Type.Object({ amount: Amount, currency: Currency }, { additionalProperties: false, examples: [{ amount: 1999, currency: 'EUR' }] })

/** What a payment provider gives for a card, so that its number never comes here. */
export const PaymentToken = Type.String({ minLength: 8, maxLength: 255, pattern: '^tok_[A-Za-z0-9_]+$', examples: ['tok_visa', 'tok_1N3T00LkdIwHu7ixt44h1F8k'] })
