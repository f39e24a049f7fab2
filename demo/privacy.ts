/** What the portal holds about people, where, and what becomes of it when they go: the sources of `app.privacy`. */
import type { Compilable } from 'kysely'
import { createError } from '@fastify/error'
import type { AuditEvent } from '../plugins/audit/index.js'
import { inPages, type ConsentPurpose, type PrivacySource } from '../plugins/privacy/index.js'
import type { Sql } from '../plugins/sql.js'
import { isLastAdmin } from './accounts.js'
import type { Portal } from './app.js'
import { build, first, rows } from './data/tables.js'
import { fileShape } from './routes/files.js'
import { keyShape } from './routes/keys.js'
import { passkeyShape } from './routes/passkeys.js'
import { commentShape, documentShape, orderShape, ownProfile, postShape } from './routes/shapes.js'
import { webhookShape } from './routes/webhooks.js'

export const LastAdmin = createError('FST_PORTAL_LAST_ADMIN', 'The last admin must stay one', 400)

/** What the portal asks consent to. */
export const PURPOSES: Record<string, ConsentPurpose> = {
  newsletter: { version: '1', description: 'A mail a month about what is new' },
  research: {
    version: '1',
    description: 'Use of my posts, without my name, in studies of how people write',
    proof: { reason: 'proof of consent to processing that others have relied on (GDPR Art. 7(1), 17(3)(e))', days: 1096 },
  },
}

const CONTRACT = 'the membership (GDPR Art. 6(1)(b))'
const SECURITY = 'protection of the account (GDPR Art. 6(1)(f))'
const LAW = 'records of commerce and tax (GDPR Art. 6(1)(c), 17(3)(b)): kept without the person'
const TRAIL = 'proof of who did what (GDPR Art. 5(2), 6(1)(f), 17(3)(e)): kept under a pseudonym that leads to nobody'
/** Days: ten years, the longest of the laws on records of commerce. */
const RECORDS = 3653
/** Rows that are read at once. */
const PAGE = 200

