/** The portal's accounts: what sign-in, tokens and the user routes ask of the table of users. */
import { randomBytes } from 'node:crypto'
import type { Account, Accounts } from '../plugins/sign-in.js'
import type { TokenSubject } from '../plugins/tokens/index.js'
import { build, first, type RoleName, type UserRow } from './data/tables.js'
import type { Sql } from '../plugins/sql.js'

export type PortalAccounts = ReturnType<typeof portalAccounts>

/** An opaque id. */
export function newId (): string {
  return randomBytes(12).toString('base64url')
}

export function portalAccounts (sql: Sql) {
  const byId = (id: string) => first(sql, build.selectFrom('users').selectAll().where('id', '=', id))

  const port: Accounts = {
    findByLogin: async login => accountFrom(await first(sql, build.selectFrom('users').selectAll().where(eb => eb(eb.fn('lower', ['username']), '=', login.toLowerCase())))),
    findById: async id => accountFrom(await byId(id)),
    savePassword: async (id, passwordHash) => {
      await first(sql, build.updateTable('users').set({ password_hash: passwordHash }).where('id', '=', id))
    },
  }

  return {
    ...port,
    byId,
    /** The user as tokens carry it; null where the account is gone or switched off. */
    async subjectOf (id: string): Promise<TokenSubject | null> {
      const user = await byId(id)
      return user === null || !user.is_active ? null : { id: user.id, roles: [user.role], plan: user.plan }
    },
    /**
     * Changes or deletes a user, unless that would leave no active admin: checked and done in one transaction.
     * @returns false where the last admin would be gone
     */
    async unlessLastAdmin (id: string, change: (transaction: Sql) => Promise<void>): Promise<boolean> {
      return sql.transaction(async transaction => {
        const admins = await transaction.query<{ id: string }>("select id from users where role = 'admin' and is_active for update")
        if (admins.length === 1 && admins[0]!.id === id) return false
        await change(transaction)
        return true
      })
    },
    /** Removes a person: posts, comments, documents go; orders stay without a name. */
    async erase (transaction: Sql, id: string): Promise<void> {
      await first(transaction, build.deleteFrom('users').where('id', '=', id))
    },
  }
}

function accountFrom (user: UserRow | null): Account & { role: RoleName } | null {
  return user === null
    ? null
    : { id: user.id, passwordHash: user.password_hash, roles: [user.role], role: user.role, plan: user.plan, isActive: user.is_active }
}
