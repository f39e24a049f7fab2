/**
 * CSRF: requests that another site makes a browser send with the user's cookies.
 *
 * Threat: cross-site request forgery (CWE-352), login CSRF, and tokens that are good in another session (GHSA-qrgf-9gpc-vrxw).
 * Defence: what changes something and rides on a cookie is refused unless the browser says that a page of ours sent it
 * (Sec-Fetch-Site, then Origin), and unless it holds a token: an HMAC over the secret of the session, a random cookie
 * and the token's own random part (OWASP's signed double submit). Nothing is kept.
 * Not covered: what a GET changes, and scripts in a page of ours. Credentials that a page must add by itself (bearer, key)
 * cannot be forged this way and are not bothered.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { createError } from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { checkKeys, checkOptions } from '../options.js'
import { isExactOrigin } from '../origin.js'
import type { PlannedRoute } from '../plan/index.js'
import { createRefusal } from '../refusal.js'
import { cookieIn, newCookie, tokensOf, type Binding } from './tokens.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * `token`: the whole check, whoever asks, on safe methods too. `origin`: only that no other site sent it, for what has no session
     * yet, such as a sign-in. `false`: no check. Without it: the whole check where an unsafe method rides on a cookie.
     */
    csrf?: CsrfRule
  }
  interface FastifyInstance {
    csrf: Csrf
  }
  interface FastifyReply {
    /** A token for the page that is being answered; see {@link Csrf.issue}. */
    generateCsrf: () => string
  }
  interface FastifyRequest {
    /** @internal The cookie that this request is given. */
    [given]: string | null
    /** @internal The session's text, of a request whose token may stand in its body. */
    [waiting]: Binding | null
  }
}

export type CsrfRule = 'token' | 'origin' | false | ({ check: 'token', /** Of the body. */ field?: string } & object)

/**
 * Sees that a request rides on a cookie of its kind, and answers the secret that tokens are bound to: what changes at sign-in and
 * is known to nobody else, such as the id of the session (of an anonymous one too). Null where it does not.
 */
export type CookieCredential = (request: FastifyRequest) => string | null

export interface Csrf {
  /** Adds a kind of credential that browsers send by themselves; before the application is ready. */
  credential: (read: CookieCredential) => void
  /**
   * A token for `x-csrf-token` or the body's field, another at each call and all of them good; the cookie that it needs goes out with
   * the answer where the browser has none. It is good in the session of this request alone: issue a new one after a sign-in.
   */
  issue: (request: FastifyRequest, reply: FastifyReply) => string
}

/** Another site sent it, or its token is missing or wrong; which of them is told to the log alone. */
export const CsrfRefused = createRefusal('FST_BASTION_CSRF_REFUSED', 'This request does not come from a page of this service', 403)
/** An option of the csrf concern is wrong. */
export const CsrfMisconfigured = createError<[string]>('FST_BASTION_CSRF_MISCONFIGURED', '%s', 500, TypeError)

const FIELD = '^(?!__proto__$|constructor$|prototype$)[A-Za-z_][A-Za-z0-9_-]{0,63}$'
const Field = Type.String({ pattern: FIELD, description: 'Field of a form or of JSON that holds the token where no `x-csrf-token` does; it is taken out before validation', default: '_csrf' })
const Rule = Type.Union([Type.Literal('token'), Type.Literal('origin'), Type.Literal(false), Type.Object({ check: Type.Literal('token'), field: Type.Optional(Field) }, { additionalProperties: false })])

