/** What can go wrong with API keys. */
import { createError } from '@fastify/error'
import { createRefusal } from '../refusal.js'

/** An option of the api-keys concern is wrong. */
export const ApiKeysMisconfigured = createError<[string]>('FST_BASTION_API_KEYS_MISCONFIGURED', '%s', 500, TypeError)
/** No key of this service, or one that is no longer good. The log knows which. */
export const ApiKeyInvalid = createRefusal('FST_BASTION_API_KEYS_INVALID', 'The API key is invalid or no longer good', 401)
/** Its owner has switched the key off. */
export const ApiKeyDisabled = createRefusal('FST_BASTION_API_KEYS_DISABLED', 'This API key is disabled', 403)
/** The key is good from other addresses. */
export const ApiKeyForeignAddress = createRefusal('FST_BASTION_API_KEYS_ADDRESS', 'This API key may not be used from here', 403)
/** Keys are made by users, and can do nothing that their maker cannot. */
export const ApiKeyExceeds = createRefusal('FST_BASTION_API_KEYS_EXCEEDS', 'A key cannot do more than the one who makes it', 403)
/** What was asked for makes no key. */
export const ApiKeyRefused = createRefusal<[string]>('FST_BASTION_API_KEYS_REFUSED', '%s', 400)
/** The user has as many keys as one may have. */
export const ApiKeysFull = createRefusal('FST_BASTION_API_KEYS_FULL', 'There are too many keys: delete one first', 409)
/** What has expired is not made good again by a new text. */
export const ApiKeyExpired = createRefusal('FST_BASTION_API_KEYS_EXPIRED', 'This key has expired: make a new one', 409)
