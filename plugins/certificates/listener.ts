/**
 * TLS of a server: versions, suites and certificates, the same on each of its sockets, at boot and after every reload.
 *
 * `setSecureContext` of Node forgets whatever it is not given again, the floor of the version among it; and a server that listens on `localhost` is two.
 * So all of them get all of the options, every time, from one place.
 */
import { constants, type X509Certificate } from 'node:crypto'
import type { Http2SecureServer } from 'node:http2'
import type { Server } from 'node:https'
import { createSecureContext, type SecureContext, type SecureContextOptions, type TlsOptions as NodeTlsOptions, type TLSSocket } from 'node:tls'
import type { Principal, PrincipalExtras } from '../identity.js'
import { CertificatesMisconfigured } from './errors.js'
import { covers, namesOf } from './inspection.js'
import { certificatesIn, readPair, readText, type CertificateFiles, type CertificatePair } from './pairs.js'

/** Who a certificate stands for. What is left out is: a `key`, acting for nobody else, with no scopes. */
export type CertificatePrincipal = Pick<Principal, 'id' | 'roles'> & Partial<Pick<Principal, 'kind' | 'userId' | 'scopes' | 'plan'>> & Partial<PrincipalExtras>

export interface ClientCertificates {
  /** Path, or paths, of the CAs that issue certificates of clients, in PEM; no other is trusted for it. They are read again when they change. */
  ca: string | readonly string[]
  /**
   * `true`: the handshake of a client without a good certificate fails. By default it is asked for one, and each route says by `access` whether it needs it:
   * `access: { via: ['certificate'], … }`.
   */
  required?: boolean
  /**
   * Who the certificate stands for; null: nobody who is known. Called for each request, so that it can forget somebody at once. Without it certificates only open the
   * connection, and name nobody.
   */
  principal?: (certificate: X509Certificate) => CertificatePrincipal | null
}

export type TlsOptions = (CertificateFiles | {
  /** For several names: by SNI each client gets the one that covers the name it asks for, or else the first. */
  certificates: readonly CertificateFiles[]
}) & {
  /**
   * HTTP/2, and HTTP/1.1 for clients that do not speak it (default `true`). One connection for all requests of a browser, and no lengths and encodings for a proxy to
   * disagree about (CWE-444). What Node bounds for HTTP/1.1 alone is bounded here for HTTP/2 too: the time of a request, streams, headers, the end of a server.
   * `false` where a proxy before the service speaks HTTP/1.1 only, or a route writes to `reply.raw` what HTTP/2 does not have (`Connection`, a status text): HTTP/1.1
   * alone is also the faster one for small answers (headers are prepared, see plugins/prepared.ts).
   */
  http2?: boolean
  clientCertificates?: ClientCertificates
}

/**
 * Mozilla's "intermediate" without what has no forward secrecy of today (DHE): AEAD alone, the strongest first. TLS 1.3 has its own three.
 * (ASVS 12.1.1, 12.1.2; NIST SP 800-52r2, 3.3.1; RFC 9325, 4.2)
 */
const CIPHERS = [
  'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256', 'TLS_AES_128_GCM_SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384', 'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305', 'ECDHE-RSA-CHACHA20-POLY1305',
  'ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-RSA-AES128-GCM-SHA256',
].join(':')
const CURVES = 'X25519:P-256:P-384'
/** No SHA-1, which OpenSSL would still sign with in TLS 1.2 (RFC 9155). */
const SIGNATURES = [
  'ecdsa_secp256r1_sha256', 'ecdsa_secp384r1_sha384', 'ecdsa_secp521r1_sha512', 'ed25519', 'ed448', 'rsa_pss_rsae_sha256', 'rsa_pss_rsae_sha384', 'rsa_pss_rsae_sha512',
  'rsa_pss_pss_sha256', 'rsa_pss_pss_sha384', 'rsa_pss_pss_sha512', 'rsa_pkcs1_sha256', 'rsa_pkcs1_sha384', 'rsa_pkcs1_sha512',
].join(':')
/** What may be looked up in a certificate. Of other names, which RFC 6066, 3, does not allow, some make Node throw in the midst of the handshake. */
const SERVER_NAME = /^[a-z0-9._-]+$/i
/** Milliseconds for a handshake: who opens connections and says nothing holds each no longer. */
const HANDSHAKE_MS = 10_000
/** Milliseconds for which the key that tickets are encrypted with is used: whoever gets it later reads no older sessions (RFC 9325, 3.4). */
const TICKET_KEY_MS = 12 * 3_600_000

