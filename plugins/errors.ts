/**
 * Safe errors: every refusal and failure as problem details (RFC 9457), with nothing internal in it.
 *
 * Threat: messages and stacks that name databases, files and queries (CWE-209); answers whose shape tells a
 * known name from an unknown one; errors of router and parser that carry no headers.
 * Defence: one handler for all. What a 5xx really was goes to the log under the request id. Unknown routes are
 * refused before their body is read, after the limits have counted them.
 * Not covered: what a service writes itself into the message of a 4xx error that it throws; that is shown.
 */
import { STATUS_CODES, validateHeaderName, validateHeaderValue, type OutgoingHttpHeaders } from 'node:http'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Problem } from '../schemas/problem.js'
import { planned, PlanTooLate } from './plan/index.js'
import { textOf } from './problem-text.js'
import { toldInProblem, type ProblemMembers } from './problem.js'
import { createRefusal } from './refusal.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Makes the JSON body of this route's refusals, where a standard wants another form than problem details: of the problem, in which nothing internal stands. */
    errorForm?: (problem: Problem) => Record<string, unknown>
  }
  interface FastifyReply {
    /** @internal The problem that this reply became, its text, and whether it went on its way before. */
    [answered]: { problem: Problem, text: string, isSent: boolean } | null
  }
}

/** No route matches, or the resource does not exist for this caller. */
export const NotFound = createRefusal('FST_BASTION_ERRORS_NOT_FOUND', 'There is nothing here', 404)
/** Body, query, parameters or headers do not have the declared form; `errors` says where. */
export const InputRefused = createRefusal('FST_BASTION_VALIDATION_REFUSED', 'The input does not have the declared form', 400)

const PROBLEM_JSON = 'application/problem+json; charset=utf-8'
/** Codes that are shown as they are: words in capitals, as Fastify's and a service's own are. */
const CODE = /^[A-Z][A-Z0-9]{1,15}(?:_[A-Z0-9]{1,32}){1,8}$/
/** Codes that were seen to be such: floods of refusals have few. */
const shown = new Set<string>()
const MAX_SHOWN = 1000
/** Codes of Fastify's own whose message repeats what the client sent. */
const ECHOING: Record<string, string> = {
  FST_ERR_BAD_URL: 'The URL is malformed',
  FST_ERR_MAX_PARAM_LENGTH: 'A URL parameter is too long',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'This media type is not accepted here',
  FST_ERR_CTP_INVALID_JSON_BODY: 'The body is not valid JSON',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'The body is empty',
}
/** What an error may say in headers. Errors of HTTP clients carry those of another server, cookies included. */
const SPEAKABLE = new Set(['www-authenticate', 'dpop-nonce', 'retry-after', 'location', 'allow', 'deprecation', 'sunset', 'link'])
const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze({})
const FAILED = 'The request could not be completed. Quote the requestId when you report this.'

const { code: INPUT_REFUSED } = new InputRefused()
const answered = Symbol('bastion.errors.answered')

async function errors (app: FastifyInstance): Promise<void> {
  // Fastify gives a route the error handler of the moment at which it is declared.
  if (app.plan.routes.length > 0) throw new PlanTooLate(app.plan.routes.map(({ method, url }) => `${method} ${url}`).join(', '))
  app.decorateReply(answered as never, null as never)
  app.setErrorHandler(answerProblem)
  app.setNotFoundHandler(refuseUnknownRoute)
  const ours = app.errorHandler

  app.plan.contribute({
    concern: 'errors',
    stage: 'authorize',
    compile (route) {
      if (route.options.errorHandler !== undefined || route.instance.errorHandler !== ours) {
        route.object('an error handler of its own would answer outside problem details: throw errors instead and let the suite answer them')
      }
      return route.kind === 'not-found' ? { step: refuseUnknownRoute } : {}
    },
  })
  app.plan.contribute({ concern: 'last-word', stage: 'expose', compile: () => ({ step: haveLastWord }) })

  /** Nothing is parsed, and no other handler runs, for what no route takes. */
  function refuseUnknownRoute (request: FastifyRequest): never {
    const refusal = app.plan.refusalOf(request)
    if (refusal === null) throw new NotFound()
    app.events.recordUnguarded('malformed_request', request, { code: (refusal as FastifyError).code })
    throw refusal
  }

  function answerProblem (error: unknown, request: FastifyRequest, reply: FastifyReply): void {
    if (request[planned] === null) app.plan.enterLate(request, reply)
    const { problem, members, headers } = readError(error, request.id)
    const { status } = problem
    // What says its own problem type is a refusal and no failure, also as a 503.
    if (status >= 500 && problem.type === 'about:blank') request.log.error({ err: error }, 'request failed')
    else request.log.debug({ err: error }, 'request refused')
    reply.headers(headers)
    // Every 401 names a challenge (RFC 9110, 15.5.2; RFC 6750, 3): that of a wrong password too.
    if (status === 401 && !reply.hasHeader('www-authenticate')) reply.header('www-authenticate', 'Bearer realm="api"')
    // What may be kept is the answer, and no refusal: kept, it would be everybody's (CWE-524).
    if (reply.getHeader('cache-control') !== 'no-store') reply.header('cache-control', 'no-store')
    if (status >= 500) dropUnsendableHeaders(reply)
    // A serialiser that the handler set would otherwise get the problem instead of its own object.
    reply.serializer(null as never)
    const form = (request.routeOptions.config as { errorForm?: (problem: Problem) => Record<string, unknown> }).errorForm
    const text = status < 400 ? '' : form === undefined ? textOf(problem, members) : JSON.stringify(form(problem))
    reply[answered] = { problem, text, isSent: false }
    reply.code(status)
    if (status < 400) reply.send()
    else reply.type(form === undefined ? PROBLEM_JSON : 'application/json; charset=utf-8').send(text)
  }
}

