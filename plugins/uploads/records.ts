/** Who has which files: a port, and its PostgreSQL. It is what quotas are counted by. */
import type { Sql } from '../sql.js'

/** What is known of a stored file. */
export interface UploadFacts {
  /** Random, with the extension of its kind: the one under which it is stored. */
  name: string
  /** Bytes. */
  size: number
  type: string
  /** Hexadecimal. */
  sha256: string
  /** The client's own name for it: cleaned text, for people. */
  originalName: string
  /** Of images, in pixels. */
  width?: number
  height?: number
}

export interface UploadRecord extends UploadFacts {
  owner: string
  createdAt: Date
}

/** What one owner may have. */
export interface UploadQuota { files: number, bytes: number }

/** The service's own table of files. What is reserved counts like what is stored, so that uploads at the same time exceed nothing together. */
export interface UploadRecords {
  /** Takes room for a file of at most `bytes`; false where the owner would have more than `quota` then. Atomic. */
  reserve: (id: string, owner: string, bytes: number, quota: UploadQuota | null) => Promise<boolean>
  /** Makes a reservation a record; false where it, or its owner, is gone, or the file is larger than there is room for. Atomic. */
  settle: (id: string, owner: string, facts: UploadFacts, quota: UploadQuota | null) => Promise<boolean>
  /** Gives a reservation back. */
  release: (id: string) => Promise<void>
  find: (name: string) => Promise<UploadRecord | null>
  /** Those of an owner, the oldest first. */
  list: (owner: string) => Promise<UploadRecord[]>
  /** True where there was such a record. */
  remove: (name: string) => Promise<boolean>
  /** Those of `names` that there are records of. */
  known: (names: readonly string[]) => Promise<ReadonlySet<string>>
}

interface Row {
  owner: string
  name: string
  bytes: string | number
  type: string
  sha256: string
  original_name: string
  width: number | null
  height: number | null
  created_at: Date
}

/** The table that {@link sqlUploads} wants. Add a reference to your table of users, with `on delete cascade`. */
export const UPLOADS_TABLE = `create table uploads (
  id text primary key,
  owner text not null,
  -- What is reserved, until it is stored.
  bytes bigint not null,
  -- Null: reserved.
  name text unique,
  type text,
  sha256 text,
  original_name text,
  width integer,
  height integer,
  created_at timestamptz not null default now()
);
create index uploads_owner on uploads (owner, created_at);
`

/** Locks of this concern among the advisory locks of a database. */
const LOCKS = 7_266_815

/** Records in the table `uploads` of a PostgreSQL. */
export function sqlUploads (sql: Sql): UploadRecords {
  /** One owner's changes come one after another: two at once would both find room. */
  function lockedFor<T> (owner: string, work: (transaction: Sql) => Promise<T>): Promise<T> {
    return sql.transaction(async transaction => {
      await transaction.query('select pg_advisory_xact_lock($1::int, hashtext($2))', [LOCKS, owner])
      return work(transaction)
    })
  }

  async function hasRoom (transaction: Sql, id: string, owner: string, bytes: number, quota: UploadQuota | null): Promise<boolean> {
    if (quota === null) return true
    const [used] = await transaction.query<{ files: string, bytes: string | null }>('select count(*) as files, sum(bytes) as bytes from uploads where owner = $1 and id <> $2', [owner, id])
    return Number(used!.files) < quota.files && Number(used!.bytes ?? 0) + bytes <= quota.bytes
  }

  return {
    reserve: (id, owner, bytes, quota) => lockedFor(owner, async transaction => {
      // A reservation that nobody settled in an hour belongs to a process that is gone.
      await transaction.query("delete from uploads where owner = $1 and name is null and created_at < now() - interval '1 hour'", [owner])
      if (!await hasRoom(transaction, id, owner, bytes, quota)) return false
      await transaction.query('insert into uploads (id, owner, bytes) values ($1, $2, $3::bigint)', [id, owner, bytes])
      return true
    }),
    settle: (id, owner, { name, size, type, sha256, originalName, width, height }, quota) => lockedFor(owner, async transaction => {
      if (!await hasRoom(transaction, id, owner, size, quota)) return false
      const settled = await transaction.query(`update uploads set name = $2, bytes = $3::bigint, type = $4, sha256 = $5, original_name = $6, width = $7::int, height = $8::int, created_at = now()
        where id = $1 and name is null returning id`, [id, name, size, type, sha256, originalName, width ?? null, height ?? null])
      return settled.length === 1
    }),
    release: async id => { await sql.query('delete from uploads where id = $1 and name is null', [id]) },
    async find (name) {
      const [row] = await sql.query<Row>('select * from uploads where name = $1', [name])
      return row === undefined ? null : recordFrom(row)
    },
    list: async owner => (await sql.query<Row>('select * from uploads where owner = $1 and name is not null order by created_at, name', [owner])).map(recordFrom),
    remove: async name => (await sql.query('delete from uploads where name = $1 returning id', [name])).length === 1,
    known: async names => new Set((await sql.query<{ name: string }>('select name from uploads where name = any($1::text[])', [names])).map(({ name }) => name)),
  }
}

function recordFrom (row: Row): UploadRecord {
  return {
    owner: row.owner,
    name: row.name,
    size: Number(row.bytes), // pg answers a bigint as text
    type: row.type,
    sha256: row.sha256,
    originalName: row.original_name,
    ...row.width !== null && { width: row.width },
    ...row.height !== null && { height: row.height },
    createdAt: row.created_at,
  }
}