/** Certificates between a client's and its root. */
const MAX_DEPTH = 10

type SecureServer = Server | Http2SecureServer
const listeners = new WeakMap<object, TlsListener>()

/** The TLS of a server that was made by `server({ tls })`; null for others. */
export function tlsOf (server: object): TlsListener | null {
  return listeners.get(server) ?? null
}

export class TlsListener {
  readonly http2: boolean
  readonly clients: ClientCertificates | null
  readonly #files: readonly CertificateFiles[]
  readonly #servers = new Set<SecureServer>()
  readonly #onFailure = new Set<(error: Error & { code?: string }, socket: TLSSocket) => void>()
  /** Connections of clients whose certificate is trusted, with the chain, which Node forgets after the handshake. */
  readonly #vouched = new Map<TLSSocket, X509Certificate>()
  #pairs: readonly CertificatePair[]
  #ca: readonly string[]
  #contexts: readonly SecureContext[] = []
  #rotation: NodeJS.Timeout | null = null

  /**
   * @throws CertificatesMisconfigured
   * @throws CertificateRefused
   */
  constructor (options: TlsOptions) {
    const { http2 = true, clientCertificates = null, ...given } = options
    this.#files = filesOf(given)
    this.http2 = http2
    this.clients = clientCertificates
    if (typeof http2 !== 'boolean') throw new CertificatesMisconfigured('server: tls.http2: must be true or false')
    if (clientCertificates !== null) checkClients(clientCertificates)
    this.#pairs = this.#files.map(readPair)
    this.#ca = this.readCa()
    this.#contexts = this.#pairs.map(pair => createSecureContext(contextOf(pair, this.#ca)))
  }

