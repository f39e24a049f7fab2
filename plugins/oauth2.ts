/**
 * OAuth 2.0 endpoints over sign-in and tokens: `POST /token`, `POST /revoke` (RFC 7009), `POST /introspect` (RFC 7662).
 *
 * Threat: a second way in that counts no guesses, tells which names exist, or hands out more than was asked for.
 * Defence: the password grant is sign-in itself, with its locks and its one answer for all; it is off unless it is
 * switched on, because it teaches people to type their password into any client (RFC 9700, 2.4), and says so in production.
 * Refusals have the form of RFC 6749, 5.2, at the token endpoint.
 * Not covered: authorization codes, and clients that authenticate. Who may use these endpoints are the service's own clients.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { createError, type FastifyError } from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { closed } from '../schemas/closed.js'
import type { Problem } from '../schemas/problem.js'
import { TokenPair } from '../schemas/tokens.js'
import type { Principal } from './identity.js'
import { isStorableText } from './json.js'
import { checkOptions } from './options.js'
import { isProduction } from './production.js'
import { createRefusal } from './refusal.js'
import type { Account } from './sign-in.js'
import type { Inspection, SubjectLoader } from './tokens/index.js'

/** An option of the OAuth2 concern is wrong. */
export const OAuth2Misconfigured = createError<[string]>('FST_BASTION_OAUTH2_MISCONFIGURED', '%s', 500, TypeError)
/** Name, password or refresh token are not good. */
export const InvalidGrant = createRefusal('FST_BASTION_OAUTH2_INVALID_GRANT', 'The grant is invalid, expired or spent', 400)
/** A parameter that the grant needs is missing, or stands twice. */
export const InvalidRequest = createRefusal('FST_BASTION_OAUTH2_INVALID_REQUEST', 'A parameter is missing, malformed or repeated', 400)
export const InvalidScope = createRefusal('FST_BASTION_OAUTH2_INVALID_SCOPE', 'These scopes are unknown, or go beyond what may be granted', 400)
export const UnsupportedGrant = createRefusal('FST_BASTION_OAUTH2_UNSUPPORTED_GRANT', 'This grant type is not supported', 400)

export const OAuth2Options = Type.Object({
  passwordGrant: Type.Optional(Type.Boolean({ description: 'The resource owner password grant, for first-party clients alone; warns in production (RFC 9700, 2.4)', default: false })),
  introspection: Type.Optional(Type.Union([Type.String({ minLength: 1 }), Type.Literal(false)], {
    description: 'Permission that an API key needs to introspect tokens, such as `tokens:introspect`; `false`: nobody introspects', default: false,
  })),
}, { additionalProperties: false })
export type OAuth2Options = Static<typeof OAuth2Options> & {
  /** The user of tokens, looked up anew at each grant; null refuses. */
  load: SubjectLoader
  /** Whether this account may use its password alone. Default: where it has no second factor of `app.mfa`. */
  mayUsePassword?: (account: Account) => boolean | Promise<boolean>
}

const FORM = 'application/x-www-form-urlencoded'
/** RFC 6749, appendix A: visible characters; scopes; what people type. */
const Visible = Type.String({ minLength: 1, maxLength: 4096, pattern: '^[\\x20-\\x7e]+$' })
const Scope = Type.String({ maxLength: 1024, pattern: '^[\\x21\\x23-\\x5b\\x5d-\\x7e]+(?: [\\x21\\x23-\\x5b\\x5d-\\x7e]+)*$' })
const Typed = Type.String({ minLength: 1, maxLength: 1024, pattern: '^[^\\x00-\\x08\\x0a-\\x1f\\x7f]+$' })

const asForm = (schema: object) => ({ content: { [FORM]: { schema } } })
const Grant = closed({
  grant_type: Visible,
  username: Type.Optional(Typed),
  password: Type.Optional(Typed),
  refresh_token: Type.Optional(Visible),
  scope: Type.Optional(Scope),
})
type Grant = Static<typeof Grant>
const Presented = closed({ token: Visible, token_type_hint: Type.Optional(Visible) })
type Presented = Static<typeof Presented>

