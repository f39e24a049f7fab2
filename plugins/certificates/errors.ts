/** What certificates are refused for. */
import { createError } from '@fastify/error'
import { createRefusal } from '../refusal.js'

/** An option of TLS or of the certificates concern is wrong. */
export const CertificatesMisconfigured = createError<[string]>('FST_BASTION_CERTIFICATES_MISCONFIGURED', '%s', 500, TypeError)
/** A certificate, its chain or its key is not good; the message says what to do, and nothing of the key. */
export const CertificateRefused = createError<[string]>('FST_BASTION_CERTIFICATES_REFUSED', '%s', 500, TypeError)
/** The client's certificate is expired, for another purpose, or from nobody who is trusted here. */
export const ClientCertificateRefused = createRefusal('FST_BASTION_CERTIFICATES_CLIENT_REFUSED', 'The client certificate is not accepted', 401)
/** A page of another site made a browser send this, and the certificate went along by itself (CWE-352). */
export const CrossSiteRefused = createRefusal('FST_BASTION_CERTIFICATES_CROSS_SITE', 'This request does not come from a page of this service', 403)
