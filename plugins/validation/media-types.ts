/** Media types and content codings: whether a body is of those that its route takes. */
import type { FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import type { Step } from '../plan/index.js'
import { isSchema } from '../references.js'
import { createRefusal } from '../refusal.js'

/** The body is of a media type that this route does not take. */
export const MediaTypeRefused = createRefusal('FST_BASTION_VALIDATION_MEDIA_TYPE', 'This media type is not accepted here', 415)
/** The body is said to be in a content coding that nobody undoes here: who reads it by the coding reads another one than who does not (CWE-436; RFC 9110, 8.4). */
export const CodingRefused = createRefusal('FST_BASTION_VALIDATION_CODING', 'A body in this content coding is not accepted here', 415)

export const JSON_TYPE = 'application/json'
/** One that a body could be matched with. */
export const MEDIA_TYPE = /^[a-z0-9!#$&^_.+-]{1,127}\/[a-z0-9!#$&^_.+-]{1,127}$/
/** What nearly every client sends, in a form that needs no further look. */
const PLAIN_JSON: ReadonlySet<string> = new Set([JSON_TYPE, 'application/json; charset=utf-8', 'application/json;charset=utf-8', 'application/json;charset=UTF-8'])
const CHARSET = /;\s*charset\s*=\s*("[^"]*"|[^\s;]*)/gi

/** The body's schemas by media type; null where one schema is for JSON. */
export function contentOf (options: RouteOptions): Record<string, { schema?: unknown }> | null {
  const body = (options.schema as { body?: { content?: unknown } } | undefined)?.body
  return isSchema(body?.content) ? body.content as Record<string, { schema?: unknown }> : null
}

export function mediaTypesOf (options: RouteOptions): readonly string[] {
  const content = contentOf(options)
  return content === null ? [JSON_TYPE] : Object.keys(content)
}

/** Whatever parsers a service adds, a route takes what it declares: a form is no JSON, and no simple request of another site passes for one. */
export function refuseMediaTypes (mediaTypes: readonly string[], isMapped: boolean, codings: readonly string[]): Step {
  const takesJson = mediaTypes.includes(JSON_TYPE)
  const undone = new Set(['identity', ...codings])
  return function refuseMediaType (request, reply) {
    const coding = request.headers['content-encoding']
    if (coding !== undefined && !coding.split(',').every(one => undone.has(one.trim().toLowerCase()))) {
      reply.header('accept-encoding', codings.length === 0 ? 'identity' : codings.join(', ')) // RFC 9110, 12.5.3
      throw new CodingRefused()
    }
    const header = request.headers['content-type']
    if (header === undefined ? isMapped || hasContent(request) : !(takesJson && PLAIN_JSON.has(header)) && !isTaken(request, header, mediaTypes)) {
      throw refused(reply, mediaTypes)
    }
  }
}

function refused (reply: FastifyReply, mediaTypes: readonly string[]) {
  // RFC 9110, 15.5.16.
  reply.header('accept', mediaTypes.join(', '))
  return new MediaTypeRefused()
}

function isTaken (request: FastifyRequest, header: string, mediaTypes: readonly string[]): boolean {
  const { mediaType } = request
  if (mediaType === undefined || !mediaTypes.includes(mediaType)) return false
  // It is read as UTF-8, whatever it says it is.
  return [...header.matchAll(CHARSET)].every(([, charset = '']) => /^"?utf-?8"?$/i.test(charset))
}

function hasContent ({ headers }: FastifyRequest): boolean {
  return headers['transfer-encoding'] !== undefined || (headers['content-length'] !== undefined && headers['content-length'] !== '0')
}
