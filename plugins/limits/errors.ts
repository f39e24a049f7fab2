/** The errors of limits. */
import { createError } from '@fastify/error'
import { createRefusal } from '../refusal.js'

/** An option or a route's budget is wrong. */
export const LimitsMisconfigured = createError<[string]>('FST_BASTION_LIMITS_MISCONFIGURED', '%s', 500, TypeError)
/** The budget is spent; Retry-After says when to come back (RFC 6585, 4). */
export const LimitExceeded = createRefusal('FST_BASTION_LIMITS_EXCEEDED', 'Too many requests', 429)
/** An operator named a budget that is not there. */
export const BudgetUnknown = createRefusal('FST_BASTION_LIMITS_UNKNOWN', 'There is no budget of this name; app.limits.budgets() lists them', 404)
