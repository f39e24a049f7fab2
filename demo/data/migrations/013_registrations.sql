-- Registrations whose mail nobody has answered yet: no accounts, and they keep no name for anybody.
create table registrations (
  id text primary key,
  username text not null,
  email text not null,
  password_hash text not null,
  age integer,
  phone text,
  website text,
  bio text,
  expires_at timestamptz not null
);
create index registrations_expiry on registrations (expires_at);
