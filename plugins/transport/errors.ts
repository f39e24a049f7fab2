/** What transport refuses, and what it cannot be told. */
import { createError } from '@fastify/error'
import { createRefusal } from '../refusal.js'

/** An option of the transport concern is wrong. */
export const TransportMisconfigured = createError<[string]>('FST_BASTION_TRANSPORT_MISCONFIGURED', '%s', 500, TypeError)
/** No Host, several, or one with characters that no host has (RFC 9112, 3.2). */
export const HostMalformed = createRefusal('FST_BASTION_TRANSPORT_HOST_MALFORMED', 'The request names no valid host', 400)
/** A request target that is neither a path nor in absolute form (RFC 9112, 3.2): the router would take its first character for a slash. */
export const TargetMalformed = createRefusal('FST_BASTION_TRANSPORT_TARGET_MALFORMED', 'The request target is malformed', 400)
/** The host is not one of ours (RFC 9110, 15.5.20). */
export const HostUntrusted = createRefusal('FST_BASTION_TRANSPORT_HOST_UNTRUSTED', 'This service does not answer for that host', 421)
/** A proxy that is believed forwards what is no protocol or no address. */
export const ForwardedMalformed = createRefusal('FST_BASTION_TRANSPORT_FORWARDED_MALFORMED', 'The request was forwarded with headers that cannot be read', 400)
/** Plain HTTP where HTTPS is required. */
export const HttpsRequired = createRefusal('FST_BASTION_TRANSPORT_HTTPS_REQUIRED', 'Use HTTPS', 403)
