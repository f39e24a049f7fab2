/** What the second factor refuses, and what stops its boot. */
import { createError } from '@fastify/error'
import { createRefusal } from '../refusal.js'

/** An option of the mfa concern is wrong. */
export const MfaMisconfigured = createError<[string]>('FST_BASTION_MFA_MISCONFIGURED', '%s', 500, TypeError)
/** What was shown so far is right and not enough; `mfaToken` of the problem is what a code completes, or another of its `factors`. */
export const MfaRequired = createRefusal('FST_BASTION_MFA_REQUIRED', 'The second factor is needed', 401)
/** The code is wrong, was used before, or completes nothing; which of them is told to nobody. */
export const MfaRefused = createRefusal('FST_BASTION_MFA_REFUSED', 'The code is wrong or no longer good', 401)
/** Too many wrong codes; Retry-After says when the lock ends. */
export const MfaLocked = createRefusal('FST_BASTION_MFA_LOCKED', 'Too many wrong codes, try again later', 429)
/** No enrolment waits for its confirmation: none was begun, it is over its time, or it was confirmed. */
export const MfaNotEnrolling = createRefusal('FST_BASTION_MFA_NOT_ENROLLING', 'No enrolment waits to be confirmed: begin one', 409)
/** The account was switched off between the password and the code. */
export const MfaAccountInactive = createRefusal('FST_BASTION_SIGN_IN_INACTIVE', 'This account is not active', 403)
