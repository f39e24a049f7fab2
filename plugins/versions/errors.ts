/** What versions refuse, and what they are misconfigured by. */
import { createError } from '@fastify/error'
import { createRefusal } from '../refusal.js'

/** A route's `version`, or an option of the concern, is wrong. */
export const VersionsMisconfigured = createError<[string]>('FST_BASTION_VERSIONS_MISCONFIGURED', '%s', 500, TypeError)
/** The route is past its sunset, or removed; `Link` names its successor (RFC 9110, 15.5.11). */
export const VersionGone = createRefusal<[string]>('FST_BASTION_VERSIONS_GONE', 'This is no longer served%s', 410)
