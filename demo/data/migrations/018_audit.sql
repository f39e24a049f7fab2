-- As AUDIT_TABLES of the suite. To make the trail append-only for the service too, run it as a role that does not own these tables, and grant it this much:
--
--   create role portal_writer login;
--   grant select, insert on audit_events, audit_checkpoints to portal_writer;
--   grant select, insert, update (seq, link, key, mac) on audit_head to portal_writer;
--   grant select, insert, update (user_id, pseudonym, seal) on audit_people to portal_writer;
--
-- Retention runs under a second role, of another connection: app.audit.purge(sql).
--
--   create role portal_purger login;
--   grant select, update (id, time, type, person, subject, content, purged, mark) on audit_events to portal_purger;
--
-- Neither may delete or truncate. Seals tell what whoever owns the tables does to them.
create table audit_events (
  seq bigint primary key,
  -- From here to content: null where retention has emptied the row.
  id text unique,
  -- UTC, ISO 8601, to the letter as it was signed.
  time text collate "C",
  type text,
  person text,
  subject text,
  content text,
  key text not null,
  digest text not null,
  link text not null,
  purged text,
  mark text
);
create index audit_events_time on audit_events (time);
create index audit_events_type on audit_events (type, seq);
create index audit_events_person on audit_events (person, seq) where person is not null;
create index audit_events_subject on audit_events (subject, seq) where subject is not null;

-- One row: who holds it adds to the chain.
create table audit_head (
  is_one boolean primary key default true check (is_one),
  seq bigint not null,
  link text not null,
  key text not null,
  mac text not null
);

create table audit_checkpoints (
  seq bigint primary key,
  link text not null,
  time text not null,
  key text not null,
  mac text not null
);

-- Who is behind a pseudonym, sealed. All three are null once a person was forgotten; what is left tells nobody who that was.
create table audit_people (
  who text primary key,
  user_id text,
  pseudonym text unique,
  seal text
);
