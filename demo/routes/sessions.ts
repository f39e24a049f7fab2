/** Browser sessions: sign in and out by a cookie, confirm who one is, see and end the devices that are signed in. */
import { Type, type Static } from '@sinclair/typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { NotFound } from '../../plugins/errors.js'
import { principalOf } from '../../plugins/identity.js'
import type { Device } from '../../plugins/sessions/index.js'
import type { Account } from '../../plugins/sign-in.js'
import { Bio, closed, Credentials, Id, noBody, page, Phone, Url } from '../../schemas/index.js'
import type { Portal } from '../app.js'
import { tellNewName } from '../notices.js'
import { completeSignIn, Proof, proveAgain, SecondFactor } from './mfa.js'
import { PASSKEY_LIMITS, PasskeyLogin } from './passkeys.js'
import { FORGOTTEN, Name, OwnProfile, ownProfile, refuseReservedName } from './shapes.js'

const Time = Type.String({ format: 'date-time' })
const CsrfToken = Type.String({ description: 'For the header X-CSRF-Token, as long as the session keeps its id' })
const SignedIn = closed({ user: OwnProfile, csrfToken: CsrfToken })
const nothing = { 204: Type.Null() }
/** Another site must not sign somebody in as somebody else either. */
const signIn = { access: 'public', csrf: 'origin' } as const
const onlySession = { access: { via: ['session'] } } as const

export const DeviceShape = closed({
  id: Type.String(), createdAt: Time, lastSeenAt: Time, expiresAt: Time, userAgent: Type.String(), address: Type.String(), isCurrent: Type.Boolean({ description: 'The one that asks' }),
})

export function deviceShape ({ createdAt, lastSeenAt, expiresAt, ...device }: Device, current: string): Static<typeof DeviceShape> {
  return { ...device, createdAt: createdAt.toISOString(), lastSeenAt: lastSeenAt.toISOString(), expiresAt: expiresAt.toISOString(), isCurrent: device.id === current }
}

export function sessionRoutes (portal: Portal): void {
  const { app, accounts } = portal
  app.get('/csrf-token', {
    schema: { response: { 200: closed({ csrfToken: CsrfToken }) } },
    config: { access: 'public' },
  }, async (_request, reply) => ({ csrfToken: reply.generateCsrf() }))

  app.post('/session/login', {
    schema: { body: Credentials, response: { 200: SignedIn } },
    config: signIn,
  }, async (request, reply) => {
    const { username, password } = request.body
    const account = await app.signIn.withPassword(username, password, request)
    return start({ ...account, ...await app.mfa.demand(account) }, request, reply)
  })

  app.post('/session/mfa', {
    schema: { body: SecondFactor, response: { 200: SignedIn } },
    config: signIn,
  }, async (request, reply) => start(await completeSignIn(portal, request.body, request), request, reply))

  app.post('/session/passkey', {
    schema: { body: PasskeyLogin, response: { 200: SignedIn } },
    config: { ...signIn, limits: PASSKEY_LIMITS },
  }, async (request, reply) => start(await app.passkeys.login(request.body, request), request, reply))

  app.post('/session/step-up', {
    schema: { body: Proof, response: { 200: closed({ csrfToken: CsrfToken }) } },
    config: onlySession,
  }, async (request, reply) => {
    const { userId } = principalOf(request)
    const amr = await proveAgain(portal, await accounts.known(userId), request.body, request)
    await app.sessions.renew(request, { load: accounts.subjectOf, authTime: Math.floor(portal.now() / 1000), amr })
    return { csrfToken: reply.generateCsrf() }
  })

  app.get('/session/me', {
    schema: { response: { 200: OwnProfile } },
    config: onlySession,
  }, async request => ownProfile(await accounts.known(principalOf(request).userId)))

  app.post('/session/profile', {
    schema: {
      body: closed({ username: Type.Optional(Name), phone: Type.Optional(Phone), website: Type.Optional(Url), bio: Type.Optional(Bio) }, { minProperties: 1 }),
      response: { 200: OwnProfile },
    },
    config: { ...onlySession, audit: 'data_modification' },
  }, async request => {
    const { userId } = principalOf(request)
    const { username } = request.body
    const before = await accounts.known(userId)
    if (username !== undefined && username !== before.username) refuseReservedName(username)
    const user = await accounts.change(userId, request.body)
    if (user === null) throw new NotFound()
    tellNewName(portal, before, user)
    return ownProfile(user)
  })

  app.post('/session/logout', {
    schema: { body: noBody, response: nothing },
    config: { ...onlySession, headers: FORGOTTEN },
  }, async (request, reply) => {
    await app.sessions.end(request)
    app.events.record('logout', request)
    reply.code(204)
  })

  app.get('/sessions', {
    schema: { response: { 200: page(DeviceShape) } },
    config: { access: 'user' },
  }, async request => {
    const { userId, credentialId } = principalOf(request)
    return { items: (await app.sessions.list(userId)).map(device => deviceShape(device, credentialId)), nextCursor: null }
  })

  app.delete('/sessions/:sessionId', {
    schema: { params: closed({ sessionId: Id }), response: nothing },
    config: { access: 'user' },
  }, async (request, reply) => {
    if (!await app.sessions.endOne(principalOf(request).userId, request.params.sessionId)) throw new NotFound()
    reply.code(204)
  })

  /** The account is asked for again once the session has its generation: what changed while the password was checked counts. */
  async function start (account: Account & { amr: readonly string[] }, request: FastifyRequest, reply: FastifyReply): Promise<Static<typeof SignedIn>> {
    const { id, passwordHash, amr } = account
    await app.sessions.start(request, account, {
      load: async () => !amr.includes('mfa') && await app.mfa.isEnrolled(id) ? null : accounts.subjectOf(id, passwordHash),
    })
    return { user: ownProfile(await accounts.known(id)), csrfToken: reply.generateCsrf() }
  }
}
