/** The second factor: enrol, confirm, end it; complete a sign-in with a code; show it again (step-up). */
import type { FastifyRequest } from 'fastify'
import { Type } from '@sinclair/typebox'
import { principalOf } from '../../plugins/identity.js'
import { MfaRequired } from '../../plugins/mfa/index.js'
import { PasswordInput, TokenInput, TokenPair, closed, noBody } from '../../schemas/index.js'
import type { Portal } from '../app.js'
import type { UserRow } from '../data/tables.js'

/** A code as it is typed: six digits, or a recovery code with its hyphens. */
const Code = Type.String({ minLength: 1, maxLength: 64, examples: ['123456', '7K3M-P0QX-9ZTA-4RJV-W2C8-HN6E'] })

/** What somebody who is signed in shows to prove themselves again. */
export const Proof = Type.Union([closed({ password: PasswordInput }), closed({ code: Code })])

export function mfaRoutes ({ app, accounts, post }: Portal): void {
  app.post('/auth/mfa', {
    schema: { body: closed({ mfaToken: TokenInput, code: Code }), response: { 200: TokenPair } },
    config: { access: 'public' },
  }, async request => {
    const { mfaToken, code } = request.body
    const account = await app.mfa.redeem(mfaToken, code, request)
    return app.tokens.issue(account, id => accounts.subjectOf(id, account.passwordHash))
  })

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
    const { userId, familyId } = principalOf(request)
    const user = await accounts.known(userId)
    const recoveryCodes = await app.mfa.confirm(userId, request.body.code, request)
    // Whoever else is signed in has shown no second factor: within five minutes of the password that would do for a step-up.
    await app.tokens.revokeUser(userId, { except: familyId })
    tell(user, 'A second factor was added', 'Signing in now takes a code of the authenticator too')
    return { recoveryCodes }
  })

  app.delete('/mfa', {
    schema: { response: { 204: Type.Null() } },
    config: { access: { stepUp: true } },
  }, async (request, reply) => {
    const user = await accounts.known(principalOf(request).userId)
    if (await app.mfa.disable(user.id, request)) tell(user, 'The second factor was removed', 'Signing in takes nothing but the password now')
    reply.code(204)
  })

  /** The one whose account it is learns of it, whoever did it. */
  function tell (user: UserRow, subject: string, what: string): void {
    if (user.email_confirmed_at === null) return
    post(async () => ({ to: user.email, subject, text: `${what}: account ${user.username}.\n\nIf it was not you, POST /auth/forgot, choose a new password and end all sign-ins.` }))
  }
}

/**
 * Checks what somebody shows again: the second factor where the account has one, where the password alone is not looked at.
 *
 * @throws MfaRequired (401) for the password of an account with a second factor
 */
export async function proveAgain ({ app }: Portal, user: UserRow, proof: { password: string } | { code: string }, request: FastifyRequest): Promise<void> {
  if ('code' in proof) {
    await app.mfa.verify(user.id, proof.code, request)
    return
  }
  if (await app.mfa.isEnrolled(user.id)) throw new MfaRequired()
  await app.signIn.confirmPassword(user.id, user.username, proof.password, request)
}
