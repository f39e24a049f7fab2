/**
 * fastify-bastion: the whole suite on one screen.
 *
 * The order below is the order in which a request meets the concerns that have hooks; the plan puts every step
 * into its stage, so that the order of registration decides nothing but who may use whom.
 */
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import access, { type AccessOptions } from './access/index.js'
import alerts, { type AlertsOptions } from './alerts/index.js'
import apiKeys, { type ApiKeysOptions } from './api-keys/index.js'
import audit, { type AuditOptions } from './audit/index.js'
import cards from './cards.js'
import certificates, { type CertificatesOptions } from './certificates/index.js'
import cipher, { type CipherOptions } from './cipher/index.js'
import cors, { type CorsOptions } from './cors.js'
import csrf, { type CsrfOptions } from './csrf/index.js'
import errors from './errors.js'
import events from './events.js'
import exposure from './exposure.js'
import files, { type FilesOptions } from './files.js'
import headers, { type HeadersOptions } from './headers/index.js'
import identity from './identity.js'
import limits, { type LimitsOptions } from './limits/index.js'
import metrics, { type MetricsOptions } from './metrics/index.js'
import mfa, { type MfaOptions } from './mfa/index.js'
import openapi, { type OpenApiOptions } from './openapi/index.js'
import outbound, { type OutboundOptions } from './outbound/index.js'
import overload, { type OverloadOptions } from './overload.js'
import oauth2, { type OAuth2Options } from './oauth2.js'
import passkeys, { type PasskeysOptions } from './passkeys/index.js'
import passwords, { type PasswordsOptions } from './passwords/index.js'
import plan from './plan/index.js'
import posture from './posture/index.js'
import privacy, { type PrivacyOptions } from './privacy/index.js'
import reports, { type ReportsOptions } from './reports.js'
import sessions, { type SessionsOptions } from './sessions/index.js'
import signIn, { type SignInOptions } from './sign-in.js'
import state, { type StateOptions } from './state/index.js'
import tokens, { type TokensOptions } from './tokens/index.js'
import transport, { type TransportOptions } from './transport/index.js'
import uploads, { type UploadsOptions } from './uploads/index.js'
import validation, { type ValidationOptions } from './validation/index.js'
import versions, { type VersionsOptions } from './versions/index.js'

/** Options of the suite: one key a concern. `false` leaves out what a service does not need. */
export interface BastionOptions {
  headers?: HeadersOptions
  /** Collects what browsers report of the policies, where the key is there: `{}` will do. */
  reports?: ReportsOptions
  /** Tells somebody of attacks, where the key is there: `{}` will do. */
  alerts?: AlertsOptions
  /** Counts and measures, where the key is there: `{}` will do. */
  metrics?: MetricsOptions
  transport?: TransportOptions
  /** Of `server({ tls })`: when they are told of, and where they must be good. */
  certificates?: CertificatesOptions
  cors?: CorsOptions | false
  overload?: OverloadOptions | false
  state?: StateOptions
  limits?: LimitsOptions
  versions?: VersionsOptions
  access?: AccessOptions
  /** For credentials that browsers send by themselves (sessions). Needs a `key`. */
  csrf?: CsrfOptions
  validation?: ValidationOptions
  /** The OpenAPI document of it. Needs `title` and `version`; and the package @fastify/swagger. */
  openapi?: OpenApiOptions
  /** Requests to URLs that users give. */
  outbound?: OutboundOptions
  passwords?: PasswordsOptions
  /** Fields that are encrypted where they are kept. Needs `keys`. */
  encryption?: CipherOptions
  tokens?: TokensOptions
  /** Of browsers. Needs a `secret`, and `csrf`. */
  sessions?: SessionsOptions
  /** Needs `store`, `owner` and `secret`. */
  apiKeys?: ApiKeysOptions
  /** Needs `accounts`: your own table of users. */
  signIn?: SignInOptions
  /** Token, revocation and introspection endpoints. Needs `tokens` and `signIn`. */
  oauth2?: OAuth2Options
  /** Needs `accounts` and a `store`. */
  mfa?: MfaOptions
  /** Needs `rpId`, `rpName`, `origins`, `accounts` and a `store`; and the package @simplewebauthn/server. */
  passkeys?: PasskeysOptions
  /** Needs a `folder` or a `storage`; and the package sharp where a route takes images. */
  uploads?: UploadsOptions
  /** Needs `roots`: the folders from which files are served. */
  files?: FilesOptions
  /** Needs `sql`, `keys` and a `folder`. */
  audit?: AuditOptions
  /** Needs `sql` and a `key`. */
  privacy?: PrivacyOptions
}

