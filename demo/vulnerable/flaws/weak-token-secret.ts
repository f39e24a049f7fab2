/** Tokens are signed with a secret from a tutorial (CWE-1391, CWE-798; API2), and live for a year. `tokens` takes no secret that is known or short, and derives its keys. */
import jwt from '@fastify/jwt'
import type { FastifyRequest } from 'fastify'
import type { User } from '../data.js'
import type { Twin } from '../app.js'

interface Claims { sub: string, use: 'access' | 'refresh' | 'mfa', role?: string }

export default async function weakTokenSecret ({ app, readers, userById }: Twin): Promise<void> {
  await app.register(jwt, { secret: 'secret', sign: { expiresIn: '365d' } })
  readers.push(async request => {
    const claims = await claimsIn(request)
    return claims?.use === 'access' ? userById(claims.sub) : null
  })
}

/** Of a token that is signed; null for every other. */
export async function claimsIn (request: FastifyRequest): Promise<Claims | null> {
  try {
    return await request.jwtVerify<Claims>()
  } catch {
    return null
  }
}

/** The pair that a sign-in answers. */
export function tokensOf ({ app }: Twin, user: User): object {
  return {
    access_token: app.jwt.sign({ sub: String(user.id), use: 'access', role: user.role }),
    refresh_token: app.jwt.sign({ sub: String(user.id), use: 'refresh' }),
    token_type: 'Bearer',
    expires_in: 31_536_000,
  }
}
