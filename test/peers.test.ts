/** Peers: databases and caches by TLS, verified where their URL asks for it, on a real PostgreSQL and a real Redis. */
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { promisify } from 'node:util'
import Fastify, { type FastifyInstance } from 'fastify'
import { Redis } from 'ioredis'
import pg from 'pg'
import t, { type Test } from 'tap'
import bastion, { server, type BastionOptions } from '../plugins/index.js'
import { isLocalHost, tlsFaultOf, weaknessOf, type Peer } from '../plugins/peers.js'
import { postgresConnection } from '../plugins/postgres.js'
import { pgSql, type Sql } from '../plugins/sql.js'
import { connectRedis, peerOfRedis } from '../plugins/state/connect.js'
import { TYPESCRIPT_BRIEFLY } from './fixtures/typescript.js'
import { postgres, tlsRedis } from './services.js'
import { selfSigned } from './wire/certificate.js'

t.setTimeout(120_000)
const certificate = selfSigned(['localhost', 'db.example'])
const stranger = selfSigned(['localhost'])
const folder = mkdtempSync(join(tmpdir(), 'bastion-peers-'))
t.teardown(() => { rmSync(folder, { recursive: true }) })
const [ca, otherCa] = [join(folder, 'ca.pem'), join(folder, 'other.pem')]
writeFileSync(ca, certificate.cert)
writeFileSync(otherCa, stranger.cert)

async function build (t: Test, options: BastionOptions): Promise<{ app: FastifyInstance, log: string[] }> {
  const log: string[] = []
  const app = Fastify(server({ logger: { level: 'warn', stream: new Writable({ write (line, _encoding, done) { log.push(String(line)); done() } }) } }))
  t.teardown(() => app.close())
  await app.register(bastion, options)
  await app.ready()
  return { app, log }
}

/** With a parameter more, and parts of the URL replaced. */
function urlWith (url: string, query: Record<string, string>, parts: Partial<URL> = {}): string {
  const changed = Object.assign(new URL(url), parts)
  for (const [name, value] of Object.entries(query)) changed.searchParams.set(name, value)
  return changed.href
}

function production (t: Test): void {
  const before = process.env.NODE_ENV
  process.env.NODE_ENV = 'production'
  t.teardown(() => {
    if (before === undefined) delete process.env.NODE_ENV
    else process.env.NODE_ENV = before
  })
}

t.test('PostgreSQL: the way is the one that the URL names, verified [ASVS 12.3.1, 12.3.2]', async t => {
  const shared = await postgres(t, {}, certificate)
  if (shared === null) return
  const url = urlWith(shared.url, {}, { hostname: 'localhost' })
  const { password } = new URL(url)
  const openTo = (address: string): Sql => pgSql(new pg.Pool({ ...postgresConnection(address).options, max: 1, connectionTimeoutMillis: 10_000 }) as never)
  const ask = async (address: string) => {
    const sql = openTo(address)
    try {
      return (await sql.query<{ ssl: boolean, version: string }>('select ssl, version from pg_stat_ssl where pid = pg_backend_pid()'))[0]
    } finally {
      await sql.close()
    }
  }
  const verified = { sslmode: 'verify-full', sslrootcert: ca }
  t.same(await ask(urlWith(url, verified)), { ssl: true, version: 'TLSv1.3' })
  for (const sslmode of ['require', 'verify-ca']) t.match(await ask(urlWith(url, { ...verified, sslmode })), { ssl: true }, `${sslmode} is verified too`)
  t.match(await ask(urlWith(url, { sslrootcert: ca })), { ssl: true }, 'who names an authority wants TLS')
  t.match(await ask(url), { ssl: false }, 'negative control: without a mode all of it is plain')
  t.match(await ask(urlWith(url, { sslmode: 'no-verify' })), { ssl: true }, 'negative control: unverified, whatever its certificate')

  // Node reads NODE_EXTRA_CA_CERTS when it starts.
  const program = `
    import pg from 'pg'
    const { postgresConnection } = await import('./plugins/postgres.ts')
    const client = new pg.Client(postgresConnection(process.env.DATABASE_URL).options)
    await client.connect()
    console.log((await client.query('select ssl from pg_stat_ssl where pid = pg_backend_pid()')).rows[0].ssl)
    await client.end()`
  const env = { PATH: process.env.PATH, DATABASE_URL: urlWith(url, { sslmode: 'verify-full' }), NODE_EXTRA_CA_CERTS: ca }
  const { stdout } = await promisify(execFile)(process.execPath, [...TYPESCRIPT_BRIEFLY, '--input-type=module', '-e', program], { cwd: new URL('../', import.meta.url), env })
  t.equal(stdout.trim(), 'true', 'NODE_EXTRA_CA_CERTS names the authority')

  const refused: [string, string, RegExp][] = [
    ['an authority that is not ours', urlWith(url, { ...verified, sslrootcert: otherCa }), /TLS: the certificate is not trusted \(.*\): name its authority by NODE_EXTRA_CA_CERTS, or by sslrootcert/],
    ['no authority but those of Node', urlWith(url, { sslmode: 'verify-full' }), /TLS: the certificate is not trusted/],
    ['the same, where only encryption was asked for', urlWith(url, { sslmode: 'require' }), /TLS: the certificate is not trusted/],
    ['another host name: an address that is not in it', urlWith(url, verified, { hostname: '127.0.0.1' }), /TLS: the certificate is for another host \(.*127\.0\.0\.1.*\): connect by a name/],
  ]
  for (const [name, address, reason] of refused) {
    const error = await ask(address).then(() => null, (error: Error & { cause: Error }) => error)
    t.match(error, { code: 'FST_BASTION_SQL_UNAVAILABLE', statusCode: 503, cause: { message: reason } }, name)
    t.notMatch(`${error?.message} ${error?.cause.message}`, password)
  }
})