/** In the order in which they are erased: what refers to the account goes before it, so that it can be counted. */
export function portalSources ({ app, accounts, uploads, webhooks, signOut }: Portal): PrivacySource[] {
  const sources: PrivacySource[] = [
    {
      name: 'posts',
      basis: CONTRACT,
      export: (userId, sql) => paged(after => rows(sql, build.selectFrom('posts').selectAll().where('author_id', '=', userId).where('id', '>', after).orderBy('id').limit(PAGE)), postShape),
      erase: (userId, sql) => deleted(sql, build.deleteFrom('posts').where('author_id', '=', userId).returning('id')),
    },
    {
      name: 'comments',
      basis: CONTRACT,
      export: (userId, sql) => paged(after => rows(sql, build.selectFrom('comments').selectAll().where('author_id', '=', userId).where('id', '>', after).orderBy('id').limit(PAGE)), commentShape),
      erase: (userId, sql) => deleted(sql, build.deleteFrom('comments').where('author_id', '=', userId).returning('id')),
    },
    {
      name: 'documents',
      basis: CONTRACT,
      export: (userId, sql) => paged(after => rows(sql, build.selectFrom('documents').selectAll().where('owner_id', '=', userId).where('id', '>', after).orderBy('id').limit(PAGE)), documentShape),
      erase: (userId, sql) => deleted(sql, build.deleteFrom('documents').where('owner_id', '=', userId).returning('id')),
    },
    {
      // Given and received; those that were given went with their documents.
      name: 'shares',
      basis: CONTRACT,
      export: (userId, sql) => rows(sql, build.selectFrom('document_shares').innerJoin('documents', 'documents.id', 'document_id')
        .select(['document_id as documentId', 'user_id as userId', 'actions']).where(eb => eb.or([eb('owner_id', '=', userId), eb('user_id', '=', userId)]))),
      erase: (userId, sql) => deleted(sql, build.deleteFrom('document_shares').where('user_id', '=', userId).returning('user_id')),
    },
    {
      // Before orders, by which they are found. Nothing in them is about the person once the order is not.
      name: 'payments',
      basis: LAW,
      retention: RECORDS,
      export: (userId, sql) => rows(sql, paymentsOf(userId)),
      erase: async (userId, sql) => ({ anonymised: (await rows(sql, paymentsOf(userId))).length, reason: LAW }),
      purge: async ({ before, sql }) => (await rows(sql, build.deleteFrom('payments').where('order_id', 'in', expiredOrders(before)).returning('id'))).length,
    },
    {
      name: 'orders',
      basis: LAW,
      retention: RECORDS,
      export: (userId, sql) => paged(after => rows(sql, build.selectFrom('orders').selectAll().where('user_id', '=', userId).where('id', '>', after).orderBy('id').limit(PAGE)), orderShape),
      erase: async (userId, sql) => ({
        anonymised: (await rows(sql, build.updateTable('orders').set({ user_id: null }).where('user_id', '=', userId).returning('id'))).length, reason: LAW,
      }),
      purge: async ({ before, sql }) => (await rows(sql, build.deleteFrom('orders').where('id', 'in', expiredOrders(before))
        .where('id', 'not in', build.selectFrom('payments').select('order_id')).returning('id'))).length,
    },
    {
      name: 'files',
      basis: CONTRACT,
      export: async userId => (await uploads.list(userId)).map(fileShape),
      outside: {
        // Their records go here, so that what is noted is exactly what had a record. One that is on its way finds no owner, and leaves nothing.
        async note (userId, sql) {
          const gone = await sql.query<{ name: string | null }>('delete from uploads where owner = $1 returning name', [userId])
          return gone.flatMap(({ name }) => name ?? [])
        },
        async erase (_userId, names: string[]) {
          for (const name of names) await app.uploads.remove(name)
          return { deleted: names.length }
        },
      },
    },
    {
      name: 'apiKeys',
      basis: CONTRACT,
      export: async userId => (await app.apiKeys.list(userId)).map(keyShape),
      erase: async (userId, sql) => ({ deleted: (await sql.query('delete from api_keys where user_id = $1 returning id', [userId])).length }),
      outside: { erase: async userId => { await app.apiKeys.ownerChanged(userId); return [] } },
    },
    {
      name: 'passkeys',
      basis: SECURITY,
      export: async userId => (await app.passkeys.list(userId)).map(passkeyShape),
      erase: async (userId, sql) => ({ deleted: (await sql.query('delete from passkeys where user_id = $1 returning id', [userId])).length }),
    },
    {
      name: 'hasSecondFactor',
      basis: SECURITY,
      export: userId => app.mfa.isEnrolled(userId),
      erase: async (userId, sql) => ({ deleted: (await sql.query('delete from mfa_enrolments where user_id = $1 returning user_id', [userId])).length }),
      // An enrolment that was begun, devices that are remembered, wrong codes that were counted.
      outside: { erase: async userId => { await app.mfa.disable(userId); return [] } },
    },
    {
      name: 'webhook',
      basis: CONTRACT,
      async export (userId) {
        const webhook = await webhooks.find(userId)
        return webhook === null ? null : webhookShape(webhook)
      },
      erase: (userId, sql) => deleted(sql, build.deleteFrom('webhooks').where('user_id', '=', userId).returning('id')),
    },
    {
      // Those that wait for a mail to an address that is known to be this person's.
      name: 'registrations',
      erase: (userId, sql) => deleted(sql, build.deleteFrom('registrations').where(eb => eb(eb.fn('lower', ['email']), 'in',
        build.selectFrom('users').select(({ fn }) => fn<string>('lower', ['email']).as('email')).where('id', '=', userId).where('email_confirmed_at', 'is not', null))).returning('id')),
      purge: async ({ before, sql }) => (await rows(sql, build.deleteFrom('registrations').where('expires_at', '<=', before).returning('id'))).length,
    },
    {
      name: 'sessions',
      basis: SECURITY,
      export: async userId => (await app.sessions.list(userId)).map(({ createdAt, lastSeenAt, expiresAt, ...device }) =>
        ({ ...device, createdAt: createdAt.toISOString(), lastSeenAt: lastSeenAt.toISOString(), expiresAt: expiresAt.toISOString() })),
      // Before it is done: where nobody can be signed out, nothing is done, and it can be tried again.
      async erase (userId) {
        const { length } = await app.sessions.list(userId)
        await signOut(userId)
        return { deleted: length }
      },
      // And after: whoever signed in meanwhile was still who they were before.
      outside: { erase: async userId => { await signOut(userId); return [] } },
    },
  ]
  const trail: PrivacySource = {
    name: 'audit',
    basis: SECURITY,
    export: userId => ownEvents(app.audit.events({ userId }), userId),
    // What they did stays, and leads to nobody any more.
    async erase (userId, sql) {
      const known = await sql.query('select who from audit_people where user_id = $1', [userId])
      await app.audit.forget(userId, sql)
      return { anonymised: known.length, reason: TRAIL }
    },
    purge: () => app.audit.purge(),
  }
  const profile: PrivacySource = {
    name: 'profile',
    basis: CONTRACT,
    export: async userId => ownProfile(await accounts.known(userId)),
    async before (userId, sql) {
      const own = build.selectFrom('users').select('role').where('id', '=', userId)
      const isAdmin = async (found: typeof own) => (await first(sql, found))?.role === 'admin'
      // Admins are held before themselves, all of them in one order, and for an admin alone: nobody waits for what others erase.
      if (await isAdmin(own) && await isLastAdmin(sql, userId)) throw new LastAdmin()
      // From here on nothing new can refer to the account. Who has become an admin meanwhile is looked at again.
      if (await isAdmin(own.forUpdate()) && await isLastAdmin(sql, userId)) throw new LastAdmin()
    },
    erase: (userId, sql) => deleted(sql, build.deleteFrom('users').where('id', '=', userId).returning('id')),
  }
  return [...sources, trail, profile]
}

/** What they did themselves: what others did to them would tell of those. */
async function * ownEvents (events: AsyncIterable<AuditEvent>, userId: string) {
  for await (const { userId: actor, time, type, outcome, via, address, userAgent, method, route, resource, status } of events) {
    if (actor === userId) yield { time, type, outcome, via, address, userAgent, method, route, resource, status }
  }
}

/** All of a user's rows, a page at a time, each in the form in which it is shown. */
async function * paged<Row extends { id: string }, Shown> (read: (after: string) => Promise<Row[]>, shape: (row: Row) => Shown): AsyncGenerator<Shown> {
  for await (const row of inPages<Row>(last => read(last?.id ?? ''))) yield shape(row)
}

async function deleted (sql: Sql, statement: Compilable<unknown>): Promise<{ deleted: number }> {
  return { deleted: (await rows(sql, statement)).length }
}

function paymentsOf (userId: string) {
  return build.selectFrom('payments').innerJoin('orders', 'orders.id', 'order_id').where('user_id', '=', userId)
    .select(['payments.id', 'order_id as orderId', 'amount', 'payments.currency', 'payments.status', 'last_four as lastFour', 'payments.created_at as createdAt'])
}

/** Orders that no law wants any more, of people who are gone. */
function expiredOrders (before: Date) {
  return build.selectFrom('orders').select('id').where('user_id', 'is', null).where('created_at', '<=', before)
}
