/** After a change of the password browsers are signed out, and who has a token is not (CWE-613; API2). `tokens` ends all that was issued before. */
import type { Twin } from '../app.js'

export async function endSignIns ({ db }: Twin, userId: number): Promise<void> {
  await db.query('delete from sessions where user_id = $1', [userId])
}
