/** What can go wrong with sessions. */
import { createError } from '@fastify/error'
import { createRefusal } from '../refusal.js'

/** An option of the sessions concern is wrong. */
export const SessionsMisconfigured = createError<[string]>('FST_BASTION_SESSIONS_MISCONFIGURED', '%s', 500, TypeError)
/** The cookie is none of ours, or its session has ended. */
export const SessionInvalid = createRefusal('FST_BASTION_SESSIONS_INVALID', 'The session is invalid or has ended', 401)
/** The sessions of one user change faster than they can be written down. */
export const SessionsBusy = createError('FST_BASTION_SESSIONS_BUSY', 'Too many sign-ins of one account at once, try again shortly', 503)
