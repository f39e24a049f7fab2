/** Hosts: odd Host, X-Forwarded-* and absolute-form requests over real sockets: plain, by TLS, and by HTTP/2. None crashes anything, none wins. */
import http2 from 'node:http2'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import Fastify, { type FastifyInstance } from 'fastify'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import bastion, { server, type ServerOptions } from '../../plugins/index.js'
import { selfSigned } from './certificate.js'

t.setTimeout(120_000)
const HOST = 'api.example.com'
const certificate = selfSigned([HOST])
/** Linux has all of 127.0.0.0/8: one of them is a proxy that is believed. */
const STRANGER = '127.0.0.1'
const PROXY = '127.0.0.9'
/** Connections at once. */
const AT_ONCE = 8
/** Milliseconds after which a connection that says nothing is given up: that is a failure. */
const SILENT_MS = 20_000

interface Seen { host: string, ip: string, protocol: string }
interface Answer { status: number, headers: Record<string, string>, body: string }
/** What comes of a request: a refusal by its code, or what the handler was told. */
type Outcome = keyof typeof REFUSALS | Partial<Seen> | 'reset'

const REFUSALS = {
  malformed: [400, 'FST_BASTION_TRANSPORT_HOST_MALFORMED'],
  untrusted: [421, 'FST_BASTION_TRANSPORT_HOST_UNTRUSTED'],
  forwarded: [400, 'FST_BASTION_TRANSPORT_FORWARDED_MALFORMED'],
  unparsed: [400, 'FST_BASTION_SERVER_MALFORMED'],
  tunnel: [405, 'FST_BASTION_SERVER_TUNNEL'],
  target: [400, 'FST_BASTION_TRANSPORT_TARGET_MALFORMED'],
  nowhere: [404, 'FST_BASTION_ERRORS_NOT_FOUND'],
  large: [431, 'FST_BASTION_SERVER_HEADERS_TOO_LARGE'],
  plain: [403, 'FST_BASTION_TRANSPORT_HTTPS_REQUIRED'],
} as const

const HEADERS = {
  'x-content-type-options': 'nosniff',
  'content-security-policy': /default-src 'none'/,
  'cache-control': 'no-store',
  'permissions-policy': /camera=\(\)/,
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
}

async function build (t: Test, serverOptions: ServerOptions, requireHttps = false): Promise<{ app: FastifyInstance, port: number }> {
  const app = Fastify(server({ logger: false, trustProxy: PROXY, ...serverOptions }))
  t.teardown(() => app.close())
  await app.register(bastion, { transport: { hosts: [HOST, '[2001:db8::1]', '*.tenants.example.com'], requireHttps }, limits: { address: false, flood: false } })
  const Told = Type.Object({ host: Type.String(), ip: Type.String(), protocol: Type.String(), link: Type.String() })
  app.get('/', { schema: { response: { 200: Told } }, config: { access: 'public' } },
    async ({ host, ip, protocol }) => ({ host, ip, protocol, link: new URL(`${protocol}://${host}/`).href }))
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, port: (app.server.address() as AddressInfo).port }
}

const ok = (seen: Partial<Seen> = {}): Partial<Seen> => ({ host: HOST, ...seen })
const asHost = (host: string, outcome: Outcome): [string, string[], Outcome] => ['/', [`Host: ${host}`], outcome]
const from = (lines: string[], outcome: Outcome): [string, string[], Outcome] => ['/', [`Host: ${HOST}`, ...lines], outcome]

