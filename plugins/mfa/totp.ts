/** Time-based one-time passwords (RFC 6238) in the one form that every authenticator app knows: SHA-1, six digits, 30 seconds. */
import { randomBytes, timingSafeEqual } from 'node:crypto'
import { Secret, TOTP } from 'otpauth'
import encodeQr from 'qr'

/** Milliseconds of a time step. */
export const STEP_MS = 30_000
/** As many as HMAC-SHA-1 takes (RFC 4226, 4). */
const SECRET_BYTES = 20
const CODE = /^[0-9]{6}$/
/** Light modules around a QR code, as ISO/IEC 18004 wants. */
const QUIET_ZONE = 4

export function newSecret (): Buffer {
  return randomBytes(SECRET_BYTES)
}

export function isTotpCode (code: string): boolean {
  return CODE.test(code)
}

/**
 * The time step that this is the code of; null where it is of none within `drift` steps around now.
 *
 * All steps are computed and compared, in constant time each: how long it takes tells nothing (CWE-208).
 */
export function stepOf (secret: Buffer, code: string, now: number, drift: number): number | null {
  const totp = totpOf(secret)
  const offered = Buffer.from(code)
  const current = Math.floor(now / STEP_MS)
  let found: number | null = null
  for (let step = Math.max(0, current - drift); step <= current + drift; step++) {
    const expected = Buffer.from(totp.generate({ timestamp: step * STEP_MS }))
    if (offered.length === expected.length && timingSafeEqual(offered, expected)) found = step
  }
  return found
}

/** What an authenticator app takes: the secret to type, the URL to open, the QR code to scan. */
export function describeTotp (secret: Buffer, issuer: string, label: string): { secret: string, otpauthUrl: string, qr: string } {
  const totp = totpOf(secret, issuer, label)
  const otpauthUrl = totp.toString()
  return { secret: totp.secret.base32, otpauthUrl, qr: svgOf(encodeQr(otpauthUrl, 'raw', { ecc: 'medium', border: QUIET_ZONE })) }
}

function totpOf (secret: Buffer, issuer = '', label = ''): TOTP {
  return new TOTP({ issuer, label, algorithm: 'SHA1', digits: 6, period: STEP_MS / 1000, secret: new Secret({ buffer: new Uint8Array(secret).buffer }) })
}

/** Dark on light whatever page it stands on; each run of dark modules is one stroke. Holds no text, and so nothing of the label. */
function svgOf (rows: readonly (readonly boolean[])[]): string {
  const size = rows.length
  const runs = rows.flatMap((row, y) => [...row.map(isDark => isDark ? '#' : ' ').join('').matchAll(/#+/g)].map(({ index, 0: run }) => `M${index} ${y}.5h${run.length}`))
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size} ${size}" shape-rendering="crispEdges" role="img" aria-label="QR code">` +
    `<path fill="#fff" d="M0 0h${size}v${size}H0z"/><path stroke="#000" d="${runs.join('')}"/></svg>`
}
