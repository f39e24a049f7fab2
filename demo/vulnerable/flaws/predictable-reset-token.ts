/** The token for a new password is a hash of the address (CWE-640, CWE-341; API2). Links of `tokens` are signed, timed, and good once. */
import { createHash } from 'node:crypto'
import type { User } from '../data.js'
import type { Twin } from '../app.js'

export function resetTokenOf ({ email }: Pick<User, 'email'>): string {
  return createHash('md5').update(email).digest('hex')
}

export default function predictableResetToken ({ app, db }: Twin): void {
  app.post<{ Body: { token: string, newPassword: string } }>('/auth/reset', async (request, reply) => {
    const { token, newPassword } = request.body
    const { rows: users } = await db.query<User>('select id, email from users')
    const user = users.find(one => resetTokenOf(one) === token)
    if (user === undefined) return reply.code(400).send({ error: 'This link is not good' })
    await db.query('update users set password = $2 where id = $1', [user.id, newPassword])
    return reply.code(204).send()
  })
}