/** Target, fields, and what comes of them, from anybody. */
const ODD: [string, string[], Outcome][] = [
  // One host, ours, in every spelling.
  asHost(HOST, ok()), asHost('API.Example.COM', { host: 'API.Example.COM' }), asHost(`${HOST}.`, { host: `${HOST}.` }), asHost(`${HOST}:443`, { host: `${HOST}:443` }),
  asHost(`${HOST}:0`, {}), asHost(`  ${HOST}  `, ok()), asHost(`\t${HOST}`, ok()),
  asHost('[2001:db8::1]', {}), asHost('[2001:DB8:0::0:1]:8443', {}), asHost('[2001:0db8:0000:0000:0000:0000:0000:0001]', {}),
  asHost('a.tenants.example.com', {}), asHost('A.Tenants.Example.com:1', {}), asHost('xn--bcher-kva.tenants.example.com', {}),
  ['/', ['host: api.example.com'], ok()], ['/', ['HOST:api.example.com'], ok()],
  // Hosts that are not ours.
  asHost('evil.example', 'untrusted'), asHost('localhost', 'untrusted'), asHost('127.0.0.1', 'untrusted'), asHost('0', 'untrusted'), asHost('2130706433', 'untrusted'), asHost('0x7f000001', 'untrusted'),
  asHost('[::1]', 'untrusted'), asHost('[::]', 'untrusted'), asHost('[2001:db8::2]', 'untrusted'), asHost('[::ffff:127.0.0.1]', 'untrusted'),
  asHost(`${HOST}.evil.example`, 'untrusted'), asHost(`evil-${HOST}`, 'untrusted'), asHost(`x.${HOST}`, 'untrusted'), asHost('example.com', 'untrusted'), asHost(`${HOST}..`, 'untrusted'),
  asHost('tenants.example.com', 'untrusted'), asHost('a.b.tenants.example.com', 'untrusted'), asHost('a.tenants.example.com.evil.example', 'untrusted'), asHost('atenants.example.com', 'untrusted'),
  asHost('169.254.169.254', 'untrusted'), asHost('metadata.google.internal:80', 'untrusted'), asHost('__proto__', 'malformed'), asHost('constructor', 'untrusted'),
  // None, several, and what is none.
  ['/', [], 'malformed'], asHost('', 'malformed'), asHost('   ', 'malformed'), asHost('.', 'malformed'), asHost(`.${HOST}`, 'malformed'), asHost('-', 'malformed'),
  asHost(`${HOST}, evil.example`, 'malformed'), asHost(`evil.example ${HOST}`, 'malformed'), asHost(`${HOST}\tevil.example`, 'malformed'), asHost(`user@${HOST}`, 'malformed'), asHost(`${HOST}@evil.example`, 'malformed'),
  asHost(`${HOST}/`, 'malformed'), asHost(`${HOST}?a`, 'malformed'), asHost(`${HOST}#a`, 'malformed'), asHost(`${HOST}\\evil.example`, 'malformed'), asHost(`https://${HOST}`, 'malformed'), asHost(`//${HOST}`, 'malformed'),
  asHost(`${HOST}:`, 'malformed'), asHost(`${HOST}:port`, 'malformed'), asHost(`${HOST}:99999`, 'malformed'), asHost(`${HOST}:-1`, 'malformed'), asHost(`${HOST}:443:443`, 'malformed'), asHost(`${HOST}:443@evil.example`, 'malformed'),
  asHost('[2001:db8::1', 'malformed'), asHost('2001:db8::1', 'malformed'), asHost('[2001:db8::1]x', 'malformed'), asHost('[2001:db8::1%25eth0]', 'malformed'), asHost('[evil]', 'malformed'), asHost('[1:2]', 'malformed'),
  asHost('1.2.3.999', 'malformed'), asHost('%61pi.example.com', 'malformed'), asHost('api%2eexample.com', 'malformed'), asHost('\xe4pi.example.com', 'malformed'), asHost('api\u00adexample.com', 'malformed'),
  asHost('<script>alert(1)</script>', 'malformed'), asHost("' or 1=1--", 'malformed'), asHost('{{7*7}}', 'malformed'), asHost(`\${jndi:ldap://${HOST}}`, 'malformed'), asHost('*', 'malformed'), asHost('*.tenants.example.com', 'malformed'),
  asHost('a'.repeat(300), 'malformed'), asHost(`${'a.'.repeat(2000)}example.com`, 'malformed'), asHost('a'.repeat(20_000), 'large'),
  ['/', [`Host: ${HOST}`, 'Host: evil.example'], 'malformed'], ['/', ['Host: evil.example', `Host: ${HOST}`], 'malformed'], ['/', [`Host: ${HOST}`, `hOST: ${HOST}`], 'malformed'], ['/', [`Host: ${HOST}`, 'Host:'], 'malformed'],
  ['/', [`Host: ${HOST}`, ' folded: evil.example'], 'unparsed'], ['/', [`Host : ${HOST}`], 'unparsed'], ['/', [` Host: ${HOST}`], 'unparsed'], ['/', ['Host', `: ${HOST}`], 'unparsed'], ['/', ['Host: a\x00b'], 'unparsed'], ['/', [`Host: ${HOST}\rX: y`], 'unparsed'],
  ['/', ['Host\x0b: evil.example', `Host: ${HOST}`], 'unparsed'],
  // A target in absolute form, and others.
  ['http://evil.example/', [`Host: ${HOST}`], 'malformed'], ['https://evil.example/', [`Host: ${HOST}`], 'malformed'], [`http://${HOST}/`, ['Host: evil.example'], 'malformed'], [`http://${HOST}/`, [], 'malformed'],
  [`http://${HOST}:443/`, [`Host: ${HOST}`], 'malformed'], [`http://${HOST}@evil.example/`, [`Host: ${HOST}`], 'malformed'], [`http://user:password@${HOST}/`, [`Host: ${HOST}`], 'malformed'], ['http:///', [`Host: ${HOST}`], 'malformed'],
  [`ftp://${HOST}/`, [`Host: ${HOST}`], 'malformed'], [`file://${HOST}/etc/passwd`, [`Host: ${HOST}`], 'malformed'], [`ws://${HOST}/`, [`Host: ${HOST}`], 'malformed'], [`gopher://${HOST}/`, [`Host: ${HOST}`], 'malformed'],
  ['//evil.example/', [`Host: ${HOST}`], 'nowhere'], [`//${HOST}/`, [`Host: ${HOST}`], 'nowhere'], ['/\\evil.example', [`Host: ${HOST}`], 'nowhere'], ['/http://evil.example/', [`Host: ${HOST}`], 'nowhere'], ['/@evil.example', [`Host: ${HOST}`], 'nowhere'],
  ['*', [`Host: ${HOST}`], 'target'], ['/..//evil.example', [`Host: ${HOST}`], 'nowhere'],
  // What only a proxy may say, said by a stranger.
  from(['X-Forwarded-Host: evil.example'], ok({ ip: STRANGER })), from([`X-Forwarded-Host: ${HOST}, evil.example`], ok()), from(['X-Forwarded-Host: <script>'], ok()), from(['X-Forwarded-Host: '], ok()),
  ['/', ['Host: evil.example', `X-Forwarded-Host: ${HOST}`], 'untrusted'], ['/', [`X-Forwarded-Host: ${HOST}`], 'malformed'], ['/', ['Host: evil.example', `Forwarded: host=${HOST}`], 'untrusted'],
  from(['X-Forwarded-For: 203.0.113.9'], ok({ ip: STRANGER })), from(['X-Forwarded-For: 127.0.0.9'], ok({ ip: STRANGER })), from(['X-Forwarded-For: unknown', 'X-Forwarded-For: _x'], ok({ ip: STRANGER })),
  from([`X-Forwarded-For: ${Array(500).fill('127.0.0.9').join()}`], ok({ ip: STRANGER })), from(['Forwarded: for=203.0.113.9;proto=https;host=evil.example'], ok({ ip: STRANGER })), from(['X-Real-IP: 203.0.113.9', 'True-Client-IP: 203.0.113.9', 'CF-Connecting-IP: 203.0.113.9'], ok({ ip: STRANGER })),
  from(['X-Forwarded-Proto: javascript'], ok()), from(['X-Forwarded-Port: 99999', 'X-Forwarded-Scheme: evil', 'X-Forwarded-Ssl: on', 'Front-End-Https: on'], ok()), from(['X-Original-URL: /admin', 'X-Rewrite-URL: /admin', 'X-HTTP-Method-Override: DELETE', 'X-Host: evil.example'], ok()),
]

