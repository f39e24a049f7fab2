/**
 * Safe errors: every refusal and failure as problem details (RFC 9457), with nothing internal in it.
 *
 * Threat: messages and stacks that name databases, files and queries (CWE-209); answers whose shape tells a
 * known name from an unknown one; errors of router and parser that carry no headers.
 * Defence: one handler for all. What a 5xx really was goes to the log under the request id.
 * Not covered: what a service writes itself into the message of a 4xx error that it throws; that is shown.
 */
import { STATUS_CODES } from 'node:http'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import createError from '@fastify/error'
import fastJson from 'fast-json-stringify'
import fp from 'fastify-plugin'
import { Problem } from '../schemas/problem.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** Answers with problem details; for what never reaches a handler. Sends at once. */
    answerProblem: (error: unknown, request: FastifyRequest, reply: FastifyReply) => void
  }
}

/** No route matches, or the resource does not exist for this caller. */
export const NotFound = createError('FST_BASTION_ERRORS_NOT_FOUND', 'There is nothing here', 404)

const PROBLEM_JSON = 'application/problem+json; charset=utf-8'
const CODE = /^[A-Z][A-Z0-9]{1,15}(?:_[A-Z0-9]{1,32}){1,8}$/
/** Codes of Fastify's own whose message repeats what the client sent. */
const ECHOING: Record<string, string> = {
  FST_ERR_BAD_URL: 'The URL is malformed',
  FST_ERR_MAX_PARAM_LENGTH: 'A URL parameter is too long',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'This media type is not accepted here',
  FST_ERR_CTP_INVALID_JSON_BODY: 'The body is not valid JSON',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'The body is empty',
}

const serialize = fastJson(Problem as never) as (problem: Problem) => string

async function errors (app: FastifyInstance): Promise<void> {
  app.decorate('answerProblem', answerProblem)
  app.setErrorHandler(answerError)
  app.setNotFoundHandler(refuseUnknownRoute)
  const ours = app.errorHandler
  app.plan.contribute({
    concern: 'errors',
    compile (route) {
      if (route.options.errorHandler !== undefined || route.instance.errorHandler !== ours) {
        route.object('an error handler of its own would answer outside problem details: throw errors instead and let the suite answer them')
      }
      return undefined
    },
  })
}

function answerError (error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  answerProblem(error, request, reply)
}

function refuseUnknownRoute (): never {
  throw new NotFound()
}

function answerProblem (error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const problem = toProblem(error, request.id)
  const { status } = problem
  if (status >= 500) request.log.error({ err: error }, 'request failed')
  else request.log.debug({ err: error }, 'request refused')
  const headers = (error as { headers?: Record<string, string> } | null)?.headers
  if (headers !== undefined && headers !== null && typeof headers === 'object') reply.headers(headers)
  // Every 401 names a challenge (RFC 9110, 15.5.2), that of a wrong password too.
  if (status === 401 && !reply.hasHeader('www-authenticate')) reply.header('www-authenticate', 'Bearer')
  // A serialiser that the handler set would otherwise get the problem instead of its own object.
  reply.serializer(null as never)
  reply.code(status).type(PROBLEM_JSON).send(serialize(problem))
}

/** The problem that an error becomes. 5xx never tell their cause; 4xx tell the message of the error. */
export function toProblem (error: unknown, requestId?: string): Problem {
  const source = (error ?? {}) as Partial<FastifyError> & { status?: number, expose?: boolean, problem?: Record<string, unknown> }
  const status = statusOf(source)
  const isInternal = status >= 500 && source.expose !== true
  const code = typeof source.code === 'string' && CODE.test(source.code) && !isInternal ? source.code : `FST_BASTION_HTTP_${status}`
  const problem: Problem = { type: 'about:blank', title: STATUS_CODES[status] ?? 'Error', status, code }
  if (requestId !== undefined) problem.requestId = requestId
  if (isInternal) problem.detail = 'The request could not be completed. Quote the requestId when you report this.'
  else if (Array.isArray(source.validation)) {
    const part = source.validationContext ?? 'body'
    problem.code = 'FST_BASTION_VALIDATION_REFUSED'
    problem.detail = `The ${part} does not have the declared form`
    problem.errors = source.validation.map(({ instancePath, message, params }) => ({
      path: pointerTo(instancePath, params as Record<string, unknown> | undefined),
      message: message ?? 'is invalid',
    }))
  } else problem.detail = ECHOING[code] ?? (typeof source.message === 'string' ? source.message : '')
  return problem
}

function statusOf (error: { statusCode?: number, status?: number, validation?: unknown }): number {
  if (error.validation !== undefined) return 400
  for (const status of [error.statusCode, error.status]) {
    // 3xx: a refusal that tells where to go instead.
    if (typeof status === 'number' && status >= 300 && status <= 599) return status
  }
  return 500
}

function pointerTo (instancePath: string, params: Record<string, unknown> | undefined): string {
  const name = params?.additionalProperty ?? params?.missingProperty
  return typeof name === 'string' ? `${instancePath}/${name.slice(0, 64)}` : instancePath
}

export default fp(errors, { fastify: '5.x', name: 'bastion-errors', dependencies: ['bastion-plan'] })
