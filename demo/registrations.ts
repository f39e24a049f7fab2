/**
 * Registrations that wait for their mail to be read (`REGISTRATION=quiet`). The account is made when the link comes back; until then there is
 * nothing that an answer could tell anybody. The hash of the password waits here, and is in no mail.
 */
import type { Selectable } from 'kysely'
import { LinkInvalid } from '../plugins/tokens/index.js'
import type { Sql } from '../plugins/sql.js'
import { NameTaken, newId, portalAccounts } from './accounts.js'
import type { Portal } from './app.js'
import { build, first, rows, type RegistrationsTable } from './data/tables.js'

/** Seconds that the link of a registration is good for. */
export const REGISTRATION_LIFETIME = 86_400
const PURPOSE = 'register'

export type Registration = Omit<Selectable<RegistrationsTable>, 'id' | 'expires_at'>

/** Keeps it, whatever its name and address, and forgets those whose time is over. */
export async function keepRegistration ({ sql, now }: Portal, registration: Registration): Promise<string> {
  await rows(sql, build.deleteFrom('registrations').where('expires_at', '<=', new Date(now())))
  const id = newId()
  await rows(sql, build.insertInto('registrations').values({ ...registration, id, expires_at: new Date(now() + REGISTRATION_LIFETIME * 1000) }))
  return id
}

export function dropRegistration (sql: Sql, id: string): Promise<Registration | null> {
  return first(sql, build.deleteFrom('registrations').where('id', '=', id).returningAll())
}

export function registrationLink ({ app }: Portal, id: string): string {
  return app.tokens.links.issue({ purpose: PURPOSE, subject: id, lifetime: REGISTRATION_LIFETIME })
}

/**
 * Makes the account for which this link was sent, with its address confirmed. The registration goes in the same transaction: of two that come
 * at once, one finds it.
 *
 * @returns false where the link is for something else
 * @throws LinkInvalid where it was used, or where name or address are somebody else's by now, which a mail tells
 */
export async function completeRegistration ({ app, sql, post, now }: Portal, token: string): Promise<boolean> {
  const id = await app.tokens.links.read(PURPOSE, token).catch(error => {
    if (error instanceof LinkInvalid) return null
    throw error
  })
  if (id === null) return false
  try {
    await sql.transaction(async transaction => {
      const registration = await dropRegistration(transaction, id)
      if (registration === null) throw new LinkInvalid()
      const { username, email, password_hash: hash, age, phone, website, bio } = registration
      await portalAccounts(transaction).add({
        id: newId(), username, email, email_confirmed_at: new Date(now()), password_hash: hash, role: 'user', plan: 'basic', age, phone, website, bio,
      })
    })
  } catch (error) {
    if (!(error instanceof NameTaken)) throw error
    const late = await dropRegistration(sql, id)
    if (late !== null) post(async () => ({ to: late.email, subject: 'Too late', text: `The name ${late.username}, or this address, belongs to an account by now. Nothing was made of your registration.` }))
    throw new LinkInvalid()
  }
  return true
}
