/**
 * CORS: which other origins may read the answers.
 *
 * Threat: an origin that is reflected with credentials lets any page act as the signed-in user (CWE-942).
 * Defence: exact origins only, checked at boot; @fastify/cors decides the rest: at boot what each origin is told, at run
 * time about OPTIONS. Preflights are answered before identification, so that they are never met with a 401.
 * Not covered: requests that need no preflight and no reading of the answer; that is CSRF protection.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest, onRequestHookHandler } from 'fastify'
import cors, { type FastifyCorsOptions } from '@fastify/cors'
import { createError } from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import Fastify from 'fastify'
import fp from 'fastify-plugin'
import { checkOptions } from './options.js'
import { isExactOrigin } from './origin.js'
import { planned, type PlannedRoute, type Step } from './plan/index.js'
import { PreparedHeaders, prepare } from './prepared.js'
import { isProduction } from './production.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** `false`: no other origin may read this route's answers, nor send it what needs a preflight. */
    cors?: false
  }
}

/** An origin or combination that would open the API to any page, or a wrong option. */
export const CorsMisconfigured = createError<[string]>('FST_BASTION_CORS_MISCONFIGURED', '%s', 500, TypeError)

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']
const ALLOWED_HEADERS = ['authorization', 'content-type', 'x-api-key', 'x-csrf-token']
const EXPOSED_HEADERS = ['ratelimit', 'ratelimit-policy', 'x-ratelimit-limit', 'x-ratelimit-remaining', 'x-ratelimit-reset', 'retry-after', 'deprecation', 'sunset', 'link']

/** Every page of this machine, whatever its port and scheme. */
const LOOPBACK = /^https?:\/\/(?:(?:[^/]+\.)?localhost|127(?:\.\d+){3}|\[::1\])(?::\d+)?$/
const HeaderName = Type.String({ pattern: "^[A-Za-z0-9!#$%&'+.^_`|~-]+$" })
export const CorsOptions = Type.Object({
  origins: Type.Optional(Type.Union([Type.Array(Type.String()), Type.Literal('*')], {
    description: 'Exact origins (`https://app.example.com`), or `*` for a public API without credentials; none: no other origin', default: [],
  })),
  credentials: Type.Optional(Type.Boolean({ description: 'Cookies and Authorization from these origins', default: false })),
  methods: Type.Optional(Type.Array(Type.String({ pattern: '^[A-Z]+$' }), { description: 'Methods that a preflight allows', default: METHODS })),
  allowedHeaders: Type.Optional(Type.Array(HeaderName, { description: 'Request headers that a preflight allows', default: ALLOWED_HEADERS })),
  exposedHeaders: Type.Optional(Type.Array(HeaderName, { description: 'Answer headers that the other origin may read', default: EXPOSED_HEADERS })),
  maxAge: Type.Optional(Type.Integer({ minimum: 0, maximum: 86400, description: 'Seconds a preflight is remembered', default: 600 })),
}, { additionalProperties: false })
export type CorsOptions = Static<typeof CorsOptions>

