/**
 * Express 5, each middleware as its README shows.
 *
 * - helmet, "Get started": `app.use(helmet())`.
 * - cors, "Configuring CORS": a listed origin, credentials.
 * - express-rate-limit, "Usage": for all requests, by address, with the headers of draft 8; a second one after
 *   authentication by `keyGenerator`.
 * - express-jwt, "Usage": `expressjwt({ secret, algorithms: ['HS256'] })` on the route.
 * - express-jwt-permissions, "Usage": `guard.check('…')` on the route, with `requestProperty` for express-jwt's `auth`.
 * - Express's own documentation names no schema for bodies or answers: zod's "Basic usage" (`parse`), for answers too.
 * - "Error handling": one handler at the end; its own would send HTML.
 */
import type { KeyObject } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import cors from 'cors'
import express, { type ErrorRequestHandler, type Request } from 'express'
import { expressjwt } from 'express-jwt'
import permissions from 'express-jwt-permissions'
import { rateLimit } from 'express-rate-limit'
import helmet from 'helmet'
import jsonwebtoken from 'jsonwebtoken'
import { z } from 'zod'
import { HOURS_PATH, NOTES_PATH, ORDER_PATH, ORIGIN, READ, readHours, readOrder, WINDOWS, WRITE, writeNote, type Build } from '../question.js'
import { Draft, Hours, Note, Order, Params, SECRET, type Claims } from './shapes.js'

const answerErrors: ErrorRequestHandler = (error, _request, response, _next) => {
  const status = error instanceof z.ZodError ? 400 : error.status ?? 500
  response.status(status).json({ status, message: error.message })
}

export const buildWith = (secret: string | KeyObject): Build => async ({ people, max }) => {
  const app = express()
  const guard = permissions({ requestProperty: 'auth' })
  const authenticated = expressjwt({ secret, algorithms: ['HS256'] })
  const limitOf = (seconds: number) => ({ windowMs: seconds * 1000, limit: max, standardHeaders: 'draft-8', legacyHeaders: false }) as const
  const limitPerson = rateLimit({ ...limitOf(WINDOWS[1]), keyGenerator: request => (request as Request & { auth: Claims }).auth.sub })

  app.use(helmet())
  app.use(cors({ origin: [ORIGIN], credentials: true }))
  app.use(rateLimit(limitOf(WINDOWS[0])))
  app.use(express.json())
  app.get(ORDER_PATH, authenticated, limitPerson, guard.check(READ), async (request, response) => {
    Params.parse(request.params)
    response.json(Order.parse(await readOrder()))
  })
  app.post(NOTES_PATH, authenticated, limitPerson, guard.check(WRITE), async (request, response) => {
    response.json(Note.parse(await writeNote({ body: Draft.parse(request.body) })))
  })
  app.get(HOURS_PATH, async (_request, response) => {
    response.json(Hours.parse(await readHours()))
  })
  app.use(answerErrors)

  const server = app.listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
  const sign = (sub: string, permissions: string[]) => jsonwebtoken.sign({ sub, permissions } satisfies Claims, secret, { expiresIn: '1h' })
  return {
    port: (server.address() as AddressInfo).port,
    tokens: Array.from({ length: people }, (_none, i) => sign(`user-${i}`, [READ, WRITE])),
    powerless: sign('guest', []),
  }
}

export const build = buildWith(SECRET)
