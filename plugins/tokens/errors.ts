/** What tokens refuse, and what stops their boot. */
import { createError } from '@fastify/error'
import { createRefusal } from '../refusal.js'

/** An option of the tokens concern is wrong; weak keys are among them. */
export const TokensMisconfigured = createError<[string]>('FST_BASTION_TOKENS_MISCONFIGURED', '%s', 500, TypeError)
/** The token is not one of ours, is spent, or is no longer good. The log knows which. */
export const TokenInvalid = createRefusal('FST_BASTION_TOKENS_INVALID', 'The token is invalid or no longer good', 401)
/** Too many wrong signatures came from this address: until they are forgotten, no token is taken from there that was not seen before. Retry-After says when. */
export const TokensGuessed = createRefusal('FST_BASTION_TOKENS_GUESSED', 'Too many invalid tokens, try again later', 429)
/** The keys of another issuer cannot be had, so that its tokens cannot be checked. */
export const IssuerAway = createError('FST_BASTION_TOKENS_ISSUER_AWAY', 'The keys of the issuer cannot be had at the moment', 503)
/** More was asked for than the family was issued with. */
export const ScopeRefused = createRefusal('FST_BASTION_TOKENS_SCOPE', 'These scopes go beyond what was granted', 400)
