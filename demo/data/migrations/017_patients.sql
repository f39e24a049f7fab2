create table patients (
  id text primary key,
  -- Envelopes of the suite's cipher, each encrypted for its place in this table: what is no envelope does not come in.
  name text not null check (name ~ '^b1\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{54,}$'),
  ssn text not null check (ssn ~ '^b1\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{54,}$'),
  -- Its blind index: by it a number is found, and nothing is read.
  ssn_index text not null,
  diagnosis text not null check (diagnosis ~ '^b1\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{54,}$'),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index patients_ssn on patients (ssn_index);
create index patients_created on patients (created_at, id);