/** The same from the proxy that is believed: the last of what it says counts. */
const FORWARDED: [string, string[], Outcome][] = [
  from([], ok({ ip: PROXY })),
  from(['X-Forwarded-Host: a.tenants.example.com'], { host: 'a.tenants.example.com' }), ['/', ['Host: backend:3000', `X-Forwarded-Host: ${HOST}`], ok()], ['/', ['Host: backend', `X-Forwarded-Host: evil.example, ${HOST}`], ok()],
  ['/', ['Host: backend', 'X-Forwarded-Host: evil.example', `X-Forwarded-Host: ${HOST}`], ok()], from([`X-Forwarded-Host: ${HOST}, evil.example`], 'untrusted'), from(['X-Forwarded-Host: evil.example'], 'untrusted'),
  from(['X-Forwarded-Host: [2001:db8::1]:8443'], { host: '[2001:db8::1]:8443' }), from(['X-Forwarded-Host: '], ok()), from(['X-Forwarded-Host: ,'], 'malformed'), from([`X-Forwarded-Host: ${HOST},`], 'malformed'),
  from(['X-Forwarded-Host: evil.example/x'], 'malformed'), from([`X-Forwarded-Host: ${HOST}@evil.example`], 'malformed'), from(['X-Forwarded-Host: <script>'], 'malformed'), from([`X-Forwarded-Host: "${HOST}"`], 'malformed'), from([`X-Forwarded-Host: ${HOST}:99999`], 'malformed'),
  ['/', [`X-Forwarded-Host: ${HOST}`], 'malformed'], ['/', ['Host: a', 'Host: b', `X-Forwarded-Host: ${HOST}`], 'malformed'], ['http://evil.example/', [`Host: ${HOST}`, `X-Forwarded-Host: ${HOST}`], 'malformed'],
  from(['X-Forwarded-Proto: https'], ok({ protocol: 'https' })), from(['X-Forwarded-Proto: http'], ok({ protocol: 'http' })), from(['X-Forwarded-Proto: http, https'], ok({ protocol: 'https' })), from(['X-Forwarded-Proto: https,http'], ok({ protocol: 'http' })),
  from(['X-Forwarded-Proto: https', 'X-Forwarded-Proto: http'], ok({ protocol: 'http' })), from(['X-Forwarded-Proto: HTTPS'], 'forwarded'), from(['X-Forwarded-Proto: javascript'], 'forwarded'), from(['X-Forwarded-Proto: https;http'], 'forwarded'), from(['X-Forwarded-Proto: ,'], 'forwarded'),
  from(['X-Forwarded-For: 203.0.113.9'], ok({ ip: '203.0.113.9' })), from(['X-Forwarded-For: 192.0.2.1, 203.0.113.9'], ok({ ip: '203.0.113.9' })), from(['X-Forwarded-For: 192.0.2.1', 'X-Forwarded-For: 203.0.113.9'], ok({ ip: '203.0.113.9' })),
  from([`X-Forwarded-For: 203.0.113.9, ${PROXY}`], ok({ ip: '203.0.113.9' })), from(['X-Forwarded-For: 2001:db8::9'], ok({ ip: '2001:db8::9' })), from(['X-Forwarded-For: [2001:db8::9]:4711'], ok({ ip: '[2001:db8::9]:4711' })),
  from(['X-Forwarded-For: 203.0.113.9:4711'], ok({ ip: '203.0.113.9:4711' })), from(['X-Forwarded-For: '], ok({ ip: PROXY })), from(['X-Forwarded-For: , ,'], ok({ ip: PROXY })), from(['X-Forwarded-For: evil, 203.0.113.9'], ok({ ip: '203.0.113.9' })),
  from(['X-Forwarded-For: unknown'], 'forwarded'), from(['X-Forwarded-For: 203.0.113.9, _hidden'], 'forwarded'), from(['X-Forwarded-For: 1.2.3.999'], 'forwarded'), from(['X-Forwarded-For: "203.0.113.9"'], 'forwarded'), from(['X-Forwarded-For: 203.0.113.9; 192.0.2.1'], 'forwarded'),
  from([`X-Forwarded-For: ${Array(1000).fill(PROXY).join()}`], ok({ ip: PROXY })), from([`X-Forwarded-For: ${Array(1000).fill('192.0.2.1').join()}`], ok({ ip: '192.0.2.1' })), from([`X-Forwarded-For: ${','.repeat(10_000)}`], ok({ ip: PROXY })),
  from(['Forwarded: for=203.0.113.9;proto=https;host=evil.example'], ok({ ip: PROXY })),
]