async function bastionCors (app: FastifyInstance, options: CorsOptions): Promise<void> {
  checkOptions(CorsOptions, options, 'cors', CorsMisconfigured)
  const { origins = [], credentials = false, methods = METHODS, allowedHeaders = ALLOWED_HEADERS, exposedHeaders = EXPOSED_HEADERS, maxAge = 600 } = options
  if (origins === '*' && credentials) throw new CorsMisconfigured('cors: origins "*" with credentials would let any page act as the user: list exact origins')
  if (Array.isArray(origins)) origins.forEach(refuseInexactOrigin)
  if (Array.isArray(origins) && isProduction()) origins.forEach(refuseOwnMachine)

  const official: FastifyCorsOptions = {
    origin: origins === '*' ? '*' : origins.length === 0 ? false : [...origins],
    credentials,
    methods,
    allowedHeaders,
    exposedHeaders,
    maxAge,
    preflightContinue: true, // answered below: it would take every OPTIONS request for a preflight, or refuse it in plain text
    strictPreflight: false,
  }
  const told = await askCors(official, origins === '*' ? [] : origins)
  let handleCors: onRequestHookHandler
  /** By the pattern of the URL: the methods that other origins may not use. A preflight matches an OPTIONS route, not the one it asks about. */
  const closed = new Map<string, Set<string>>()
  let preflights: PlannedRoute | null = null
  let isLoading = false
  app.plan.contribute({
    concern: 'cors',
    stage: 'cors',
    declare (route) {
      // The route that @fastify/cors adds so that preflights reach its hook.
      if (isLoading && route.method === 'OPTIONS' && route.url.endsWith('*')) {
        preflights = route
        route.options.config = { access: 'public', answers: 'raw', ...route.options.config } as never
      } else if (isOff(route) && route.kind !== 'not-found') closeRoute(route)
    },
    compile (route) {
      const { cors: rule } = (route.options.config ?? {}) as { cors?: unknown }
      if (rule !== undefined && rule !== false) route.object('cors: a route can only switch it off (cors: false); origins are an option of the suite')
      const tell = rule === false || origins.length === 0 ? undefined : tellOrigins
      const takesOptions = route.kind === 'not-found' || route.method.split(',').includes('OPTIONS')
      return { step: takesOptions ? answeringOptions(tell) : tell, promise: rule === false ? false : { origins, credentials } }
    },
  })
  isLoading = true
  await app.register(fp(function loadCors (instance: FastifyInstance, _options: object, done: () => void) {
    // Its hook is kept here: what it says on all requests but OPTIONS is prepared.
    const keepHook = (_name: string, hook: onRequestHookHandler) => { handleCors = hook }
    cors(Object.create(instance, { addHook: { value: keepHook } }) as FastifyInstance, official, done)
  }))
  isLoading = false

  function tellOrigins (request: FastifyRequest, reply: FastifyReply): void {
    const headers = told.get(request.headers.origin ?? null) ?? told.get(null)!
    // A hook older than the suite may have set one of them: @fastify/cors knows what to add and what to replace.
    if (!prepare(reply, headers)) handleCors.call(app, request, reply, () => {})
  }

  function closeRoute ({ instance, options, method, url }: PlannedRoute): void {
    const methods = closed.get(url) ?? new Set()
    for (const name of method.split(',')) methods.add(name)
    closed.set(url, methods)
    const { routePath, constraints } = options as PlannedRoute['options'] & { routePath: string }
    if (methods.has('OPTIONS') || instance.hasRoute({ method: 'OPTIONS', url, constraints } as never)) return
    instance.route({
      method: 'OPTIONS',
      url: routePath === '' ? '/' : routePath, // `/` below a prefix: with and without the slash
      constraints,
      config: { access: 'public', answers: 'raw' },
      schema: { hide: true },
      handler: answerUnknown,
    } as never)
  }

  /** Preflights are answered here: what comes after asks who somebody is. */
  function answeringOptions (tell: Step | undefined): Step {
    return function answerPreflight (request, reply) {
      if (request.method !== 'OPTIONS') return tell?.(request, reply)
      handleCors.call(app, request, reply, error => { if (error !== undefined) throw error })
      const { headers } = request
      const asked = headers['access-control-request-method']
      if (headers.origin === undefined || asked === undefined) {
        // An ordinary request, for a route that says OPTIONS; @fastify/cors shall not answer it.
        Object.assign(request, { corsPreflightEnabled: false })
        return
      }
      // Whichever route it matches: what is answered is the preflight, not that route.
      request[planned] = preflights
      if (closed.get(request.routeOptions.url ?? '')?.has(asked) === true) withdraw(reply)
      reply.code(204).header('content-length', '0').send()
      return new Promise(() => {})
    }
  }
}

/** Asks @fastify/cors itself, once an origin, what it says on an answer; under null what it says to everybody else. */
async function askCors (options: FastifyCorsOptions, origins: readonly string[]): Promise<ReadonlyMap<string | null, PreparedHeaders>> {
  const probe = Fastify()
  await probe.register(cors, options)
  probe.get('/', (_request, reply) => { reply.code(204).send() })
  const told = new Map<string | null, PreparedHeaders>()
  for (const origin of [null, ...origins]) {
    const { headers } = await probe.inject({ url: '/', headers: origin === null ? {} : { origin } })
    const said = Object.entries(headers).filter(([name]) => name === 'vary' || name.startsWith('access-control-'))
    told.set(origin, new PreparedHeaders(Object.fromEntries(said) as Record<string, string>))
  }
  await probe.close()
  return told
}

function answerUnknown (_request: FastifyRequest, reply: FastifyReply): void {
  reply.callNotFound()
}

function withdraw (reply: FastifyReply): void {
  for (const name of Object.keys(reply.getHeaders())) if (name.startsWith('access-control-')) reply.removeHeader(name)
}

function isOff ({ options }: PlannedRoute): boolean {
  return (options.config as { cors?: false } | undefined)?.cors === false
}

function refuseInexactOrigin (origin: string): void {
  if (!isExactOrigin(origin)) {
    throw new CorsMisconfigured(`cors: origins: ${JSON.stringify(origin)} is not an exact origin such as https://app.example.com`)
  }
}

/** Whatever runs on the machine of whoever looks at a page of theirs. */
function refuseOwnMachine (origin: string): void {
  if (LOOPBACK.test(origin)) throw new CorsMisconfigured(`cors: origins: ${origin} is for development`)
}

export default fp(bastionCors, { fastify: '5.x', name: 'bastion-cors', dependencies: ['bastion-plan'] })
