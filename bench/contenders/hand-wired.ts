/**
 * Fastify with the official plugins, each used as its README shows.
 *
 * - @fastify/helmet: "Simply require this plugin to set basic security headers".
 * - @fastify/cors: a listed origin, credentials.
 * - @fastify/rate-limit: the global limit by address, and its "custom hook example usage (after authentication)" for the
 *   one by user. Two registrations, because a second limiter of one registration is skipped.
 * - @fastify/jwt: `app.authenticate` as an `onRequest` hook of the route. `trusted`, its place for a denylist, is not used.
 * - The permission is checked in a synchronous `preHandler`.
 */
import cors from '@fastify/cors'
import helmet from '@fastify/helmet'
import jwt, { type FastifyJWTOptions } from '@fastify/jwt'
import rateLimit from '@fastify/rate-limit'
import Fastify, { type FastifyReply, type FastifyRequest, type HookHandlerDoneFunction } from 'fastify'
import { answer, ORIGIN, params, PERMISSION, readOrder, URL_PATH, WINDOWS, type Build } from '../question.js'

interface Claims { sub: string, permissions: string[] }

export const buildWith = (verify: FastifyJWTOptions['verify']): Build => async () => {
  const app = Fastify()
  await app.register(helmet)
  await app.register(cors, { origin: [ORIGIN], credentials: true })
  await app.register(rateLimit, { max: WINDOWS[0].max, timeWindow: WINDOWS[0].seconds * 1000, cache: 50_000 })
  await app.register(rateLimit, {
    max: WINDOWS[1].max,
    timeWindow: WINDOWS[1].seconds * 1000,
    cache: 50_000,
    hook: 'preHandler',
    keyGenerator: request => (request.user as Claims).sub,
  })
  await app.register(jwt, { secret: 'a secret of more than thirty-two bytes, for this benchmark', ...(verify !== undefined && { verify }) })

  async function authenticate (request: FastifyRequest, reply: FastifyReply): Promise<void> {
    try {
      await request.jwtVerify()
    } catch (error) {
      reply.send(error)
    }
  }

  function requirePermission (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction): void {
    if ((request.user as Claims).permissions.includes(PERMISSION)) done()
    else reply.code(403).send({ statusCode: 403, error: 'Forbidden', message: 'You are not allowed to do this' })
  }

  app.get(URL_PATH, { onRequest: [authenticate], preHandler: [requirePermission], schema: { params, response: { 200: answer } } }, readOrder)
  return {
    app,
    tokens: async people => Array.from({ length: people }, (_none, i) => app.jwt.sign({ sub: `user-${i}`, permissions: [PERMISSION] }, { expiresIn: '1h' })),
  }
}

export const build = buildWith(undefined)
