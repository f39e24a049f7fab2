/**
 * The trail in PostgreSQL: one chain for all processes.
 *
 * Whoever adds to it holds the row of its head until the end of the transaction, so that places are given one after the other. A head that
 * this service did not sign, or that lies behind one that it has seen, is never built on: that would sign what somebody else did.
 */
import { randomBytes } from 'node:crypto'
import type { Sql } from '../sql.js'
import { checkpointText, GENESIS, headText, knownText, purgedText, seal, signHead, type Head, type KeyRing, type Known, type Row } from './chain.js'
import { usersOf, withPseudonyms, type Entry } from './content.js'
import type { AuditQuery, Checkpoint } from './contract.js'
import { AuditBroken } from './errors.js'

/** The tables of the trail, for a migration; the demo's has the grants that make it append-only too. */
export const AUDIT_TABLES = `
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
`

/** Who did what after they were forgotten. */
const ERASED = 'erased'

export type AuditStore = ReturnType<typeof auditStore>

export function auditStore (sql: Sql, ring: KeyRing, deadlineMs: number) {
  /** The newest head that this process has seen. */
  let seen: Head | null = null

  return { write, head, rows, page, after, namesBehind, pseudonymsOf, forget, stranger, checkpoint, checkpoints, purgeable, empty, seen: () => seen }

  /**
   * Adds these to the chain, in their order.
   *
   * @param mayBeKept they may have been written before by a transaction whose outcome nobody knows
   * @throws AuditBroken
   */
  async function write (entries: readonly Entry[], mayBeKept: boolean): Promise<void> {
    const written = await sql.transaction(async transaction => {
      // Only where it is tried again: the first attempt is one alone, and costs no question more.
      if (mayBeKept || entries.length === 0) await limitTime(transaction)
      // Before the head is held: somebody may be forgotten at this moment, in a long transaction.
      const pseudonyms = await pseudonymsFor(transaction, [...new Set(entries.flatMap(usersOf))])
      const pseudonymOf = (userId: string) => pseudonyms.get(userId) ?? ERASED
      const current = await lockHead(transaction)
      const kept = mayBeKept ? await keptOf(transaction, entries) : null
      const contents = entries.filter(({ id }) => kept?.has(id) !== true).map(({ actor, subject, content, ...entry }) => ({
        ...entry,
        person: actor === null ? null : pseudonymOf(actor),
        subject: subject === null ? null : pseudonymOf(subject),
        content: withPseudonyms(content, pseudonymOf),
      }))
      if (contents.length === 0) return current
      const { rows, head: next } = seal(ring, current, contents)
      const column = (name: keyof typeof rows[number]) => rows.map(row => row[name])
      await transaction.query(`insert into audit_events (seq, id, time, type, person, subject, content, key, digest, link)
        select * from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[])`,
      [column('seq'), column('id'), column('time'), column('type'), column('person'), column('subject'), column('content'), column('key'), column('digest'), column('link')])
      await transaction.query('update audit_head set seq = $1::bigint, link = $2, key = $3, mac = $4', [next.seq, next.link, next.key, next.mac])
      return next
    })
    if (written.seq >= (seen?.seq ?? 0)) seen = written
  }

  /** Who waits for the head no longer than that gives its connection back: attempts that pile up would take all of them. */
  async function limitTime (transaction: Sql): Promise<void> {
    await transaction.query("select set_config('statement_timeout', $1, true)", [String(deadlineMs)])
  }

  async function lockHead (transaction: Sql): Promise<Head> {
    const found = await head(transaction, true) ?? await begin(transaction)
    if (!ring.proves('head', headText(found), found.key, found.mac)) throw new AuditBroken('its head is not signed by this service')
    if (seen !== null && (found.seq < seen.seq || (found.seq === seen.seq && found.link !== seen.link))) throw new AuditBroken('its head was set back')
    return found
  }

  /** The first head of an empty trail. */
  async function begin (transaction: Sql): Promise<Head> {
    const [trace] = await transaction.query('select seq from audit_events union all select seq from audit_checkpoints limit 1')
    if (trace !== undefined || seen !== null) throw new AuditBroken('its head is gone')
    const { link, key, mac } = signHead(ring, 0, GENESIS)
    await transaction.query('insert into audit_head (seq, link, key, mac) values (0, $1, $2, $3) on conflict do nothing', [link, key, mac])
    return (await head(transaction, true))!
  }

  async function head (on: Sql = sql, locked = false): Promise<Head | null> {
    const [row] = locked
      ? await on.query<Head>('select seq, link, key, mac from audit_head for update')
      : await on.query<Head>('select seq, link, key, mac from audit_head')
    return row === undefined ? null : { ...row, seq: Number(row.seq) }
  }

  async function keptOf (transaction: Sql, entries: readonly Entry[]): Promise<ReadonlySet<string>> {
    const rows = await transaction.query<{ id: string }>('select id from audit_events where id = any($1::text[])', [entries.map(({ id }) => id)])
    return new Set(rows.map(({ id }) => id))
  }

  /** Makes those that are missing; without those of persons who were forgotten. */
  async function pseudonymsFor (transaction: Sql, userIds: readonly string[]): Promise<ReadonlyMap<string, string>> {
    if (userIds.length === 0) return new Map()
    const ids = new Map(userIds.flatMap(userId => whosOf(userId).map(who => [who, userId] as const)))
    const find = async () => {
      const rows = await transaction.query<Known>('select * from audit_people where who = any($1::text[])', [[...ids.keys()]])
      if (!rows.every(row => (row.user_id === null && row.pseudonym === null) || isKnown(row))) throw new AuditBroken('who is behind a pseudonym is not what was signed')
      return new Map(rows.map(({ who, pseudonym }) => [ids.get(who)!, pseudonym]))
    }
    let found = await find()
    const missing = userIds.filter(userId => !found.has(userId)).map(newlyKnown).sort((a, b) => a.who < b.who ? -1 : 1)
    if (missing.length > 0) {
      // In one order in all processes, so that two who make the same ones wait and do not deadlock.
      const column = (name: keyof Known) => missing.map(person => person[name])
      await transaction.query('insert into audit_people (who, user_id, pseudonym, seal) select * from unnest($1::text[], $2::text[], $3::text[], $4::text[]) on conflict (who) do nothing',
        [column('who'), column('user_id'), column('pseudonym'), column('seal')])
      found = await find()
    }
    return new Map([...found].filter((pair): pair is [string, string] => pair[1] !== null))
  }

  function newlyKnown (userId: string): Known {
    const person = { who: whosOf(userId)[0]!, user_id: userId, pseudonym: `p_${randomBytes(12).toString('base64url')}` }
    return { ...person, seal: ring.tag('known', knownText({ ...person, seal: null })) }
  }

  function isKnown (row: Known): boolean {
    return ring.provesTag('known', knownText(row), row.seal)
  }

  /** Keyed hashes of a user's id, that of the newest key first. */
  function whosOf (userId: string): string[] {
    return ring.ids.map(id => ring.mac('person', userId, id)!)
  }

  async function pseudonymsOf (userId: string): Promise<string[]> {
    const rows = await sql.query<Known>('select * from audit_people where who = any($1::text[]) and pseudonym is not null', [whosOf(userId)])
    return rows.filter(isKnown).map(({ pseudonym }) => pseudonym!)
  }

  async function namesBehind (pseudonyms: readonly string[]): Promise<ReadonlyMap<string, string>> {
    const rows = await sql.query<Known>('select * from audit_people where pseudonym = any($1::text[])', [pseudonyms])
    return new Map(rows.filter(isKnown).map(row => [row.pseudonym!, row.user_id!]))
  }

  /** The first place of somebody who is not known by a seal of ours; null where there is none. */
  async function stranger (): Promise<number | null> {
    for (let who = ''; ;) {
      const people = await sql.query<Known>('select * from audit_people where who > $1 and (user_id is not null or pseudonym is not null) order by who limit 1000', [who])
      const strangers = people.filter(row => !isKnown(row)).map(({ pseudonym }) => pseudonym)
      if (strangers.length > 0) {
        const [found] = await sql.query<{ seq: number | null }>('select min(seq) as seq from audit_events where person = any($1::text[]) or subject = any($1::text[])', [strangers])
        return Number(found?.seq ?? 0)
      }
      if (people.length < 1000) return null
      who = people.at(-1)!.who
    }
  }

  async function forget (userId: string, on: Sql = sql): Promise<void> {
    const whos = whosOf(userId)
    await on.query('insert into audit_people (who) values ($1) on conflict (who) do update set user_id = null, pseudonym = null, seal = null', [whos[0]])
    // By the id too: a row that was made under a key which is no longer in the ring is of the same person.
    await on.query('update audit_people set user_id = null, pseudonym = null, seal = null where who = any($1::text[]) or user_id = $2', [whos, userId])
  }

  /** Rows from a place on, to another one. */
  async function rows (after: number, to: number, limit: number): Promise<Row[]> {
    return (await sql.query<Row>('select * from audit_events where seq > $1::bigint and seq <= $2::bigint order by seq limit $3::int', [after, to, limit])).map(numbered)
  }

  async function page ({ type, outcome, from, to }: AuditQuery, pseudonyms: readonly string[] | null, before: number | null, limit: number): Promise<Row[]> {
    return (await sql.query<Row>(`select * from audit_events where content is not null and ($1::text is null or type = $1) and ($2::text[] is null or person = any($2) or subject = any($2))
      and ($3::text is null or time >= $3) and ($4::text is null or time < $4) and ($5::bigint is null or seq < $5) and ($7::text is null or starts_with(content, $7)) order by seq desc limit $6::int`,
    [type ?? null, pseudonyms, from ?? null, to ?? null, before, limit, beginningWith(outcome)])).map(numbered)
  }

  async function after ({ type, outcome, from, to }: AuditQuery, pseudonyms: readonly string[] | null, place: number, limit: number): Promise<Row[]> {
    return (await sql.query<Row>(`select * from audit_events where content is not null and ($1::text is null or type = $1) and ($2::text[] is null or person = any($2) or subject = any($2))
      and ($3::text is null or time >= $3) and ($4::text is null or time < $4) and seq > $5::bigint and ($7::text is null or starts_with(content, $7)) order by seq limit $6::int`,
    [type ?? null, pseudonyms, from ?? null, to ?? null, place, limit, beginningWith(outcome)])).map(numbered)
  }

  /** Null where nothing came since the last one, or nothing at all. */
  async function checkpoint (time: string): Promise<Checkpoint | null> {
    const found = await sql.transaction(async transaction => {
      await limitTime(transaction)
      return lockHead(transaction)
    })
    const [last] = await sql.query<{ seq: number }>('select seq from audit_checkpoints order by seq desc limit 1')
    if (found.seq === 0 || found.seq === Number(last?.seq)) return null
    const { seq, link } = found
    const made = { seq, link, time, key: ring.current, mac: ring.mac('checkpoint', checkpointText({ seq, link, time }))! }
    await sql.query('insert into audit_checkpoints (seq, link, time, key, mac) values ($1::bigint, $2, $3, $4, $5) on conflict do nothing', [seq, link, time, made.key, made.mac])
    return made
  }

  async function checkpoints (after: number, limit: number): Promise<Checkpoint[]> {
    return (await sql.query<Checkpoint>('select * from audit_checkpoints where seq > $1::bigint order by seq limit $2::int', [after, limit])).map(numbered)
  }

  async function purgeable (on: Sql, types: readonly string[], isRest: boolean, before: string, place: number, limit: number): Promise<Pick<Row, 'seq' | 'digest'>[]> {
    const found = isRest
      ? await on.query<Row>('select seq, digest from audit_events where time < $2 and type <> all($1::text[]) and seq > $3::bigint order by seq limit $4::int', [types, before, place, limit])
      : await on.query<Row>('select seq, digest from audit_events where time < $2 and type = any($1::text[]) and seq > $3::bigint order by seq limit $4::int', [types, before, place, limit])
    return found.map(numbered)
  }

  /** Takes the contents out and marks that; how many there were. */
  async function empty (on: Sql, emptied: readonly Pick<Row, 'seq' | 'digest'>[], at: string): Promise<number> {
    const marks = emptied.map(({ seq, digest }) => ring.tag('purged', purgedText(seq, digest, at)))
    const done = await on.query(`update audit_events set id = null, time = null, type = null, person = null, subject = null, content = null, purged = $3, mark = given.mark
      from unnest($1::bigint[], $2::text[]) as given (place, mark) where seq = given.place and content is not null returning seq`, [emptied.map(({ seq }) => seq), marks, at])
    return done.length
  }
}

/** How a content begins that ended so: the outcome is the first in it. */
function beginningWith (outcome: AuditQuery['outcome']): string | null {
  return outcome === undefined ? null : `{"outcome":${JSON.stringify(outcome)},`
}

/** `pg` answers a bigint as text. */
function numbered<R extends { seq: number | string }> (row: R): R & { seq: number } {
  return { ...row, seq: Number(row.seq) }
}