t.test('PostgreSQL: one that speaks no TLS is refused where the URL asks for it', async t => {
  const plain = await postgres(t)
  if (plain === null) return
  const sql = pgSql(new pg.Pool({ ...postgresConnection(urlWith(plain.url, { sslmode: 'verify-full', sslrootcert: ca })).options, max: 1 }) as never)
  await t.rejects(sql.query('select 1'), { code: 'FST_BASTION_SQL_UNAVAILABLE', cause: { message: 'TLS: the server does not speak TLS, or no version and cipher that this one takes' } })
  await sql.close()
})

t.test('Redis: rediss:// is verified, and a certificate that does not pass stops boot [ASVS 12.3.1, 12.3.2]', async t => {
  const shared = await tlsRedis(t, certificate)
  if (shared === null) return
  const { url } = shared
  const secret = Buffer.alloc(32, 1)
  const boot = (t: Test, redis: string | object) => build(t, { state: { redis: redis as string, secret, deadline: 5000 } })
  const { app } = await boot(t, urlWith(url, { sslrootcert: ca }))
  await app.state.set('seen', 'yes', 10_000)
  t.equal(await app.state.get('seen'), 'yes')
  t.match(app.plan.notFound.controls.state, { peer: { name: 'state', host: 'localhost', tls: 'verified' } })

  const refused: [string, string, RegExp][] = [
    ['an authority that is not ours', urlWith(url, { sslrootcert: otherCa }), /redis: TLS: the certificate is not trusted \(.*\): name its authority/],
    ['no authority but those of Node', url, /redis: TLS: the certificate is not trusted/],
    ['another host name', urlWith(url, { sslrootcert: ca }, { hostname: '127.0.0.1' }), /redis: TLS: the certificate is for another host/],
    ['an authority that is no file', urlWith(url, { sslrootcert: join(folder, 'none') }), /redis: sslrootcert: ".*none" cannot be read/],
    ['an authority without TLS', urlWith(url, { sslrootcert: ca }).replace('rediss:', 'redis:'), /redis: sslrootcert: is for rediss/],
  ]
  for (const [name, address, message] of refused) {
    const error = await boot(t, address).then(() => null, (error: Error) => error)
    t.match(error, { code: 'FST_BASTION_STATE_MISCONFIGURED', message }, name)
    t.notMatch(error?.message, new URL(url).password)
  }
  const { port, password } = new URL(url)
  const { app: careless } = await boot(t, { host: 'localhost', port: Number(port), password, tls: { rejectUnauthorized: false } })
  await careless.state.set('seen', 'again', 10_000)
  t.match(careless.plan.notFound.controls.state, { peer: { tls: 'unverified' } }, 'negative control: unverified, any certificate passes; posture says so')
})