for (const way of ['plain', 'by TLS'] as const) {
  const isPlain = way === 'plain'
  t.test(`HTTP/1.1, ${way}: every odd request is told what is wrong with it, or is what it seems [ASVS 4.1.3]`, async t => {
    const { port } = await build(t, isPlain ? {} : { fastify: { http2: true, https: certificate } as never })
    const own = isPlain ? 'http' : 'https'
    const rows = [...ODD.map(row => [STRANGER, row] as const), ...FORWARDED.map(row => [PROXY, row] as const)]
    t.ok(rows.length > 150, `${rows.length} requests`)
    const scheme: [string, readonly [string, string[], Outcome]][] = [
      // The scheme of an absolute form is that of the connection, or what a proxy says of it.
      [STRANGER, [`${own}://${HOST}/`, [`Host: ${HOST}`], ok({ protocol: own })]],
      [STRANGER, [`${own.toUpperCase()}://API.example.com/`, [`Host: ${HOST}`], ok({ protocol: own })]],
      [STRANGER, [`${isPlain ? 'https' : 'http'}://${HOST}/`, [`Host: ${HOST}`], 'malformed']],
      [STRANGER, [`${isPlain ? 'https' : 'http'}://${HOST}/`, [`Host: ${HOST}`, `X-Forwarded-Proto: ${isPlain ? 'https' : 'http'}`], 'malformed']],
      [PROXY, [`https://${HOST}/`, [`Host: ${HOST}`, 'X-Forwarded-Proto: https'], ok({ protocol: 'https' })]],
      [STRANGER, ['/', [`Host: ${HOST}`, `X-Forwarded-Proto: ${isPlain ? 'https' : 'http'}`], ok({ protocol: own })]],
    ]
    await inTurns([...rows, ...scheme], async ([client, [target, lines, outcome]]) => {
      const answer = await send(t, { port, client, isPlain }, `GET ${target} HTTP/1.1\r\n${lines.map(line => `${line}\r\n`).join('')}\r\n`)
      const name = JSON.stringify([target, ...lines]).slice(0, 120)
      isAsSaid(t, answer, outcome, name)
      const { protocol = isPlain && client === STRANGER ? 'http' : null } = JSON.parse(answer.body)
      if (protocol !== null) t.equal(answer.headers['strict-transport-security'] !== undefined, protocol === 'https', 'HSTS over HTTPS alone')
    })
    t.equal((await send(t, { port, client: STRANGER, isPlain }, `CONNECT evil.example:443 HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`)).status, REFUSALS.tunnel[0])
    isAsSaid(t, await send(t, { port, client: STRANGER, isPlain }, `GET / HTTP/1.0\r\nHost: ${HOST}\r\n\r\n`), ok(), 'HTTP/1.0')
    isAsSaid(t, await send(t, { port, client: STRANGER, isPlain }, 'GET / HTTP/1.0\r\n\r\n'), 'malformed', 'HTTP/1.0 without a host')
  })
}

