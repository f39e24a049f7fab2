/** A service with tokens, and the hands of somebody who forges them. */
import { createHmac, randomBytes, type KeyObject } from 'node:crypto'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import type { Test } from 'tap'
import access from '../../plugins/access/index.js'
import errors from '../../plugins/errors.js'
import events, { type SecurityEvent } from '../../plugins/events.js'
import identity, { principalOf } from '../../plugins/identity.js'
import metrics from '../../plugins/metrics/index.js'
import plan from '../../plugins/plan/index.js'
import state, { type StateOptions } from '../../plugins/state/index.js'
import tokens, { type TokenPair, type TokenSubject, type TokensOptions } from '../../plugins/tokens/index.js'

export type Json = Record<string, unknown>

export const pemOf = ({ privateKey, publicKey }: { privateKey: KeyObject, publicKey: KeyObject }) => ({
  private: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
  public: publicKey.export({ format: 'pem', type: 'spki' }).toString(),
})
export const text = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
export const readPart = (token: string, part: 0 | 1) => JSON.parse(Buffer.from(token.split('.')[part]!, 'base64url').toString()) as Json
export const claimsOf = (token: string) => readPart(token, 1)
export const hmac = (input: string, key: Buffer | string) => createHmac('sha256', key).update(input).digest('base64url')

/** A token with these claims, and with the header of `like` unless told otherwise, signed with `key`. */
export function forge (like: string, claims: Json, key: Buffer | string, header?: Json): string {
  const input = `${header === undefined ? like.split('.')[0] : text(header)}.${text(claims)}`
  return `${input}.${hmac(input, key)}`
}

export interface Built {
  app: FastifyInstance
  clock: { ms: number }
  recorded: SecurityEvent[]
  handled: string[]
  users: Record<string, TokenSubject | null>
  keys: { access: Buffer, refresh: Buffer }
  ask: (token: string, url?: string) => Promise<{ status: number, code?: string, body: Json, challenge: unknown }>
  refresh: (token: string) => Promise<TokenPair>
}

export async function build (t: Test, options: Partial<TokensOptions> = {}, stateOptions: StateOptions = {}): Promise<Built> {
  const clock = { ms: 1_700_000_000_500 }
  const now = () => clock.ms
  const recorded: SecurityEvent[] = []
  const handled: string[] = []
  const users: Record<string, TokenSubject | null> = { ada: { id: 'ada', roles: ['user'], plan: 'pro' }, ben: { id: 'ben', roles: ['user'] } }
  const keys = { access: randomBytes(32), refresh: randomBytes(32) }
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(plan)
  await app.register(events)
  await app.register(errors)
  await app.register(metrics)
  await app.register(state, { now, ...stateOptions })
  await app.register(identity)
  await app.register(access, { roles: { user: {}, admin: {} }, now })
  await app.register(tokens, { issuer: 'https://issuer.test', audience: 'https://api.test', keys, now, ...options })
  app.events.listen(event => { recorded.push(event) })
  const answer = (request: FastifyRequest) => {
    handled.push(request.url)
    return { ...request.principal }
  }
  app.get('/', { config: { access: 'user' } }, answer)
  app.get('/public', { config: { access: 'public' } }, answer)
  app.get('/admin', { config: { access: { roles: 'admin' } } }, answer)
  app.get('/fresh', { config: { access: { stepUp: true } } }, answer)
  app.get('/proven', { config: { access: { stepUp: { factors: 'otp', maxAge: 300 } } } }, answer)
  app.get('/presumptuous', { config: { access: 'user' } }, async request => {
    const principal = request.principal as unknown as { id: string, roles: string[] }
    let refused = 0
    for (const change of [() => { principal.id = 'ben' }, () => { principal.roles.push('admin') }]) {
      try { change() } catch { refused += 1 }
    }
    return { refused }
  })
  app.get('/step-up', { config: { access: 'user' } }, async request => {
    const { amr } = request.query as { amr?: string }
    return app.tokens.stepUp(principalOf(request), async id => users[id] ?? null, amr?.split(','))
  })
  app.get('/ended-meanwhile/:how', { config: { access: 'user' } }, async request => {
    const principal = principalOf(request)
    const { how } = request.params as { how: string }
    if (how === 'family') await app.tokens.revokeFamily(principal.familyId!)
    if (how === 'user') await app.tokens.revokeUser(principal.userId)
    if (how === 'token') await app.tokens.stepUp(principal)
    return app.tokens.stepUp(principal)
  })
  app.get('/step-up-as-is', { config: { access: 'user' } }, async request => app.tokens.stepUp(principalOf(request)))
  await app.ready()
  return {
    app,
    clock,
    recorded,
    handled,
    users,
    keys,
    async ask (token, url = '/') {
      const answer = await app.inject({ url, headers: { authorization: `Bearer ${token}` } })
      const body = answer.json() as Json
      return { status: answer.statusCode, code: body.code as string | undefined, body, challenge: answer.headers['www-authenticate'] }
    },
    refresh: token => app.tokens.refresh(token, async id => users[id] ?? null),
  }
}

export const invalid = { code: 'FST_BASTION_TOKENS_INVALID', statusCode: 401 }
export const refused = { status: 401, code: 'FST_BASTION_TOKENS_INVALID' }
