/** Errors are answered with all that is known of them, statements and paths among it (CWE-209; API8). `errors` tells what the client can mend, and the log the rest. */
import type { Twin } from '../app.js'

export default function errorsTold ({ app }: Twin): void {
  app.setErrorHandler<Error & { statusCode?: number }>((error, request, reply) => {
    const { statusCode = 500 } = error
    if (statusCode >= 500) request.log.error(error)
    return reply.code(statusCode).send({ ...error, error: error.message, stack: error.stack })
  })
}