export const CsrfOptions = Type.Object({
  secure: Type.Optional(Type.Boolean({ description: '`false` only for plain HTTP in development: the cookie is `csrf`, without `Secure`, instead of `__Host-csrf`', default: true })),
  origins: Type.Optional(Type.Array(Type.String(), { description: 'Other origins whose pages may send requests, exact (`https://app.example.com`)', default: [] })),
  sameSite: Type.Optional(Type.Boolean({ description: 'Pages of every other host of the same site may send requests', default: false })),
  field: Type.Optional(Field),
  lifetime: Type.Optional(Type.Integer({ minimum: 1, description: 'Seconds that a token is good; by default as long as its session' })),
}, { additionalProperties: false })
export type CsrfOptions = Static<typeof CsrfOptions> & {
  /** Makes the tokens: 32 bytes or more. Of several the first makes and all verify. */
  key: Buffer | readonly Buffer[]
  /** Milliseconds since the epoch; for tests. */
  now?: () => number
}

const SAFE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE'])
const PARSED: ReadonlySet<string> = new Set(['application/json', 'application/x-www-form-urlencoded'])

const given = Symbol('bastion.csrf.given')
const waiting = Symbol('bastion.csrf.waiting')

async function csrf (app: FastifyInstance, options: CsrfOptions): Promise<void> {
  const { key, now = Date.now, ...plain } = options
  checkOptions(CsrfOptions, plain, 'csrf', CsrfMisconfigured)
  const keys = checkKeys(key, 'csrf: key', CsrfMisconfigured)
  const { secure = true, origins = [], sameSite = false, field = '_csrf', lifetime = Infinity } = plain
  const inexact = origins.find(origin => !isExactOrigin(origin))
  if (inexact !== undefined) throw new CsrfMisconfigured(`csrf: origins: ${JSON.stringify(inexact)} is not an exact origin such as https://app.example.com`)
  const listed = new Set(origins)
  const tokens = tokensOf({ keys, lifetime, now })
  // The prefix keeps other hosts and plain HTTP from setting it (RFC 6265bis, 4.1.3.2).
  const name = secure ? '__Host-csrf' : 'csrf'
  const attributes = `; Path=/; HttpOnly; SameSite=Strict${secure ? '; Secure' : ''}`
  const credentials: CookieCredential[] = []
  let isCompiled = false

  app.decorate('csrf', { credential, issue })
  app.decorateReply('generateCsrf', function generateCsrf (this: FastifyReply) { return issue(this.request, this) })
  app.decorateRequest(given as never, null as never)
  app.decorateRequest(waiting as never, null as never)
  app.plan.contribute({
    concern: 'csrf',
    stage: 'csrf',
    compile (route) {
      isCompiled = true
      const rule = ruleOf(route)
      if (rule === null) return undefined
      if (rule === false) return { promise: false }
      if (rule === 'origin') return { step: refuseForeignOrigin, promise: { check: 'origin', of: 'all', origins, sameSite } }
      const of = rule === undefined ? 'cookies' : 'all'
      return { step: of === 'all' ? checkAll : checkCookies, promise: { check: 'token', of, origins, sameSite, field: fieldOf(rule) } }
    },
  })
  app.plan.contribute({
    concern: 'csrf',
    stage: 'body',
    compile (route) {
      const rule = ruleOf(route)
      return rule === null || rule === false || rule === 'origin' ? undefined : { step: checkBody(fieldOf(rule)) }
    },
  })

  function credential (read: CookieCredential): void {
    if (typeof read !== 'function') throw new CsrfMisconfigured('csrf: a credential is a function of the request')
    if (isCompiled) throw new CsrfMisconfigured('csrf: credentials are added before the application is ready: what is guarded is decided there')
    credentials.push(read)
  }

  function issue (request: FastifyRequest, reply: FastifyReply): string {
    let cookie = request[given] ?? cookieIn(request.headers.cookie, name)
    if (cookie === null || cookie === 'several') {
      cookie = newCookie()
      request[given] = cookie
      reply.header('set-cookie', `${name}=${cookie}${attributes}`)
    }
    return tokens.make(bindingOf(request), cookie)
  }

  /** Undefined: as all routes; null: this route needs no check. */
  function ruleOf (route: PlannedRoute): CsrfRule | undefined | null {
    const rule = (route.options.config as { csrf?: CsrfRule } | undefined)?.csrf
    if (route.kind === 'not-found') return null
    if (rule !== undefined) {
      checkOptions(Rule, rule, "csrf: config.csrf must be 'token', 'origin', false or { check: 'token', field }", CsrfMisconfigured)
      return rule
    }
    return credentials.length === 0 || route.method.split(',').every(method => SAFE.has(method)) ? null : undefined
  }

  function fieldOf (rule: CsrfRule | undefined): string {
    return typeof rule === 'object' ? rule.field ?? field : field
  }

  function checkCookies (request: FastifyRequest): void {
    if (SAFE.has(request.method)) return
    const via = request.principal?.via
    if (via === 'bearer' || via === 'key') return
    const binding = bindingOf(request)
    if (binding.some(text => text !== null)) check(request, binding)
  }

  function checkAll (request: FastifyRequest): void {
    check(request, bindingOf(request))
  }

  function check (request: FastifyRequest, binding: Binding): void {
    refuseForeignOrigin(request)
    const token = request.headers['x-csrf-token']
    if (token === undefined && PARSED.has(request.mediaType ?? '') && !SAFE.has(request.method)) request[waiting] = binding
    else refuseWrongToken(request, binding, token)
  }

  function checkBody (name: string) {
    return function checkTokenInBody (request: FastifyRequest): void {
      const binding = request[waiting]
      if (binding === null) return
      request[waiting] = null
      refuseWrongToken(request, binding, takeOut(request.body, name))
    }
  }

  function refuseForeignOrigin (request: FastifyRequest): void {
    const fault = faultOfOrigin(request)
    if (fault !== null) throw refused(request, fault)
  }

  /** Where neither header is there it is no browser of these years, and the token decides. */
  function faultOfOrigin (request: FastifyRequest): string | null {
    const { 'sec-fetch-site': site, origin } = request.headers
    const isListed = origin !== undefined && listed.has(origin)
    switch (site) {
      case 'same-origin': case 'none': return null
      case 'same-site': return sameSite || isListed ? null : 'sent by another host of this site'
      case 'cross-site': return isListed ? null : 'sent by another site'
      case undefined: return origin === undefined || isListed || isOwn(request, origin) ? null : 'sent by another origin'
      default: return 'Sec-Fetch-Site is malformed'
    }
  }

  function refuseWrongToken (request: FastifyRequest, binding: Binding, token: unknown): void {
    const cookie = cookieIn(request.headers.cookie, name)
    const fault = token === undefined
      ? 'no token'
      : cookie === null
        ? 'no cookie'
        : cookie === 'several' ? 'several cookies' : tokens.faultOf(binding, cookie, token)
    if (fault !== null) throw refused(request, fault)
  }

  function refused (request: FastifyRequest, reason: string) {
    app.events.record('csrf_refused', request, { reason })
    return new CsrfRefused()
  }

  function bindingOf (request: FastifyRequest): Binding {
    return credentials.map(read => {
      const text = read(request)
      if (text !== null && (typeof text !== 'string' || text === '')) throw new TypeError('csrf: a credential answers its secret, or null')
      return text
    })
  }
}

function isOwn ({ protocol, host }: FastifyRequest, origin: string): boolean {
  const own = `${protocol}://${host}`
  return origin === own || (URL.canParse(own) && new URL(own).origin === origin)
}

/** The value of the body's own field, which is gone afterwards. */
function takeOut (body: unknown, name: string): unknown {
  if (typeof body !== 'object' || body === null || !Object.hasOwn(body, name)) return undefined
  const fields = body as Record<string, unknown>
  const value = fields[name]
  delete fields[name]
  return value
}

export default fp(csrf, { fastify: '5.x', name: 'bastion-csrf', dependencies: ['bastion-plan', 'bastion-events', 'bastion-identity'] })
