/** The suite, registered with one call. */
import Fastify from 'fastify'
import bastion, { server } from '../../plugins/index.js'
import { answer, ORIGIN, params, PERMISSION, readOrder, ROLE, URL_PATH, WINDOWS, type Build } from '../question.js'

const key = (byte: number) => Buffer.alloc(32, byte)

export const build: Build = async () => {
  const app = Fastify(server({ logger: false }))
  await app.register(bastion, {
    transport: { hosts: ['127.0.0.1'] },
    cors: { origins: [ORIGIN], credentials: true },
    limits: { flood: { max: 999_999_999, timeWindow: 60_000 } },
    access: { roles: { [ROLE]: { permissions: [PERMISSION] } } },
    tokens: { issuer: 'https://api.example.com', audience: 'https://api.example.com', keys: { access: key(1), refresh: key(2) }, accessTtl: 3600 },
  })
  app.get(URL_PATH, {
    schema: { params, response: { 200: answer } },
    config: { access: { permissions: PERMISSION }, limits: WINDOWS.map(({ max, seconds }) => `${max}/${seconds}s`) },
  }, readOrder)
  return {
    app,
    async tokens (people) {
      const issued: string[] = []
      for (let i = 0; i < people; i++) issued.push((await app.tokens.issue({ id: `user-${i}`, roles: [ROLE] })).access_token)
      return issued
    },
  }
}
