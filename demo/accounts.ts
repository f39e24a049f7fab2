/** The portal's accounts: what sign-in, tokens and the user routes ask of the table of users. */
import { randomBytes } from 'node:crypto'
import { createError } from '@fastify/error'
import type { Insertable, Updateable } from 'kysely'
import { NotFound } from '../plugins/errors.js'
import type { Account, Accounts } from '../plugins/sign-in.js'
import type { Sql } from '../plugins/sql.js'
import { LinkInvalid, type TokenSubject } from '../plugins/tokens/index.js'
import { build, first, violates, type Tables, type UserRow } from './data/tables.js'

export type PortalAccounts = ReturnType<typeof portalAccounts>

/** Names are public, so that one is taken may be told. */
export const NameTaken = createError('FST_PORTAL_NAME_TAKEN', 'This name is taken', 409)

/** An opaque id. */
export function newId (): string {
  return randomBytes(12).toString('base64url')
}

export function portalAccounts (sql: Sql) {
  const byId = (id: string) => first(sql, build.selectFrom('users').selectAll().where('id', '=', id))

  const port: Accounts = {
    findByLogin: async login => accountFrom(await first(sql, build.selectFrom('users').selectAll().where(eb => eb(eb.fn('lower', ['username']), '=', login.toLowerCase())))),
    findById: async id => accountFrom(await byId(id)),
    savePassword: async (id, passwordHash, replaces) => {
      await first(sql, build.updateTable('users').set({ password_hash: passwordHash }).where('id', '=', id)
        .$if(replaces !== undefined, query => query.where('password_hash', 'is not distinct from', replaces!)))
    },
  }

  return {
    ...port,
    byId,
    /** Whose address this is; null where nobody has confirmed it. */
    byConfirmedEmail: (email: string) =>
      first(sql, build.selectFrom('users').selectAll().where(eb => eb(eb.fn('lower', ['email']), '=', email)).where('email_confirmed_at', 'is not', null)),
    /**
     * Confirms this address, whatever the user's address became since it was read.
     * @throws LinkInvalid where it is another one by now, or somebody else has confirmed it meanwhile
     */
    async confirmEmail (id: string, email: string): Promise<void> {
      const confirmed = await first(sql, build.updateTable('users').set({ email_confirmed_at: new Date() }).where('id', '=', id).where('email', '=', email).returning('id')).catch(error => {
        throw violates(error, 'unique') ? new LinkInvalid() : error
      })
      if (confirmed === null) throw new LinkInvalid()
    },
    /** @throws NotFound */
    async known (id: string): Promise<UserRow> {
      const user = await byId(id)
      if (user === null) throw new NotFound()
      return user
    },
    /** @throws NameTaken */
    async add (user: Insertable<Tables['users']>): Promise<UserRow> {
      return (await first(sql, build.insertInto('users').values(user).returningAll()).catch(refuseTakenName))!
    },
    /**
     * @returns null where the user is gone
     * @throws NameTaken
     */
    async change (id: string, values: Updateable<Tables['users']>): Promise<UserRow | null> {
      return first(sql, build.updateTable('users').set(values).where('id', '=', id).returningAll()).catch(refuseTakenName)
    },
    /**
     * The user as tokens carry it; null where the account is gone or switched off.
     *
     * @param passwordHash also null where this is no longer the account's password
     */
    async subjectOf (id: string, passwordHash?: string | null): Promise<TokenSubject | null> {
      const user = await byId(id)
      const isGood = user !== null && user.is_active && (passwordHash === undefined || user.password_hash === passwordHash)
      return isGood ? { id: user.id, roles: [user.role], plan: user.plan } : null
    },
    /**
     * Changes or deletes a user, unless that would leave no active admin: checked and done in one transaction.
     *
     * @returns false where the last admin would be gone
     */
    async unlessLastAdmin (id: string, change: (transaction: Sql) => Promise<unknown>): Promise<boolean> {
      return sql.transaction(async transaction => {
        if (await isLastAdmin(transaction, id)) return false
        await change(transaction)
        return true
      })
    },
  }
}

/** Whether this is the only active admin; until the transaction ends no other admin can go either. */
export async function isLastAdmin (transaction: Sql, id: string): Promise<boolean> {
  // In one order, so that two admins who demote each other wait instead of deadlocking.
  const admins = await transaction.query<{ id: string }>("select id from users where role = 'admin' and is_active order by id for update")
  return admins.length === 1 && admins[0]!.id === id
}

function accountFrom (user: UserRow | null): Account | null {
  return user === null
    ? null
    : { id: user.id, passwordHash: user.password_hash, roles: [user.role], plan: user.plan, isActive: user.is_active }
}

function refuseTakenName (error: unknown): never {
  throw violates(error, 'unique') ? new NameTaken() : error
}
