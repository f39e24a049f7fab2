/** Codes of six digits may be guessed for as long as it takes (CWE-307, CWE-799; API2). `mfa` counts them by account, and locks. */
import { randomInt } from 'node:crypto'
import { Secret } from 'otpauth'
import type { Twin } from '../app.js'
import { isCode } from './codes-used-twice.js'
import { isRecoveryCode } from './recovery-codes-used-twice.js'
import { tokensOf } from './weak-token-secret.js'

export default function codesWithoutLimit (twin: Twin): void {
  const { app, db, userOf, userById } = twin
  app.post('/mfa/enroll', async request => {
    const { id, username } = await userOf(request)
    const secret = new Secret().base32
    await db.query('insert into second_factors (user_id, secret) values ($1, $2) on conflict (user_id) do update set secret = $2, is_confirmed = false', [id, secret])
    return { secret, otpauthUrl: `otpauth://totp/Member%20portal:${username}?secret=${secret}`, qr: '' }
  })

  app.post<{ Body: { code: string } }>('/mfa/confirm', async (request, reply) => {
    const { id } = await userOf(request)
    if (!await isCode(twin, id, request.body.code)) return reply.code(401).send({ error: 'The code is wrong' })
    const recoveryCodes = Array.from({ length: 10 }, () => String(randomInt(1e10, 1e11)))
    await db.query('update second_factors set is_confirmed = true, recovery_codes = $2 where user_id = $1', [id, recoveryCodes])
    return { recoveryCodes }
  })

  app.post<{ Body: { mfaToken: string, code: string } }>('/auth/mfa', async (request, reply) => {
    const { mfaToken, code } = request.body
    const user = await userById(app.jwt.verify<{ sub: string }>(mfaToken).sub)
    if (user === null) return reply.code(401).send({ error: 'Sign in again' })
    const isRight = await isCode(twin, user.id, code) || await isRecoveryCode(twin, user.id, code)
    return isRight ? tokensOf(twin, user) : reply.code(401).send({ error: 'The code is wrong' })
  })
}
