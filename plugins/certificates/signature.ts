/** The algorithm by which a certificate is signed: `X509Certificate` of Node 20 does not tell it. */

/** Allowed (CA/Browser Forum, Baseline Requirements 7.1.3.2; NIST SP 800-131A): by object identifier. */
const STRONG: Readonly<Record<string, string>> = {
  '1.2.840.113549.1.1.11': 'RSA with SHA-256',
  '1.2.840.113549.1.1.12': 'RSA with SHA-384',
  '1.2.840.113549.1.1.13': 'RSA with SHA-512',
  '1.2.840.10045.4.3.2': 'ECDSA with SHA-256',
  '1.2.840.10045.4.3.3': 'ECDSA with SHA-384',
  '1.2.840.10045.4.3.4': 'ECDSA with SHA-512',
  '1.3.101.112': 'Ed25519',
  '1.3.101.113': 'Ed448',
}
const WEAK: Readonly<Record<string, string>> = {
  '1.2.840.113549.1.1.2': 'RSA with MD2',
  '1.2.840.113549.1.1.3': 'RSA with MD4',
  '1.2.840.113549.1.1.4': 'RSA with MD5',
  '1.2.840.113549.1.1.5': 'RSA with SHA-1',
  '1.2.840.113549.1.1.14': 'RSA with SHA-224',
  '1.2.840.10045.4.1': 'ECDSA with SHA-1',
  '1.2.840.10045.4.3.1': 'ECDSA with SHA-224',
  '1.2.840.10040.4.3': 'DSA with SHA-1',
}
const PSS = '1.2.840.113549.1.1.10'
/** Hashes of RSASSA-PSS; without parameters it is SHA-1 (RFC 4055, 3.1). */
const STRONG_HASHES: Readonly<Record<string, string>> = {
  '2.16.840.1.101.3.4.2.1': 'SHA-256',
  '2.16.840.1.101.3.4.2.2': 'SHA-384',
  '2.16.840.1.101.3.4.2.3': 'SHA-512',
}
const SEQUENCE = 0x30
const OBJECT_IDENTIFIER = 0x06
const HASH_PARAMETER = 0xa0

interface Element { tag: number, content: Buffer, rest: Buffer }

/**
 * How a certificate is signed, in words.
 *
 * @param raw DER of a certificate that OpenSSL has read
 */
export function signatureOf (raw: Buffer): { name: string, isStrong: boolean } {
  // Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm AlgorithmIdentifier, signatureValue } (RFC 5280, 4.1)
  const { content: algorithm } = read(read(read(raw, SEQUENCE).content).rest, SEQUENCE)
  const { content, rest: parameters } = read(algorithm, OBJECT_IDENTIFIER)
  const id = identifierOf(content)
  if (id === PSS) {
    const hash = hashOf(parameters)
    return { name: `RSA-PSS with ${hash ?? 'SHA-1'}`, isStrong: hash !== null }
  }
  return { name: STRONG[id] ?? WEAK[id] ?? id, isStrong: id in STRONG }
}

function hashOf (parameters: Buffer): string | null {
  if (parameters.length === 0) return null
  const { content } = read(parameters, SEQUENCE)
  if (content.length === 0 || content[0] !== HASH_PARAMETER) return null
  const algorithm = read(read(content, HASH_PARAMETER).content, SEQUENCE).content
  return STRONG_HASHES[identifierOf(read(algorithm, OBJECT_IDENTIFIER).content)] ?? null
}

/** The first element of DER. */
function read (der: Buffer, tag = der[0]!): Element {
  if (der.length < 2 || der[0] !== tag) throw new TypeError('the certificate is not DER')
  let length = der[1]!
  let start = 2
  if (length >= 0x80) {
    const bytes = length & 0x7f
    length = der.readUIntBE(2, bytes)
    start += bytes
  }
  return { tag, content: der.subarray(start, start + length), rest: der.subarray(start + length) }
}

function identifierOf (content: Buffer): string {
  const arcs: number[] = []
  let value = 0
  for (const byte of content) {
    value = value * 128 + (byte & 0x7f)
    if (byte < 0x80) {
      arcs.push(value)
      value = 0
    }
  }
  const first = Math.min(2, Math.floor(arcs[0]! / 40))
  return [first, arcs[0]! - first * 40, ...arcs.slice(1)].join('.')
}
