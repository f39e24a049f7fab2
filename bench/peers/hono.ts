/**
 * Hono on Node, each middleware as its documentation shows.
 *
 * - hono.dev "Node.js": `serve({ fetch: app.fetch })` of @hono/node-server.
 * - "Secure Headers Middleware", "CORS Middleware" (a listed origin, credentials), "JWT Auth Middleware" (`secret`, `alg`): built in.
 * - hono-rate-limiter, "Usage": by address, with @hono/node-server's `getConnInfo`; a second one after authentication.
 * - "Validation", "Zod Validator Middleware": `zValidator`. Answers have no filter of their own: `parse` of zod.
 * - The permission: a middleware of one's own that throws `HTTPException`, as in "Factory" and "Exceptions".
 */
import { serve } from '@hono/node-server'
import { getConnInfo } from '@hono/node-server/conninfo'
import { zValidator } from '@hono/zod-validator'
import { Hono } from 'hono'
import { cors } from 'hono/cors'
import { createMiddleware } from 'hono/factory'
import { HTTPException } from 'hono/http-exception'
import { jwt, sign, type JwtVariables } from 'hono/jwt'
import { secureHeaders } from 'hono/secure-headers'
import { rateLimiter } from 'hono-rate-limiter'
import { HOURS_PATH, NOTES_PATH, ORDER_PATH, ORIGIN, READ, readHours, readOrder, WINDOWS, WRITE, writeNote, type Build } from '../question.js'
import { Draft, Hours, Note, Order, Params, SECRET, type Claims } from './shapes.js'

interface Env { Variables: JwtVariables<Claims> }

const permitted = (permission: string) => createMiddleware<Env>(async (context, next) => {
  if (!context.get('jwtPayload').permissions.includes(permission)) throw new HTTPException(403, { message: 'Forbidden' })
  await next()
})

export const build: Build = async ({ people, max }) => {
  const app = new Hono<Env>()
  const authenticated = jwt({ secret: SECRET, alg: 'HS256' })
  const limitPerson = rateLimiter<Env>({ windowMs: WINDOWS[1] * 1000, limit: max, keyGenerator: context => context.get('jwtPayload').sub })

  app.use(secureHeaders({ contentSecurityPolicy: { defaultSrc: ["'self'"] } }))
  app.use(cors({ origin: [ORIGIN], credentials: true }))
  app.use(rateLimiter<Env>({ windowMs: WINDOWS[0] * 1000, limit: max, keyGenerator: context => getConnInfo(context).remote.address ?? '' }))
  app.get(ORDER_PATH, authenticated, limitPerson, permitted(READ), zValidator('param', Params), async context => context.json(Order.parse(await readOrder())))
  app.post(NOTES_PATH, authenticated, limitPerson, permitted(WRITE), zValidator('json', Draft), async context =>
    context.json(Note.parse(await writeNote({ body: context.req.valid('json') }))))
  app.get(HOURS_PATH, async context => context.json(Hours.parse(await readHours())))

  const port = await new Promise<number>(resolve => { serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, info => resolve(info.port)) })
  const exp = Math.floor(Date.now() / 1000) + 3600
  const signed = async (sub: string, permissions: string[]) => sign({ sub, permissions, exp }, SECRET)
  return { port, tokens: await Promise.all(Array.from({ length: people }, (_none, i) => signed(`user-${i}`, [READ, WRITE]))), powerless: await signed('guest', []) }
}
