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
import type { Redis } from 'ioredis'
import {
  draft, hours, HOURS_PATH, listening, note, NOTES_PATH, order, ORDER_PATH, ORIGIN, params, READ, readHours, readOrder, WINDOWS, WRITE, writeNote, type Build
} from '../question.js'

interface Claims { sub: string, permissions: string[] }

export const buildWith = (verify: FastifyJWTOptions['verify'], redis?: Redis): Build => async ({ people, max }) => {
  const app = Fastify()
  const shared = redis !== undefined && { redis }
  await app.register(helmet)
  await app.register(cors, { origin: [ORIGIN], credentials: true })
  await app.register(rateLimit, { max, timeWindow: WINDOWS[0] * 1000, cache: 50_000, ...shared })
  await app.register(rateLimit, {
    max,
    timeWindow: WINDOWS[1] * 1000,
    cache: 50_000,
    ...shared,
    hook: 'preHandler',
    keyGenerator: request => (request.user as Claims | null)?.sub ?? request.ip,
  })
  await app.register(jwt, { secret: 'a secret of more than thirty-two bytes, for this benchmark', ...(verify !== undefined && { verify }) })

  async function authenticate (request: FastifyRequest, reply: FastifyReply): Promise<void> {
    try {
      await request.jwtVerify()
    } catch (error) {
      reply.send(error)
    }
  }

  const requirePermission = (permission: string) => function (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction): void {
    if ((request.user as Claims).permissions.includes(permission)) done()
    else reply.code(403).send({ statusCode: 403, error: 'Forbidden', message: 'You are not allowed to do this' })
  }

  app.get(ORDER_PATH, { onRequest: [authenticate], preHandler: [requirePermission(READ)], schema: { params, response: { 200: order } } }, readOrder)
  app.post(NOTES_PATH, { onRequest: [authenticate], preHandler: [requirePermission(WRITE)], schema: { body: draft, response: { 200: note } } }, writeNote)
  app.get(HOURS_PATH, { schema: { response: { 200: hours } } }, readHours)
  const port = await listening(app)
  const sign = (sub: string, permissions: string[]) => app.jwt.sign({ sub, permissions }, { expiresIn: '1h' })
  return { port, tokens: Array.from({ length: people }, (_none, i) => sign(`user-${i}`, [READ, WRITE])), powerless: sign('guest', []) }
}

export const build = buildWith(undefined)
