/** One process of a service with privacy, on the PostgreSQL of DATABASE_URL. */
import Fastify from 'fastify'
import pg from 'pg'
import events from '../../plugins/events.js'
import plan from '../../plugins/plan/index.js'
import privacy from '../../plugins/privacy/index.js'
import { pgSql } from '../../plugins/sql.js'
import { KEY, notes } from './build.js'

const { DATABASE_URL, ERASE, PURGE_EVERY = '3600' } = process.env
const sql = pgSql(new pg.Pool({ connectionString: DATABASE_URL, max: 4 }))
const app = Fastify()
await app.register(plan)
await app.register(events)
await app.register(privacy, {
  sql,
  key: KEY,
  lease: 1,
  checkEvery: 1,
  purgeEvery: Number(PURGE_EVERY),
  sources: [notes, {
    name: 'files',
    outside: {
      note: () => ['a.pdf'],
      erase () {
        process.kill(process.pid, 'SIGKILL')
        return new Promise<never>(() => {})
      },
    },
    async purge ({ sql }) {
      await sql.query('insert into purges (pid, begun) values ($1::int, clock_timestamp())', [process.pid])
      await sql.query('select pg_sleep(1.5)')
      await sql.query('update purges set ended = clock_timestamp() where id = (select max(id) from purges where pid = $1::int)', [process.pid])
      return 1
    },
  }],
})
await app.ready()
if (ERASE !== undefined) await app.privacy.erase(ERASE)

process.stdin.setEncoding('utf8').on('data', async () => {
  const report = await app.privacy.purge()
  process.stdout.write(`${JSON.stringify(report)}\n`)
}).on('end', async () => {
  await app.close()
  await sql.close()
})
process.stdout.write('ready\n')
