-- As MFA_TABLES of the suite, on the portal's own users.
create table mfa_enrolments (
  user_id text primary key references users on delete cascade,
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
