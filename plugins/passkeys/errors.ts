/** What passkeys refuse, and what stops their boot. */
import { createError } from '@fastify/error'
import { createRefusal } from '../refusal.js'

/** An option of the passkeys concern is wrong, or its optional package is not installed. */
export const PasskeysMisconfigured = createError<[string]>('FST_BASTION_PASSKEYS_MISCONFIGURED', '%s', 500, TypeError)
/** The passkey does not sign in: unknown, made elsewhere, for something else, used before, or late. Which of them is told to nobody. */
export const PasskeyRefused = createRefusal('FST_BASTION_PASSKEYS_REFUSED', 'The passkey is not accepted', 401)
/** What the authenticator made is not kept: which of its parts is at fault is told to nobody. */
export const PasskeyNotRegistered = createRefusal('FST_BASTION_PASSKEYS_NOT_REGISTERED', 'The passkey was not registered: begin again', 400)
/** The account has as many passkeys as it may have. */
export const PasskeysFull = createRefusal('FST_BASTION_PASSKEYS_FULL', 'There are too many passkeys: remove one first', 409)
/** The passkey is right and the account is switched off. */
export const PasskeyAccountInactive = createRefusal('FST_BASTION_SIGN_IN_INACTIVE', 'This account is not active', 403)
