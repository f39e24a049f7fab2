/** What people write as HTML is shown as HTML (CWE-79; API8). `html` cuts it down to a few harmless elements before it is stored. */
import type { Twin } from '../app.js'

export default function htmlAsTyped ({ app, db, userOf }: Twin): void {
  app.post<{ Body: { title: string, content: string, tags?: string[] } }>('/posts', async (request, reply) => {
    const { id } = await userOf(request)
    const { title, content, tags = [] } = request.body
    const { rows: [post] } = await db.query('insert into posts (author_id, title, content, tags) values ($1, $2, $3, $4) returning *', [id, title, content, tags])
    return reply.code(201).send(post)
  })

  app.get<{ Params: { postId: string } }>('/posts/:postId', async (request, reply) => {
    const { rows: [post] } = await db.query('select * from posts where id = $1', [Number(request.params.postId)])
    return post ?? reply.code(404).send({ error: 'No such post' })
  })
}
