/** Where passkeys are kept: a port, and its PostgreSQL. Nothing in it is secret: public keys verify and do not sign. */
import type { Sql } from '../sql.js'

/** What is known of a passkey. */
export interface PasskeyFacts {
  /** Opaque; not the authenticator's own, which may be long. */
  id: string
  userId: string
  /** What its user calls it. */
  name: string
  createdAt: Date
  lastUsedAt: Date | null
  /** It is copied to where its user's other devices find it. */
  isBackedUp: boolean
}

/** What is kept of a passkey. */
export interface StoredPasskey extends PasskeyFacts {
  /** The authenticator's id of it, base64url. */
  credentialId: string
  /** Random bytes that stand for the user at authenticators, base64url; the same for all passkeys of a user. */
  userHandle: string
  /** COSE key (RFC 9052). */
  publicKey: Uint8Array
  /** How often it has signed, as it says itself; 0 where it does not count. */
  counter: number
  transports: readonly string[]
  /** It may be copied to other devices: never changes. */
  isSyncable: boolean
}

/** What one use of a passkey changes. */
export interface PasskeyUse { counter: number, isBackedUp: boolean, at: Date }

/** The service's own table of passkeys. All that is asked of it is one statement each. */
export interface PasskeyStore {
  find: (credentialId: string) => Promise<StoredPasskey | null>
  /** Those of a user, the oldest first. */
  list: (userId: string) => Promise<StoredPasskey[]>
  /** Keeps a new one, unless its credential id is known, whoever's it is, or its user has `max` of them; true where it is kept. */
  add: (passkey: StoredPasskey, max: number) => Promise<boolean>
  /** Notes a use, unless the counter is not above the one that is kept (both 0: it does not count); true where it is noted. */
  used: (credentialId: string, use: PasskeyUse) => Promise<boolean>
  /** True where this user had it. */
  remove: (userId: string, id: string) => Promise<boolean>
}

interface Row {
  id: string
  user_id: string
  name: string
  credential_id: string
  user_handle: string
  public_key: Uint8Array
  counter: string | number
  transports: string[]
  is_syncable: boolean
  is_backed_up: boolean
  created_at: Date
  last_used_at: Date | null
}

/** The table that {@link sqlPasskeys} wants. Add a reference to your table of users, with `on delete cascade`. */
export const PASSKEYS_TABLE = `create table passkeys (
  id text primary key,
  user_id text not null,
  name text not null,
  credential_id text not null unique,
  user_handle text not null,
  -- COSE.
  public_key bytea not null,
  counter bigint not null,
  transports text[] not null,
  is_syncable boolean not null,
  is_backed_up boolean not null,
  created_at timestamptz not null,
  last_used_at timestamptz
);
create index passkeys_user on passkeys (user_id, created_at);
`

/** Passkeys in the table `passkeys` of a PostgreSQL. */
export function sqlPasskeys (sql: Sql): PasskeyStore {
  return {
    async find (credentialId) {
      const [row] = await sql.query<Row>('select * from passkeys where credential_id = $1', [credentialId])
      return row === undefined ? null : passkeyFrom(row)
    },
    list: async userId => (await sql.query<Row>('select * from passkeys where user_id = $1 order by created_at, id', [userId])).map(passkeyFrom),
    async add (passkey, max) {
      const { id, userId, name, credentialId, userHandle, publicKey, counter, transports, isSyncable, isBackedUp, createdAt } = passkey
      const kept = await sql.query(`insert into passkeys
        (id, user_id, name, credential_id, user_handle, public_key, counter, transports, is_syncable, is_backed_up, created_at)
        select $1, $2, $3, $4, $5, $6::bytea, $7::bigint, $8::text[], $9::boolean, $10::boolean, $11::timestamptz
        where (select count(*) from passkeys where user_id = $2) < $12::int
        on conflict (credential_id) do nothing returning id`,
      [id, userId, name, credentialId, userHandle, publicKey, counter, transports, isSyncable, isBackedUp, createdAt, max])
      return kept.length === 1
    },
    async used (credentialId, { counter, isBackedUp, at }) {
      // Compared and set in one statement: of two at once that say the same, one passes.
      const noted = await sql.query(`update passkeys set counter = $2::bigint, is_backed_up = $3::boolean, last_used_at = $4::timestamptz
        where credential_id = $1 and (counter < $2::bigint or (counter = 0 and $2::bigint = 0)) returning id`, [credentialId, counter, isBackedUp, at])
      return noted.length === 1
    },
    remove: async (userId, id) => (await sql.query('delete from passkeys where user_id = $1 and id = $2 returning id', [userId, id])).length === 1,
  }
}

function passkeyFrom (row: Row): StoredPasskey {
  return {
    id: row.id,
    userId: row.user_id,
    name: row.name,
    credentialId: row.credential_id,
    userHandle: row.user_handle,
    publicKey: new Uint8Array(row.public_key),
    counter: Number(row.counter), // pg answers a bigint as text
    transports: row.transports,
    isSyncable: row.is_syncable,
    isBackedUp: row.is_backed_up,
    createdAt: row.created_at,
    lastUsedAt: row.last_used_at,
  }
}
