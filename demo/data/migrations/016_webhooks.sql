create table webhooks (
  -- One a user.
  user_id text primary key references users on delete cascade,
  -- Random, a new one with every change: the secret is derived from it, so that none is stored.
  id text not null unique,
  url text not null,
  created_at timestamptz not null default now()
);
