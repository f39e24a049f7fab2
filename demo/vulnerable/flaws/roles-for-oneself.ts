/** Who edits an account is asked whether it is theirs, also where it is the role that is edited (CWE-862, CWE-269; API5). `access` names on each route who may call it. */
import type { Twin } from '../app.js'

export default function rolesForOneself ({ app, db, userOf }: Twin): void {
  app.patch<{ Params: { userId: string }, Body: { role: string } }>('/users/:userId/role', async (request, reply) => {
    const { id, role } = await userOf(request)
    const { userId } = request.params
    if (role !== 'admin' && userId !== String(id)) return reply.code(403).send({ error: 'Not your account' })
    const { rows: [user] } = await db.query('update users set role = $2 where id = $1 returning *', [Number(userId), request.body.role])
    return user
  })
}
