/** The suite, registered with one call. */
import Fastify from 'fastify'
import bastion, { server } from '../../plugins/index.js'
import type { StateOptions } from '../../plugins/state/index.js'
import {
  draft, hours, HOURS_PATH, listening, note, NOTES_PATH, order, ORDER_PATH, ORIGIN, params, READ, readHours, readOrder, ROLE, WINDOWS, WRITE, writeNote, type Build
} from '../question.js'

const key = (byte: number) => Buffer.alloc(32, byte)

export const buildWith = (state: StateOptions): Build => async ({ people, max }) => {
  const app = Fastify(server({ logger: false }))
  await app.register(bastion, {
    state,
    transport: { hosts: ['127.0.0.1'] },
    cors: { origins: [ORIGIN], credentials: true },
    limits: { flood: { max: 999_999_999, timeWindow: 60_000 } },
    access: { roles: { [ROLE]: { permissions: [READ, WRITE] }, guest: { permissions: [] } } },
    tokens: { issuer: 'https://api.example.com', audience: 'https://api.example.com', keys: { access: key(1), refresh: key(2) }, accessTtl: 3600 },
  })
  const limits = WINDOWS.map(seconds => `${max}/${seconds}s`)
  app.get(ORDER_PATH, { schema: { params, response: { 200: order } }, config: { access: { permissions: READ }, limits } }, readOrder)
  app.post(NOTES_PATH, { schema: { body: draft, response: { 200: note } }, config: { access: { permissions: WRITE }, limits } }, writeNote)
  app.get(HOURS_PATH, { schema: { response: { 200: hours } }, config: { access: 'public', limits } }, readHours)
  const port = await listening(app)
  const issue = async (id: string, role: string) => (await app.tokens.issue({ id, roles: [role] })).access_token
  const tokens: string[] = []
  for (let i = 0; i < people; i++) tokens.push(await issue(`user-${i}`, ROLE))
  return { port, tokens, powerless: await issue('guest', 'guest') }
}

export const build = buildWith({})
