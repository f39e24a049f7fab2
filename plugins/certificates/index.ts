/**
 * Certificates: what the service's own TLS is served with, checked at boot and ever after, and taken over from its files while it runs.
 *
 * Threat: certificates that expire on a Sunday, keys of another certificate, chains without their middle, weak signatures (CWE-295, CWE-298, CWE-326); renewals that
 * wait for a restart, or that restart connections; a reload that quietly serves older versions of TLS; client certificates that nobody checks (CWE-295).
 * Defence: one inspection at boot, at each reload and by the clock; a pair is taken over whole, with all options, on all sockets, or not at all; certificates of
 * clients as a credential. It does nothing where TLS ends before the service.
 * Not covered: revocation (short-lived certificates are the answer), issuing (certbot or another ACME client does that), and the TLS of a proxy.
 */
import type { FastifyInstance } from 'fastify'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { measured } from '../measured.js'
import { checkOptions } from '../options.js'
import { isProduction } from '../production.js'
import { clientReader } from './clients.js'
import { CertificateRefused, CertificatesMisconfigured } from './errors.js'
import { watchHandshakes } from './handshakes.js'
import { DAY_MS, daysLeft, faultOfTime, inspect, isFromDevelopment, namesOf, uncovered, type Terms } from './inspection.js'
import { tlsOf, type TlsListener } from './listener.js'
import { certificatesIn, readText, type CertificatePair } from './pairs.js'
import { Reload } from './reload.js'
import { statusOf, type CertificateFinding, type CertificateStatus } from './status.js'
import { watchFiles, type FileWatch } from './watch.js'

export { CertificateRefused, CertificatesMisconfigured, ClientCertificateRefused, CrossSiteRefused } from './errors.js'
export { developmentCertificate } from './development.js'
export type { CertificatePrincipal, ClientCertificates, TlsOptions } from './listener.js'
export type { CertificateFiles } from './pairs.js'
export type { CertificateFinding, CertificateStatus } from './status.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** What the service's TLS is served with. */
    certificates: Certificates
  }
}

/** The instance decorator `app.certificates`. */
export interface Certificates {
  /** What is served now; empty where TLS ends before the service. */
  list: () => CertificateStatus[]
  /** None of them has expired, and none is not yet valid: for a health check. */
  isGood: () => boolean
  /** For posture. */
  findings: () => CertificateFinding[]
  /**
   * Takes over what the files hold now, as it happens by itself when they change.
   *
   * @returns whether something else is served than before
   */
  reload: () => Promise<boolean>
  /** Looks at the clock, as it happens by itself every `checkMs`: warns, and records what is about to expire. */
  check: () => void
}

export const CertificatesOptions = Type.Object({
  names: Type.Optional(Type.Array(Type.String({ minLength: 1 }), { description: 'Hosts and addresses that the certificates must be good for. Default: those of `transport.hosts` but for loopback' })),
  warnDays: Type.Optional(Type.Integer({ minimum: 1, description: 'Days before it expires from which the log warns', default: 30 })),
  alarmDays: Type.Optional(Type.Integer({ minimum: 1, description: 'Days before it expires from which a security event is recorded, once a day', default: 7 })),
  refuseExpired: Type.Optional(Type.Boolean({ description: 'An expired one stops boot, and is not taken over. `false`: it is served, with a warning; clients refuse it', default: true })),
  checkMs: Type.Optional(Type.Integer({ minimum: 1000, maximum: 2 ** 31 - 1, description: 'Milliseconds between two looks at the clock', default: 3_600_000 })),
  watch: Type.Optional(Type.Boolean({ description: 'Takes over files that change', default: true })),
  pollMs: Type.Optional(Type.Integer({ minimum: 100, maximum: 2 ** 31 - 1, description: 'Milliseconds between two looks at the files, for what no watcher of folders sees', default: 60_000 })),
  roots: Type.Optional(Type.String({ minLength: 1, description: "Path of your own CA's root in PEM, to which the chains must lead. Default: the public ones" })),
  production: Type.Optional(Type.Boolean({ description: 'Development certificates and keys that others can read stop boot. Default: by `NODE_ENV`, unless it is unset, `development` or `test`' })),
}, { additionalProperties: false })
export type CertificatesOptions = Static<typeof CertificatesOptions> & {
  /** Milliseconds since the epoch; for tests. */
  now?: () => number
}

