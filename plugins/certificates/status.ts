/** What is told of a pair that is served, and what a reviewer should know. */
import type { X509Certificate } from 'node:crypto'
import { daysLeft, isSelfSigned, namesOf } from './inspection.js'
import { nameOf, type CertificatePair } from './pairs.js'

/** One that is served; nothing of its key. */
export interface CertificateStatus {
  /** Path of the file. */
  file: string
  subject: string
  names: string[]
  issuer: string
  serialNumber: string
  /** SHA-256, in hex. */
  fingerprint: string
  validFrom: Date
  validTo: Date
  /** Until it, or one of its chain, expires; negative afterwards. */
  daysLeft: number
  state: 'good' | 'expiring' | 'expired' | 'early'
  /** A reviewer should look at these. */
  warnings: string[]
}

export interface CertificateFinding { severity: 'high' | 'medium' | 'low', message: string, fix: string }

export function statusOf ({ files, leaf, chain }: CertificatePair, now: number, warnDays: number, warnings: readonly string[]): CertificateStatus {
  const days = Math.min(...chain.map(certificate => daysLeft(certificate, now)))
  const isEarly = chain.some(({ validFrom }) => now < Date.parse(validFrom))
  return {
    file: files.cert,
    subject: nameOf(leaf),
    names: namesOf(leaf),
    issuer: isSelfSigned(leaf) ? 'itself' : leaf.issuer.replaceAll('\n', ', '),
    serialNumber: leaf.serialNumber.toLowerCase(),
    fingerprint: fingerprintOf(leaf),
    validFrom: new Date(leaf.validFrom),
    validTo: new Date(leaf.validTo),
    daysLeft: days,
    state: days < 0 ? 'expired' : isEarly ? 'early' : days < warnDays ? 'expiring' : 'good',
    warnings: [...warnings],
  }
}

function fingerprintOf ({ fingerprint256 }: X509Certificate): string {
  return fingerprint256.replaceAll(':', '').toLowerCase()
}
