/** A page is as long as its reader wants it (CWE-770; API4). `validation` bounds the number. */
import type { Twin } from '../app.js'

export default function pagesWithoutEnd ({ app, db, userOf }: Twin): void {
  app.post<{ Params: { postId: string }, Body: { content: string } }>('/posts/:postId/comments', async (request, reply) => {
    const { id } = await userOf(request)
    const { rows: [comment] } = await db.query('insert into comments (post_id, author_id, content) values ($1, $2, $3) returning *', [Number(request.params.postId), id, request.body.content])
    return reply.code(201).send(comment)
  })

  app.get<{ Params: { postId: string }, Querystring: { limit?: string } }>('/posts/:postId/comments', async request => {
    const { rows } = await db.query('select * from comments where post_id = $1 order by id limit $2', [Number(request.params.postId), Number(request.query.limit ?? 20)])
    return { items: rows, nextCursor: null }
  })
}