const Granted = Type.Object({ ...TokenPair.properties, scope: Type.Optional(Type.String()) }, { additionalProperties: false })
/** RFC 7662, 2.2. */
const Introspection = Type.Object({
  active: Type.Boolean(),
  token_type: Type.Optional(Type.String()),
  sub: Type.Optional(Type.String()),
  scope: Type.Optional(Type.String()),
  iat: Type.Optional(Type.Integer()),
  exp: Type.Optional(Type.Integer()),
  jti: Type.Optional(Type.String()),
  cnf: Type.Optional(Type.Object({ jkt: Type.String() }, { additionalProperties: false, description: 'The key that has to be shown with it (RFC 9449, 6.2)' })),
}, { additionalProperties: false })

/** Codes of RFC 6749, 5.2, and RFC 9449, 5 and 8, by ours; what is missing here is told by its status. */
const CODES: Record<string, string> = {
  FST_BASTION_OAUTH2_INVALID_GRANT: 'invalid_grant',
  FST_BASTION_OAUTH2_INVALID_SCOPE: 'invalid_scope',
  FST_BASTION_TOKENS_SCOPE: 'invalid_scope',
  FST_BASTION_OAUTH2_UNSUPPORTED_GRANT: 'unsupported_grant_type',
  FST_BASTION_TOKENS_PROOF_INVALID: 'invalid_dpop_proof',
  FST_BASTION_TOKENS_NONCE_WANTED: 'use_dpop_nonce',
}
/** Errors of sign-in and tokens that are one and the same to a client of a grant. */
const REFUSED: ReadonlySet<unknown> = new Set(['FST_BASTION_SIGN_IN_REFUSED', 'FST_BASTION_SIGN_IN_INACTIVE', 'FST_BASTION_TOKENS_INVALID'])

async function oauth2 (app: FastifyInstance, options: OAuth2Options): Promise<void> {
  const { load, mayUsePassword = hasNoSecondFactor, ...plain } = options
  checkOptions(OAuth2Options, plain, 'oauth2', OAuth2Misconfigured)
  if (typeof load !== 'function') throw new OAuth2Misconfigured('oauth2: load: must be a function that looks a user up')
  const { passwordGrant = false, introspection = false } = plain
  if (passwordGrant && isProduction()) app.log.warn('the OAuth2 password grant is on: for first-party clients alone (RFC 9700, 2.4)')

  // A scope of its own: nowhere else does a service begin to take forms, which browsers send across origins without asking.
  await app.register(async function endpoints (scope) {
    scope.addContentTypeParser(FORM, { parseAs: 'string' }, (_request, text, done) => {
      try {
        done(null, parametersOf(text as string))
      } catch (error) {
        done(error as FastifyError)
      }
    })

    scope.post('/token', {
      schema: { body: asForm(Grant) as never, response: { 200: Granted } },
      config: { access: 'public', errorForm: asOAuthError },
    }, async request => grant(request.body as Grant, request))

    scope.post('/revoke', {
      schema: { body: asForm(Presented) as never, response: { 200: Type.Null() } },
      config: { access: 'public' },
    }, async (request, reply) => {
      // RFC 7009, 2.2: what is no token of ours is answered like one that was ended.
      const found = await app.tokens.inspect((request.body as Presented).token)
      if (found !== null) await app.tokens.revokeFamily(found.familyId)
      return reply.code(200).send()
    })

    if (introspection === false) return
    scope.post('/introspect', {
      schema: { body: asForm(Presented) as never, response: { 200: Introspection } },
      config: { access: { via: ['key'], permissions: introspection as never } },
    }, async request => {
      // Access tokens alone: a resource server that took a refresh token for one would be fooled by this answer.
      const found = await app.tokens.inspect((request.body as Presented).token)
      return found?.kind === 'access' ? described(found) : { active: false }
    })
  })

  async function grant ({ grant_type: type, username, password, refresh_token: refreshToken, scope }: Grant, request: FastifyRequest) {
    const scopes = scope?.split(' ')
    // Before a password is hashed: who has to come again with a nonce has cost no more than this.
    await app.tokens.proofOf(request)
    if (type === 'refresh_token') {
      if (refreshToken === undefined) throw new InvalidRequest()
      return answered(await app.tokens.refresh(refreshToken, load, request, scopes).catch(asInvalidGrant), scopes)
    }
    if (type !== 'password' || !passwordGrant) throw new UnsupportedGrant()
    if (username === undefined || password === undefined) throw new InvalidRequest()
    const account = await app.signIn.withPassword(username, password, request).catch(asInvalidGrant)
    if (!await mayUsePassword(account)) throw new InvalidGrant()
    if (scopes?.every(name => app.access.can(rolesOf(account), name as never)) === false) throw new InvalidScope()
    // Asked again once the family has its generation: a second factor that was confirmed meanwhile ends what was begun without it.
    const loadAllowed: SubjectLoader = async id => await mayUsePassword(account) ? load(id) : null
    return answered(await app.tokens.issue({ id: account.id, roles: account.roles, ...(scopes !== undefined && { scopes }) }, loadAllowed, request).catch(asInvalidGrant), scopes)
  }

  async function hasNoSecondFactor ({ id }: Account): Promise<boolean> {
    return !app.hasDecorator('mfa') || !await app.mfa.isEnrolled(id)
  }
}

