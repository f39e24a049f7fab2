/** Where enrolments are kept: a port, and the store on PostgreSQL. Only what was confirmed gets here. */
import type { Sql } from '../sql.js'

export interface MfaEnrolment {
  /** The sealed secret. */
  secret: string
  recoveryCodes: readonly { hash: string, isUsed: boolean }[]
}

export interface MfaStore {
  find: (userId: string) => Promise<MfaEnrolment | null>
  /** Keeps an enrolment in place of the one that was, secret and codes together or neither; true where there was one. */
  save: (userId: string, secret: string, recoveryCodes: readonly string[]) => Promise<boolean>
  /** Marks a code as used, in one statement; true for the one caller who did. */
  spend: (userId: string, hash: string) => Promise<boolean>
  /** True where there was an enrolment. */
  remove: (userId: string) => Promise<boolean>
}

/** The tables of {@link sqlMfaStore}, for a migration. A service lets `user_id` refer to its own table of users. */
export const MFA_TABLES = `
create table mfa_enrolments (
  user_id text primary key,
  -- AES-256-GCM, bound to the user.
  secret text not null,
  created_at timestamptz not null default now()
);

create table mfa_recovery_codes (
  user_id text not null references mfa_enrolments on delete cascade,
  -- HMAC-SHA-256.
  hash text not null,
  used_at timestamptz,
  primary key (user_id, hash)
);
`

/** The built-in store, on the tables of {@link MFA_TABLES}. */
export function sqlMfaStore (sql: Sql): MfaStore {
  return {
    async find (userId) {
      const rows = await sql.query<{ secret: string, hash: string | null, isUsed: boolean }>(
        'select secret, hash, used_at is not null as "isUsed" from mfa_enrolments left join mfa_recovery_codes using (user_id) where user_id = $1',
        [userId])
      if (rows.length === 0) return null
      return { secret: rows[0]!.secret, recoveryCodes: rows.flatMap(({ hash, isUsed }) => hash === null ? [] : [{ hash, isUsed }]) }
    },
    save: (userId, secret, recoveryCodes) => sql.transaction(async transaction => {
      const known = await transaction.query('select 1 from mfa_enrolments where user_id = $1', [userId])
      await transaction.query(
        'insert into mfa_enrolments (user_id, secret) values ($1, $2) on conflict (user_id) do update set secret = excluded.secret, created_at = now()',
        [userId, secret])
      await transaction.query('delete from mfa_recovery_codes where user_id = $1', [userId])
      await transaction.query('insert into mfa_recovery_codes (user_id, hash) select $1, unnest($2::text[])', [userId, recoveryCodes])
      return known.length > 0
    }),
    async spend (userId, hash) {
      const spent = await sql.query('update mfa_recovery_codes set used_at = now() where user_id = $1 and hash = $2 and used_at is null returning hash', [userId, hash])
      return spent.length === 1
    },
    async remove (userId) {
      return (await sql.query('delete from mfa_enrolments where user_id = $1 returning user_id', [userId])).length > 0
    },
  }
}
