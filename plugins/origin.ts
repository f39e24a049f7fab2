/** An origin as a browser writes it (RFC 6454, 6.2): scheme, host and port, in one spelling, without wildcards. */
export function isExactOrigin (text: string): boolean {
  const parsed = URL.canParse(text) ? new URL(text) : null
  return parsed !== null && parsed.origin === text && !text.includes('*') && /^https?:$/.test(parsed.protocol)
}
