/** Whoever holds a token chooses a new password, without knowing the old one (CWE-620; API2). `sign-in` asks for it, and counts what is wrong. */
import { endSignIns } from './sign-ins-outlive-password.js'
import type { Twin } from '../app.js'

export default function passwordChangedUnasked (twin: Twin): void {
  const { app, db, userOf } = twin
  app.post<{ Body: { newPassword: string } }>('/auth/password', async (request, reply) => {
    const { id } = await userOf(request)
    await db.query('update users set password = $2 where id = $1', [id, request.body.newPassword])
    await endSignIns(twin, id)
    return reply.code(204).send()
  })
}
