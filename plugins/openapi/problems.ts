/** Refusals as documents show them: one schema and one answer of each status for all routes. */
import { STATUS_CODES } from 'node:http'
import { Problem } from '../../schemas/problem.js'
import type { PlannedRoute } from '../plan/index.js'
import { shownSchema } from './schemas.js'

export const PROBLEM_SCHEMA = { Problem: shownSchema(Problem) }

const text = (description: string) => ({ description, schema: { type: 'string' } })
const seconds = (description: string) => ({ description, schema: { type: 'integer' } })
const RETRY_AFTER = { 'Retry-After': seconds('Seconds after which to ask again (RFC 9110, 10.2.3)') }

/** What each status means here, and the headers that it comes with. */
const ANSWERS: Record<string, [description: string, headers?: object]> = {
  400: ['The request does not have the declared form'],
  401: ['Nobody is identified, or they must prove themselves again', { 'WWW-Authenticate': text('What to authenticate by (RFC 9110, 11.6.1; RFC 9470)') }],
  403: ['Known, and not allowed'],
  404: ['There is nothing here, or not for this caller'],
  410: ['No longer served', {
    Deprecation: text('Since when it is deprecated (RFC 9745)'), Sunset: text('Since when it is gone (RFC 8594)'), Link: text('Its successor (`rel="successor-version"`)'),
  }],
  413: ['The body is too large'],
  415: ['The body is of a media type, or in a content coding, that is not accepted here', {
    Accept: text('The media types that are (RFC 9110, 15.5.16)'), 'Accept-Encoding': text('The content codings that are, where it is for these'),
  }],
  421: ['This service does not answer for that host'],
  429: ['Asked too often', {
    ...RETRY_AFTER,
    RateLimit: text('What is left of the budget (draft-ietf-httpapi-ratelimit-headers)'),
    'RateLimit-Policy': text('The budget'),
    'X-RateLimit-Limit': seconds('Requests in the window that refuses'),
    'X-RateLimit-Remaining': seconds('Requests that are left in it'),
    'X-RateLimit-Reset': seconds('Seconds until it is fresh'),
  }],
  503: ['Not at the moment', RETRY_AFTER],
  '4XX': ['Refused'],
  '5XX': ['Failed; the log knows why'],
}
const WITHOUT_CONTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'TRACE'])

function nameOf (status: string): string {
  return `Problem${status}`
}

/** `components.responses`. */
export const PROBLEM_RESPONSES = Object.fromEntries(Object.entries(ANSWERS).map(([status, [description, headers]]) => [nameOf(status), {
  description,
  ...headers !== undefined && { headers },
  content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' }, ...exampleOf(Number(status)) } },
}]))

function exampleOf (status: number): { example?: object } {
  return Number.isNaN(status) ? {} : { example: { type: 'about:blank', title: STATUS_CODES[status], status, code: `FST_BASTION_HTTP_${status}`, requestId: '8f3b1c1e-6f0b-4c53-9b3c-0b1d4a5b6c7d' } }
}

/** Where a route answers refusals in a form of its own, a document says no more than what they mean. */
export function problemResponse (status: string, hasOwnForm: boolean): object {
  if (!hasOwnForm) return { $ref: `#/components/responses/${nameOf(status)}` }
  const [description, headers] = ANSWERS[status]!
  return { description, ...headers !== undefined && { headers }, content: { 'application/json': {} } }
}

/** The statuses that the plan says this route can be refused with, and the ranges of what its handler may add. */
export function problemsOf ({ method, url, controls }: PlannedRoute): string[] {
  const { access, csrf, transport, resource, versions, overload, limits, flood } = controls as {
    access?: unknown,
    csrf?: unknown,
    transport?: { hosts: readonly string[], https: boolean },
    resource?: unknown,
    versions?: { sunset?: string, status: string },
    overload?: unknown,
    limits?: unknown,
    flood?: unknown
  }
  const isGuarded = access !== 'public'
  const mayHaveContent = method.split(',').some(name => !WITHOUT_CONTENT.has(name))
  const given: Record<string, boolean> = {
    400: true, // a request without a Host, if nothing else
    401: isGuarded,
    403: isGuarded || (csrf !== undefined && csrf !== false) || transport?.https === true,
    404: resource !== undefined || /[:*]/.test(url),
    410: versions !== undefined && (versions.sunset !== undefined || versions.status === 'gone'),
    413: mayHaveContent,
    415: mayHaveContent,
    421: (transport?.hosts.length ?? 0) > 0,
    429: flood !== undefined || (limits !== undefined && limits !== false),
    503: isGuarded || (overload !== undefined && overload !== false),
    '4XX': true,
    '5XX': true,
  }
  return Object.keys(given).filter(status => given[status])
}
