/** Refusals: errors that are answers, and made as often as somebody asks for what they may not have. */
import { createError } from '@fastify/error'

/**
 * As `createError` of @fastify/error, without a stack: taking one costs more than answering a request that is allowed, and a flood of refusals
 * would be dearer than the work they keep out (CWE-400). The code says which control refused.
 */
export const createRefusal = ((code: string, message: string, status: number) => {
  const Full = createError(code, message, status, Error, false)

  /** What has nothing to be put into its message is made of four values. */
  function FastifyError (this: Record<string, unknown>, ...given: unknown[]): object | undefined {
    if (given.length > 0 || message.includes('%')) return new Full(...given as [])
    this.code = code
    this.name = 'FastifyError'
    this.statusCode = status
    this.message = message
  }
  FastifyError.prototype = Full.prototype
  return Object.defineProperty(FastifyError, Symbol.hasInstance, { value: (other: unknown) => other instanceof Full })
}) as unknown as typeof createError
