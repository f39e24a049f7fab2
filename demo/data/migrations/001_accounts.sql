create table users (
  id text primary key,
  username text not null,
  -- An address belongs to an account only once it is confirmed.
  email text not null,
  email_confirmed_at timestamptz,
  password_hash text,
  role text not null check (role in ('guest', 'user', 'moderator', 'manager', 'nurse', 'doctor', 'admin')),
  plan text not null default 'basic' check (plan in ('free', 'basic', 'pro')),
  is_active boolean not null default true,
  age integer,
  phone text,
  website text,
  bio text,
  created_at timestamptz not null default now()
);
create unique index users_username on users (lower(username));
create unique index users_email on users (lower(email)) where email_confirmed_at is not null;
