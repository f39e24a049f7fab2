/** The slot of a Redis cluster that a hash tag belongs to: CRC-16/XMODEM modulo 16,384, as Redis' cluster specification has it. */

const POLYNOMIAL = 0x1021
const SLOTS = 16_384

const TABLE = Uint16Array.from({ length: 256 }, (_entry, byte) => {
  let crc = byte << 8
  for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ POLYNOMIAL : crc << 1
  return crc
})

/** @param tag what stands in a key's braces, in ASCII */
export function slotOf (tag: string): number {
  let crc = 0
  for (let i = 0; i < tag.length; i++) crc = ((crc << 8) ^ TABLE[((crc >> 8) ^ tag.charCodeAt(i)) & 0xff]!) & 0xffff
  return crc % SLOTS
}
