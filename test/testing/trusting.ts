/** A service on plain Fastify that tells callers apart, by tokens, keys and cookies, once as it should and once with a flaw in each; what the attack kit is told of it. */
import { createHmac, createPublicKey, generateKeyPairSync, sign, verify, type JsonWebKey, type KeyObject } from 'node:crypto'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import type { AttackOptions } from '../../plugins/testing/index.js'

export const TRUSTING_FLAWS = ['own key', 'key by its address', 'public key as secret', 'two credentials', 'host', 'csrf', 'other sites', 'names'] as const
export type TrustingFlaw = typeof TRUSTING_FLAWS[number]

const HOST = 'api.example'
const ALLOWED = 3
const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const Profile = { type: 'object', additionalProperties: false, required: ['bio'], properties: { bio: { type: 'string', maxLength: 100 } } }
const SignIn = { type: 'object', additionalProperties: false, required: ['name', 'password'], properties: { name: { type: 'string', maxLength: 40 }, password: { type: 'string', maxLength: 60 } } }

interface Header { alg?: string, jwk?: JsonWebKey, jku?: string }

const partOf = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
const signed = `${partOf({ alg: 'ES256', typ: 'JWT' })}.${partOf({ sub: 'ada' })}`

export const trusting: AttackOptions = {
  policy: {
    hosts: [HOST],
    headers: false,
    routes: {
      'GET /': 'public',
      'GET /.well-known/jwks.json': 'public',
      'GET /me': { via: ['bearer', 'key'] },
      'POST /profile': { access: { via: ['session'] }, body: Profile },
      'POST /sign-in': { access: 'public', body: SignIn, limits: [`${ALLOWED}/minute`] },
    },
  },
  families: ['credentials', 'mutations', 'limits'],
  principals: {
    ada: { token: `${signed}.${sign('sha256', Buffer.from(signed), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}` },
    bob: { key: 'the-key-of-bob' },
    cleo: { cookie: 'session=the-session-of-cleo', csrf: 'the-token-of-cleo' },
  },
}

export function trustingService (flaw?: TrustingFlaw): FastifyInstance {
  const app = Fastify({ logger: false })
  const counts = new Map<string, number>()
  const isBeyond = (counted: string) => {
    counts.set(counted, (counts.get(counted) ?? 0) + 1)
    return counts.get(counted)! > ALLOWED
  }
  app.addHook('onRequest', async ({ headers }, reply) => { if (headers.host !== HOST && flaw !== 'host') return reply.code(421).send({}) })
  app.get('/', async () => ({}))
  app.get('/.well-known/jwks.json', async () => ({ keys: [publicKey.export({ format: 'jwk' })] }))
  app.get('/me', async (request, reply) => {
    const { authorization, 'x-api-key': key } = request.headers
    if (authorization !== undefined && key !== undefined && flaw !== 'two credentials') return reply.code(400).send({})
    const sub = key === 'the-key-of-bob' ? 'bob' : await subOf(request)
    return sub === null ? reply.code(401).send({}) : { sub }
  })
  app.post('/profile', {
    schema: { body: Profile },
    onRequest: async ({ headers }, reply) => {
      if (headers.cookie !== 'session=the-session-of-cleo') return reply.code(401).send({})
      const isOfOthers = headers['sec-fetch-site'] === 'cross-site' || (headers.origin !== undefined && headers.origin !== `http://${HOST}`)
      if ((headers['x-csrf-token'] !== 'the-token-of-cleo' && flaw !== 'csrf') || (isOfOthers && flaw !== 'other sites')) return reply.code(403).send({})
    },
  }, async () => ({}))
  app.post<{ Body: { name: string } }>('/sign-in', {
    schema: { body: SignIn },
    onRequest: async ({ ip }, reply) => { if (flaw !== 'names' && isBeyond(ip)) return reply.code(429).header('retry-after', '60').send({}) },
  }, async ({ body: { name } }, reply) => (flaw === 'names' && isBeyond(name) ? reply.code(429).header('retry-after', '60') : reply.code(401)).send({}))
  return app

  async function subOf ({ headers: { authorization = '' } }: FastifyRequest): Promise<string | null> {
    const [head = '', claims = '', signature = ''] = authorization.replace(/^Bearer /, '').split('.')
    try {
      const isRight = await isSigned(JSON.parse(Buffer.from(head, 'base64url').toString()), `${head}.${claims}`, Buffer.from(signature, 'base64url'))
      return isRight ? (JSON.parse(Buffer.from(claims, 'base64url').toString()) as { sub: string }).sub : null
    } catch {
      return null
    }
  }

  async function isSigned ({ alg, jwk, jku }: Header, text: string, signature: Buffer): Promise<boolean> {
    if (alg === 'HS256' && flaw === 'public key as secret') return createHmac('sha256', publicKey.export({ format: 'pem', type: 'spki' })).update(text).digest().equals(signature)
    let key: KeyObject = publicKey
    if (jwk !== undefined && flaw === 'own key') key = createPublicKey({ key: jwk, format: 'jwk' })
    if (jku !== undefined && flaw === 'key by its address') key = createPublicKey({ key: (await (await fetch(jku)).json() as { keys: JsonWebKey[] }).keys[0]!, format: 'jwk' })
    return alg === 'ES256' && verify('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' }, signature)
  }
}
