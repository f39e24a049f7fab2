/** A recovery code is good for ever (CWE-294, CWE-672; API2). In `mfa` it is good once. */
import type { Twin } from '../app.js'

export async function isRecoveryCode ({ db }: Twin, userId: number, code: string): Promise<boolean> {
  const { rows } = await db.query('select 1 from second_factors where user_id = $1 and $2 = any(recovery_codes)', [userId, code])
  return rows.length > 0
}
