/** Accounts and tokens: sign in, refresh, sign out, change the password, confirm who one is. */
import { Type } from '@sinclair/typebox'
import { createError } from '@fastify/error'
import { principalOf } from '../../plugins/identity.js'
import { bearerOf } from '../../plugins/tokens/index.js'
import { PasswordInput, TokenPair, closed, noBody } from '../../schemas/index.js'
import type { Portal } from '../app.js'
import { tell } from '../notices.js'
import { Proof, proveAgain } from './mfa.js'
import { FORGOTTEN } from './shapes.js'

const TokensDiffer = createError('FST_PORTAL_TOKENS_DIFFER', 'The body and the Authorization header carry different tokens', 400)
const NoToken = createError('FST_PORTAL_NO_TOKEN', 'Send the refresh token in the body or as bearer', 400)

const Credentials = closed({ username: Type.String({ minLength: 1, maxLength: 100 }), password: PasswordInput })
const RefreshBody = closed({ refresh_token: Type.Optional(Type.String({ minLength: 1, maxLength: 4096 })) })

export function authRoutes (portal: Portal): void {
  const { app, accounts, signOut } = portal
  app.post('/auth/login', {
    schema: { body: Credentials, response: { 200: TokenPair } },
    config: { access: 'public' },
  }, async request => {
    const { username, password } = request.body
    const account = await app.signIn.withPassword(username, password, request)
    const shown = await app.mfa.demand(account)
    // Asked again once the family has its generation: a second factor that was confirmed meanwhile ends all that was begun without it.
    return app.tokens.issue({ ...account, ...shown }, async id => await app.mfa.isEnrolled(id) ? null : accounts.subjectOf(id, account.passwordHash))
  })

  app.post('/auth/refresh', {
    schema: { body: Type.Union([RefreshBody, Type.Null()]), response: { 200: TokenPair } },
    config: { access: 'public' },
  }, async request => {
    const body = request.body?.refresh_token
    const bearer = bearerOf(request)
    if (body !== undefined && bearer !== null && body !== bearer) throw new TokensDiffer()
    const token = body ?? bearer
    if (token === null) throw new NoToken()
    return app.tokens.refresh(token, accounts.subjectOf, request)
  })

  app.post('/auth/logout', {
    schema: { body: noBody, response: { 204: Type.Null() } },
    config: { access: { via: ['bearer'] }, headers: FORGOTTEN },
  }, async (request, reply) => {
    await app.tokens.revokeFamily(principalOf(request).familyId!)
    app.events.record('logout', request)
    reply.code(204)
  })

  app.post('/auth/logout-all', {
    schema: { body: noBody, response: { 204: Type.Null() } },
    config: { access: 'user', headers: FORGOTTEN },
  }, async (request, reply) => {
    await signOut(principalOf(request).userId)
    app.events.record('logout', request, { all: true })
    reply.code(204)
  })

  app.post('/auth/password', {
    schema: { body: closed({ currentPassword: PasswordInput, newPassword: PasswordInput }), response: { 204: Type.Null() } },
    config: { access: 'user' },
  }, async (request, reply) => {
    const { userId } = principalOf(request)
    const { currentPassword, newPassword } = request.body
    const user = await accounts.known(userId)
    await app.signIn.confirmPassword(userId, user.username, currentPassword, request)
    await app.passwords.checkNew(newPassword, [user.username, user.email.split('@')[0]!])
    const passwordHash = await app.passwords.hash(newPassword)
    // Before, so that nothing is changed where the others cannot be signed out; and after, for who signed in meanwhile.
    await signOut(userId, principalOf(request))
    await accounts.savePassword(userId, passwordHash)
    await signOut(userId, principalOf(request))
    app.events.record('password_change', request)
    tell(portal, user, 'Your password was changed', 'It is another one from now on, and everybody else who was signed in has been signed out')
    reply.code(204)
  })

  app.post('/auth/step-up', {
    schema: {
      body: Proof,
      response: { 200: Type.Pick(TokenPair, ['access_token', 'token_type', 'expires_in']) },
    },
    config: { access: { via: ['bearer'] } },
  }, async request => {
    const principal = principalOf(request)
    const user = await accounts.known(principal.userId)
    const amr = await proveAgain(portal, user, request.body, request)
    return app.tokens.stepUp(principal, accounts.subjectOf, amr)
  })

  app.get('/.well-known/jwks.json', {
    schema: { response: { 200: Type.Object({ keys: Type.Array(Type.Record(Type.String(), Type.String())) }) } },
    config: { access: 'public', headers: { cacheControl: 'public, max-age=300' } },
  }, async () => app.tokens.jwks())
}
