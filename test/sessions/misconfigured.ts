/** The suite with options of sessions that may be wrong. */
import Fastify from 'fastify'
import type { Test } from 'tap'
import bastion, { server } from '../../plugins/index.js'

export async function bastionWith (t: Test, sessions: object): Promise<void> {
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion, { csrf: { key: Buffer.alloc(32, 9) }, sessions: { secret: Buffer.alloc(32, 7), ...sessions } } as never)
}
