/** Images that attacks upload, made here: small ones, and one that is small only as long as it is packed. */
import { crc32, deflateSync } from 'node:zlib'

const SIGNATURE = Buffer.from('89504e470d0a1a0a', 'hex')
const GREY = 0

/** 1 by 1, black; and white. */
export const PNG = image(1, Buffer.from([0, 0x00]))
export const OTHER_PNG = image(1, Buffer.from([0, 0x80]))

/** Of so many pixels by so many, each of them black. */
export function hugeImage (side: number): Buffer {
  return image(side, Buffer.alloc(side * (1 + Math.ceil(side / 8))))
}

/** One bit a pixel; `rows` with the byte of its filter before each. */
function image (side: number, rows: Buffer): Buffer {
  const header = Buffer.alloc(13)
  header.writeUInt32BE(side, 0)
  header.writeUInt32BE(side, 4)
  header.set([1, GREY, 0, 0, 0], 8)
  return Buffer.concat([SIGNATURE, chunk('IHDR', header), chunk('IDAT', deflateSync(rows, { level: 9 })), chunk('IEND', Buffer.alloc(0))])
}

function chunk (type: string, data: Buffer): Buffer {
  const named = Buffer.concat([Buffer.from(type), data])
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)]
  length.writeUInt32BE(data.length)
  sum.writeUInt32BE(crc32(named))
  return Buffer.concat([length, named, sum])
}
