/** What the audit trail refuses, and what stops its boot. */
import { createError } from '@fastify/error'

/** An option of the audit concern is wrong. */
export const AuditMisconfigured = createError<[string]>('FST_BASTION_AUDIT_MISCONFIGURED', '%s', 500, TypeError)
/** The evidence of this request can be kept nowhere at the moment, so it is not served. */
export const AuditUnavailable = createError('FST_BASTION_AUDIT_UNAVAILABLE', 'The service is not available, try again shortly', 503)
/** The trail is not as this service left it: nothing is added to it until somebody has looked. */
export const AuditBroken = createError<[string]>('FST_BASTION_AUDIT_BROKEN', 'The audit trail is not as it was left: %s', 500)
