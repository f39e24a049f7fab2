/** A certificate with its chain and its key, as they were read together from their files. */
import { createHash, createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { CertificateRefused } from './errors.js'
import { signatureOf } from './signature.js'

/** Where a pair is kept. */
export interface CertificateFiles {
  /** Path of the certificate and the chain that leads to its root, leaf first, in PEM (certbot's `fullchain.pem`). */
  cert: string
  /** Path of its private key in PEM (certbot's `privkey.pem`). Nobody else may read it: mode 0600. */
  key: string
  /** Of an encrypted key. */
  passphrase?: string
}

export interface CertificatePair {
  readonly files: CertificateFiles
  /** Leaf first. */
  readonly chain: readonly X509Certificate[]
  readonly leaf: X509Certificate
  /** In PEM. */
  readonly cert: string
  readonly key: string
  /** Permission bits of the key's file; null where there are none (Windows). */
  readonly mode: number | null
  /** Of what the files held. */
  readonly digest: string
}

const CURVES: ReadonlySet<string> = new Set(['prime256v1', 'secp384r1', 'secp521r1'])
const MIN_RSA_BITS = 2048
const BLOCK = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g

/**
 * Reads a pair; what it answers belongs together, and is strong enough.
 *
 * @throws CertificateRefused where a file is missing, is no PEM, the key is another certificate's, or a key or a signature of the chain is weak
 */
export function readPair (files: CertificateFiles): CertificatePair {
  const cert = readText(files.cert)
  const key = readText(files.key)
  const chain = certificatesIn(cert, files.cert)
  const leaf = chain[0]!
  if (!leaf.checkPrivateKey(privateKeyIn(key, files))) {
    throw new CertificateRefused(`the key ${files.key} does not belong to the certificate ${files.cert}: give the two that were issued together${belongsBelow(chain, key, files)}`)
  }
  const weaknesses = chain.flatMap((certificate, i) => weaknessesOf(certificate, i).map(text => `${i === 0 ? files.cert : `${files.cert}, certificate ${i + 1} (${nameOf(certificate)})`} ${text}`))
  if (weaknesses.length > 0) throw new CertificateRefused(weaknesses.join('; '))
  return {
    files,
    chain,
    leaf,
    cert,
    key,
    mode: process.platform === 'win32' ? null : statSync(files.key).mode & 0o777,
    digest: createHash('sha256').update(cert).update('\0').update(key).digest('base64url'),
  }
}

/**
 * The certificates of a PEM text.
 *
 * @throws CertificateRefused that names the file
 */
export function certificatesIn (pem: string, path: string): X509Certificate[] {
  const blocks = pem.match(BLOCK) ?? []
  if (blocks.length > 0 && blocks.length < pem.split('-----BEGIN CERTIFICATE-----').length - 1) throw new CertificateRefused(`${path} ends within a certificate: write the file anew`)
  if (blocks.length === 0) throw new CertificateRefused(`${path} holds no certificate in PEM: convert it with \`openssl x509 -inform der -in FILE\``)
  return blocks.map((block, i) => {
    try {
      return new X509Certificate(block)
    } catch (error) {
      throw new CertificateRefused(`${path}: certificate ${i + 1} of ${blocks.length} cannot be read (${codeOf(error)}): write the file anew`)
    }
  })
}

/** @throws CertificateRefused that names the file and the error's code */
export function readText (path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new CertificateRefused(`${path} cannot be read (${codeOf(error)}): check the path, and that this process may read it`)
  }
}

/** The name in its subject. */
export function nameOf ({ subject }: X509Certificate): string {
  return subject === undefined ? 'no name' : (/(?:^|\n)CN=(.+)/.exec(subject)?.[1] ?? subject.replaceAll('\n', ', '))
}

/** OpenSSL would refuse some of these too, by a level that each distribution sets, and in its own words. */
function weaknessesOf (certificate: X509Certificate, place: number): string[] {
  const key = faultOfKey(certificate)
  const { name, isStrong } = signatureOf(certificate.raw)
  // That of a root is nobody's proof.
  const isRoot = place > 0 && certificate.issuer === certificate.subject
  return [
    ...key === null ? [] : [`${key}: make a key of P-256 or RSA ${MIN_RSA_BITS} and have it signed`],
    ...isStrong || isRoot ? [] : [`is signed by ${name}, which can be forged: have it issued anew with SHA-256`],
  ]
}

function faultOfKey ({ publicKey: { asymmetricKeyType: type, asymmetricKeyDetails: details } }: X509Certificate): string | null {
  if (type === 'ed25519' || type === 'ed448') return null
  if (type === 'ec') return CURVES.has(details?.namedCurve ?? '') ? null : `has a key on the curve ${details?.namedCurve ?? 'unknown'}`
  if (type === 'rsa' || type === 'rsa-pss') return details!.modulusLength! >= MIN_RSA_BITS ? null : `has an RSA key of ${details!.modulusLength} bits`
  return `has a key of the type ${type}`
}

function privateKeyIn (pem: string, { key: path, passphrase }: CertificateFiles): KeyObject {
  try {
    return createPrivateKey({ key: pem, ...passphrase !== undefined && { passphrase } })
  } catch (error) {
    const hint = /ENCRYPTED/.test(pem) ? 'it is encrypted: give its passphrase' : 'it must be an unencrypted PKCS#8, SEC1 or PKCS#1 key in PEM'
    throw new CertificateRefused(`${path} is no private key that can be read (${codeOf(error)}): ${hint}`)
  }
}

/** A chain that begins with the CA is the usual reason. */
function belongsBelow (chain: readonly X509Certificate[], pem: string, files: CertificateFiles): string {
  const key = privateKeyIn(pem, files)
  const place = chain.findIndex(certificate => certificate.checkPrivateKey(key))
  return place === -1 ? '' : `. It belongs to certificate ${place + 1} of the file: put that one first`
}

/** Of an error only its code: the message of a parser may hold what it read. */
function codeOf (error: unknown): string {
  return (error as { code?: string }).code ?? 'unknown'
}
