/** Which addresses count as one caller, and which are in a list. */
import { BlockList, isIPv4, isIPv6 } from 'node:net'

/** `192.0.2.1:443` and `[2001:db8::1]:443`: what some proxies put into X-Forwarded-For. A port must not make a new caller. */
const WITH_PORT = /^(?:\[([^\]]+)\]|(\d{1,3}(?:\.\d{1,3}){3}))(?::\d{1,5})?$/

/**
 * The key of an address: an IPv6 address counts by its /64, which is what one customer holds; an IPv4 address that
 * is mapped into IPv6 counts as the IPv4 address. Use it wherever an address is a part of a key.
 */
export function addressKey (address: string | undefined): string {
  if (address === undefined) return 'unknown'
  if (!address.includes(':')) return address
  // As a socket that listens on both families names its IPv4 clients: most of them, so without any parsing.
  if (address.startsWith('::ffff:') && address.includes('.') && !address.includes(':', 7)) return address.slice(7)
  const ported = WITH_PORT.exec(address)
  const bare = ported === null ? address : ported[1] ?? ported[2]!
  return isIPv6(bare) ? networkOf(bare) : ported?.[2] ?? address
}

function networkOf (address: string): string {
  const zone = address.indexOf('%')
  const [head = '', tail] = (zone === -1 ? address : address.slice(0, zone)).split('::')
  const groups = groupsOf(head)
  if (tail !== undefined) {
    const rest = groupsOf(tail)
    while (groups.length + rest.length < 8) groups.push(0)
    groups.push(...rest)
  }
  const [a, b, c, d, e, f, g = 0, h = 0] = groups
  const isMapped = (a! | b! | c! | d! | e!) === 0 && f === 0xffff
  // NAT64 (RFC 6052, 2.1): all of the IPv4 clients behind it would else be one.
  const isTranslated = a === 0x64 && b === 0xff9b && (c! | d! | e! | f!) === 0
  if (isMapped || isTranslated) return `${g >> 8}.${g & 255}.${h >> 8}.${h & 255}`
  return `${a!.toString(16)}:${b!.toString(16)}:${c!.toString(16)}:${d!.toString(16)}::/64`
}

function groupsOf (text: string): number[] {
  if (text === '') return []
  return text.split(':').flatMap(group => {
    if (!group.includes('.')) return parseInt(group, 16)
    const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number)
    return [a << 8 | b, c << 8 | d]
  })
}

/**
 * Whether an address is one of these, or in one of these blocks (`203.0.113.9`, `10.0.0.0/8`, `2001:db8::/32`). An IPv4
 * address that is mapped into IPv6 is the IPv4 address, in the list too; ports and zones do not count. What is no address is in no list.
 *
 * @throws TypeError for what is neither an address nor a block, and for a block of everybody
 */
export function addressRanges (list: readonly string[]): (address: string | undefined) => boolean {
  // One a family: an address is never compared with a block of the other one.
  const ranges = { ipv4: new BlockList(), ipv6: new BlockList() }
  for (const text of list) {
    const [network = '', prefix, ...rest] = text.split('/')
    const plain = plainAddress(network)
    const family = plain !== null && isIPv4(plain) ? 'ipv4' : 'ipv6'
    const width = family === 'ipv4' ? 32 : 128
    const isMapped = family === 'ipv4' && network.includes(':')
    const bits = prefix === undefined ? width : /^\d{1,3}$/.test(prefix) ? Number(prefix) - (isMapped ? 96 : 0) : NaN
    if (plain === null || rest.length > 0 || !(bits >= 0 && bits <= width)) throw new TypeError(`${JSON.stringify(text)} is not an address or a CIDR block`)
    if (bits === 0) throw new TypeError(`${JSON.stringify(text)} is everybody`)
    ranges[family].addSubnet(plain, bits, family)
  }
  return address => {
    const plain = plainAddress(address)
    if (plain === null) return false
    return isIPv4(plain) ? ranges.ipv4.check(plain, 'ipv4') : ranges.ipv6.check(plain, 'ipv6')
  }
}

/** Without port, brackets and zone, and as IPv4 where it is mapped; null where it is no address. */
function plainAddress (address: string | undefined): string | null {
  const key = addressKey(address)
  if (isIPv4(key)) return key
  const [bare = ''] = (WITH_PORT.exec(address ?? '')?.[1] ?? address ?? '').split('%')
  return isIPv6(bare) ? bare : null
}
