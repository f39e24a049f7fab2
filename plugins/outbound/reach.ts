/**
 * Which addresses everybody in the internet can reach, and what the others are for (IANA's special-purpose address registries; RFC 6890, 4291, 9637).
 *
 * Of IPv6 only global unicast is taken, 2000::/3, without the parts of it that carry IPv4 or are set aside. So forms that stand for an IPv4 address (mapped, compatible,
 * NAT64, 6to4, Teredo) are never taken, whatever that address is.
 */
import { isIPv4, isIPv6 } from 'node:net'
import { addressRanges } from '../address.js'

export type AddressKind = 'loopback' | 'metadata' | 'private' | 'link-local' | 'shared' | 'documentation' | 'multicast' | 'tunnel' | 'reserved' | 'unreadable'

/** The first that holds an address says what it is. */
const SPECIAL: readonly [kind: AddressKind, ranges: readonly string[]][] = [
  ['loopback', ['127.0.0.0/8', '::1']],
  // Of clouds, as far as one can know: AWS and most others, AWS on IPv6, Oracle, Alibaba, and Azure, whose address looks public.
  ['metadata', ['169.254.169.254', 'fd00:ec2::254', '192.0.0.192', '100.100.100.200', '168.63.129.16']],
  ['private', ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7', 'fec0::/10']],
  ['link-local', ['169.254.0.0/16', 'fe80::/10']],
  ['shared', ['100.64.0.0/10']],
  ['documentation', ['192.0.2.0/24', '198.51.100.0/24', '203.0.113.0/24', '2001:db8::/32', '3fff::/20']],
  ['multicast', ['224.0.0.0/4', 'ff00::/8']],
  ['tunnel', ['2002::/16', '2001::/32', '192.88.99.0/24']],
  // This network, protocol assignments, benchmarks, and what is kept for later, broadcast among it.
  ['reserved', ['0.0.0.0/8', '192.0.0.0/24', '198.18.0.0/15', '240.0.0.0/4', '2001::/23']],
]
const kinds = SPECIAL.map(([kind, ranges]) => ({ kind, holds: addressRanges(ranges) }))
const isGlobalUnicast = addressRanges(['2000::/3'])
/** As address.ts reads it: mapped into IPv6, or by the well-known prefix of NAT64. */
const isOfIpv4 = addressRanges(['0.0.0.0/1', '128.0.0.0/1'])

/** What an address is that not everybody in the internet can reach; null where everybody can. A name, or an IPv4 address in another form than four decimal bytes, is unreadable. */
export function specialKind (address: string): AddressKind | null {
  if (!isIPv4(address)) {
    if (!isIPv6(address) || address.includes('%')) return 'unreadable'
    if (isOfIpv4(address)) return 'tunnel'
    if (!isGlobalUnicast(address)) return kindOf(address) ?? 'reserved'
  }
  return kindOf(address)
}

function kindOf (address: string): AddressKind | null {
  return kinds.find(({ holds }) => holds(address))?.kind ?? null
}
