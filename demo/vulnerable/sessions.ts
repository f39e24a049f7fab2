/** Who the cookie of a browser stands for. */
import type { FastifyRequest } from 'fastify'
import type { Twin } from './app.js'
import type { User } from './data.js'

export function sessionIdIn ({ headers: { cookie = '' } }: FastifyRequest): string | undefined {
  return /(?:^|; )session=([^;]+)/.exec(cookie)?.[1]
}

/** Nobody: 401. */
export async function userOfSession ({ db }: Twin, request: FastifyRequest): Promise<User> {
  const { rows: [user] } = await db.query<User>('select users.* from sessions join users on users.id = sessions.user_id where sessions.id = $1', [sessionIdIn(request)])
  if (user === undefined) throw Object.assign(new Error('Sign in first'), { statusCode: 401 })
  return user
}