t.test('the URL of a database is read strictly, and none of it is in what is said', async t => {
  const base = 'postgres://portal:s3cret@db.example:5432/portal'
  const ways: [string, object, object][] = [
    [base, { ssl: false, connectionString: base }, { host: 'db.example', isLocal: false, tls: 'none' }],
    [`${base}?sslmode=disable`, { ssl: false }, { tls: 'none' }],
    [`${base}?ssl=true`, { ssl: { rejectUnauthorized: true } }, { tls: 'verified' }],
    [`${base}?ssl=0`, { ssl: false }, { tls: 'none' }],
    [`${base}?sslmode=verify-full&sslrootcert=system&application_name=x`, { ssl: { rejectUnauthorized: true, minVersion: 'TLSv1.2' }, connectionString: `${base}?application_name=x` }, { tls: 'verified' }],
    [`${base}?sslmode=verify-full&sslrootcert=${ca}`, { ssl: { ca: certificate.cert } }, { tls: 'verified' }],
    [`${base}?sslmode=require&sslnegotiation=direct`, { ssl: { rejectUnauthorized: true }, sslnegotiation: 'direct' }, { tls: 'verified' }],
    [`${base}?sslmode=verify-ca&sslcert=${ca}&sslkey=${ca}`, { ssl: { cert: certificate.cert, key: certificate.cert } }, { tls: 'verified' }],
    [`${base}?uselibpqcompat=true&sslmode=require`, { ssl: { rejectUnauthorized: true }, connectionString: base }, { tls: 'verified' }],
    [`${base}?host=`, {}, { host: 'db.example', isLocal: false }],
    ['postgres:///portal?host=/run/postgresql', { ssl: false }, { host: '/run/postgresql', isLocal: true, tls: 'none' }],
    ['postgresql://portal:s3cret@[::1]/portal', { ssl: false }, { host: '::1', isLocal: true }],
    ['postgres://portal:s3cret@[2001:db8::1]/portal', { ssl: false }, { host: '2001:db8::1', isLocal: false }],
  ]
  for (const [url, options, peer] of ways) t.match(postgresConnection(url), { options, peer: { name: 'database', ...peer } }, url)
  const wrong: [string, RegExp][] = [
    [`${base}?sslmode=prefer`, /sslmode.*verify-full or disable/],
    [`${base}?sslmode=allow`, /sslmode/],
    [`${base}?sslmode=Verify-Full`, /sslmode/],
    [`${base}?sslmode=`, /sslmode/],
    [`${base}?sslmode=disable&sslmode=verify-full`, /sslmode of the database URL: write it once, in lower case/],
    [`${base}?sslmode=verify-full&ssl%6dode=disable`, /sslmode .*once/],
    [`${base}?SSLMODE=verify-full`, /sslmode .*lower case/],
    [`${base}?sslmode=verify-full&sslRootCert=${ca}`, /sslrootcert .*lower case/],
    [`${base}?host=/run/postgresql&host=db.example`, /host .*once/],
    ['postgres://portal:s3cret@%zz/portal', /host .*cannot be read/],
    [`${base}?ssl=maybe`, /ssl of the database URL/],
    [`${base}?sslnegotiation=direct`, /sslnegotiation/],
    [`${base}?sslmode=verify-full&sslrootcert=${join(folder, 'none')}`, /sslrootcert: ".*none" cannot be read/],
    [`${base}?sslmode=verify-full&sslcert=${join(folder, 'none')}`, /database URL: ENOENT/],
    ['postgres://portal:s3c/ret@db.example:x/portal', /cannot be read/],
    ['mysql://portal:s3cret@db.example/portal', /cannot be read/],
  ]
  for (const [url, message] of wrong) {
    t.throws(() => postgresConnection(url), { code: 'FST_BASTION_POSTGRES_MISCONFIGURED', message }, url)
    try { postgresConnection(url) } catch (error) { t.notMatch((error as Error).message, /s3c/) }
  }
  t.match(postgresConnection(`${base}?sslmode=no-verify`), { options: { ssl: { rejectUnauthorized: false } }, peer: { tls: 'unverified' } }, 'in development')
  t.teardown(() => {
    for (const name of ['PGSSLMODE', 'PGHOST']) delete process.env[name]
  })
  Object.assign(process.env, { PGSSLMODE: 'verify-full', PGHOST: 'env.example' })
  t.match(postgresConnection('postgres:///portal'), { options: { ssl: { rejectUnauthorized: true } }, peer: { host: 'env.example', isLocal: false, tls: 'verified' } }, 'what the URL leaves to the environment')
  t.match(postgresConnection(`${base}?sslmode=disable`), { options: { ssl: false }, peer: { host: 'db.example' } })
  for (const name of ['PGSSLMODE', 'PGHOST']) delete process.env[name]
  production(t)
  t.throws(() => postgresConnection(`${base}?sslmode=no-verify`), { code: 'FST_BASTION_POSTGRES_MISCONFIGURED', message: /no-verify is for development/ }, 'not in production')
  t.equal(postgresConnection(`${base}?sslmode=verify-full`).peer.tls, 'verified')
})

