/** What tokens refuse, and what stops their boot. */
import { createError } from '@fastify/error'

/** An option of the tokens concern is wrong; weak keys are among them. */
export const TokensMisconfigured = createError<[string]>('FST_BASTION_TOKENS_MISCONFIGURED', '%s', 500, TypeError)
/** The token is not one of ours, is spent, or is no longer good. The log knows which. */
export const TokenInvalid = createError('FST_BASTION_TOKENS_INVALID', 'The token is invalid or no longer good', 401)
/** The keys of another issuer cannot be had, so that its tokens cannot be checked. */
export const IssuerAway = createError('FST_BASTION_TOKENS_ISSUER_AWAY', 'The keys of the issuer cannot be had at the moment', 503)
/** More was asked for than the family was issued with. */
export const ScopeRefused = createError('FST_BASTION_TOKENS_SCOPE', 'These scopes go beyond what was granted', 400)
