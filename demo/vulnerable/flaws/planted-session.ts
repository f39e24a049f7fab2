/** The session keeps the id that the browser brought when somebody signs in to it (CWE-384; API2). `sessions` starts a fresh one. */
import { randomUUID } from 'node:crypto'
import type { User } from '../data.js'
import type { Twin } from '../app.js'
import { sessionIdIn, userOfSession } from '../sessions.js'
import { cookieOf } from './cookie-open-to-scripts.js'
import { countedBy } from './lock-by-name-alone.js'
import { signedIn } from './lock-counted-late.js'
import { isPassword } from './passwords-in-plain-text.js'

export default function plantedSession (twin: Twin): void {
  const { app, db } = twin
  app.get('/csrf-token', async (request, reply) => {
    const id = sessionIdIn(request) ?? randomUUID()
    await db.query('insert into sessions (id) values ($1) on conflict do nothing', [id])
    reply.header('set-cookie', cookieOf(id))
    return { csrfToken: randomUUID() }
  })

  app.post<{ Body: { username: string, password: string } }>('/session/login', async (request, reply) => {
    const { username, password } = request.body
    const user = await signedIn(countedBy(username), async () => {
      const { rows: [found] } = await db.query<User>('select * from users where username = $1', [username])
      return found !== undefined && isPassword(found, password) ? found : null
    })
    const id = sessionIdIn(request) ?? randomUUID()
    await db.query('insert into sessions (id, user_id) values ($1, $2) on conflict (id) do update set user_id = $2', [id, user.id])
    reply.header('set-cookie', cookieOf(id))
    return { user, csrfToken: randomUUID() }
  })

  app.get('/session/me', async request => userOfSession(twin, request))
}
