/** What can go wrong with privacy. */
import { createError } from '@fastify/error'
import { createRefusal } from '../refusal.js'

/** An option of the privacy concern, or a source, is wrong. */
export const PrivacyMisconfigured = createError<[string]>('FST_BASTION_PRIVACY_MISCONFIGURED', '%s', 500, TypeError)
/** A source answered what is no outcome of an erasure: nothing was erased. */
export const PrivacySourceFaulty = createError<[string]>('FST_BASTION_PRIVACY_SOURCE', '%s', 500)
/** No purpose of this service. */
export const ConsentUnknown = createRefusal('FST_BASTION_PRIVACY_PURPOSE', 'There is no such purpose', 404)
/** Consent is to what was read; this text has been replaced by another one meanwhile. */
export const ConsentOutdated = createRefusal('FST_BASTION_PRIVACY_VERSION', 'This is not the text that is asked for now: read it again', 409)
/** Two later exports of the same person are being read: this one ends. */
export const ExportSuperseded = createRefusal('FST_BASTION_PRIVACY_SUPERSEDED', 'Others of your exports were begun since: try again when they are done', 429)
