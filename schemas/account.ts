/** What people say of themselves. The patterns are anchored and free of nested repetition (CWE-1333). */
import { Type } from '@sinclair/typebox'
import { plainText } from './text.js'
import { LABEL } from './network.js'

/** Names that would pass for the service itself. */
const RESERVED = ['admin', 'administrator', 'root', 'system', 'support', 'security', 'me', 'null', 'undefined', 'anonymous']
const reserved = RESERVED.map(name => [...name].map(letter => `[${letter}${letter.toUpperCase()}]`).join('')).join('|')

const ATOM = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"

/** 3 to 50 of `[A-Za-z0-9_]`, and no name that would pass for the service. */
export const Username = Type.String({
  minLength: 3, maxLength: 50, pattern: `^(?!(?:${reserved})$)[A-Za-z0-9_]+$`, examples: ['alice', 'Bob_42'],
})

/** An e-mail address of the plain form, within the lengths of RFC 5321 (4.5.3.1): of the local part 64, of all 254. Compare it by {@link comparableEmail}. */
export const Email = Type.String({
  minLength: 6,
  maxLength: 254,
  pattern: `^(?=[^@]{1,64}@)${ATOM}(?:\\.${ATOM})*@(?:${LABEL}\\.)+(?:[A-Za-z]{2,63}|[Xx][Nn]--[A-Za-z0-9-]{1,58}[A-Za-z0-9])$`,
  examples: ['alice@example.com', 'a.b+c@mail.example.co', 'x@xn--bcher-kva.xn--p1ai'],
})

/** Addresses that are equal in this form belong to one account. Only the case differs, for addresses of the plain form know no other spelling. */
export function comparableEmail (email: string): string {
  return email.toLowerCase()
}

/** A password as it is typed: which ones are good is for the policy. */
export const PasswordInput = Type.String({ minLength: 1, maxLength: 1024, examples: ['correct horse battery staple', ' '] })

/** Years. */
export const Age = Type.Integer({ minimum: 13, maximum: 150, examples: [13, 150] })

/** E.164, or `XXX-XXX-XXXX`. */
export const Phone = Type.String({ maxLength: 16, pattern: '^(?:\\+[1-9]\\d{6,14}|\\d{3}-\\d{3}-\\d{4})$', examples: ['+491701234567', '555-123-4567'] })

/** What somebody says of themselves: paragraphs and emphasis, at most twenty lines. */
export const Bio = plainText({ maxLength: 500, maxLines: 20, html: 'inline', examples: ['<p>Likes <em>long</em> walks.</p>', 'Just text', ''] })