/**
 * A hook of the service that fails on the problem too would make Fastify answer with that hook's own message. Where a
 * problem comes by a second time it is written as it is, past all hooks, and what follows waits for ever.
 */
function haveLastWord (request: FastifyRequest, reply: FastifyReply): void | Promise<void> {
  const answer = reply[answered]
  if (answer === null) return
  if (!answer.isSent) {
    answer.isSent = true
    return
  }
  dropUnsendableHeaders(reply)
  const body = textOf(toProblem(null, request.id))
  const headers = { ...reply.getHeaders(), 'content-type': PROBLEM_JSON, 'content-length': Buffer.byteLength(body) }
  reply.hijack()
  reply.raw.writeHead(500, headers as OutgoingHttpHeaders).end(body)
  return new Promise(() => {})
}

/** The problem that a reply became; null where it became none. */
export function problemOf (reply: FastifyReply): Problem | null {
  return reply[answered]?.problem ?? null
}

/** Whether a body is the text of the problem that a reply became. */
export function isProblemOf (reply: FastifyReply, payload: unknown): boolean {
  return reply[answered]?.text === payload
}

/** Errors may be anything, also something that fails when it is read. */
function readError (error: unknown, requestId: string): { problem: Problem, members: ProblemMembers | undefined, headers: Readonly<Record<string, string>> } {
  try {
    return { problem: toProblem(error, requestId), members: toldInProblem(error ?? {}), headers: headersOf(error) }
  } catch {
    return { problem: toProblem(null, requestId), members: undefined, headers: NO_HEADERS }
  }
}

/** The problem that an error becomes. 5xx never tell their cause; 4xx tell the message of the error. */
export function toProblem (error: unknown, requestId?: string): Problem {
  const source = (error ?? {}) as Partial<FastifyError> & { expose?: boolean }
  const status = statusOf(source)
  const isInternal = status >= 500 && source.expose !== true
  const code = !isInternal && isShown(source.code) ? source.code : `FST_BASTION_HTTP_${status}`
  const told = isInternal ? undefined : toldInProblem(source)
  const problem: Problem = { type: told?.type ?? 'about:blank', title: STATUS_CODES[status] ?? 'Error', status, code }
  if (told?.violatedPolicies !== undefined) problem['violated-policies'] = [...told.violatedPolicies]
  if (told?.mfaToken !== undefined) problem.mfaToken = told.mfaToken
  if (told?.factors !== undefined) problem.factors = [...told.factors]
  if (requestId !== undefined) problem.requestId = requestId
  if (isInternal) problem.detail = FAILED
  else if (isValidation(source)) {
    problem.code = INPUT_REFUSED
    problem.detail = `The ${source.validationContext} does not have the declared form`
    problem.errors = source.validation.map(({ instancePath, message, params }) => ({ path: pointerTo(instancePath, params), message: message ?? 'is invalid' }))
  } else problem.detail = ECHOING[code] ?? String(source.message ?? '')
  return problem
}

function isShown (code: unknown): code is string {
  if (typeof code !== 'string') return false
  if (shown.has(code)) return true
  const is = CODE.test(code)
  if (is && shown.size < MAX_SHOWN) shown.add(code)
  return is
}

function isValidation (error: Partial<FastifyError>): error is FastifyError & Required<Pick<FastifyError, 'validation' | 'validationContext'>> {
  return Array.isArray(error.validation) && typeof error.validationContext === 'string'
}

/** 4xx and 5xx as the error says, a redirect only where it says whereto; everything else is a failure of ours. */
function statusOf (error: Partial<FastifyError>): number {
  const { statusCode } = error
  if (typeof statusCode !== 'number' || !Number.isInteger(statusCode) || statusCode > 599) return 500
  if (statusCode >= 400) return statusCode
  return statusCode > 300 && headersOf(error).location !== undefined ? statusCode : 500
}

function headersOf (error: unknown): Readonly<Record<string, string>> {
  const { headers } = (error ?? {}) as { headers?: unknown }
  if (headers === null || typeof headers !== 'object') return NO_HEADERS
  const said: Record<string, string> = {}
  for (const name of Object.keys(headers)) if (SPEAKABLE.has(name.toLowerCase())) said[name] = (headers as Record<string, string>)[name]!
  return said
}

/** A header that Node refuses to send would also stop the answer that says so. */
function dropUnsendableHeaders (reply: FastifyReply): void {
  for (const [name, value] of Object.entries(reply.getHeaders())) {
    try {
      validateHeaderName(name)
      validateHeaderValue(name, value as string)
    } catch {
      reply.removeHeader(name)
    }
  }
}

/** The place that is wrong (RFC 6901): a field that is unknown or missing is named, whatever its value. */
function pointerTo (instancePath: string, params: Record<string, unknown>): string {
  const name = params.additionalProperty ?? params.unevaluatedProperty ?? params.missingProperty ?? params.propertyName
  return typeof name === 'string' ? `${instancePath}/${name.slice(0, 64).replaceAll('~', '~0').replaceAll('/', '~1')}` : instancePath
}

export default fp(errors, { fastify: '5.x', name: 'bastion-errors', dependencies: ['bastion-plan', 'bastion-events'] })
