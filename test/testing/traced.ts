/** What the small service keeps, logs, records and mails, so that the attack kit may look at it; each test may have it keep too much or too little. */
import { randomBytes, scryptSync } from 'node:crypto'
import { Type } from '@sinclair/typebox'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { SecurityEvent } from '../../plugins/events.js'
import { principalOf } from '../../plugins/index.js'
import type { Witnesses } from '../../plugins/testing/index.js'
import { closed } from '../../schemas/index.js'

export interface Traces {
  /** What is kept of a password. */
  kept?: (password: string) => string
  /** Who erases their account goes on in what they wrote. */
  staysErased?: boolean
  /** A line more of each request. */
  logs?: (request: FastifyRequest) => string
  /** What the trail keeps. */
  records?: (event: SecurityEvent) => boolean
  /** What a mail holds. */
  resetToken?: (email: string) => string
}

/** How those begin that everybody tries first. */
const COMMON = /^(?:p[a@]ssw[o0]rd|qwerty|welcome|\d+$)/i

interface Owned { owner: string }

/** @param lines of the log */
export function traced (app: FastifyInstance, lines: string[], notes: Map<string, Owned>, { kept = salted, staysErased = false, logs, records = () => true, resetToken = () => randomBytes(16).toString('hex') }: Traces): Witnesses {
  const accounts: object[] = []
  const mails: string[] = []
  const events: SecurityEvent[] = []
  app.events.listen(event => { if (records(event)) events.push(event) })
  if (logs !== undefined) app.addHook('preHandler', async request => { lines.push(logs(request)) })

  const email = Type.String({ format: 'email', maxLength: 100 })
  app.post('/accounts', { schema: { body: closed({ email, password: Type.String({ minLength: 8, maxLength: 64 }) }), response: { 204: Type.Null() } }, config: { access: 'public' } as never }, async (request, reply) => {
    const { email, password } = request.body as { email: string, password: string }
    if (COMMON.test(password) || password === email) throw Object.assign(new Error('one that everybody tries'), { statusCode: 422 })
    accounts.push({ email, password: kept(password) })
    reply.code(204)
  })
  app.post('/forgot', { schema: { body: closed({ email }), response: { 202: Type.Null() } }, config: { access: 'public' } as never }, async (request, reply) => {
    const { email } = request.body as { email: string }
    mails.push(`To: ${email}\n\nOpen https://example.com/reset?token=${resetToken(email)}`)
    reply.code(202)
  })
  app.delete('/me', { schema: { response: { 204: Type.Null() } }, config: { access: 'user', audit: 'data_erased' } as never }, async (request, reply) => {
    const { userId } = principalOf(request)
    for (const [id, { owner }] of notes) if (owner === userId && !staysErased) notes.delete(id)
    reply.code(204)
  })
  return {
    stored: () => [...notes.values(), ...accounts].map(row => JSON.stringify(row)),
    logged: () => lines,
    recorded: () => events,
    mailed: () => mails,
  }
}

function salted (password: string): string {
  const salt = randomBytes(8)
  return `${salt.toString('hex')}:${scryptSync(password, salt, 16, { N: 16 }).toString('hex')}`
}