const LOOPBACK = /^(?:localhost|127\.0\.0\.1|\[?::1\]?)$/i
const PORT = /:\d+$/
const RENEW = 'Renew it; its files are read again when they change.'

async function certificates (app: FastifyInstance, options: CertificatesOptions): Promise<void> {
  const { now = Date.now, ...checked } = options
  checkOptions(CertificatesOptions, checked, 'certificates', CertificatesMisconfigured)
  const { warnDays = 30, alarmDays = 7, refuseExpired = true, checkMs = 3_600_000, watch = true, pollMs = 60_000, production = isProduction() } = checked
  const roots = checked.roots === undefined ? null : certificatesIn(readText(checked.roots), checked.roots)
  const tls = tlsOf(app.server)
  const terms = (): Terms => ({ now: now(), refuseExpired, production, roots })
  const warnings = new Map<CertificatePair, string[]>()
  /** The day on which each was last told of. */
  const told = new Map<string, number>()
  let names: string[] = []
  let watching: FileWatch | null = null
  const reloading = tls === null ? null : new Reload(tls, { events: app.events, terms, names: () => names, taken: tellReload })

  app.decorate('certificates', { list, isGood, findings, reload: () => reloading?.ask() ?? Promise.resolve(false), check })
  if (tls === null) {
    if (checked.names !== undefined) throw new CertificatesMisconfigured('certificates: names: this server has no TLS: construct the application with server({ tls })')
    return
  }
  const served = tls
  for (const pair of served.pairs) {
    const { faults, warnings: told } = inspect(pair, terms())
    if (faults.length > 0) throw new CertificateRefused(`certificates: ${faults.join('; ')}`)
    warnings.set(pair, told)
    for (const warning of told) app.log.warn({ certificate: pair.files.cert }, warning)
  }
  measure(served)
  app.plan.contribute({ concern: 'certificates', compile: () => ({ promise: { http2: served.http2, clientCertificates: promiseOfClients(served) } }) })
  app.addHook('onReady', async function checkNames () {
    names = checked.names ?? hostsOf(app)
    const missing = uncovered(served.pairs, names)
    if (missing.length > 0) {
      throw new CertificateRefused(`certificates: no certificate is good for ${missing.join(', ')} (there are: ${served.pairs.flatMap(({ leaf }) => namesOf(leaf)).join(', ')}): ` +
        'have one issued for it, or say in certificates.names what clients call this service')
    }
    check()
    if (watch) watching = watchFiles(served.paths, pollMs, () => { reloading?.ask().catch(error => app.log.error({ err: error }, 'certificates were not read again')) })
  })
  const timer = setInterval(check, checkMs).unref()
  app.addHook('onClose', async function stopWatching () {
    clearInterval(timer)
    watching?.close()
    await reloading?.close()
  })

  function list (): CertificateStatus[] {
    return tls === null ? [] : tls.pairs.map(pair => statusOf(pair, now(), warnDays, warnings.get(pair) ?? []))
  }

  function isGood (): boolean {
    return tls === null || tls.pairs.every(({ chain }) => chain.every(certificate => faultOfTime(certificate, now()) === null))
  }

  function findings (): CertificateFinding[] {
    const found = list().flatMap(({ file, state, daysLeft: days, warnings }): CertificateFinding[] => [
      ...state === 'expired' ? [{ severity: 'high' as const, message: `the certificate ${file} has expired`, fix: RENEW }] : [],
      ...state === 'early' ? [{ severity: 'high' as const, message: `the certificate ${file} is not yet valid`, fix: 'Serve one that is, or set the clock of this machine.' }] : [],
      ...state === 'expiring' ? [{ severity: days < alarmDays ? 'medium' as const : 'low' as const, message: `the certificate ${file} expires in ${Math.floor(days)} days`, fix: RENEW }] : [],
      ...warnings.map(message => ({ severity: 'low' as const, message, fix: 'Mend the files of the certificate; they are read again when they change.' })),
    ])
    if (tls?.pairs.some(({ leaf }) => isFromDevelopment(leaf)) === true) {
      found.push({ severity: 'low', message: 'it serves a development certificate', fix: 'Serve one of an authority that browsers trust.' })
    }
    if (tls !== null && !watch) found.push({ severity: 'low', message: 'renewed certificates wait for a restart (certificates.watch is off)', fix: 'Take watch: false out of certificates, or call app.certificates.reload().' })
    return found
  }

  function check (): void {
    for (const { file, subject, state, validTo, daysLeft: days } of list()) {
      const today = Math.floor(now() / DAY_MS)
      if (state === 'good' || told.get(file) === today) continue
      told.set(file, today)
      const details = { file, subject, validTo: validTo.toISOString(), days: Math.floor(days) }
      if (state === 'expiring' && days >= alarmDays) app.log.warn({ certificate: details }, 'a certificate is about to expire: renew it')
      else if (state === 'expiring') app.events.record('certificate_expiring', null, { ...details, severity: 'warning' })
      else app.events.record('certificate_invalid', null, { ...details, reason: state, severity: 'critical' })
    }
  }

  function tellReload (pairs: readonly CertificatePair[], found: ReadonlyMap<CertificatePair, string[]>): void {
    for (const pair of warnings.keys()) if (!pairs.includes(pair)) warnings.delete(pair)
    for (const [pair, told] of found) {
      warnings.set(pair, told)
      for (const warning of told) app.log.warn({ certificate: pair.files.cert }, warning)
    }
    told.clear()
    const renewed = pairs.filter(pair => found.has(pair)).map(pair => statusOf(pair, now(), warnDays, []))
    app.events.record('certificate_reloaded', null, {
      certificates: renewed.map(({ file, fingerprint, validTo }) => ({ file, fingerprint, validTo: validTo.toISOString() })),
      ...renewed.length === 0 && { clients: 'the CAs of clients' },
    })
    check()
  }

  function measure (listener: TlsListener): void {
    const { gauge, counter } = measured(app)
    gauge('bastion_certificate_expiry_seconds', 'Seconds until the first certificate that is served expires; negative afterwards', () => {
      return Math.min(...listener.pairs.flatMap(({ chain }) => chain.map(certificate => daysLeft(certificate, now())))) * DAY_MS / 1000
    })
    gauge('bastion_certificates_good', '1 while no certificate that is served has expired', () => Number(isGood()))
    const countFailure = counter('bastion_tls_handshakes_failed_total', 'TLS handshakes that came to nothing')
    const countRefusal = counter('bastion_client_certificates_refused_total', 'Certificates of clients that were refused')
    watchHandshakes(listener, { events: app.events, countFailure, countRefusal, now })
    const { clients } = listener
    if (clients?.principal === undefined) return
    const { principal } = clients
    app.identity.reader(clientReader({ clients: { ...clients, principal }, events: app.events, count: () => { countRefusal() }, now }))
  }
}

function promiseOfClients ({ clients }: TlsListener): false | 'asked' | 'required' {
  if (clients === null) return false
  return clients.required === true ? 'required' : 'asked'
}

/** The hosts that transport trusts. Loopback is for those on this machine, who may be told by a file whom to trust. */
function hostsOf (app: FastifyInstance): string[] {
  const { hosts = [] } = (app.plan.notFound.controls.transport ?? {}) as { hosts?: readonly string[] }
  return [...new Set(hosts.map(host => host.replace(PORT, '').toLowerCase()))].filter(host => !LOOPBACK.test(host))
}

export default fp(certificates, { fastify: '5.x', name: 'bastion-certificates', dependencies: ['bastion-plan', 'bastion-events', 'bastion-identity'] })
