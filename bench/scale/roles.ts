/** The same request to services with few and with many roles, in turn: processor time of a request. */
import Fastify, { type FastifyInstance } from 'fastify'
import { Type } from '@sinclair/typebox'
import bastion, { server } from '../../plugins/index.js'
import { closed } from '../../schemas/closed.js'
import { alternate } from '../rounds.js'
import { spread } from '../statistics.js'

const MANY = 10_000
const HELD = 100
const names = (name: string, count: number) => Array.from({ length: count }, (_none, i) => `${name}-${i}`)
const few = { member: { permissions: ['things:read'] }, admin: { inherits: ['member'], permissions: ['things:write'] } }
const many = { ...few, ...Object.fromEntries(names('role', MANY).map((role, i) => [role, { inherits: ['member'], permissions: names(`right-${i % 1000}`, 10) }])) }

/** The roles of a service, and those of who asks; the permission is that of the last one. */
const SERVICES = {
  '2 roles': { roles: few, own: ['member'] },
  '10,000 roles with 10 permissions each': { roles: many, own: ['member'] },
  'one role with 10,000 permissions': { roles: { ...few, member: { permissions: [...names('right', MANY), 'things:read'] } }, own: ['member'] },
  '10,000 roles, 100 of them held': { roles: { ...many, ...Object.fromEntries(names('role', HELD).map(role => [role, { permissions: ['things:list'] }])) }, own: [...names('role', HELD - 1), 'member'] },
}
type Service = keyof typeof SERVICES

export async function services (_whose: string, requests: number) {
  const asking = {} as Record<Service, { bootMs: number, ask: () => Promise<number> }>
  for (const service of Object.keys(SERVICES) as Service[]) {
    const begun = process.cpuUsage()
    const { app, authorization } = await build(SERVICES[service])
    asking[service] = { bootMs: cpuUs(begun) / 1000, ask: () => ask(app, authorization, requests) }
  }
  const rounds = await alternate(Object.keys(SERVICES) as Service[], 12, name => asking[name].ask())
  return Object.fromEntries(Object.entries(rounds).map(([name, times]) => [name, { ...spread(times.slice(2), 1), bootMs: Math.round(asking[name as Service].bootMs) }]))
}

async function build ({ roles, own }: typeof SERVICES[Service]): Promise<{ app: FastifyInstance, authorization: string }> {
  const app = Fastify(server({ logger: false }))
  await app.register(bastion, {
    access: { roles },
    limits: { flood: false },
    tokens: { issuer: 'https://api.example.com', audience: 'https://api.example.com', keys: { access: Buffer.alloc(32, 1), refresh: Buffer.alloc(32, 2) } },
  })
  app.get('/things', { schema: { response: { 200: closed({ ok: Type.Boolean() }) } }, config: { access: { permissions: 'things:read' }, limits: false } }, async () => ({ ok: true }))
  await app.ready()
  return { app, authorization: `Bearer ${(await app.tokens.issue({ id: 'somebody', roles: own })).access_token}` }
}

async function ask (app: FastifyInstance, authorization: string, requests: number): Promise<number> {
  const begun = process.cpuUsage()
  for (let i = 0; i < requests; i++) {
    const { statusCode } = await app.inject({ url: '/things', headers: { authorization } })
    if (statusCode !== 200) throw new Error(`answered ${statusCode}`)
  }
  return cpuUs(begun) / requests
}

function cpuUs (begun: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(begun)
  return user + system
}
