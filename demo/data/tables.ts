/** The tables, for the query builder, which builds statements and never runs them: the `Sql` port does. */
import {
  DummyDriver, Kysely, PostgresAdapter, PostgresIntrospector, PostgresQueryCompiler, type Compilable, type Generated, type Selectable,
} from 'kysely'
import type { Sql } from '../../plugins/sql.js'

export type RoleName = 'guest' | 'user' | 'moderator' | 'manager' | 'nurse' | 'doctor' | 'admin'
export type PlanName = 'free' | 'basic' | 'pro'

interface UsersTable {
  id: string
  username: string
  email: string
  email_confirmed_at: Date | null
  password_hash: string | null
  role: RoleName
  plan: PlanName
  is_active: Generated<boolean>
  age: number | null
  phone: string | null
  website: string | null
  bio: string | null
  created_at: Generated<Date>
}

interface PostsTable { id: string, author_id: string, title: string, title_upper: string, content: string, tags: string[], created_at: Generated<Date>, updated_at: Generated<Date> }
interface CommentsTable { id: string, post_id: string, author_id: string, content: string, created_at: Generated<Date> }
interface DocumentsTable { id: string, owner_id: string, title: string, content: string, updated_at: Generated<Date> }
interface SharesTable { document_id: string, user_id: string, actions: string[] }
interface OrdersTable { id: string, user_id: string | null, item: string, total: number, currency: string, status: Generated<string>, created_at: Generated<Date> }
interface PaymentsTable { id: string, order_id: string, amount: number, currency: string, status: string, last_four: string, created_at: Generated<Date> }

interface WebhooksTable { user_id: string, id: string, url: string, created_at: Generated<Date> }

/** Names, numbers and diagnoses are envelopes. */
interface PatientsTable {
  id: string
  name: string
  ssn: string
  ssn_index: string
  diagnosis: string
  created_at: Generated<Date>
  updated_at: Generated<Date>
}

export interface RegistrationsTable {
  id: string
  username: string
  email: string
  password_hash: string
  age: number | null
  phone: string | null
  website: string | null
  bio: string | null
  expires_at: Date
}

/** As kysely wants them. */
export interface Tables {
  users: UsersTable
  posts: PostsTable
  comments: CommentsTable
  documents: DocumentsTable
  document_shares: SharesTable
  orders: OrdersTable
  payments: PaymentsTable
  patients: PatientsTable
  registrations: RegistrationsTable
  webhooks: WebhooksTable
}

export type UserRow = Selectable<UsersTable>
export type PostRow = Selectable<PostsTable>
export type CommentRow = Selectable<CommentsTable>
export type DocumentRow = Selectable<DocumentsTable>
export type OrderRow = Selectable<OrdersTable>
export type PatientRow = Selectable<PatientsTable>
export type PaymentRow = Selectable<PaymentsTable>
export type WebhookRow = Selectable<WebhooksTable>

export const build = new Kysely<Tables>({
  dialect: {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: db => new PostgresIntrospector(db),
    createQueryCompiler: () => new PostgresQueryCompiler(),
  },
})

/** All rows of a statement. */
export function rows<Row> (sql: Sql, statement: Compilable<Row>): Promise<Row[]> {
  const { sql: text, parameters } = statement.compile()
  // eslint-disable-next-line no-restricted-syntax -- the builder's own text, in which every value is a parameter
  return sql.query<Row>(text, parameters)
}

/** The first row of a statement, or null. */
export async function first<Row> (sql: Sql, statement: Compilable<Row>): Promise<Row | null> {
  return (await rows(sql, statement))[0] ?? null
}

/** PostgreSQL's codes for what a statement may break through no fault of its own. */
const VIOLATIONS = { unique: '23505', reference: '23503' }

/** True where a statement failed because a value is taken (`unique`), or because what it refers to is gone (`reference`). */
export function violates (error: unknown, kind: keyof typeof VIOLATIONS): boolean {
  return (error as { code?: string } | null)?.code === VIOLATIONS[kind]
}
