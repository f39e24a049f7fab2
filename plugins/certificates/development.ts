/**
 * A certificate for development: self-signed, for this machine's own names, and refused in production.
 *
 * Who has its key can be this machine's `localhost` for whoever trusts it: it stays in a folder of the developer's own, and runs out soon.
 */
import { X509Certificate } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isProduction } from '../production.js'
import { CertificateRefused } from './errors.js'

/** By this name it is known, and refused in production. */
export const DEVELOPMENT_ISSUER = 'fastify-bastion development only'
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
const NAMES = ['localhost', '127.0.0.1', '::1']
const DAY_MS = 86_400_000
const VALID_DAYS = 90
/** It is made anew before it runs out under somebody's hands. */
const RENEW_DAYS = 7

export interface DevelopmentOptions {
  /** Where it is kept; made with mode 0700. */
  folder: string
  /** Default: by `NODE_ENV`, and it is production unless that is unset, `development` or `test`. */
  production?: boolean
  /** Milliseconds since the epoch. */
  now?: () => number
}

/**
 * The development certificate of a folder, for localhost, 127.0.0.1 and [::1]; made, or made anew, where there is none that is good for some days.
 *
 * @returns the paths of both files, in PEM; the key has the mode 0600
 * @throws CertificateRefused in production, or where @peculiar/x509 and reflect-metadata are not installed
 */
export async function developmentCertificate ({ folder, production = isProduction(), now = Date.now }: DevelopmentOptions): Promise<{ cert: string, key: string }> {
  if (production) throw new CertificateRefused("a development certificate is not made in production: get one from a CA (Let's Encrypt is free) and give the paths of its files")
  const files = { cert: join(folder, 'development-cert.pem'), key: join(folder, 'development-key.pem') }
  if (isGood(files, now())) return files
  const { cert, key } = await make(now())
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  // The key first, and each whole: who reads in between has one that does not fit, and reads again.
  for (const [path, pem] of [[files.key, key], [files.cert, cert]] as const) {
    writeFileSync(`${path}.${process.pid}`, pem, { mode: 0o600 })
    renameSync(`${path}.${process.pid}`, path)
  }
  return files
}

function isGood ({ cert, key }: { cert: string, key: string }, now: number): boolean {
  if (!existsSync(cert) || !existsSync(key)) return false
  try {
    const { validFrom, validTo } = new X509Certificate(readFileSync(cert))
    return Date.parse(validFrom) <= now && Date.parse(validTo) - now > RENEW_DAYS * DAY_MS
  } catch {
    return false
  }
}

async function make (now: number): Promise<{ cert: string, key: string }> {
  const x509 = await load()
  const { subtle } = globalThis.crypto
  const keys = await subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=localhost, OU=${DEVELOPMENT_ISSUER}`,
    // A clock that is a little behind, such as that of a container, takes it too.
    notBefore: new Date(now - DAY_MS / 24),
    notAfter: new Date(now + VALID_DAYS * DAY_MS),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension(NAMES.map(value => ({ type: /[:\d]$/.test(value) ? 'ip' as const : 'dns' as const, value }))),
    ],
  })
  const der = Buffer.from(await subtle.exportKey('pkcs8', keys.privateKey))
  return { cert: `${certificate.toString('pem')}\n`, key: `-----BEGIN PRIVATE KEY-----\n${der.toString('base64').replace(/.{64}(?=.)/g, '$&\n')}\n-----END PRIVATE KEY-----\n` }
}

async function load () {
  try {
    await import('reflect-metadata')
    return await import('@peculiar/x509')
  } catch (error) {
    if ((error as { code?: string }).code !== 'ERR_MODULE_NOT_FOUND') throw error
    throw new CertificateRefused('a development certificate is made by two packages that are not installed: npm install --save-dev @peculiar/x509 reflect-metadata')
  }
}
