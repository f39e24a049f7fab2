/**
 * Peers: the services behind this one (databases, caches), and whether TLS guards the way to them.
 *
 * Threat: credentials and records that travel in clear, or to whoever answers (CWE-319, CWE-295).
 * Defence: what a URL says is read once, strictly; certificates are verified unless a URL says otherwise, which production
 * does not take; the log and posture name those that are plain.
 * Not covered: what the peer does with what it is sent.
 */
import { readFileSync } from 'node:fs'
import type { FastifyBaseLogger } from 'fastify'
import { isProduction } from './production.js'

/** A service that this one connects to. */
export interface Peer {
  /** What it is for: `database`, `state`. */
  name: string
  /** Name or address; of a socket file its path. */
  host: string
  /** Whether nobody sits between: the same machine. */
  isLocal: boolean
  tls: 'verified' | 'unverified' | 'none'
}

const LOOPBACK = /^(?:(?:.+\.)?localhost|127(?:\.\d{1,3}){3}|::1|::ffff:127(?:\.\d{1,3}){3})$/i
/** What OpenSSL and Node say of a certificate that does not pass. */
const UNTRUSTED = /^(?:CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|ERR_TLS_CERT|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_|HOSTNAME_MISMATCH|CRL_|ERROR_IN_)/
/** What they say where one side speaks no TLS, or not one that the other takes. */
const NO_TLS = /^(?:ERR_SSL_|EPROTO)|does not support SSL|error establishing an SSL/

/** `localhost`, the loopback networks, and socket files. */
export function isLocalHost (host: string): boolean {
  return host.startsWith('/') || LOOPBACK.test(host.replace(/^\[(.*)\]$/, '$1'))
}

/** What is wrong with the way to a peer; null where nothing is. */
export function weaknessOf ({ name, host, isLocal, tls }: Peer): string | null {
  if (isLocal || tls === 'verified') return null
  return tls === 'none'
    ? `the connection to ${host} (${name}) is plain: whoever is on the way reads and changes it; use TLS`
    : `the certificate of ${host} (${name}) is not verified: whoever is on the way can be it`
}

/** Says in the log what posture says too; in production. */
export function warnOfPeer (log: FastifyBaseLogger, peer: Peer): void {
  const weakness = isProduction() ? weaknessOf(peer) : null
  if (weakness !== null) log.warn({ peer: peer.name, host: peer.host, tls: peer.tls }, weakness)
}

/** What TLS had against a peer, in words that say what to do; null where the error is another one. Nothing secret is in it. */
export function tlsFaultOf (error: unknown): string | null {
  const { code = '', message = '', reason } = (error ?? {}) as { code?: string, message?: string, reason?: string }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return `the certificate is for another host (${reason ?? message}): connect by a name that is in it`
  if (UNTRUSTED.test(code)) return `the certificate is not trusted (${message}): name its authority by NODE_EXTRA_CA_CERTS, or by sslrootcert in the URL`
  return NO_TLS.test(code) || NO_TLS.test(message) ? 'the server does not speak TLS, or no version and cipher that this one takes' : null
}

/**
 * Certificates of authorities, from a file.
 *
 * @throws TypeError where it cannot be read or holds none; the path is named, it is no secret
 */
export function authoritiesOf (path: string): string {
  let pem = ''
  try {
    pem = readFileSync(path, 'utf8')
  } catch { /* said below */ }
  if (!pem.includes('-----BEGIN CERTIFICATE-----')) throw new TypeError(`sslrootcert: ${JSON.stringify(path)} cannot be read, or holds no certificate`)
  return pem
}
