/** What the portal's routes take and answer, and how rows become answers. */
import { Type, type Static } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { Id, Username } from '../../schemas/index.js'
import { NameTaken } from '../accounts.js'
import { NotFound } from '../../plugins/errors.js'
import { violates, type CommentRow, type DocumentRow, type OrderRow, type PostRow, type UserRow } from '../data/tables.js'

/** Since the person was last seen proving themselves (the contract's step-up). */
export const STEP_UP_SECONDS = 300

/** The headers of routes after which nothing of the person is left in the browser. */
export const FORGOTTEN = { clearSiteData: ['cookies', 'storage'] } as const

const Time = Type.String({ format: 'date-time' })

/** Cuts one row too many off a page; its presence is what tells that there is another page. */
export function paged<Row extends { id: string }, Item> (rows: readonly Row[], limit: number, shape: (row: Row) => Item) {
  const shown = rows.slice(0, limit)
  return { items: shown.map(shape), nextCursor: rows.length > limit ? shown.at(-1)!.id : null }
}

/** For statements whose row may refer to what was deleted a moment ago. */
export function notFoundWhereGone (error: unknown): never {
  throw violates(error, 'reference') ? new NotFound() : error
}

export const Role = Type.Union((['guest', 'user', 'moderator', 'manager', 'nurse', 'doctor', 'admin'] as const).map(role => Type.Literal(role)))

/** A name as it is typed. Those that would pass for the service are taken: by the service. */
export const Name = Type.String({ minLength: 3, maxLength: 50, pattern: '^[A-Za-z0-9_]+$' })

/** @throws NameTaken */
export function refuseReservedName (name: string): void {
  if (!Value.Check(Username, name)) throw new NameTaken()
}

const optional = <Schema extends Parameters<typeof Type.Optional>[0]>(schema: Schema) => Type.Optional(Type.Union([schema, Type.Null()]))

export const OwnProfile = Type.Object({
  id: Id,
  username: Type.String(),
  email: Type.String(),
  emailConfirmed: Type.Boolean(),
  role: Role,
  plan: Type.String(),
  age: optional(Type.Integer()),
  phone: optional(Type.String()),
  website: optional(Type.String()),
  bio: optional(Type.String()),
  createdAt: Time,
}, { additionalProperties: false })

export const PublicProfile = Type.Object({
  id: Id,
  username: Type.String(),
  email: Type.Optional(Type.String({ visibleTo: ['owner', 'users:read:private'] })),
  role: Type.Optional(Type.String({ visibleTo: ['users:read:private'] })),
  isActive: Type.Optional(Type.Boolean({ visibleTo: ['users:read:private'] })),
  createdAt: Time,
}, { additionalProperties: false })

export function ownProfile (user: UserRow): Static<typeof OwnProfile> {
  const { age, phone, website, bio } = user
  return { ...named(user), email: user.email, emailConfirmed: user.email_confirmed_at !== null, role: user.role, plan: user.plan, age, phone, website, bio }
}

export function publicProfile (user: UserRow): Static<typeof PublicProfile> {
  return { ...named(user), email: user.email, role: user.role, isActive: user.is_active }
}

function named ({ id, username, created_at: createdAt }: UserRow) {
  return { id, username, createdAt: createdAt.toISOString() }
}

export const Post = Type.Object({
  id: Id, authorId: Id, title: Type.String(), content: Type.String(), tags: Type.Array(Type.String()), createdAt: Time, updatedAt: Time,
}, { additionalProperties: false })

export function postShape ({ id, author_id: authorId, title, content, tags, created_at: created, updated_at: updated }: PostRow): Static<typeof Post> {
  return { id, authorId, title, content, tags, createdAt: created.toISOString(), updatedAt: updated.toISOString() }
}

export const Comment = Type.Object({ id: Id, postId: Id, authorId: Id, content: Type.String(), createdAt: Time }, { additionalProperties: false })

export function commentShape ({ id, post_id: postId, author_id: authorId, content, created_at: created }: CommentRow): Static<typeof Comment> {
  return { id, postId, authorId, content, createdAt: created.toISOString() }
}

export const Document = Type.Object({ id: Id, ownerId: Id, title: Type.String(), content: Type.String(), updatedAt: Time }, { additionalProperties: false })

export function documentShape ({ id, owner_id: ownerId, title, content, updated_at: updated }: DocumentRow): Static<typeof Document> {
  return { id, ownerId, title, content, updatedAt: updated.toISOString() }
}

export const Order = Type.Object({
  id: Id, userId: Type.Union([Id, Type.Null()]), item: Type.String(), total: Type.Integer(), currency: Type.String(), status: Type.String(), createdAt: Time,
}, { additionalProperties: false })

export function orderShape ({ id, user_id: userId, item, total, currency, status, created_at: created }: OrderRow): Static<typeof Order> {
  return { id, userId, item, total, currency, status, createdAt: created.toISOString() }
}
