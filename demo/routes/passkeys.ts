/** Passkeys: made by who is signed in, and signed in with; beside a password and for a step-up too. */
import { Type, type Static } from '@sinclair/typebox'
import { Forbidden } from '../../plugins/access/index.js'
import { NotFound } from '../../plugins/errors.js'
import { principalOf } from '../../plugins/identity.js'
import type { Passkey } from '../../plugins/passkeys/index.js'
import {
  closed, Id, noBody, page, PasskeyAssertion, PasskeyCreationOptions, PasskeyRegistration, PasskeyRequestOptions, TokenInput, TokenPair,
} from '../../schemas/index.js'
import type { Portal } from '../app.js'
import { tell } from '../notices.js'
import { stepUpOf } from './mfa.js'
import { notFoundWhereGone } from './shapes.js'

const Time = Type.String({ format: 'date-time' })

/** A passkey as its user sees it. */
export const PasskeyShape = closed({
  id: Id,
  name: Type.String(),
  createdAt: Time,
  lastUsedAt: Type.Union([Time, Type.Null()]),
  isBackedUp: Type.Boolean(),
})
/** What the browser's `toJSON()` gives, and a name that its user knows it by. */
const NewPasskey = closed({
  ...PasskeyRegistration.properties,
  name: Type.Optional(Type.String({ minLength: 1, maxLength: 100, pattern: '^[^\\S\\r\\n]*[^\\s\\x00-\\x1f\\x7f][^\\x00-\\x1f\\x7f]*$' })),
})
/** For a sign-in by passkey alone; for one whose password was right; for who is signed in and proves it again. */
const Wanted = Type.Union([noBody, closed({ mfaToken: TokenInput }), closed({ stepUp: Type.Literal(true) })])

/** The body of a sign-in by passkey, whatever comes of it: tokens here, the session elsewhere. */
export const PasskeyLogin = PasskeyAssertion
/** Of every route that takes a passkey from strangers: whoever fails counts, and whoever only asks does. */
export const PASSKEY_LIMITS = { windows: ['30/minute', '300/hour'], by: 'address' } as const
/** A browser whose session is over signs in too: what counts is the page that asks, and for others no passkey is good. */
const signIn = { access: 'public', csrf: 'origin', limits: PASSKEY_LIMITS } as const

export function passkeyShape ({ id, name, createdAt, lastUsedAt, isBackedUp }: Passkey): Static<typeof PasskeyShape> {
  return { id, name, createdAt: createdAt.toISOString(), lastUsedAt: lastUsedAt?.toISOString() ?? null, isBackedUp }
}

export function passkeyRoutes (portal: Portal): void {
  const { app, accounts, signOut } = portal
  app.post('/passkeys/register/options', {
    schema: { body: noBody, response: { 200: PasskeyCreationOptions } },
    config: { access: { stepUp: true } },
  }, async request => {
    const { id, username } = await accounts.known(principalOf(request).userId)
    return app.passkeys.registerOptions({ id, name: username })
  })

  app.post('/passkeys/register', {
    schema: { body: NewPasskey, response: { 201: PasskeyShape } },
    config: { access: { stepUp: true } },
  }, async (request, reply) => {
    const principal = principalOf(request)
    const { userId } = principal
    const { name = 'Passkey', ...response } = request.body
    const user = await accounts.known(userId)
    const passkey = await app.passkeys.register(userId, response, { name: name.trim(), request }).catch(notFoundWhereGone)
    // Whoever else is signed in has shown no second factor, and would step up by the time of their password.
    await signOut(userId, principal)
    tell(portal, user, 'A passkey was added', 'It signs in alone, and the password does no longer without a second factor')
    reply.code(201)
    return passkeyShape(passkey)
  })

  app.get('/passkeys', {
    schema: { response: { 200: page(PasskeyShape) } },
    config: { access: 'user' },
  }, async request => ({ items: (await app.passkeys.list(principalOf(request).userId)).map(passkeyShape), nextCursor: null }))

  app.delete('/passkeys/:passkeyId', {
    schema: { params: closed({ passkeyId: Id }), response: { 204: Type.Null() } },
    config: { access: { stepUp: true } },
  }, async (request, reply) => {
    const principal = principalOf(request)
    const user = await accounts.known(principal.userId)
    if (!await app.passkeys.remove(user.id, request.params.passkeyId, request)) throw new NotFound()
    // Whoever has signed in by it is signed in no longer.
    await signOut(user.id, principal)
    const isEnrolled = await app.mfa.isEnrolled(user.id)
    tell(portal, user, 'A passkey was removed', isEnrolled ? 'It does not sign in any more' : 'It does not sign in any more, and signing in takes nothing but the password now')
    reply.code(204)
  })

  app.post('/passkeys/login/options', {
    schema: { body: Wanted, response: { 200: PasskeyRequestOptions } },
    config: signIn,
  }, async request => {
    const { mfaToken, stepUp } = (request.body ?? {}) as { mfaToken?: string, stepUp?: true }
    if (mfaToken !== undefined) return app.passkeys.secondOptions(await app.mfa.pending(mfaToken, request), mfaToken)
    if (stepUp === undefined) return app.passkeys.loginOptions()
    const principal = principalOf(request)
    if (principal.kind !== 'user' || principal.scopes !== undefined) throw new Forbidden()
    return app.passkeys.secondOptions(principal.userId, stepUpOf(principal))
  })

  app.post('/passkeys/login', {
    schema: { body: PasskeyLogin, response: { 200: TokenPair } },
    config: signIn,
  }, async request => {
    const account = await app.passkeys.login(request.body, request)
    return app.tokens.issue(account, id => accounts.subjectOf(id, account.passwordHash))
  })
}
