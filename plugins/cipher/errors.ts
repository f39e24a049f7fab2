/** What the cipher refuses. */
import { createError } from '@fastify/error'
import { createRefusal } from '../refusal.js'

/** An option of the encryption concern is wrong, or a call names no place, column or key that there is. */
export const CipherMisconfigured = createError<[string]>('FST_BASTION_CIPHER_MISCONFIGURED', '%s', 500, TypeError)
/** A stored value is not one that was encrypted for this place, or its key is gone. Which of them it is stands in the event alone. */
export const DecryptionFailed = createError('FST_BASTION_CIPHER_FAILED', 'A stored value cannot be read', 500)
/** A text that has the form of an encrypted value: kept as it is, it could never be told from one that nobody decrypted, and no answer could hold it. */
export const EnvelopeRefused = createRefusal('FST_BASTION_CIPHER_ENVELOPE', 'A text cannot have the form of an encrypted value', 400)
/** The first key of the ring has encrypted as many values as it may. */
export const CipherExhausted = createError('FST_BASTION_CIPHER_EXHAUSTED', 'The key has encrypted as many values as it may: put a new one in front', 500)
/** The answer holds an encrypted value that nobody decrypted. */
export const SealedAnswer = createError('FST_BASTION_CIPHER_SEALED', 'The answer holds a value that nobody decrypted', 500)
