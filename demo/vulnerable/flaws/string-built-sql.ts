/** Statements are put together of what clients send (CWE-89; API8). `validation` takes a number for a number, and through `sql` nothing goes but parameters. */
import type { Twin } from '../app.js'

export default function stringBuiltSql ({ app, db }: Twin): void {
  app.get<{ Querystring: { q: string } }>('/search', async request => {
    const { rows } = await db.query(`select id, author_id, title, content from posts where title ilike '%${request.query.q}%' limit 100`)
    return { items: rows, nextCursor: null }
  })

  app.get<{ Querystring: { limit?: string } }>('/posts', async request => {
    const { rows } = await db.query(`select * from posts order by created_at desc limit ${request.query.limit ?? 20}`)
    return { items: rows, nextCursor: null }
  })
}
