/** The second factor: enrol, confirm, end it; complete a sign-in with a code; show it again (step-up). */
import type { FastifyRequest } from 'fastify'
import { Type, type Static } from '@sinclair/typebox'
import { principalOf, type Principal } from '../../plugins/identity.js'
import { MfaRequired } from '../../plugins/mfa/index.js'
import { tellInProblem } from '../../plugins/problem.js'
import { PasskeyAssertion, PasswordInput, TokenInput, TokenPair, closed, noBody } from '../../schemas/index.js'
import type { Portal } from '../app.js'
import type { UserRow } from '../data/tables.js'
import { tell } from '../notices.js'

/** A code as it is typed: six digits, or a recovery code with its hyphens. */
export const Code = Type.String({ minLength: 1, maxLength: 64, examples: ['123456', '7K3M-P0QX-9ZTA-4RJV-W2C8-HN6E'] })

/** What somebody who is signed in shows to prove themselves again. */
export const Proof = Type.Union([closed({ password: PasswordInput }), closed({ code: Code }), closed({ passkey: PasskeyAssertion })])
/** What completes a sign-in whose password was right. */
export const SecondFactor = Type.Union([closed({ mfaToken: TokenInput, code: Code }), closed({ mfaToken: TokenInput, passkey: PasskeyAssertion })])

export function mfaRoutes (portal: Portal): void {
  const { app, accounts, signOut } = portal
  app.post('/auth/mfa', {
    schema: { body: SecondFactor, response: { 200: TokenPair } },
    config: { access: 'public' },
  }, async request => {
    const account = await completeSignIn(portal, request.body, request)
    return app.tokens.issue(account, id => accounts.subjectOf(id, account.passwordHash))
  })

  app.get('/mfa', {
    schema: { response: { 200: closed({ factors: Type.Array(Type.String(), { description: '`totp`, `passkey`' }) }) } },
    config: { access: 'user' },
  }, async request => ({ factors: await app.mfa.factors(principalOf(request).userId) }))

  app.post('/mfa/enroll', {
    schema: { body: noBody, response: { 200: closed({ secret: Type.String(), otpauthUrl: Type.String(), qr: Type.String() }) } },
    config: { access: { stepUp: true } },
  }, async request => {
    const { id, username } = await accounts.known(principalOf(request).userId)
    return app.mfa.enroll({ id, name: username })
  })

  app.post('/mfa/confirm', {
    schema: { body: closed({ code: Code }), response: { 200: closed({ recoveryCodes: Type.Array(Type.String()) }) } },
    config: { access: 'user' },
  }, async request => {
    const { userId } = principalOf(request)
    const user = await accounts.known(userId)
    const recoveryCodes = await app.mfa.confirm(userId, request.body.code, request)
    // Whoever else is signed in has shown no second factor: within five minutes of the password that would do for a step-up.
    await signOut(userId, principalOf(request))
    tell(portal, user, 'A second factor was added', 'Signing in now takes a code of the authenticator too')
    return { recoveryCodes }
  })

  app.delete('/mfa', {
    schema: { response: { 204: Type.Null() } },
    config: { access: { stepUp: true } },
  }, async (request, reply) => {
    const principal = principalOf(request)
    const user = await accounts.known(principal.userId)
    if (await app.mfa.disable(user.id, request)) {
      await signOut(user.id, principal)
      const isLeft = await app.mfa.isEnrolled(user.id)
      tell(portal, user, 'The second factor was removed', isLeft ? 'The authenticator and its recovery codes are good for nothing now' : 'Signing in takes nothing but the password now')
    }
    reply.code(204)
  })
}

/** The account of a sign-in whose second factor is shown now. */
export function completeSignIn ({ app }: Portal, shown: Static<typeof SecondFactor>, request: FastifyRequest) {
  return app.mfa.redeem(shown.mfaToken, 'code' in shown ? shown.code : { factor: 'passkey', response: shown.passkey }, request)
}

/** What a passkey that is shown again is bound to: no other sign-in of the same user can use it. */
export function stepUpOf ({ familyId, credentialId }: Principal): string {
  return `step-up:${familyId ?? credentialId}`
}

/**
 * Checks what somebody shows again: the second factor where the account has one, where the password alone is not looked at.
 *
 * @returns what was shown now (RFC 8176)
 * @throws MfaRequired (401) for the password of an account with a second factor
 */
export async function proveAgain ({ app }: Portal, user: UserRow, proof: Static<typeof Proof>, request: FastifyRequest): Promise<readonly string[]> {
  const principal = principalOf(request)
  if ('password' in proof) {
    const factors = await app.mfa.factors(user.id)
    if (factors.length > 0) throw tellInProblem(new MfaRequired(), { factors })
    await app.signIn.confirmPassword(user.id, user.username, proof.password, request)
    return ['pwd']
  }
  const isCode = 'code' in proof
  await app.mfa.verify(user.id, isCode ? proof.code : { factor: 'passkey', response: proof.passkey, boundTo: stepUpOf(principal) }, request)
  return [isCode ? 'otp' : 'pop', 'mfa']
}
