/** A refresh token is good as often as it is sent, by whom it may be (CWE-294, CWE-613; API2). `tokens` spends it, and a second use ends its whole family. */
import { tokensOf } from './weak-token-secret.js'
import type { Twin } from '../app.js'

export default function refreshTokenNeverSpent (twin: Twin): void {
  const { app, userById } = twin
  app.post<{ Body: { refresh_token: string } }>('/auth/refresh', async (request, reply) => {
    const { sub, use } = app.jwt.verify<{ sub: string, use: string }>(request.body.refresh_token)
    const user = use === 'refresh' ? await userById(sub) : null
    return user === null ? reply.code(401).send({ error: 'This is no refresh token' }) : tokensOf(twin, user)
  })
}
