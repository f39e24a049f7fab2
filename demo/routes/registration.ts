/** Registration: at once, or by a mail, so that the answer tells nobody which names and addresses are known. */
import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { Age, Bio, Email, PasswordInput, Phone, Url, Username, closed } from '../../schemas/index.js'
import { newId } from '../accounts.js'
import type { Portal } from '../app.js'
import { dropRegistration, keepRegistration, registrationLink, type Registration } from '../registrations.js'
import { askToConfirm, PER_ADDRESS } from './recovery.js'
import { Name, OwnProfile, ownProfile, refuseReservedName } from './shapes.js'

const Body = closed({
  username: Name,
  email: Email,
  password: PasswordInput,
  age: Type.Optional(Age),
  phone: Type.Optional(Phone),
  website: Type.Optional(Url),
  bio: Type.Optional(Bio),
})
type Body = typeof Body.static

export function registrationRoutes (portal: Portal): void {
  const { app, accounts } = portal
  if (portal.registration === 'open') {
    app.post('/auth/register', {
      schema: { body: Body, response: { 201: OwnProfile } },
      config: { access: 'public' },
    }, async (request, reply) => {
      refuseReservedName(request.body.username)
      const user = await accounts.add({ id: newId(), email_confirmed_at: null, role: 'user', plan: 'basic', ...await read(request.body) })
      askToConfirm(portal, user)
      reply.code(201)
      return ownProfile(user)
    })
  } else {
    app.post('/auth/register', {
      schema: { body: Body, response: { 202: Type.Null() } },
      config: { access: 'public', limits: { windows: ['10/minute', '60/hour'], by: 'address' } },
    }, async (request, reply) => {
      // The same work for every name and address; what is known of them is looked up beside the request.
      const registration = await read(request.body)
      tellByMail(portal, await keepRegistration(portal, registration), registration)
      return reply.code(202).send(undefined as never)
    })
  }

  async function read (body: Body): Promise<Registration> {
    const { username, email, password, age = null, phone = null, website = null, bio = null } = body
    await app.passwords.checkNew(password, [username, email.split('@')[0]!])
    return { username, email: email.toLowerCase(), password_hash: await app.passwords.hash(password), age, phone, website, bio }
  }
}

/** The mail to the address that was given: who reads it learns what became of the registration, and nobody else does. */
function tellByMail (portal: Portal, id: string, { username, email }: Registration): void {
  const { app, sql, accounts, post } = portal
  post(async () => {
    const holder = await accounts.byConfirmedEmail(email)
    const isTaken = !Value.Check(Username, username) || await accounts.findByLogin(username) !== null
    if (holder !== null || isTaken) await dropRegistration(sql, id)
    await app.limits.check('confirm', PER_ADDRESS, email)
    if (holder !== null) {
      return { to: email, subject: 'You have an account already', text: `Somebody, perhaps you, wanted to open an account with this address. Yours is ${holder.username}. If you have forgotten its password, POST /auth/forgot.` }
    }
    if (isTaken) return { to: email, subject: 'This name is taken', text: `Somebody, hopefully you, wanted to open an account by the name ${username}, which is taken. POST /auth/register with another one.` }
    const token = registrationLink(portal, id)
    return { to: email, subject: 'Complete your registration', text: `This address was given for a new account, ${username}. If that was you, POST /auth/confirm with this token within a day:\n\n${token}\n\nOr open ${portal.origin}/#confirm/${token}` }
  })
}
