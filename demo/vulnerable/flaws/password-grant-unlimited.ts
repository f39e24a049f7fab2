/** A second way in, for programs, counts nothing (CWE-307; API2). With `oauth2` the password grant is sign-in itself, its locks among it. */
import type { User } from '../data.js'
import type { Twin } from '../app.js'
import { takeForms } from '../forms.js'
import { isPassword } from './passwords-in-plain-text.js'
import { tokensOf } from './weak-token-secret.js'

export default async function passwordGrantUnlimited (twin: Twin): Promise<void> {
  await twin.app.register(async scope => {
    takeForms(scope)
    scope.post<{ Body: { username: string, password: string } }>('/token', async (request, reply) => {
      const { rows: [user] } = await twin.db.query<User>('select * from users where username = $1', [request.body.username])
      return user !== undefined && isPassword(user, request.body.password) ? tokensOf(twin, user) : reply.code(400).send({ error: 'invalid_grant' })
    })
  })
}
