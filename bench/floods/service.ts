/** The service that is flooded: a sign-in, and an order that is read with a token of its own or of another issuer. */
import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import Fastify from 'fastify'
import bastion, { server, type Account } from '../../plugins/index.js'
import { PASSWORD, SELF, STRANGER, type Serving, type Settings, type Usage } from './settings.js'

const WIDE = 999_999_999
const KEYS = {
  RS: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  PS: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ES384: () => generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  ES512: () => generateKeyPairSync('ec', { namedCurve: 'P-521' }),
  EdDSA: () => generateKeyPairSync('ed25519'),
}
const SIGNATURE_BYTES: Record<string, number> = { HS256: 32, ES256: 64, ES384: 96, ES512: 132, EdDSA: 64 }

const settings = JSON.parse(process.argv[2] ?? '{}') as Settings
const { algorithm = 'HS256', issuer, isOpen = false } = settings
const pairOf = (name: string) => (KEYS[name as keyof typeof KEYS] ?? KEYS[name.slice(0, 2) as keyof typeof KEYS])()
const stranger = issuer === undefined ? null : pairOf(issuer)
const accounts = new Map<string, Account>()
const app = Fastify(server({ logger: false }))
await app.register(bastion, {
  transport: { hosts: ['127.0.0.1'] },
  metrics: {},
  // As coarse as by default, and told by the second.
  limits: { flood: { max: isOpen ? WIDE : 1000, timeWindow: 1000 }, ...isOpen && { address: false } },
  access: { roles: { user: { permissions: ['orders:read'] } } },
  ...settings.passwords !== undefined && { passwords: settings.passwords },
  tokens: {
    issuer: SELF,
    audience: SELF,
    algorithm,
    keys: { access: algorithm === 'HS256' ? Buffer.alloc(32, 1) : pem(pairOf(algorithm).privateKey), refresh: Buffer.alloc(32, 2) },
    accessTtl: 3600,
    ...stranger !== null && {
      issuers: [{
        issuer: STRANGER,
        audience: SELF,
        algorithms: [issuer as 'ES256'],
        jwks: { keys: [{ ...stranger.publicKey.export({ format: 'jwk' }), kid: 'one', use: 'sig' } as never] },
        principal: ({ sub }) => ({ id: `stranger-${sub as string}`, roles: ['user'] }),
      }],
    },
    ...settings.tokens,
  },
  signIn: {
    accounts: { findByLogin: async name => accounts.get(name) ?? null, findById: async () => null, savePassword: async () => {} },
    ...isOpen && { perNameAndAddress: WIDE, perName: WIDE, perAddress: WIDE },
  },
})
const text = { type: 'string', maxLength: 64 }
const answer = { type: 'object', properties: { id: text }, additionalProperties: false }
app.get('/orders/:orderId', {
  schema: { params: { type: 'object', properties: { orderId: text }, additionalProperties: false }, response: { 200: answer } },
  config: { access: { permissions: 'orders:read' }, limits: [`${WIDE}/minute`] },
}, async () => ({ id: 'ord_7f3a' }))
app.post('/login', {
  schema: {
    body: { type: 'object', properties: { username: text, password: text }, required: ['username', 'password'], additionalProperties: false },
    response: { 200: answer },
  },
  config: { access: 'public', ...isOpen && { limits: false } },
}, async request => {
  const { username, password } = request.body as { username: string, password: string }
  return app.signIn.withPassword(username, password, request)
})
await app.listen({ host: '127.0.0.1', port: 0 })
const passwordHash = await app.passwords.hash(PASSWORD)
for (let i = 0; i < 64; i++) accounts.set(`user-${i}`, { id: `user-${i}`, passwordHash, roles: ['user'], isActive: true })

const token = (await app.tokens.issue({ id: 'ada', roles: ['user'] })).access_token
const now = Math.floor(Date.now() / 1000)
process.send!({
  port: (app.server.address() as { port: number }).port,
  token,
  unsigned: stranger === null
    ? token.slice(0, token.lastIndexOf('.'))
    : [{ alg: issuer, typ: 'at+jwt', kid: 'one' }, { iss: STRANGER, aud: SELF, sub: 'eve', iat: now, exp: now + 3600 }]
        .map(part => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.'),
  signatureBytes: SIGNATURE_BYTES[issuer ?? algorithm] ?? 256,
} satisfies Serving)

process.on('message', async message => {
  if (message === 'stop') process.exit()
  const { user, system } = process.cpuUsage()
  process.send!({
    cpuMs: (user + system) / 1000,
    rssMb: Math.round(process.memoryUsage().rss / 2 ** 20),
    waiting: Number(/^bastion_hashes_waiting (\d+)$/m.exec(await app.metrics.text())?.[1] ?? 0),
  } satisfies Usage)
})

function pem (key: KeyObject): { private: string } {
  return { private: key.export({ format: 'pem', type: 'pkcs8' }).toString() }
}
