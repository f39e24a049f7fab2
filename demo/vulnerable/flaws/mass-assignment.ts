/** What the body holds goes into the row, whatever it is (CWE-915; API3). Closed bodies (`validation`) name what may be set. */
import type { User } from '../data.js'
import type { Twin } from '../app.js'
import { isGoodPassword } from './any-password.js'

export default function massAssignment ({ app, db, userOf }: Twin): void {
  app.post<{ Body: Record<string, unknown> }>('/auth/register', async (request, reply) => {
    if (!isGoodPassword(request.body.password)) return reply.code(400).send({ error: 'Eight characters at least' })
    const columns = Object.keys(request.body)
    const { rows: [user] } = await db.query<User>(
      `insert into users (${columns.join(', ')}) values (${columns.map((_, i) => `$${i + 1}`).join(', ')}) returning *`,
      Object.values(request.body)
    )
    return reply.code(201).send(user)
  })

  app.patch<{ Body: Record<string, unknown> }>('/users/me', async request => {
    const { id } = await userOf(request)
    const columns = Object.keys(request.body)
    const { rows: [user] } = await db.query<User>(`update users set ${columns.map((name, i) => `${name} = $${i + 2}`).join(', ')} where id = $1 returning *`, [id, ...Object.values(request.body)])
    return user
  })
}
