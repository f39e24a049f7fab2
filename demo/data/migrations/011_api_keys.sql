-- As API_KEYS_TABLE of the suite, on the portal's own users.
create table api_keys (
  id text primary key,
  user_id text not null references users on delete cascade,
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
