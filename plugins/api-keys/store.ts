/** Where keys are kept: a port, and its PostgreSQL. What is kept of a secret is a keyed hash; the text of a key is nowhere. */
import type { Sql } from '../sql.js'
import type { Mode } from './format.js'

/** What is known of a key. */
export interface KeyFacts {
  id: string
  /** The user who made it, and on whose behalf it acts. */
  userId: string
  name: string
  mode: Mode
  /** Permissions that it was given; at most these, and never more than its user has. */
  scopes: readonly string[]
  /** Addresses and CIDR blocks from which alone it is good; null: from everywhere. */
  allowedAddresses: readonly string[] | null
  isActive: boolean
  createdAt: Date
  /** Null: never. */
  expiresAt: Date | null
  lastUsedAt: Date | null
  /** Until when the text before the last rotation is good. */
  previousUntil: Date | null
}

/** What is kept of a key. */
export interface StoredApiKey extends KeyFacts {
  hash: string
  /** Of the text before the last rotation. */
  previousHash: string | null
}

/** The service's own table of keys. All that is asked of it is one statement each. */
export interface ApiKeyStore {
  /** Keeps a new key, unless its user has `max` of them already; true where it is kept. */
  add: (key: StoredApiKey, max: number) => Promise<boolean>
  find: (id: string) => Promise<StoredApiKey | null>
  /** Those of a user in the order of their ids, from the one after `after` on. */
  list: (userId: string, limit: number, after: string | null) => Promise<StoredApiKey[]>
  setActive: (id: string, isActive: boolean) => Promise<StoredApiKey | null>
  /** The hash becomes the previous one, which is good until `previousUntil`. */
  rotate: (id: string, hash: string, previousUntil: Date) => Promise<StoredApiKey | null>
  /** True where there was one. */
  remove: (id: string) => Promise<boolean>
  /** Notes last uses; earlier ones than what is noted change nothing. */
  used: (uses: readonly { id: string, at: Date }[]) => Promise<void>
}

interface Row {
  id: string
  user_id: string
  name: string
  mode: Mode
  scopes: string[]
  allowed_addresses: string[] | null
  hash: string
  previous_hash: string | null
  previous_until: Date | null
  is_active: boolean
  expires_at: Date | null
  created_at: Date
  last_used_at: Date | null
}

/** The table that {@link sqlApiKeys} wants. Add a reference to your table of users, with `on delete cascade`. */
export const API_KEYS_TABLE = `create table api_keys (
  id text primary key,
  user_id text not null,
  name text not null,
  mode text not null check (mode in ('live', 'test')),
  scopes text[] not null,
  allowed_addresses text[],
  -- A keyed hash: the text of a key is nowhere.
  hash text not null,
  previous_hash text,
  previous_until timestamptz,
  is_active boolean not null default true,
  expires_at timestamptz,
  created_at timestamptz not null,
  last_used_at timestamptz
);
create index api_keys_user on api_keys (user_id, id);
`

/** Keys in the table `api_keys` of a PostgreSQL. */
export function sqlApiKeys (sql: Sql): ApiKeyStore {
  const one = async (found: Promise<Row[]>) => {
    const [row] = await found
    return row === undefined ? null : keyFrom(row)
  }
  return {
    async add (key, max) {
      const kept = await sql.query(`insert into api_keys (id, user_id, name, mode, scopes, allowed_addresses, hash, is_active, expires_at, created_at)
        select $1, $2, $3, $4, $5::text[], $6::text[], $7, $8::boolean, $9::timestamptz, $10::timestamptz
        where (select count(*) from api_keys where user_id = $2) < $11::int returning id`,
      [key.id, key.userId, key.name, key.mode, key.scopes, key.allowedAddresses, key.hash, key.isActive, key.expiresAt, key.createdAt, max])
      return kept.length === 1
    },
    find: id => one(sql.query('select * from api_keys where id = $1', [id])),
    async list (userId, limit, after) {
      const rows = await sql.query<Row>('select * from api_keys where user_id = $1 and id > $2 order by id limit $3', [userId, after ?? '', limit])
      return rows.map(keyFrom)
    },
    setActive: (id, isActive) => one(sql.query('update api_keys set is_active = $2 where id = $1 returning *', [id, isActive])),
    rotate: (id, hash, until) => one(sql.query('update api_keys set previous_hash = hash, previous_until = $3, hash = $2 where id = $1 returning *', [id, hash, until])),
    remove: async id => (await sql.query('delete from api_keys where id = $1 returning id', [id])).length === 1,
    async used (uses) {
      await sql.query(`update api_keys set last_used_at = greatest(last_used_at, used.at)
        from json_to_recordset($1::json) as used(id text, at timestamptz) where api_keys.id = used.id`, [JSON.stringify(uses)])
    },
  }
}

function keyFrom (row: Row): StoredApiKey {
  return {
    id: row.id,
    userId: row.user_id,
    name: row.name,
    mode: row.mode,
    scopes: row.scopes,
    allowedAddresses: row.allowed_addresses,
    hash: row.hash,
    previousHash: row.previous_hash,
    previousUntil: row.previous_until,
    isActive: row.is_active,
    expiresAt: row.expires_at,
    createdAt: row.created_at,
    lastUsedAt: row.last_used_at,
  }
}