/** RFC 6749, 3.2: what is repeated is refused, what is unknown is ignored, what is empty was left out. */
function parametersOf (text: string): Record<string, string> {
  const known = new Set([...Object.keys(Grant.properties), ...Object.keys(Presented.properties)])
  const found: Record<string, string> = {}
  for (const [name, value] of new URLSearchParams(text)) {
    if (!known.has(name) || value === '') continue
    if (Object.hasOwn(found, name) || value.includes('\ufffd') || !isStorableText(value)) throw new InvalidRequest()
    found[name] = value
  }
  return found
}

function answered (pair: TokenPair, scopes: readonly string[] | undefined) {
  return { ...pair, ...(scopes !== undefined && { scope: scopes.join(' ') }) }
}

/** Unknown, wrong, spent, switched off: one answer. A lock stays a 429, and what is away a 503. */
function asInvalidGrant (error: FastifyError): never {
  throw REFUSED.has(error.code) ? Object.assign(new InvalidGrant(), { cause: error }) : error
}

/** The form of RFC 6749, 5.2. */
function asOAuthError ({ code, status, detail }: Problem): Record<string, unknown> {
  const error = CODES[code] ?? (status === 429 || status === 503 ? 'temporarily_unavailable' : status >= 500 ? 'server_error' : 'invalid_request')
  return { error, ...(detail !== undefined && { error_description: detail.replace(/[^\x20-\x21\x23-\x5b\x5d-\x7e]/g, '') }) }
}

function rolesOf ({ id, roles }: Account): Principal {
  return { kind: 'user', id, userId: id, roles, via: 'bearer', authTime: 0, credentialId: '' }
}

function described ({ userId, id, issuedAt, expiresAt, scopes, jkt }: Inspection): Static<typeof Introspection> {
  const bound = jkt === undefined ? { token_type: 'Bearer' } : { token_type: 'DPoP', cnf: { jkt } }
  return { active: true, ...bound, sub: userId, iat: issuedAt, exp: expiresAt, jti: id, ...(scopes !== undefined && { scope: scopes.join(' ') }) }
}

export default fp(oauth2, { fastify: '5.x', name: 'bastion-oauth2', dependencies: ['bastion-plan', 'bastion-errors', 'bastion-access', 'bastion-tokens', 'bastion-sign-in'] })
