/** Who erases their account is only hidden: what they wrote and who they were stays (CWE-459; API8). `privacy` erases source by source, and keeps a receipt. */
import type { Twin } from '../app.js'

export default function erasedInName ({ app, db, userOf }: Twin): void {
  app.delete('/users/me', async (request, reply) => {
    const { id } = await userOf(request)
    await db.query('update users set is_active = false where id = $1', [id])
    return reply.code(204).send()
  })
}
