/** What access refuses, and what it is misconfigured by. */
import { createError } from '@fastify/error'
import { createRefusal } from '../refusal.js'

/** An option of the access concern is wrong. */
export const AccessMisconfigured = createError<[string]>('FST_BASTION_ACCESS_MISCONFIGURED', '%s', 500, TypeError)
/** Nobody is identified. */
export const Unauthenticated = createRefusal('FST_BASTION_ACCESS_UNAUTHENTICATED', 'Authentication is required', 401)
/** The principal is known and not allowed. */
export const Forbidden = createRefusal('FST_BASTION_ACCESS_FORBIDDEN', 'You are not allowed to do this', 403)
/** The object does not exist, or not for this principal. */
export const ResourceNotFound = createRefusal('FST_BASTION_ERRORS_NOT_FOUND', 'There is nothing here', 404)
/** The person must prove themselves again, or with what `factors` names. */
export const StepUpRequired = createRefusal('FST_BASTION_STEP_UP_REQUIRED', 'Confirm who you are first', 401)
/** The handler asked for an object that its route does not load. */
export const WrongResource = createError<[string]>('FST_BASTION_ACCESS_WRONG_RESOURCE', 'This route loads no %s', 500, TypeError)
