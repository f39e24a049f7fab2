/** A service that takes documents into the folder of its argument, in a process of its own; it prints its port. */
import Fastify from 'fastify'
import bastion, { server } from '../../plugins/index.js'

const app = Fastify(server({ logger: false }))
await app.register(bastion, { uploads: { folder: process.argv[2]!, idleMs: 30_000 }, transport: { hosts: [] } })
const facts = { type: 'object', additionalProperties: false, properties: { name: { type: 'string' }, size: { type: 'integer' } } }
app.post('/document', {
  schema: { response: { 201: facts } },
  config: { access: 'public', limits: false, upload: { kinds: ['pdf', 'docx'], maxBytes: 10_485_760 } },
}, async (request, reply) => {
  reply.code(201)
  return (await request.upload()).save()
})
await app.listen({ port: 0, host: '127.0.0.1' })
console.log((app.server.address() as { port: number }).port)
