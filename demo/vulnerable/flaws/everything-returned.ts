/** Rows are answered as they are, secrets of others among them (CWE-213, CWE-200; API3). `exposure` answers what the schema names and the caller may see. */
import type { User } from '../data.js'
import type { Twin } from '../app.js'

export default function everythingReturned ({ app, db, userOf, userById }: Twin): void {
  app.get('/users/me', async request => userOf(request))

  app.get<{ Params: { userId: string } }>('/users/:userId', async (request, reply) => {
    await userOf(request)
    return await userById(request.params.userId) ?? reply.code(404).send({ error: 'No such user' })
  })

  app.get<{ Querystring: { username?: string } }>('/users', async request => {
    await userOf(request)
    const { rows } = await db.query<User>('select * from users where $1::text is null or username = $1', [request.query.username ?? null])
    return { items: rows, nextCursor: null }
  })
}
