/** Certificates of clients as a credential: the connection has shown that it holds the key, here is asked whose it is. */
import { X509Certificate } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { FastifyError } from '@fastify/error'
import type { TLSSocket } from 'node:tls'
import type { CredentialReader, Principal, Reading } from '../identity.js'
import { ClientCertificateRefused, CrossSiteRefused } from './errors.js'
import { faultOfTime } from './inspection.js'
import type { ClientCertificates } from './listener.js'

const CLIENT_AUTHENTICATION = '1.3.6.1.5.5.7.3.2'
const SAFE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS'])

export interface ClientTerms {
  clients: ClientCertificates & Required<Pick<ClientCertificates, 'principal'>>
  events: FastifyInstance['events']
  /** Counts one that was refused. */
  count: () => void
  now: () => number
}

/**
 * Whoever also sends a credential of their own is that one: the certificate may be the machine's, and the token the person's.
 */
export function clientReader ({ clients: { principal }, events, count, now }: ClientTerms): CredentialReader {
  const known = new WeakMap<object, X509Certificate>()

  return {
    name: 'certificate',
    isAmbient: true,
    read (request): Reading {
      const socket = request.raw.socket as TLSSocket
      const certificate = certificateOf(socket)
      if (certificate === null) return null
      const fault = faultOf(certificate, socket, now())
      if (fault !== null) return refused(request, certificate, fault)
      const found = principal(certificate)
      if (found === null || found === undefined) return refused(request, certificate, 'unknown')
      if (!isNamed(found)) throw new TypeError('tls.clientCertificates.principal: must answer { id, roles } or null, at once')
      if (!SAFE.has(request.method) && isFromAnotherSite(request)) return { failure: new CrossSiteRefused() }
      return { principal: principalOf(certificate, found) }
    },
  }

  function certificateOf (socket: TLSSocket): X509Certificate | null {
    let certificate = known.get(socket)
    if (certificate === undefined) {
      certificate = socket.getPeerX509Certificate?.()
      if (certificate === undefined) return null
      known.set(socket, certificate)
    }
    return certificate
  }

  function refused (request: FastifyRequest, certificate: X509Certificate, reason: string): { failure: FastifyError } {
    count()
    events.record('client_certificate_refused', request, { reason, certificate: certificate.fingerprint256.replaceAll(':', '').toLowerCase() })
    return { failure: new ClientCertificateRefused() }
  }
}

/** What OpenSSL found at the handshake, and what has come since: a connection may be older than the certificate is good. */
function faultOf (certificate: X509Certificate, socket: TLSSocket, now: number): string | null {
  if (!socket.authorized) return String(socket.authorizationError ?? 'not trusted')
  const time = faultOfTime(certificate, now)
  if (time !== null) return time.isExpired ? 'CERT_HAS_EXPIRED' : 'CERT_NOT_YET_VALID'
  const usage = certificate.keyUsage as string[] | undefined // extended key usage, in spite of its name
  return usage !== undefined && !usage.includes(CLIENT_AUTHENTICATION) ? 'INVALID_PURPOSE' : null
}

/** A promise, such as that of an asynchronous function, would be somebody without a name, whoever it is of in the end. */
function isNamed (found: object): boolean {
  if (found instanceof Promise) found.catch(() => {})
  const { id, roles } = found as Partial<Principal>
  return typeof id === 'string' && id !== '' && Array.isArray(roles)
}

/** A browser sends its certificate with whatever any page has it send. */
function isFromAnotherSite ({ headers: { 'sec-fetch-site': site, origin }, protocol, host }: FastifyRequest): boolean {
  if (site !== undefined) return site !== 'same-origin' && site !== 'none'
  return origin !== undefined && origin !== `${protocol}://${host}`
}

function principalOf (certificate: X509Certificate, { id, userId = id, ...rest }: ReturnType<ClientTerms['clients']['principal']> & object): Principal {
  return {
    kind: 'key',
    ...rest,
    id,
    userId,
    via: 'certificate',
    authTime: 0, // no person proves themselves by what a machine holds
    credentialId: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
  } as Principal
}
