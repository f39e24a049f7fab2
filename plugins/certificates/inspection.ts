/** What is wrong with a pair, and what to do about it. */
import { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { rootCertificates } from 'node:tls'
import { DEVELOPMENT_ISSUER } from './development.js'
import { nameOf, type CertificatePair } from './pairs.js'

export interface Terms {
  /** Milliseconds since the epoch. */
  now: number
  /** An expired one is a fault (default), or only a warning. */
  refuseExpired: boolean
  production: boolean
  /** Roots of a company's own CA, to which the chain must lead; null: those that Node trusts, or one that nobody here knows. */
  roots: readonly X509Certificate[] | null
}

/** `faults` stop boot and a reload; `warnings` are told. */
export interface Inspection { faults: string[], warnings: string[] }

const SERVER_AUTHENTICATION = '1.3.6.1.5.5.7.3.1'
/** Group and others may neither write nor, others, read. */
const LOOSE = 0o027
export const DAY_MS = 86_400_000

let publicRoots: X509Certificate[] | null = null

/** Everything but strength, which is looked at as it is read, and host names, which the application knows only once it is ready. */
export function inspect (pair: CertificatePair, terms: Terms): Inspection {
  const { chain, leaf, files } = pair
  const faults: string[] = []
  const warnings: string[] = []
  const isDevelopment = isFromDevelopment(leaf)
  if (isDevelopment && terms.production) faults.push(`${files.cert} is a development certificate, whose key nobody guards: get one from a CA (Let's Encrypt is free)`)
  for (const [i, certificate] of chain.entries()) {
    const name = i === 0 ? files.cert : `${files.cert}, certificate ${i + 1} (${nameOf(certificate)})`
    const time = faultOfTime(certificate, terms.now)
    if (time !== null) (time.isExpired && !terms.refuseExpired ? warnings : faults).push(`${name} ${time.text}`)
  }
  const usage = leaf.keyUsage as string[] | undefined // extended key usage, in spite of its name
  if (usage !== undefined && !usage.includes(SERVER_AUTHENTICATION)) faults.push(`${files.cert} is not for servers (its extended key usage lacks serverAuth): have one issued that is`)
  if ((leaf.subjectAltName ?? '') === '') faults.push(`${files.cert} names no host (it has no subjectAltName; browsers do not read the common name): have it issued anew with its names`)
  inspectChain(pair, terms, isDevelopment, { faults, warnings })
  if (pair.mode !== null && (pair.mode & LOOSE) !== 0) {
    (terms.production ? faults : warnings).push(`${files.key} may be read or written by others (mode 0${pair.mode.toString(8)}): chmod 600 it (in Kubernetes: defaultMode 0440)`)
  }
  return { faults, warnings }
}

/** Names for which no pair is good. */
export function uncovered (pairs: readonly CertificatePair[], names: readonly string[]): string[] {
  return names.filter(name => !pairs.some(({ leaf }) => covers(leaf, name)))
}

/** `name`: a host, an address, or `*.` and a domain, of which one level below is meant. */
export function covers (certificate: X509Certificate, name: string): boolean {
  const bare = name.replace(/^\[|\]$/g, '')
  if (isIP(bare) !== 0) return certificate.checkIP(bare) !== undefined
  if (bare.startsWith('*.')) return namesOf(certificate).includes(bare.toLowerCase())
  return certificate.checkHost(bare, { subject: 'never' }) !== undefined
}

/** The hosts and addresses of a certificate. */
export function namesOf ({ subjectAltName = '' }: X509Certificate): string[] {
  return [...subjectAltName.matchAll(/(?:DNS|IP Address):"?([^,"\s]+)/g)].map(([, name]) => name!.toLowerCase())
}

/** Days until it expires; negative afterwards. */
export function daysLeft (certificate: X509Certificate, now: number): number {
  return (Date.parse(certificate.validTo) - now) / DAY_MS
}

export function isSelfSigned (certificate: X509Certificate): boolean {
  // `checkIssued` says no where the key is for no CA, as is right for a certificate that stands alone.
  return certificate.issuer === certificate.subject && certificate.verify(certificate.publicKey)
}

export function isFromDevelopment (certificate: X509Certificate): boolean {
  return certificate.issuer.includes(DEVELOPMENT_ISSUER)
}

export function faultOfTime ({ validFrom, validTo }: X509Certificate, now: number): { text: string, isExpired: boolean } | null {
  if (now < Date.parse(validFrom)) return { text: `is not valid before ${validFrom}: check the clock of this machine, or wait`, isExpired: false }
  if (now > Date.parse(validTo)) return { text: `expired on ${validTo}: renew it`, isExpired: true }
  return null
}

/** Each is signed by the next, and the last by a root. */
function inspectChain ({ chain, files }: CertificatePair, { roots, production }: Terms, isDevelopment: boolean, { faults, warnings }: Inspection): void {
  for (const [i, certificate] of chain.entries()) {
    const issuer = chain[i + 1]
    if (issuer === undefined || isIssuedBy(certificate, issuer)) continue
    const right = chain.findIndex(other => other !== certificate && isIssuedBy(certificate, other))
    faults.push(right === -1
      ? `${files.cert}: certificate ${i + 1} (${nameOf(certificate)}) is not issued by the next (${nameOf(issuer)}), and its issuer is not in the file: use your CA's full chain`
      : `${files.cert}: the chain is out of order: certificate ${right + 1} must follow certificate ${i + 1}`)
    return
  }
  const last = chain.at(-1)!
  const known = roots ?? rootsOfNode()
  const isAnchored = known.some(root => root.fingerprint256 === last.fingerprint256 || isIssuedBy(last, root))
  if (isAnchored) return
  if (roots !== null) faults.push(`${files.cert}: the chain does not lead to a root of certificates.roots: append the intermediate certificates`)
  else if (isSelfSigned(last)) {
    if (chain.length === 1 && !isDevelopment) warnings.push(`${files.cert} is self-signed: clients trust it only where they were told to${production ? '. Get one from a CA' : ''}`)
  } else if (/CA Issuers/.test(last.infoAccess ?? '')) {
    faults.push(`${files.cert}: the chain is not complete: it ends with ${nameOf(last)}, and ${issuerOf(last)} is no root that is known: append the intermediate certificates (certbot: fullchain.pem, not cert.pem)`)
  } else warnings.push(`${files.cert}: the chain ends with ${nameOf(last)}, whose issuer ${issuerOf(last)} is no public root: name the root of your own CA in certificates.roots`)
}

function isIssuedBy (certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)
}

function issuerOf ({ issuer }: X509Certificate): string {
  return /(?:^|\n)CN=(.+)/.exec(issuer)?.[1] ?? issuer.replaceAll('\n', ', ')
}

function rootsOfNode (): X509Certificate[] {
  publicRoots ??= rootCertificates.map(pem => new X509Certificate(pem))
  return publicRoots
}
