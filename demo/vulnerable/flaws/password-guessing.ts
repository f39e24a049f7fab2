/** As many guesses as one likes, and an answer that tells which names exist (CWE-307, CWE-204; API2). `sign-in` locks, and answers the same for all. */
import type { User } from '../data.js'
import type { Twin } from '../app.js'
import { tokensOf } from './weak-token-secret.js'

export default function passwordGuessing (twin: Twin): void {
  const { app, db } = twin
  app.post<{ Body: { username: string, password: string } }>('/auth/login', async (request, reply) => {
    const { username, password } = request.body
    const { rows: [user] } = await db.query<User>('select * from users where username = $1', [username])
    if (user === undefined) return reply.code(401).send({ error: `There is no user ${username}` })
    if (user.password !== password) return reply.code(401).send({ error: 'The password is wrong' })
    return tokensOf(twin, user)
  })
}
