/**
 * OpenAPI: what the service is to its clients, told by what runs.
 *
 * Threat: documents that promise what the wire does not do, and that show what they should not (CWE-200, OWASP API9:2023).
 * Defence: @fastify/swagger collects the routes; credentials, permissions, limits, refusals and ages come from their plan, so that nothing is
 * written twice. Examples hold no secrets; keywords that only this suite understands are left out.
 * Not covered: who may read it. The document is served by whoever wants to (`app.openapi()`), and off unless it is switched on.
 */
import { STATUS_CODES } from 'node:http'
import type { FastifyInstance, RouteOptions } from 'fastify'
import { createError } from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { checkOptions } from '../options.js'
import type { Schema } from '../references.js'
import { HELD, operationOf, type Held } from './operation.js'
import { PROBLEM_RESPONSES, PROBLEM_SCHEMA, problemResponse } from './problems.js'
import { shownSchema } from './schemas.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** The OpenAPI 3.1 document; complete after `ready()`. */
    openapi: () => OpenApiDocument
  }

  /** What a route may say of itself in the document: typed as @fastify/swagger does, whose own types a service need not import. */
  interface FastifySchema {
    /** True: it is not in the document. */
    hide?: boolean
    tags?: readonly string[]
    summary?: string
    description?: string
    operationId?: string
  }
}

export interface OpenApiDocument {
  openapi: string
  info: { title: string, version: string, description?: string }
  paths: Record<string, Record<string, OpenApiOperation>>
  components: { schemas: Record<string, object>, responses: Record<string, object>, securitySchemes: Record<string, object> }
  [more: string]: unknown
}

export interface OpenApiOperation {
  responses: Record<string, { description?: string, $ref?: string }>
  security?: Record<string, readonly string[]>[]
  deprecated?: boolean
  [more: string]: unknown
}

/** An option of the openapi concern is wrong, or the package that it needs is not installed. */
export const OpenApiMisconfigured = createError<[string]>('FST_BASTION_OPENAPI_MISCONFIGURED', '%s', 500, TypeError)

export const OpenApiOptions = Type.Object({
  title: Type.String({ minLength: 1, description: 'Name of the service' }),
  version: Type.String({ minLength: 1, description: 'Version of what it offers; not of what it is made of' }),
  description: Type.Optional(Type.String({ description: 'About the service, in CommonMark' })),
  servers: Type.Optional(Type.Array(Type.String({ pattern: '^(?:https?://|/)' }), { description: 'URLs at which it is reached; by default where the document is' })),
}, { additionalProperties: false })
export type OpenApiOptions = Static<typeof OpenApiOptions>

/** Kinds of credential, by the names of their readers. */
const SCHEMES: Record<string, object> = {
  bearer: { type: 'http', scheme: 'bearer', description: 'An access token' },
  dpop: { type: 'http', scheme: 'DPoP', description: 'An access token and the proof that its key is held (RFC 9449)' },
  key: { type: 'apiKey', in: 'header', name: 'x-api-key', description: 'An API key; also accepted as a bearer credential' },
  certificate: { type: 'mutualTLS', description: 'A client certificate' },
  csrfToken: { type: 'apiKey', in: 'header', name: 'x-csrf-token', description: 'What shows that a page of the service sent it, beside the cookie of the session' },
}

async function openapi (app: FastifyInstance, options: OpenApiOptions): Promise<void> {
  checkOptions(OpenApiOptions, options, 'openapi', OpenApiMisconfigured)
  const { title, version, description, servers } = options
  const { default: swagger } = await import('@fastify/swagger').catch(cause => {
    throw Object.assign(new OpenApiMisconfigured('openapi: the package @fastify/swagger is needed: npm i @fastify/swagger'), { cause })
  })
  const components = { schemas: PROBLEM_SCHEMA, responses: PROBLEM_RESPONSES, securitySchemes: {} as Record<string, object> }

  await app.register(swagger as never, {
    openapi: {
      openapi: '3.1.0',
      info: { title, version, ...description !== undefined && { description } },
      ...servers !== undefined && { servers: servers.map(url => ({ url })) },
      components,
    },
    convertConstToEnum: false,
    stripBasePath: false,
    transform: ({ route, schema, url }: { route: RouteOptions, schema: Schema | undefined, url: string }) => {
      const planned = app.plan.routes.find(({ options }) => options === route)
      return { url, schema: planned === undefined || schema?.hide === true ? { hide: true } : operationOf(app, planned) }
    },
    transformObject: ({ openapiObject }: { openapiObject: OpenApiDocument }) => complete(openapiObject),
  } as never)
  app.decorate('openapi', () => (app as unknown as { swagger: () => OpenApiDocument }).swagger())
  // The plan is compiled by then: its own hook was there first.
  app.addHook('onReady', describeSchemes)

  async function describeSchemes (): Promise<void> {
    const { identity, sessions } = app.plan.notFound.controls as { identity?: { credentials: readonly string[] }, sessions?: { cookie: string } }
    const names = [
      ...identity?.credentials ?? [],
      ...app.plan.routes.some(({ controls }) => controls.dpop !== undefined) ? ['dpop'] : [],
      ...app.plan.routes.some(({ controls }) => (controls.csrf as { check?: string } | undefined)?.check === 'token') ? ['csrfToken'] : [],
    ]
    for (const name of names) {
      components.securitySchemes[name] = name === 'session'
        ? { type: 'apiKey', in: 'cookie', name: sessions?.cookie ?? 'session', description: 'The session of a browser' }
        : SCHEMES[name] ?? { type: 'http', scheme: 'bearer', description: `A credential of the kind ${name}` }
    }
  }
}

/** What @fastify/swagger cannot be told is put in here. */
function complete (document: OpenApiDocument): OpenApiDocument {
  for (const operations of Object.values(document.paths)) {
    for (const operation of Object.values(operations)) {
      const held = operation[HELD] as Held | undefined
      if (held === undefined) continue // of several methods that share one
      const { problems, hasOwnForm } = held
      delete operation[HELD]
      for (const [status, response] of Object.entries(operation.responses)) {
        if (response.description === 'Default Response') response.description = STATUS_CODES[status] ?? 'Success'
      }
      for (const status of problems) operation.responses[status] ??= problemResponse(status, hasOwnForm) as never
    }
  }
  document.components.schemas = Object.fromEntries(Object.entries(document.components.schemas).map(([name, schema]) => [name, shownSchema(schema) as object]))
  return document
}

export default fp(openapi, { fastify: '5.x', name: 'bastion-openapi', dependencies: ['bastion-plan', 'bastion-access'] })
