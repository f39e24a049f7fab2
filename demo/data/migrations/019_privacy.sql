-- As PRIVACY_TABLES of the suite, with consents on the portal's own users.
create table privacy_receipts (
  id text primary key,
  -- HMAC of the user's id: names nobody to those who have no key.
  subject text not null,
  erased_at timestamptz not null,
  sources jsonb not null
);
create index privacy_receipts_subject on privacy_receipts (subject, erased_at);

-- What an erasure still has to do outside of the database. A row goes when it is done, and the id of the person with it.
create table privacy_journal (
  receipt_id text not null references privacy_receipts on delete cascade,
  source text not null,
  user_id text not null,
  noted jsonb,
  attempts integer not null default 0,
  due_at timestamptz not null default now(),
  holder text,
  held_until timestamptz,
  primary key (receipt_id, source)
);
create index privacy_journal_due on privacy_journal (due_at);

-- What one process at a time does.
create table privacy_tasks (
  name text primary key,
  due_at timestamptz not null,
  holder text,
  held_until timestamptz
);

-- History: rows are added, and never changed while their user is there.
create table privacy_consents (
  id bigint generated always as identity primary key,
  -- Null after an erasure, where a law wants the proof; then `subject` is the HMAC of the id.
  user_id text references users on delete cascade,
  subject text,
  keep_until timestamptz,
  purpose text not null,
  version text not null,
  is_given boolean not null,
  decided_at timestamptz not null,
  source text not null
);
create index privacy_consents_user on privacy_consents (user_id, purpose, id);
create index privacy_consents_kept on privacy_consents (keep_until) where keep_until is not null;