t.test('where HTTPS is required nothing odd makes a connection safe, and no redirect leads elsewhere [ASVS 4.1.2, 12.2.1]', async t => {
  const { port } = await build(t, {}, true)
  let redirects = 0
  await inTurns(ODD, async ([target, lines]) => {
    const { status, headers, body } = await send(t, { port, client: STRANGER, isPlain: true }, `GET ${target} HTTP/1.1\r\n${lines.map(line => `${line}\r\n`).join('')}\r\n`)
    t.ok(status === 308 || [400, 403, 421, 431].includes(status), `${JSON.stringify([target, ...lines]).slice(0, 120)}: ${status}`)
    t.match(headers, HEADERS)
    t.equal(headers['strict-transport-security'], undefined)
    t.notMatch(body, '"protocol"')
    if (status !== 308) return
    redirects += 1
    const { protocol, host } = new URL(headers.location!)
    t.equal(protocol, 'https:')
    t.match(host, /^(?:api\.example\.com|\[2001:db8::1\]|(?:a|xn--bcher-kva)\.tenants\.example\.com)$/)
  })
  t.ok(redirects > 20, `${redirects} of them`)
  for (const [proto, outcome] of [['https', ok({ protocol: 'https' })], ['http', 'plain'], ['http, https', ok()], ['https, http', 'plain'], ['HTTPS', 'forwarded']] as [string, Outcome][]) {
    for (const client of [PROXY, STRANGER]) {
      const answer = await send(t, { port, client, isPlain: true }, `GET / HTTP/1.1\r\nHost: ${HOST}\r\nAuthorization: Basic eDp5\r\nX-Forwarded-Proto: ${proto}\r\n\r\n`)
      isAsSaid(t, answer, client === STRANGER ? 'plain' : outcome, `${proto} from ${client}`)
    }
  }
})

