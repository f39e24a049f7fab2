/** What goes by mail: a confirmed address, a forgotten password. Nothing here tells whether an address is known. */
import { Type } from '@sinclair/typebox'
import { Email, PasswordInput, closed } from '../../schemas/index.js'
import type { Portal } from '../app.js'
import type { UserRow } from '../data/tables.js'
import { completeRegistration } from '../registrations.js'

const Token = Type.String({ minLength: 1, maxLength: 1024 })
const nothing = { 204: Type.Null() }
/** Seconds that links are good for. */
const RESET_LIFETIME = 1800
const CONFIRM_LIFETIME = 86_400
/** Mails that one address gets. */
export const PER_ADDRESS = ['3/hour', '10/day']

export function recoveryRoutes (portal: Portal): void {
  const { app, accounts, post, signOut, origin } = portal
  app.post('/auth/forgot', {
    schema: { body: closed({ email: Email }), response: { 202: Type.Null() } },
    config: { access: 'public', limits: { windows: ['10/minute', '60/hour'], by: 'address' } },
  }, async (request, reply) => {
    const email = request.body.email.toLowerCase()
    post(async () => {
      const user = await accounts.byConfirmedEmail(email)
      if (user === null || !user.is_active) return null
      await app.limits.check('forgot', PER_ADDRESS, email)
      const token = app.tokens.links.issue({ purpose: 'reset', subject: user.id, lifetime: RESET_LIFETIME, bound: boundTo(user) })
      return {
        to: email,
        subject: 'Choose a new password',
        text: `Somebody, hopefully you, asked for a new password for the account ${user.username}.\n\nPOST /auth/reset with this token, within half an hour:\n\n${token}\n\nOr open ${origin}/#recover/${token}\n\nIf it was not you, there is nothing to do.`,
      }
    })
    return reply.code(202).send(undefined as never)
  })

  app.post('/auth/reset', {
    schema: { body: closed({ token: Token, newPassword: PasswordInput }), response: nothing },
    config: { access: 'public', limits: { windows: ['10/minute', '60/hour'], by: 'address' } },
  }, async (request, reply) => {
    const { token, newPassword } = request.body
    const boundOf = async (id: string) => {
      const user = await accounts.byId(id)
      return user?.is_active === true ? boundTo(user) : null
    }
    const user = await accounts.known(await app.tokens.links.read('reset', token, boundOf))
    await app.passwords.checkNew(newPassword, [user.username, user.email.split('@')[0]!]) // a weak one does not cost the link
    const passwordHash = await app.passwords.hash(newPassword)
    // Before, so that the link is not spent where nobody can be signed out; and after, for who signed in meanwhile.
    await signOut(user.id)
    await app.tokens.links.redeem('reset', token, boundOf)
    await accounts.savePassword(user.id, passwordHash)
    await signOut(user.id)
    await app.signIn.unlock(user.username)
    app.events.record('password_change', request, { user: user.id, reset: true })
    post(async () => ({ to: user.email, subject: 'Your password was changed', text: `The password of the account ${user.username} was changed, and everybody who was signed in has been signed out.` }))
    reply.code(204)
  })

  app.post('/auth/confirm', {
    schema: { body: closed({ token: Token }), response: nothing },
    config: { access: 'public', limits: { windows: ['10/minute', '60/hour'], by: 'address' } },
  }, async (request, reply) => {
    const { token } = request.body
    if (await completeRegistration(portal, token)) return reply.code(204).send(undefined as never)
    let email: string | null = null
    const id = await app.tokens.links.redeem('confirm', token, async id => {
      email = (await accounts.byId(id))?.email ?? null
      return email
    })
    await accounts.confirmEmail(id, email!)
    reply.code(204)
  })
}

/** The mail to somebody who gave this address, whether it is theirs or not: who has an account with it already is told so, and the asker is not. */
export function askToConfirm ({ app, accounts, post, origin }: Portal, { id, username, email }: Pick<UserRow, 'id' | 'username' | 'email'>): void {
  post(async () => {
    await app.limits.check('confirm', PER_ADDRESS, email)
    const holder = await accounts.byConfirmedEmail(email)
    if (holder !== null && holder.id !== id) {
      return { to: email, subject: 'You have an account already', text: `Somebody wanted to use this address for another account. Yours is ${holder.username}. If you have forgotten its password, POST /auth/forgot.` }
    }
    const token = app.tokens.links.issue({ purpose: 'confirm', subject: id, lifetime: CONFIRM_LIFETIME, bound: email })
    return { to: email, subject: 'Confirm your address', text: `This address was given for the account ${username}. If that was you, POST /auth/confirm with this token within a day:\n\n${token}\n\nOr open ${origin}/#confirm/${token}` }
  })
}

/** A password that was changed, or an address that was, ends the links that were sent before. */
function boundTo ({ password_hash: hash, email }: UserRow): string {
  return `${email} ${hash}`
}