  /** What is served now. */
  get pairs (): readonly CertificatePair[] { return this.#pairs }

  get ca (): readonly string[] { return this.#ca }

  /** Every file that is served from. */
  get paths (): string[] {
    return [...this.#files.flatMap(({ cert, key }) => [cert, key]), ...this.clients === null ? [] : [this.clients.ca].flat()]
  }

  /** For a server that is made now. */
  options (): NodeTlsOptions {
    return {
      ...contextOf(this.#pairs[0]!, this.#ca),
      handshakeTimeout: HANDSHAKE_MS,
      SNICallback: (name, done) => { done(null, this.#contextFor(name)) },
      ...this.clients !== null && { requestCert: true, rejectUnauthorized: this.clients.required === true },
    }
  }

  /** Keeps a server's TLS from now on. */
  attach (server: SecureServer): void {
    listeners.set(server, this)
    this.#servers.add(server)
    server.on('secureConnection', (socket: TLSSocket) => {
      socket.disableRenegotiation()
      const certificate = this.clients === null || !socket.authorized ? undefined : socket.getPeerX509Certificate()
      if (certificate === undefined) return
      this.#vouched.set(socket, certificate)
      socket.once('close', () => { this.#vouched.delete(socket) })
    })
    server.on('tlsClientError', (error: Error, socket: TLSSocket) => { for (const tell of this.#onFailure) tell(error, socket) })
    server.once('close', () => {
      this.#servers.delete(server)
      if (this.#servers.size === 0 && this.#rotation !== null) clearInterval(this.#rotation)
    })
    this.#rotation ??= setInterval(() => { this.#serve() }, TICKET_KEY_MS).unref()
  }

  /** Adds a listener of handshakes that failed. */
  onFailure (listener: (error: Error & { code?: string }, socket: TLSSocket) => void): void {
    this.#onFailure.add(listener)
  }

  /** Reads the pair of one place anew; it is not served by that. */
  readPair (place: number): CertificatePair {
    return readPair(this.#files[place]!)
  }

  /** Reads the CAs of clients anew. */
  readCa (): string[] {
    if (this.clients === null) return []
    return [this.clients.ca].flat().map(path => {
      const pem = readText(path)
      certificatesIn(pem, path)
      return pem
    })
  }

  /**
   * Serves these from now on, to new connections. Those that stand are not touched, but for those of clients whose CA is trusted no more: they end.
   *
   * @throws where one of them makes no context: then nothing has changed
   */
  take (pairs: readonly CertificatePair[], ca: readonly string[]): void {
    const contexts = pairs.map(pair => createSecureContext(contextOf(pair, ca)))
    const isOtherCa = ca.join() !== this.#ca.join()
    this.#pairs = pairs
    this.#ca = ca
    this.#contexts = contexts
    for (const server of this.#servers) server.setSecureContext(contextOf(pairs[0]!, ca))
    if (!isOtherCa) return
    const authorities = ca.flatMap(pem => certificatesIn(pem, 'ca'))
    for (const [socket, certificate] of this.#vouched) if (!leadsTo(authorities, certificate)) socket.destroy()
  }

  /** The same again, with new keys for tickets: each context has its own, at random. */
  #serve (): void {
    this.take(this.#pairs, this.#ca)
  }

  #contextFor (name: string): SecureContext | undefined {
    if (!SERVER_NAME.test(name)) return this.#contexts[0]
    const exact = this.#pairs.findIndex(({ leaf }) => namesOf(leaf).includes(name.toLowerCase()))
    const place = exact === -1 ? this.#pairs.findIndex(({ leaf }) => covers(leaf, name)) : exact
    return this.#contexts[Math.max(place, 0)]
  }
}

/** The issuer that Node names is one by its name: each signature is verified here. */
function leadsTo (authorities: readonly X509Certificate[], certificate: X509Certificate): boolean {
  let at = certificate
  for (let depth = 0; depth < MAX_DEPTH; depth += 1) {
    const current = at
    if (authorities.some(one => one.raw.equals(current.raw) || (current.checkIssued(one) && current.verify(one.publicKey)))) return true
    const { issuerCertificate } = current
    if (issuerCertificate === undefined || !current.verify(issuerCertificate.publicKey)) return false
    at = issuerCertificate
  }
  return false
}

function contextOf ({ cert, key, files: { passphrase } }: CertificatePair, ca: readonly string[]): SecureContextOptions {
  return {
    cert,
    key,
    ...passphrase !== undefined && { passphrase },
    ...ca.length > 0 && { ca: [...ca] },
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.3',
    ciphers: CIPHERS,
    ecdhCurve: CURVES,
    sigalgs: SIGNATURES,
    honorCipherOrder: true,
    // One for all contexts: a session begun by the one that SNI chose is resumed by the one that a connection begins with.
    sessionIdContext: 'bastion',
    // A ticket would vouch for a client's certificate that has expired or is trusted no more since.
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION | constants.SSL_OP_CIPHER_SERVER_PREFERENCE | (ca.length > 0 ? constants.SSL_OP_NO_TICKET : 0),
  }
}

function filesOf (given: Record<string, unknown>): readonly CertificateFiles[] {
  const { certificates, ...single } = given
  const list = certificates === undefined ? [single] : certificates
  const isList = Array.isArray(list) && list.length > 0 && list.every(isFiles) && (certificates === undefined || Object.keys(single).length === 0)
  if (isList) return list
  throw new CertificatesMisconfigured('server: tls: give { cert, key }, the paths of both files, or { certificates: [{ cert, key }, …] }; beside them only http2 and clientCertificates')
}

function isFiles (value: unknown): value is CertificateFiles {
  const { cert, key, passphrase, ...rest } = (value ?? {}) as Record<string, unknown>
  return isPath(cert) && isPath(key) && (passphrase === undefined || typeof passphrase === 'string') && Object.keys(rest).length === 0
}

function isPath (value: unknown): value is string {
  return typeof value === 'string' && value !== '' && !value.includes('-----BEGIN')
}

function checkClients ({ ca, required, principal, ...rest }: ClientCertificates): void {
  const paths = [ca].flat()
  if (paths.length === 0 || !paths.every(isPath)) throw new CertificatesMisconfigured('server: tls.clientCertificates.ca: give the path of the CA that issues them, in PEM')
  if (required !== undefined && typeof required !== 'boolean') throw new CertificatesMisconfigured('server: tls.clientCertificates.required: must be true or false')
  if (principal !== undefined && typeof principal !== 'function') throw new CertificatesMisconfigured('server: tls.clientCertificates.principal: must be a function of the certificate')
  if (Object.keys(rest).length > 0) throw new CertificatesMisconfigured(`server: tls.clientCertificates.${Object.keys(rest)[0]}: there is no such option`)
}
