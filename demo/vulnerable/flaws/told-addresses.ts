/** Whoever asks is told which addresses have an account (CWE-204; API2). The portal answers the same for all, and mails beside the request. */
import type { User } from '../data.js'
import type { Twin } from '../app.js'
import { mailResetLink } from './reset-link-by-host.js'

export default function toldAddresses (twin: Twin): void {
  const { app, db } = twin
  app.post<{ Body: { email: string } }>('/auth/forgot', async (request, reply) => {
    const { rows: [user] } = await db.query<User>('select * from users where email = $1', [request.body.email])
    if (user === undefined) return reply.code(404).send({ error: 'There is no account with this address' })
    await mailResetLink(twin, user, request)
    return reply.code(202).send()
  })
}
