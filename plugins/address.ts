/** Which addresses count as one caller. */
import { isIPv6 } from 'node:net'

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
  if ((a! | b! | c! | d! | e!) === 0 && f === 0xffff) return `${g >> 8}.${g & 255}.${h >> 8}.${h & 255}`
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
