/** What uploads refuse, and what stops their boot. */
import { createError } from '@fastify/error'
import { createRefusal } from '../refusal.js'

/** An option of the uploads concern, or the `upload` of a route, is wrong; or its optional package is not installed. */
export const UploadsMisconfigured = createError<[string]>('FST_BASTION_UPLOADS_MISCONFIGURED', '%s', 500, TypeError)
/** The handler asked for an upload on a route that declares none. */
export const UploadUndeclared = createError('FST_BASTION_UPLOADS_UNDECLARED', 'This route has no config.upload', 500, TypeError)
/** Not exactly one file in the declared field: none, several, another part, a name that is none, or no multipart. */
export const UploadMalformed = createRefusal('FST_BASTION_UPLOADS_MALFORMED', 'Send exactly one file, in the declared field, and nothing else', 400)
/** The file, or the whole request, has more bytes than the route takes. */
export const UploadTooLarge = createRefusal('FST_BASTION_UPLOADS_TOO_LARGE', 'The file is too large', 413)
/** Extension, declared type and content are not those of one and the same kind that the route takes. */
export const UploadTypeRefused = createRefusal('FST_BASTION_UPLOADS_TYPE', 'Extension, type and content of the file must agree, on one that is accepted here', 415)
/** The content is damaged, is more than what it seems to be, or exceeds what may come out of it: pixels, frames, inflated bytes. */
export const UploadDamaged = createRefusal('FST_BASTION_UPLOADS_CONTENT', 'The content of the file is damaged or not acceptable', 400)
/** The document would do something when it is opened: scripts, macros, embedded or foreign objects; or it cannot be looked into. */
export const UploadActive = createRefusal('FST_BASTION_UPLOADS_ACTIVE', 'The document has active content', 400)
/** The scanner refuses the file. What it found stands in the log. */
export const UploadInfected = createRefusal('FST_BASTION_UPLOADS_SCAN', 'The file was refused by the scanner', 400)
/** The scanner failed or took too long: what nobody looked at is not kept. */
export const UploadUnscanned = createError('FST_BASTION_UPLOADS_UNSCANNED', 'The file cannot be checked at the moment, try again shortly', 503)
/** The owner has as many files, or as many bytes, as he may have. */
export const UploadQuotaExceeded = createRefusal('FST_BASTION_UPLOADS_QUOTA', 'There is no room for more files: remove some first', 413)
/** The upload did not arrive in time, or stood still. */
export const UploadTimeout = createRefusal('FST_BASTION_UPLOADS_TIMEOUT', 'The upload took too long to arrive', 408)
/** The connection ended before the upload did. */
export const UploadCutOff = createRefusal('FST_BASTION_UPLOADS_CUT_OFF', 'The upload ended too early', 400)
/** So many files wait to be checked that this one may not. */
export const UploadsBusy = createError('FST_BASTION_UPLOADS_BUSY', 'The service is busy, try again shortly', 503)
