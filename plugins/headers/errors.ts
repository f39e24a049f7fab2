/** What is wrong with headers. */
import { createError } from '@fastify/error'

/** An option of the headers concern is wrong. */
export const HeadersMisconfigured = createError<[string]>('FST_BASTION_HEADERS_MISCONFIGURED', '%s', 500, TypeError)
