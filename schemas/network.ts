/** Where things are: hosts, addresses and URLs. The patterns are anchored and free of nested repetition (CWE-1333). */
import { Type } from '@sinclair/typebox'

/** One part of the name of a host (RFC 1123, 2.1). */
export const LABEL = '[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?'
const BYTE = '(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)'
const ipv4 = `(?:${BYTE}\\.){3}${BYTE}`
const HEX = '[0-9A-Fa-f]{1,4}'
const ipv6 = [
  `(?:${HEX}:){7}(?:${HEX}|:)`,
  ...[6, 5, 4, 3, 2, 1].map(n => `(?:${HEX}:){${n}}(?::${HEX}){1,${7 - n}}`),
  `(?:${HEX}:){1,6}:`,
  `:(?:(?::${HEX}){1,7}|:)`,
  `(?:${HEX}:){6}${ipv4}`,
  ...[5, 4, 3, 2, 1].map(n => `(?:${HEX}:){${n}}(?::${HEX}){0,${5 - n}}:${ipv4}`),
  `:(?::${HEX}){0,5}:${ipv4}`,
].join('|')

/** The last part of a name is no number, so that no form of an address passes for a name. */
const NAME = `(?:${LABEL}\\.)*(?!(?:\\d+|0[Xx][0-9A-Fa-f]*)(?![A-Za-z0-9.-]))${LABEL}`
const PORT = '(?:6553[0-5]|655[0-2]\\d|65[0-4]\\d{2}|6[0-4]\\d{3}|[1-5]\\d{4}|[1-9]\\d{0,3})'

/** Four decimal bytes. Octal, hexadecimal and shortened forms, which some programs read as other addresses, are none. */
export const Ipv4 = Type.String({ minLength: 7, maxLength: 15, pattern: `^${ipv4}$`, examples: ['192.0.2.1', '255.255.255.255'] })

/** RFC 4291 (2.2), without a zone. */
export const Ipv6 = Type.String({ minLength: 2, maxLength: 45, pattern: `^(?:${ipv6})$`, examples: ['2001:db8::1', '::', '::ffff:192.0.2.1'] })

/** RFC 1123 (2.1), at most 253 characters. */
export const Hostname = Type.String({ minLength: 1, maxLength: 253, pattern: `^${NAME}$`, examples: ['example.com', 'localhost', 'xn--bcher-kva.example'] })

/** An http or https URL on a named host or an IPv4 address, without credentials. Where it leads is for whoever follows it. */
export const Url = Type.String({
  maxLength: 2048,
  pattern: `^https?://(?:${ipv4}|${NAME})(?::${PORT})?(?:[/?#][\\x21\\x23-\\x3b\\x3d\\x3f-\\x5b\\x5d\\x5f\\x61-\\x7a\\x7e]*)?$`,
  examples: ['https://example.com/about', 'http://localhost:3000/?q=a%20b#top'],
})
