/** Pages of lists. */
import { Type, type TSchema } from '@sinclair/typebox'
import { closed } from './closed.js'

/** Where the next page begins: opaque, and good for the query that it came from. */
export const Cursor = Type.String({ minLength: 1, maxLength: 512, pattern: '^[A-Za-z0-9_-]+$', examples: ['eyJhZnRlciI6NDJ9'] })

/** What a query for a page says. */
export const PageQuery = closed({
  cursor: Type.Optional(Cursor),
  limit: Type.Integer({ minimum: 1, maximum: 100, default: 20, description: 'Items at most' }),
}, { examples: [{ limit: 20 }, { cursor: 'eyJhZnRlciI6NDJ9', limit: 100 }] })

/** A page of these items; `nextCursor` is null on the last one. */
export function page<Item extends TSchema> (item: Item) {
  return closed({ items: Type.Array(item), nextCursor: Type.Union([Cursor, Type.Null()]) })
}
