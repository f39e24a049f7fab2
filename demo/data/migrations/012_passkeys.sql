-- As PASSKEYS_TABLE of the suite, on the portal's own users.
create table passkeys (
  id text primary key,
  user_id text not null references users on delete cascade,
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
