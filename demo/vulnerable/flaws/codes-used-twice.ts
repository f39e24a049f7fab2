/** Who sees a code over a shoulder has half a minute to type it too (CWE-294; API2). In `mfa` a code is good once. */
import { TOTP } from 'otpauth'
import type { Twin } from '../app.js'

export async function isCode ({ db }: Twin, userId: number, code: string): Promise<boolean> {
  const { rows: [factor] } = await db.query<{ secret: string }>('select secret from second_factors where user_id = $1', [userId])
  return factor !== undefined && new TOTP({ secret: factor.secret }).validate({ token: code, window: 1 }) !== null
}