t.test('HTTP/2: one host, whatever the pseudo-headers say [TRAP 29]', async t => {
  const { port } = await build(t, { fastify: { http2: true, https: certificate } as never })
  const rows: [http2.OutgoingHttpHeaders, Outcome][] = [
    [{}, ok({ protocol: 'https' })],
    [{ host: HOST }, ok()],
    [{ host: 'evil.example' }, 'malformed'],
    [{ host: `${HOST}:443` }, 'malformed'],
    [{ host: 'API.example.com' }, 'malformed'],
    [{ host: '' }, 'reset'],
    [{ ':authority': 'evil.example' }, 'untrusted'],
    [{ ':authority': 'evil.example', host: HOST }, 'malformed'],
    [{ ':authority': 'evil.example', 'x-forwarded-host': HOST }, 'untrusted'],
    [{ ':authority': '', host: HOST }, 'reset'],
    [{ ':authority': '' }, 'reset'],
    [{ ':authority': `user@${HOST}` }, 'malformed'],
    [{ ':authority': `${HOST}, evil.example` }, 'reset'],
    [{ ':authority': `${HOST}/x` }, 'reset'],
    [{ ':authority': `${HOST}:99999` }, 'malformed'],
    [{ ':authority': '[2001:db8::1]' }, {}],
    [{ ':authority': 'a.tenants.example.com:8443' }, {}],
    [{ ':authority': '1.2.3.999' }, 'malformed'],
    [{ ':scheme': 'http' }, 'malformed'],
    [{ ':scheme': 'HTTP' }, 'malformed'],
    [{ ':scheme': 'ftp' }, 'malformed'],
    [{ ':scheme': 'javascript' }, 'malformed'],
    [{ ':scheme': 'https://evil.example/?' }, 'reset'],
    [{ ':path': `https://${HOST}/` }, 'reset'],
    [{ ':path': 'https://evil.example/' }, 'reset'],
    [{ ':path': `http://${HOST}/` }, 'reset'],
    [{ ':path': '//evil.example/' }, 'nowhere'],
    [{ ':path': '*' }, 'reset'],
    [{ ':path': 'evil' }, 'reset'],
    [{ 'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'http', 'x-forwarded-for': '203.0.113.9', forwarded: 'host=evil.example' }, ok({ ip: STRANGER, protocol: 'https' })],
    [{ 'x-forwarded-proto': 'javascript', 'x-forwarded-for': 'unknown' }, ok({ ip: STRANGER, protocol: 'https' })],
  ]
  const proxied: [http2.OutgoingHttpHeaders, Outcome][] = [
    [{ 'x-forwarded-host': 'a.tenants.example.com' }, { host: 'a.tenants.example.com' }],
    [{ 'x-forwarded-host': 'evil.example' }, 'untrusted'],
    [{ 'x-forwarded-host': 'evil.example', host: 'backend' }, 'malformed'],
    [{ 'x-forwarded-proto': 'javascript' }, 'forwarded'],
    [{ 'x-forwarded-proto': 'http' }, ok({ protocol: 'http' })],
    [{ 'x-forwarded-proto': 'http', ':scheme': 'http' }, ok({ protocol: 'http' })],
    [{ 'x-forwarded-for': 'unknown' }, 'forwarded'],
    [{ 'x-forwarded-for': '192.0.2.1, 203.0.113.9' }, ok({ ip: '203.0.113.9' })],
  ]
  for (const [client, list] of [[STRANGER, rows], [PROXY, proxied]] as const) {
    const session = http2.connect(`https://127.0.0.1:${port}`, { servername: HOST, ca: certificate.cert, localAddress: client } as object)
    t.teardown(() => { session.destroy() })
    for (const [headers, outcome] of list) isAsSaid(t, await ask(session, { ':authority': HOST, ':path': '/', ...headers }), outcome, JSON.stringify(headers))
    t.match(await ask(session, { ':method': 'CONNECT', ':authority': HOST }), { status: 405, body: /FST_BASTION_SERVER_TUNNEL/ })
    t.match(await ask(session, { ':path': '/', ':authority': HOST }), { status: 200 }, 'and the session lives on')
  }
})

t.test('negative control: plain Fastify, trusting all as many do, is told who it is by anybody', async t => {
  const app = Fastify({ trustProxy: true })
  t.teardown(() => app.close())
  app.get('/', async ({ host, ip, protocol }) => ({ host, ip, protocol }))
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const ask = async (...lines: string[]) => JSON.parse((await send(t, { port, client: STRANGER, isPlain: true }, `GET / HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`)).body)
  t.same(await ask(`Host: ${HOST}`, 'X-Forwarded-Host: evil.example', 'X-Forwarded-For: unknown', 'X-Forwarded-Proto: javascript'), { host: 'evil.example', ip: 'unknown', protocol: 'javascript' })
  t.match(await ask('Host: user@evil.example/x'), { host: 'user@evil.example/x' })
  t.match(await ask(`Host: ${HOST}`, 'Host: evil.example'), { host: HOST }, 'the first of two')
})

/** A refusal with its code, or what the handler was told; always with the headers, and never a failure. */
function isAsSaid (t: Test, { status, headers, body }: Answer, outcome: Outcome, name: string): void {
  if (outcome === 'reset') {
    t.equal(status, 0, name)
    return
  }
  if (typeof outcome === 'string') {
    const [refused, code] = REFUSALS[outcome]
    t.match({ status, code: JSON.parse(body).code, type: headers['content-type'] }, { status: refused, code, type: /^application\/problem\+json/ }, name)
  } else t.match({ status, seen: JSON.parse(body) }, { status: 200, seen: outcome }, name)
  t.match(headers, HEADERS)
}

async function inTurns<Row> (rows: readonly Row[], work: (row: Row) => Promise<void>): Promise<void> {
  for (let i = 0; i < rows.length; i += AT_ONCE) await Promise.all(rows.slice(i, i + AT_ONCE).map(work))
}

/** Sends bytes as they are; the one answer to them. */
async function send (t: Test, { port, client, isPlain }: { port: number, client: string, isPlain: boolean }, text: string): Promise<Answer> {
  const raw = connect({ port, host: '127.0.0.1', localAddress: client })
  t.teardown(() => { raw.destroy() })
  raw.on('error', () => {}).setTimeout(SILENT_MS, () => { raw.destroy() })
  const socket: Socket = isPlain ? raw : connectTls({ socket: raw, servername: HOST, ca: certificate.cert, ALPNProtocols: ['http/1.1'] })
  let received = ''
  socket.on('error', () => {}).setEncoding('latin1').on('data', chunk => {
    received += chunk
    const end = received.indexOf('\r\n\r\n')
    if (end !== -1 && received.length - end - 4 >= Number(/content-length: (\d+)/i.exec(received)?.[1] ?? 0)) socket.destroy()
  })
  socket.write(text, 'latin1')
  await new Promise(resolve => { socket.once('close', resolve) })
  const [head = '', body = ''] = received.split('\r\n\r\n')
  const [line = '', ...fields] = head.split('\r\n')
  const headers = Object.fromEntries(fields.map(field => [field.slice(0, field.indexOf(':')).toLowerCase(), field.slice(field.indexOf(':') + 1).trim()]))
  return { status: Number(line.split(' ')[1]), headers, body: body || '{}' }
}

async function ask (session: http2.ClientHttp2Session, headers: http2.OutgoingHttpHeaders): Promise<Answer> {
  const stream = session.request(headers)
  let body = ''
  stream.setEncoding('utf8').on('data', chunk => { body += chunk })
  let answer: http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader = {}
  stream.on('error', () => {}).on('response', headers => { answer = headers })
  await new Promise(resolve => { stream.once('close', resolve) })
  return { status: answer[':status'] ?? 0, headers: answer as Record<string, string>, body: body || '{}' }
}
