/** What people say of themselves. The patterns are anchored and free of nested repetition (CWE-1333). */
import { Type } from '@sinclair/typebox'

/** Names that would pass for the service itself. */
const RESERVED = ['admin', 'administrator', 'root', 'system', 'support', 'security', 'me', 'null', 'undefined', 'anonymous']
const reserved = RESERVED.map(name => [...name].map(letter => `[${letter}${letter.toUpperCase()}]`).join('')).join('|')

/** 3 to 50 of `[A-Za-z0-9_]`, and no name that would pass for the service. */
export const Username = Type.String({
  minLength: 3, maxLength: 50, pattern: `^(?!(?:${reserved})$)[A-Za-z0-9_]+$`, examples: ['alice', 'Bob_42'],
})

/** An e-mail address of the plain form, within the lengths of RFC 5321 (4.5.3.1). Compare it in lower case. */
export const Email = Type.String({
  minLength: 6,
  maxLength: 254,
  pattern: "^(?=[^@]{1,64}@)[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\\.)+[A-Za-z]{2,63}$",
  examples: ['alice@example.com'],
})

/** A password as it is typed: which ones are good is for the policy. */
export const PasswordInput = Type.String({ minLength: 1, maxLength: 1024 })

export const Age = Type.Integer({ minimum: 13, maximum: 150, examples: [42] })

/** E.164, or `XXX-XXX-XXXX`. */
export const Phone = Type.String({ maxLength: 16, pattern: '^(?:\\+[1-9]\\d{6,14}|\\d{3}-\\d{3}-\\d{4})$', examples: ['+491701234567', '555-123-4567'] })

/** An http or https URL without credentials. */
export const Url = Type.String({ maxLength: 2048, pattern: '^https?://[A-Za-z0-9.-]+(?::\\d{1,5})?(?:[/?#][^\\s<>"\\\\]*)?$', examples: ['https://example.com/about'] })

export const Bio = Type.String({ maxLength: 500, examples: ['Likes **long** walks.'] })
