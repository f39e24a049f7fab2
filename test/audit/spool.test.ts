/** The database is away: events wait on the disk, in their order, bounded, and nobody is answered without the evidence that was promised. */
import { spawnSync } from 'node:child_process'
import { appendFileSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Fastify from 'fastify'
import t from 'tap'
import { KeyRing } from '../../plugins/audit/chain.js'
import type { Entry } from '../../plugins/audit/content.js'
import { Spool } from '../../plugins/audit/spool.js'
import { build, database, folderOf, fragile, KEY, schema, until } from './build.js'

const ring = new KeyRing([KEY])
const entry = (i: number, size = 10): Entry => ({ id: `id-${i}`, time: new Date(i).toISOString(), type: 'logout', actor: null, subject: null, content: JSON.stringify({ i, text: 'x'.repeat(size) }) })
const promised = { access: 'public', limits: false, audit: { type: 'data_access', durable: true } } as const
/** A process that surely is no more: the highest number is never given. */
const GONE = 'audit-4194304-1-1.spool'

async function read (spool: Spool, limit = 100): Promise<string[]> {
  const ids: string[] = []
  while (spool.waiting > 0) {
    const { entries, done } = await spool.next(limit)
    ids.push(...entries.map(({ id }) => id))
    await done()
  }
  return ids
}

t.test('what was appended comes back in its order, and then there is nothing', async t => {
  const folder = folderOf(t)
  const spool = new Spool({ folder, maxBytes: 1e7, ring, onDamage: () => t.fail('damaged') })
  const entries = Array.from({ length: 3000 }, (_none, i) => entry(i, i % 500))
  for (let i = 0; i < 3000; i += 300) t.equal(await spool.append(entries.slice(i, i + 300)), 300)
  const [name] = readdirSync(folder)
  t.equal(statSync(join(folder, name!)).mode & 0o777, 0o600)
  t.same(await read(spool), entries.map(({ id }) => id))
  t.equal(statSync(join(folder, name!)).size, 0)
  await spool.append([entry(1)])
  t.same(await read(spool), ['id-1'])
  await spool.close()
  t.same(readdirSync(folder), [])
})

t.test('it is bounded: what there is no room for is not taken', async t => {
  const spool = new Spool({ folder: folderOf(t), maxBytes: 10_000, ring, onDamage: () => {} })
  t.teardown(() => spool.close())
  const taken = await spool.append(Array.from({ length: 100 }, (_none, i) => entry(i, 200)))
  t.ok(taken > 10 && taken < 50)
  t.equal(await spool.append([entry(200, 200)]), 0)
  t.equal((await read(spool)).length, taken)
  t.equal(await spool.append([entry(200, 200)]), 1, 'and again, once it is empty')
})

t.test('files of processes that have ended are taken up, half a line at their end is dropped, and what somebody wrote into them is told', async t => {
  const folder = folderOf(t)
  const damage: number[] = []
  const left = new Spool({ folder, maxBytes: 1e7, ring, onDamage: () => {} })
  t.teardown(() => left.close())
  await left.append([entry(1), entry(2), entry(3)])
  const [name] = readdirSync(folder)
  renameSync(join(folder, name!), join(folder, GONE))
  const lines = readFileSync(join(folder, GONE), 'utf8').trim().split('\n')
  const spool = new Spool({ folder, maxBytes: 1e7, ring, onDamage: count => { damage.push(count) } })
  const taken: string[] = []
  const take = () => spool.takeUp(async entries => { taken.push(...entries.map(({ id }) => id)) }, 2)

  await t.rejects(spool.takeUp(async () => { throw new Error('away') }, 2), /away/)
  await take()
  t.same(taken, ['id-1', 'id-2', 'id-3'], 'later, where it could not be written at once')
  t.same(readdirSync(folder), [])

  writeFileSync(join(folder, GONE), lines.join('\n'))
  await take()
  t.same(taken.splice(3), ['id-1', 'id-2'], 'half a line: the last one has no end')
  t.same(damage, [])
  writeFileSync(join(folder, GONE), `${lines[0]}\n${lines[1]!.replace('id-2', 'id-9')}\n${lines[2]}\n`)
  await take()
  t.same(taken.splice(3), ['id-1', 'id-3'])
  t.same(damage, [1])
  const own = `audit-${process.ppid}-${readFileSync(`/proc/${process.ppid}/stat`, 'utf8').split(') ').at(-1)!.split(' ')[19]}-1.spool`
  writeFileSync(join(folder, own), `${lines[0]}\n`)
  writeFileSync(join(folder, 'notes.txt'), 'no spool')
  await take()
  t.same(taken.splice(3), [])
  t.ok(existsSync(join(folder, own)), 'those of processes that run are theirs')
})

t.test('a file that somebody cut off is damage, and nothing to wait for', async t => {
  const folder = folderOf(t)
  const damage: number[] = []
  const spool = new Spool({ folder, maxBytes: 1e7, ring, onDamage: count => { damage.push(count) } })
  await spool.append([entry(1), entry(2)])
  truncateSync(join(folder, readdirSync(folder)[0]!), 0)
  const { entries, done } = await spool.next(10)
  await done()
  t.same([entries, spool.waiting, damage], [[], 0, [1]])
  await spool.append([entry(3)])
  t.same(await read(spool), ['id-3'])
  await spool.close()
  t.equal(spool.waiting, 0)
  await t.rejects(spool.next(10), /closed/)
})

t.test('who takes up files while they are being taken up waits: none is forgotten', async t => {
  const folder = folderOf(t)
  const left = new Spool({ folder, maxBytes: 1e7, ring, onDamage: () => {} })
  await left.append([entry(1)])
  const line = readFileSync(join(folder, readdirSync(folder)[0]!))
  await read(left)
  await left.close()
  for (let i = 0; i < 3; i++) writeFileSync(join(folder, GONE.replace('1.spool', `${i}.spool`)), line)
  const spool = new Spool({ folder, maxBytes: 1e7, ring, onDamage: () => t.fail('damaged') })
  let taken = 0
  const slowly = async () => {
    const turn = ++taken
    await new Promise(resolve => { setTimeout(resolve, turn % 2 === 1 ? 10 : 40) })
    if (turn === 4) throw new Error('away')
  }
  await Promise.allSettled([spool.takeUp(slowly, 10), spool.takeUp(slowly, 10)])
  await spool.takeUp(async () => {}, 10)
  t.same(readdirSync(folder), [])
})

t.test('what a full disk took of an attempt is cut off again: it is no damage for who takes the file up', async t => {
  const folder = folderOf(t)
  // Half a megabyte is all that this process may write into one file; what tap loads into it would end it there.
  const script = `
    import { KeyRing } from ${JSON.stringify(new URL('../../plugins/audit/chain.ts', import.meta.url).href)}
    import { Spool } from ${JSON.stringify(new URL('../../plugins/audit/spool.ts', import.meta.url).href)}
    const spool = new Spool({ folder: ${JSON.stringify(folder)}, maxBytes: 1e8, ring: new KeyRing([Buffer.alloc(32, ${KEY[0]})]), onDamage: () => {} })
    const entry = (i, text) => ({ id: 'id-' + i, time: '', type: 'logout', actor: null, subject: null, content: text })
    await spool.append([entry(1, 'x')])
    const fault = await spool.append(Array.from({ length: 100 }, (_none, i) => entry('lost', 'y'.repeat(30_000 + i)))).catch(error => error)
    const hadRoom = spool.hasRoom
    await spool.append([entry(2, 'x')])
    process.stdout.write([fault.code, hadRoom, spool.hasRoom].join(' '))
    process.exit()`
  const { stdout, stderr } = spawnSync('/bin/sh', ['-c', 'unset NODE_OPTIONS; ulimit -f 1024; exec "$0" --import tsx --input-type=module -e "$1"', process.execPath, script], { encoding: 'utf8' })
  t.equal(stdout, 'EFBIG false true', stderr)
  const taken: string[] = []
  const spool = new Spool({ folder, maxBytes: 1e7, ring, onDamage: lines => t.fail(`${lines} damaged`) })
  await spool.takeUp(async entries => { taken.push(...entries.map(({ id }) => id)) }, 10)
  t.same(taken, ['id-1', 'id-2'])
})

t.test('a disk that takes nothing: the first request learns it, the next ones are refused before their handlers; what was promised after an answer is counted as lost', async t => {
  const [sql, folder] = [fragile(await database(t)), folderOf(t)]
  let ran = 0
  const { app } = await build(t, {
    sql,
    folder,
    retryMs: 60_000,
    declare: app => {
      app.get('/', { schema, config: promised }, async () => { ran += 1; return { ok: true } })
      app.get('/after', { schema, config: { access: 'public', limits: false }, onResponse: async request => { request.audit('data_access', {}, { durable: true }) } }, async () => ({ ok: true }))
    },
  })
  sql.isAway = true
  rmSync(folder, { recursive: true })
  for (let i = 0; i < 3; i++) t.equal((await app.inject('http://localhost/')).statusCode, 503)
  t.equal(ran, 1)
  await app.audit.flush()
  const { lost } = app.audit.status()
  t.equal((await app.inject('http://localhost/after')).statusCode, 200)
  await app.audit.flush()
  await until(() => app.audit.status().lost === lost + 1)
  sql.isAway = false
})

t.test('while the database is away requests with promised events are answered, once the events are on the disk; then all are in the trail, in order [ASVS 16.5.2]', async t => {
  const sql = fragile(await database(t))
  const { app, folder, recorded } = await build(t, { sql, declare: app => { app.get('/', { schema, config: promised }, async request => { request.audit('logout', { n: ++n }); return { ok: true } }) } })
  let n = 0
  await app.inject('http://localhost/')
  sql.isAway = true
  for (let i = 0; i < 20; i++) {
    t.equal((await app.inject('http://localhost/')).statusCode, 200)
    const text = readFileSync(join(folder, readdirSync(folder)[0]!), 'utf8')
    t.ok(text.includes(`\\"n\\":${n}}`), 'on the disk before the answer')
  }
  t.match(recorded.filter(({ type }) => type === 'audit_away'), [{ details: { severity: 'critical' } }])
  t.match(app.audit.status(), { isAway: true, lost: 0 })
  sql.isAway = false
  await until(() => !app.audit.status().isAway)
  await app.inject('http://localhost/')
  const { items } = await app.audit.read({ limit: 1000 })
  t.same(items.filter(({ type }) => type === 'logout').map(({ details }) => details.n).reverse(), Array.from({ length: 22 }, (_none, i) => i + 1))
  t.same(items.filter(({ type }) => /^audit_/.test(type)).map(({ type }) => type), ['audit_back', 'audit_away'])
  t.match(await app.audit.verify(), { whole: true })
  t.match(app.audit.status(), { spooled: 0, isAway: false })

  await t.test('negative control: a plain Fastify that writes by itself either answers no more while it is away, or without the evidence', async t => {
    for (const [isWaiting, status] of [[true, 500], [false, 200]] as const) {
      const own = fragile(await database(t))
      await own.script('create table own_events (n integer not null)')
      const bare = Fastify()
      t.teardown(() => bare.close())
      let n = 0
      bare.get('/', async () => {
        const written = own.query('insert into own_events (n) values ($1)', [++n])
        await (isWaiting ? written : written.catch(() => {}))
        return { ok: true }
      })
      own.isAway = true
      for (let i = 0; i < 3; i++) t.equal((await bare.inject('/')).statusCode, status)
      own.isAway = false
      await bare.inject('/')
      t.same(await own.query('select n from own_events'), [{ n: 4 }])
    }
  })
})

t.test('events keep their order also where they come while the spool is read', async t => {
  const sql = fragile(await database(t))
  const { app } = await build(t, { sql, retryMs: 20 })
  let i = 0
  const end = Date.now() + 1500
  const flapping = setInterval(() => { sql.isAway = !sql.isAway }, 130)
  while (Date.now() < end) {
    for (let n = 0; n < 20; n++) app.events.record('logout', null, { i: i++ })
    await new Promise(resolve => { setTimeout(resolve, 5) })
  }
  clearInterval(flapping)
  sql.isAway = false
  await until(() => !app.audit.status().isAway)
  const found: unknown[] = []
  for await (const { details } of app.audit.events({ type: 'logout' })) found.push(details.i)
  t.same(found, Array.from({ length: i }, (_none, n) => n))
  t.match(await app.audit.verify(), { whole: true })
})

t.test('a transaction whose outcome nobody learnt is not written twice', async t => {
  const whole = await database(t)
  let lies = 0
  const sql = {
    ...whole,
    transaction: async (work: never) => {
      const done = await whole.transaction(work)
      if (lies-- > 0) throw new Error('the connection ended after the commit')
      return done
    }
  }
  const { app } = await build(t, { sql: sql as never })
  await app.audit.flush()
  lies = 2
  for (let i = 0; i < 10; i++) app.events.record('logout', null, { i })
  await app.audit.flush()
  await until(() => !app.audit.status().isAway)
  t.equal((await app.audit.read({ type: 'logout' })).items.length, 10)
  t.match(await app.audit.verify(), { whole: true })
})

t.test('a database that is slower than its deadline is away, and requests do not hang', async t => {
  const sql = fragile(await database(t))
  const { app } = await build(t, { sql, deadlineMs: 100, declare: app => { app.get('/', { schema, config: promised }, async () => ({ ok: true })) } })
  sql.delayMs = 400
  const from = Date.now()
  t.equal((await app.inject('http://localhost/')).statusCode, 200)
  t.ok(Date.now() - from < 2000)
  t.equal(app.audit.status().isAway, true)
  sql.delayMs = 0
  await until(() => !app.audit.status().isAway)
  t.equal((await app.audit.read({ type: 'data_access' })).items.length, 1, 'once, though the slow one came through as well')
  t.match(await app.audit.verify(), { whole: true })
})

t.test('where the spool is full too: what was promised is refused with 503, before the handler where that is known; the rest is counted as lost, loudly', async t => {
  const sql = fragile(await database(t))
  let ran = 0
  const { app, recorded } = await build(t, {
    sql,
    spoolBytes: 524_288,
    durable: ['permission_change'],
    declare: app => {
      app.get('/type', { schema, config: { access: 'public', limits: false, audit: 'permission_change' } }, async () => { ran += 1; return { ok: true } })
      app.get('/', { schema, config: promised }, async () => { ran += 1; return { ok: true } })
      app.get('/hand', { schema, config: { access: 'public', limits: false } }, async request => { request.audit('data_modification', {}, { durable: true }); return { ok: true } })
      app.get('/refused', { schema, config: { access: 'public', limits: false } }, async request => {
        request.audit('access_denied', {}, { durable: true })
        throw Object.assign(new Error('no'), { statusCode: 403 })
      })
      app.get('/free', { schema, config: { access: 'public', limits: false } }, async () => ({ ok: true }))
    }
  })
  sql.isAway = true
  for (let i = 0; i < 3000; i++) app.events.record('logout', null, { text: 'word '.repeat(90) })
  await app.audit.flush()
  const { lost } = app.audit.status()
  t.ok(lost > 0)
  t.match(recorded.filter(({ type }) => type === 'audit_lost'), [{ details: { severity: 'critical' } }])
  for (const url of ['/', '/type', '/hand']) {
    const refused = await app.inject(`http://localhost${url}`)
    t.equal(refused.statusCode, 503, url)
    t.match(refused.json(), { code: 'FST_BASTION_AUDIT_UNAVAILABLE' })
    t.match(refused.headers['retry-after'], /^\d+$/)
  }
  t.equal(ran, 0)
  t.equal((await app.inject('http://localhost/refused')).statusCode, 403, 'a refusal needs no evidence to be one')
  t.equal((await app.inject('http://localhost/free')).statusCode, 200)
  sql.isAway = false
  await until(() => !app.audit.status().isAway)
  t.equal((await app.inject('http://localhost/')).statusCode, 200)
  t.equal(ran, 1)
  t.match((await app.audit.read({ type: 'audit_back' })).items, [{ details: { lost: Number } }])
  t.match(await app.audit.verify(), { whole: true })
})

t.test('memory is bounded: what does not fit into the queue goes to the disk', async t => {
  const sql = fragile(await database(t))
  const { app } = await build(t, { sql, queue: 200, deadlineMs: 60_000 })
  await app.audit.flush()
  sql.delayMs = 300
  for (let i = 0; i < 5; i++) {
    for (let n = 0; n < 350; n++) app.events.record('logout', null)
    await new Promise(resolve => { setTimeout(resolve, 30) })
    t.ok(app.audit.status().queued <= 2000, String(app.audit.status().queued))
  }
  sql.delayMs = 0
  await until(() => !app.audit.status().isAway)
  t.not((await app.audit.read({ limit: 1000, type: 'audit_away' })).items.length, 0)
  t.match(await app.audit.verify(), { whole: true })
  t.equal(app.audit.status().lost, 0)
  await t.test('where the disk cannot take so many at once, some are lost, loudly, and none that is promised is taken', async t => {
    sql.delayMs = 300
    for (let n = 0; n < 5000; n++) app.events.record('logout', null)
    t.ok(app.audit.status().queued <= 2010, String(app.audit.status().queued))
    t.ok(app.audit.status().lost > 1000, String(app.audit.status().lost))
    sql.delayMs = 0
    await until(() => !app.audit.status().isAway && app.audit.status().queued === 0)
    t.ok((await app.audit.read({ type: 'audit_back' })).items[0]!.details.lost as number > 1000, 'the trail says how many')
    t.match(await app.audit.verify(), { whole: true })
  })
})

t.test('closing writes what waits: to the database, or to the disk for the next start', async t => {
  const [whole, folder] = [await database(t), folderOf(t)]
  const sql = fragile(whole)
  const first = await build(t, { sql, folder, delayMs: 60_000 })
  for (let i = 0; i < 10; i++) first.app.events.record('logout', null, { i })
  await first.app.close()
  t.equal((await whole.query("select * from audit_events where type = 'logout'")).length, 10)
  const second = await build(t, { sql, folder, delayMs: 60_000 })
  sql.isAway = true
  for (let i = 10; i < 20; i++) second.app.events.record('logout', null, { i })
  await second.app.close()
  t.equal(readdirSync(folder).length, 1)
  sql.isAway = false
  // As another process finds it.
  renameSync(join(folder, readdirSync(folder)[0]!), join(folder, GONE))
  appendFileSync(join(folder, GONE), 'half a li')
  const third = await build(t, { sql, folder })
  const { items } = await third.app.audit.read({ type: 'logout' })
  t.same(items.map(({ details }) => details.i).reverse(), Array.from({ length: 20 }, (_none, i) => i))
  t.match(await third.app.audit.verify(), { whole: true })
  t.same(third.recorded.filter(({ type }) => type === 'audit_broken'), [])
})

t.test('a database that is away at the start keeps nobody from starting', async t => {
  const sql = fragile(await database(t))
  sql.isAway = true
  const { app } = await build(t, { sql, declare: app => { app.get('/', { schema, config: promised }, async () => ({ ok: true })) } })
  t.equal((await app.inject('http://localhost/')).statusCode, 200)
  sql.isAway = false
  await until(() => !app.audit.status().isAway)
  t.match(await app.audit.verify(), { whole: true })
})

t.test('nor does one that never answers', async t => {
  const never = () => new Promise<never>(() => {})
  const { app } = await build(t, { sql: { ...await database(t), query: never, transaction: never }, deadlineMs: 50, retryMs: 60_000, declare: app => { app.get('/', { schema, config: promised }, async () => ({ ok: true })) } })
  t.equal((await app.inject('http://localhost/')).statusCode, 200)
  t.equal(app.audit.status().isAway, true)
})
