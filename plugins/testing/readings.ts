/** Whether a text stands in another, however it is written there: as it is, escaped, or in one of the codings that hide nothing. */

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: '\u00a0' }
const ESCAPES: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' }
/** Characters of base64 that hold bits of what stands before, by how many bytes do. */
const BEFORE = [0, 2, 3]
const MAX_CODE = 0x10FFFF

/** The text, and what becomes of it where escapes are read: of JSON, also twice, of HTML, of URLs, and of one in the other. */
export function readingsOf (text: string): string[] {
  const once = ofJson(text)
  return [...new Set([text, once, ofJson(once), ofHtml(text), ofUrl(text), ofUrl(ofHtml(ofJson(once)))])]
}

/**
 * How the text is written there; null where it does not stand there.
 *
 * @param codings of the text, where they are known
 */
export function wayIn (readings: readonly string[], text: string, codings?: readonly string[]): 'as it is' | 'escaped' | 'encoded' | null {
  if (readings[0]!.includes(text)) return 'as it is'
  if (readings.some(reading => reading.includes(text))) return 'escaped'
  const looked = codings ?? codingsOf(text)
  return readings.some(reading => looked.some(coding => reading.includes(coding))) ? 'encoded' : null
}

/** In hex and base64, in which it may stand behind something else. */
export function codingsOf (text: string): string[] {
  const hex = Buffer.from(text).toString('hex')
  const inBase64 = BEFORE.flatMap((from, before) => {
    const bytes = Buffer.concat([Buffer.alloc(before), Buffer.from(text)])
    const whole = Math.floor(bytes.length * 8 / 6)
    return [bytes.toString('base64'), bytes.toString('base64url')].map(coded => coded.slice(from, whole))
  })
  return [...new Set([hex, hex.toUpperCase(), ...inBase64])]
}

function ofJson (text: string): string {
  return text.replace(/\\(?:u([\da-f]{4})|x([\da-f]{2})|([bfnrt"'/\\]))/gi, (_all, long?: string, short?: string, letter = '') => {
    const code = long ?? short
    return code === undefined ? ESCAPES[letter] ?? letter as string : String.fromCharCode(parseInt(code, 16))
  })
}

function ofHtml (text: string): string {
  return text.replace(/&(?:#(\d{1,7})|#x([\da-f]{1,6})|([a-z]{2,4}));?/gi, (all, decimal?: string, hex?: string, name = '') => {
    const code = decimal !== undefined ? Number(decimal) : hex !== undefined ? parseInt(hex, 16) : null
    return code === null ? ENTITIES[String(name).toLowerCase()] ?? all : code > MAX_CODE ? all : String.fromCodePoint(code)
  })
}

function ofUrl (text: string): string {
  return text.replaceAll('+', ' ').replace(/(?:%[\da-f]{2})+/gi, all => Buffer.from(all.replaceAll('%', ''), 'hex').toString())
}
