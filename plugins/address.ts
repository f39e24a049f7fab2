/** Which addresses count as one caller. */
import { normalizeIP } from '@fastify/rate-limit'

/**
 * The key of an address: an IPv6 address counts by its /64, which is what one customer holds; an IPv4 address that
 * is mapped into IPv6 counts as the IPv4 address.
 */
export function addressKey (address: string | undefined): string {
  if (address === undefined) return 'unknown'
  return address.includes(':') ? normalizeIP(address, 64) : address
}