t.test('a peer on another host without TLS is named, by the log in production and by posture [ASVS 12.3.1, 12.3.3]', async t => {
  const peers: Peer[] = [
    postgresConnection('postgres://portal:s3cret@db.example/portal').peer,
    postgresConnection('postgres://portal:s3cret@127.0.0.1/portal').peer,
    postgresConnection('postgres://portal:s3cret@db.example/portal?sslmode=verify-full', 'reports').peer,
    postgresConnection('postgres://portal:s3cret@lab.example/portal?sslmode=no-verify', 'lab').peer,
  ]
  const messages = ['the connection to db.example (database) is plain: whoever is on the way reads and changes it; use TLS', 'the certificate of lab.example (lab) is not verified: whoever is on the way can be it']
  const inDevelopment = await build(t, { transport: { peers, hosts: ['localhost'] } })
  t.same(inDevelopment.log, [], 'development is not told')
  t.same(inDevelopment.app.posture().findings.filter(({ severity }) => severity === 'high').map(({ message }) => message), messages)
  production(t)
  const { log } = await build(t, { transport: { peers, hosts: ['localhost'] } })
  t.same(log.map(line => JSON.parse(line).msg), messages)
  t.notMatch(log.join(), 's3cret')
})

t.test('attack: no parameter makes a plain connection of rediss://', async t => {
  await t.rejects(connectRedis('rediss://:s3cret@cache.example?tls='), { message: /^tls: is said by rediss/ })
  const own = new Redis('rediss://:s3cret@cache.example?tls=', { lazyConnect: true })
  t.equal(own.options.tls, '', 'negative control: ioredis believes the parameter')
})

t.test('how a Redis is reached is read from whatever names it', async t => {
  const known: [unknown, Partial<Peer>][] = [
    ['redis://:s3cret@cache.example', { host: 'cache.example', isLocal: false, tls: 'none' }],
    ['rediss://:s3cret@cache.example', { host: 'cache.example', tls: 'verified' }],
    [{ host: '127.0.0.1' }, { host: '127.0.0.1', isLocal: true, tls: 'none' }],
    [{ path: '/run/redis.sock' }, { host: '/run/redis.sock', isLocal: true }],
    [{ host: 'cache.example', tls: {} }, { tls: 'verified' }],
    [{ host: 'cache.example', tls: { rejectUnauthorized: false } }, { tls: 'unverified' }],
    [{ sentinels: [{ host: 'localhost', port: 1 }, { host: 's.example', port: 2 }], name: 'main' }, { host: 's.example', isLocal: false, tls: 'none' }],
    [{ cluster: ['localhost:1', 'n.example:2'], tls: {} }, { host: 'n.example', tls: 'verified' }],
    [{ cluster: ['redis://n.example:2'], redisOptions: { tls: {} } }, { host: 'n.example', tls: 'verified' }],
    [{ call () {}, options: { host: 'own.example', tls: {} } }, { host: 'own.example', tls: 'verified' }],
    [{ call () {}, isCluster: true, startupNodes: [{ host: 'n.example' }], options: { redisOptions: { tls: { rejectUnauthorized: false } } } }, { host: 'n.example', tls: 'unverified' }],
  ]
  for (const [redis, peer] of known) t.match(peerOfRedis(redis as string), { name: 'state', ...peer }, JSON.stringify(redis))
  for (const host of ['localhost', 'LOCALHOST', 'db.localhost', '127.0.0.1', '127.9.9.9', '::1', '[::1]', '::ffff:127.0.0.1', '/run/x']) t.ok(isLocalHost(host), host)
  for (const host of ['localhost.example', '127.0.0.1.example', '128.0.0.1', '10.0.0.1', '::2', 'mylocalhost', 'notlocalhost']) t.notOk(isLocalHost(host), host)
  t.equal(weaknessOf({ name: 'x', host: 'a.example', isLocal: false, tls: 'verified' }), null)
  t.equal(weaknessOf({ name: 'x', host: 'localhost', isLocal: true, tls: 'none' }), null)
  for (const error of [null, undefined, new Error('x'), Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })]) t.equal(tlsFaultOf(error), null)
})
