/** The twin's database: the portal's people and things, in tables as a hurried team makes them. */
import { join } from 'node:path'
import { PGlite } from '@electric-sql/pglite'

export interface User { id: number, username: string, email: string, password: string, role: string, plan: string, balance: number, is_active: boolean, phone: string | null, website: string | null, bio: string | null }

const TABLES = `
create table users (id serial primary key, username text, email text, password text, role text default 'user', plan text default 'basic', balance integer default 0,
  is_active boolean default true, phone text, website text, bio text, created_at timestamptz default now());
create table posts (id serial primary key, author_id integer, title text, content text, tags text[] default '{}', created_at timestamptz default now());
create table comments (id serial primary key, post_id integer, author_id integer, content text, created_at timestamptz default now());
create table documents (id serial primary key, owner_id integer, title text, content text);
create table shares (document_id integer, user_id integer, actions text[]);
create table orders (id serial primary key, user_id integer, item text, total integer, currency text, status text default 'open');
create table payments (id serial primary key, order_id integer, user_id integer, amount integer, currency text, card text, status text);
create table patients (id serial primary key, name text, ssn text, diagnosis text);
create table api_keys (id serial primary key, user_id integer, name text, key text, scopes text[], is_active boolean default true, created_at timestamptz default now());
create table sessions (id text primary key, user_id integer);
create table second_factors (user_id integer primary key, secret text, is_confirmed boolean default false, recovery_codes text[]);
create table files (id serial primary key, owner_id integer, name text, type text, size integer);
create table events (id serial primary key, type text, details jsonb, created_at timestamptz default now());
`
const ROLES: Record<string, string> = { admin: 'admin', mona: 'moderator', max: 'manager', alice: 'user', bob: 'user', gus: 'guest', nora: 'nurse', dora: 'doctor', ina: 'user' }
const PATIENTS = [['Paula Abel', '123-45-6789', 'Essential hypertension, stage 1'], ['Piet Brandt', '234-56-7891', 'Type 2 diabetes mellitus without complications'], ['Petra Claes', '345-67-8912', 'Seasonal allergic rhinitis']]

export async function openTwinDatabase (directory: string, password: string): Promise<PGlite> {
  const db = await PGlite.create(join(directory, 'database'))
  await db.exec(TABLES)
  for (const [i, [username, role]] of Object.entries(ROLES).entries()) {
    const { rows: [user] } = await db.query<User>('insert into users (username, email, password, role, is_active) values ($1, $2, $3, $4, $5) returning *', [username, `${username}@portal.example`, password, role, username !== 'ina'])
    for (const item of ['Desk lamp', 'Notebook']) await db.query('insert into orders (user_id, item, total, currency) values ($1, $2, $3, $4)', [user!.id, item, 1900 + i * 100, 'EUR'])
    for (const title of ['First steps', 'What I learnt this week']) await db.query('insert into posts (author_id, title, content) values ($1, $2, $3)', [user!.id, `${title} (${username})`, `<p>${title}</p>`])
    await db.query('insert into documents (owner_id, title, content) values ($1, $2, $3)', [user!.id, `Notes of ${username}`, `What ${username} wants to remember.`])
  }
  for (const patient of PATIENTS) await db.query('insert into patients (name, ssn, diagnosis) values ($1, $2, $3)', patient)
  return db
}
