/** One process that writes to a trail: DATABASE_URL and FOLDER; says on its output which promises were kept, and ends with its input. */
import Fastify from 'fastify'
import pg from 'pg'
import bastion, { server } from '../../plugins/index.js'
import { pgSql } from '../../plugins/sql.js'
import { KEY } from './build.js'

const { DATABASE_URL, FOLDER, NAME = 'p', COUNT = '1000000', AT_ONCE = '20', DEADLINE = '2000' } = process.env
const pool = new pg.Pool({ connectionString: DATABASE_URL, max: 4 })
pool.on('error', () => {})
const app = Fastify(server({ logger: false }))
await app.register(bastion, {
  transport: { hosts: ['localhost'] },
  limits: { flood: false, address: ['1000000/minute'] },
  audit: { sql: pgSql(pool), keys: KEY, folder: FOLDER!, retryMs: 50, deadlineMs: Number(DEADLINE), delayMs: 5 },
})
app.get('/:i', { schema: { response: { 200: { type: 'object', properties: {} } } }, config: { access: 'public', limits: false } }, async request => {
  const { i } = request.params as { i: string }
  request.audit('logout', { name: NAME, free: Number(i) })
  request.audit('data_access', { name: NAME, i: Number(i), user: `u${Number(i) % 50}` }, { durable: true })
  return {}
})
await app.ready()
process.stdout.write('ready\n')
let next = 0
await Promise.all(Array.from({ length: Number(AT_ONCE) }, async () => {
  while (next < Number(COUNT)) {
    const i = next++
    const { statusCode } = await app.inject(`http://localhost/${i}`)
    process.stdout.write(`${statusCode} ${i}\n`)
  }
}))
await app.close()
await pool.end()
