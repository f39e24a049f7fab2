/** Who may delete is asked for the method DELETE, and another header makes a deletion of a POST (CWE-650; API5). `access` hangs on the route that runs. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Twin } from '../app.js'

type PostRequest = FastifyRequest<{ Params: { postId: string } }>

export default function guardsByMethod ({ app, db, userOf }: Twin): void {
  app.addHook('preHandler', async request => {
    if (request.method !== 'DELETE' || !request.url.startsWith('/posts/')) return
    const { role } = await userOf(request)
    if (!['moderator', 'admin'].includes(role)) throw Object.assign(new Error('Not for you'), { statusCode: 403 })
  })

  app.delete('/posts/:postId', removePost)

  // For networks whose proxies let through GET and POST alone.
  app.post('/posts/:postId', async (request: PostRequest, reply) => {
    await userOf(request)
    if (request.headers['x-http-method-override'] === 'DELETE') return removePost(request, reply)
    return reply.code(405).send({ error: 'Not allowed' })
  })

  async function removePost (request: PostRequest, reply: FastifyReply): Promise<FastifyReply> {
    await db.query('delete from posts where id = $1', [Number(request.params.postId)])
    return reply.code(204).send()
  }
}
