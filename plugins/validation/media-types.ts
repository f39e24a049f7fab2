/** Media types: whether a body is of one that its route takes. */
import type { FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import type { Step } from '../plan/index.js'
import { isSchema } from '../references.js'
import { createRefusal } from '../refusal.js'

/** The body is of a media type that this route does not take. */
export const MediaTypeRefused = createRefusal('FST_BASTION_VALIDATION_MEDIA_TYPE', 'This media type is not accepted here', 415)

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
export function refuseMediaTypes (mediaTypes: readonly string[], isMapped: boolean): Step {
  const takesJson = mediaTypes.includes(JSON_TYPE)
  return function refuseMediaType (request, reply) {
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
