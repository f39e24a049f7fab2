/** An account that is switched off cannot sign in; who is signed in stays (CWE-613, CWE-285; API2). `tokens` and `sessions` end with their account. */
import type { Twin } from '../app.js'

export default function deactivatedAccountGoesOn ({ app, db, userOf }: Twin): void {
  app.patch<{ Params: { userId: string }, Body: { isActive: boolean } }>('/users/:userId/active', async (request, reply) => {
    const { role } = await userOf(request)
    if (role !== 'admin') return reply.code(403).send({ error: 'For admins only' })
    await db.query('update users set is_active = $2 where id = $1', [Number(request.params.userId), request.body.isActive])
    return reply.code(204).send()
  })
}
