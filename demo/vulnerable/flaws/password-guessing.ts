/** As many guesses as one likes, and an answer that tells which names exist (CWE-307, CWE-204; API2). `sign-in` locks, and answers the same for all. */
import type { User } from '../data.js'
import type { Twin } from '../app.js'
import { pendingTokenOf } from './half-sign-in-as-whole.js'
import { isPassword } from './passwords-in-plain-text.js'
import { tokensOf } from './weak-token-secret.js'

export default function passwordGuessing (twin: Twin): void {
  const { app, db } = twin
  app.post<{ Body: { username: string, password: string } }>('/auth/login', async (request, reply) => {
    const { username, password } = request.body
    const { rows: [user] } = await db.query<User>('select * from users where username = $1', [username])
    if (user === undefined) return reply.code(401).send({ error: `There is no user ${username}` })
    if (!isPassword(user, password)) return reply.code(401).send({ error: 'The password is wrong' })
    if (!user.is_active) return reply.code(403).send({ error: 'This account is switched off' })
    const { rows: [factor] } = await db.query('select * from second_factors where user_id = $1 and is_confirmed', [user.id])
    if (factor !== undefined) return reply.code(401).send({ error: 'Send a code too', mfaToken: pendingTokenOf(twin, user) })
    return tokensOf(twin, user)
  })
}
