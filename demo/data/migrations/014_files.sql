-- As UPLOADS_TABLE of the suite, on the portal's own users.
create table uploads (
  id text primary key,
  owner text not null references users on delete cascade,
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