async function bastion (app: FastifyInstance, options: BastionOptions): Promise<void> {
  await app.register(plan)                                  // the ground floor: what runs for each route, and in which order
  await app.register(events)                                // what happened, for log, audit trail and alerts
  await app.register(errors)                                // every refusal in one form
  if (options.metrics !== undefined) await app.register(metrics, options.metrics) // before those who are measured
  if (options.audit !== undefined) await app.register(audit, options.audit) // keeps what happened: ends after those who still record something
  await app.register(headers, options.headers ?? {})        // first, so that refusals carry them too
  await app.register(transport, options.transport ?? {})    // hosts and HTTPS, before anything is believed
  if (options.cors !== false) await app.register(cors, options.cors ?? {}) // preflights are answered before anyone asks who they are
  if (options.overload !== false) await app.register(overload, options.overload ?? {}) // 503 before anything costs: a browser can read it
  await app.register(state, options.state ?? {})            // counters, claims, compare-and-swap
  await app.register(identity)                              // who asks: never refuses
  await app.register(certificates, options.certificates ?? {}) // what TLS is served with; certificates of clients are read like any credential
  await app.register(limits, options.limits ?? {})          // counted before anything expensive, failed credentials too
  await app.register(versions, options.versions ?? {})      // what has ended answers 410, whoever asks
  await app.register(access, options.access ?? {})          // who may: 401, 403 and hidden 404
  if (options.openapi !== undefined) await app.register(openapi, options.openapi) // before anybody declares a route
  if (options.csrf !== undefined) await app.register(csrf, options.csrf) // that a page of ours sent it: after who, before the body is read
  await app.register(cards)                                 // no card number comes in: before validation names what it does not know
  await app.register(validation, options.validation ?? {})  // closed bodies
  await app.register(outbound, options.outbound ?? {})      // what users have it fetch, and not what is inside
  await app.register(exposure)                              // declared answers
  if (options.reports !== undefined) await app.register(reports, options.reports) // a public route: after those who guard it
  await app.register(passwords, options.passwords ?? {})
  if (options.encryption !== undefined) await app.register(cipher, options.encryption) // unwraps its keys
  if (options.tokens !== undefined) await app.register(tokens, options.tokens)
  if (options.sessions !== undefined) await app.register(sessions, options.sessions)
  if (options.apiKeys !== undefined) await app.register(apiKeys, options.apiKeys)
  if (options.signIn !== undefined) await app.register(signIn, options.signIn)
  if (options.oauth2 !== undefined) await app.register(oauth2, options.oauth2)
  if (options.mfa !== undefined) await app.register(mfa, options.mfa)
  if (options.passkeys !== undefined) await app.register(passkeys, options.passkeys)
  if (options.uploads !== undefined) await app.register(uploads, options.uploads) // makes its folder
  if (options.files !== undefined) await app.register(files, options.files)
  if (options.privacy !== undefined) await app.register(privacy, options.privacy) // what is held about people: handed over, erased, expired
  if (options.alerts !== undefined) await app.register(alerts, options.alerts) // ends first: what it could not tell is still recorded
  await app.register(posture)                               // what all of this came to
}

export { withPolicy } from './plan/index.js'
export { server } from './server.js'
export { settings, Secret, Concealed, deriveKey, decodeSecret } from './settings/index.js'
export { principalOf } from './identity.js'
export { resourceOf } from './access/index.js'
export type { AccessNames, Access, AccessRule, ResourceDefinition } from './access/index.js'
export type { Principal, PrincipalExtras } from './identity.js'
export type { Account, Accounts } from './sign-in.js'
export type { ServerOptions } from './server.js'

export default fp(bastion, { fastify: '5.x', name: 'fastify-bastion' })
