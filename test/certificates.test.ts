/** Certificates: what stops boot, what is told before they expire, and the one for development. */
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { rootCertificates } from 'node:tls'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import bastion, { server } from '../plugins/index.js'
import { developmentCertificate, type CertificatesOptions, type TlsOptions } from '../plugins/certificates/index.js'
import { cli } from '../plugins/cli.js'
import { signatureOf } from '../plugins/certificates/signature.js'
import type { SecurityEvent } from '../plugins/events.js'
import { authority, DAY, issue, write, type Issued } from './fixtures/authority.js'

const now = Date.now()
const ca = await authority()
const good = await issue(ca, { name: 'api.example.com', names: ['api.example.com', '*.apps.example.com', '192.0.2.7'], to: 60.5 })
const other = await issue(ca, { name: 'api.example.com' })

function folderOf (t: Test, files: Record<string, string> = {}): string {
  const folder = mkdtempSync(join(tmpdir(), 'certificates-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content)
  return folder
}

interface Built { app: FastifyInstance, recorded: SecurityEvent[], logged: string[] }

async function build (t: Test, tls: TlsOptions, certificates: CertificatesOptions = {}, hosts = ['api.example.com']): Promise<Built> {
  const recorded: SecurityEvent[] = []
  const logged: string[] = []
  const stream = { write: (line: string) => { logged.push(line) } }
  const app = Fastify(server({ logger: { level: 'warn', stream }, tls }))
  t.teardown(() => app.close())
  await app.register(bastion, { metrics: {}, transport: { hosts }, certificates: { now: () => now, watch: false, ...certificates } })
  app.events.listen(event => { recorded.push(event) })
  await app.ready()
  return { app, recorded, logged }
}

/** What boot says; nothing of the key is in it. */
async function refusal (t: Test, issued: { cert: string, key: string }, certificates: CertificatesOptions = {}, { mode = 0o600, hosts = ['api.example.com'] } = {}): Promise<string> {
  const folder = folderOf(t)
  try {
    await build(t, write(folder, issued, 'server', mode), certificates, hosts)
  } catch (error) {
    const { code, message } = error as Error & { code: string }
    t.equal(code, 'FST_BASTION_CERTIFICATES_REFUSED', message)
    for (const line of issued.key.split('\n').filter(line => line.length > 20 && !line.includes('-----'))) t.notMatch(message, line)
    return message.replaceAll(`${folder}/`, '')
  }
  return 'boots'
}

t.test('a good certificate boots, and app.certificates tells what is served', async t => {
  const { app, recorded, logged } = await build(t, write(folderOf(t), good), { roots: join(folderOf(t, { 'root.pem': ca.cert }), 'root.pem') })
  const [status, ...others] = app.certificates.list()
  t.same(others, [])
  t.match(status, { subject: 'api.example.com', names: ['api.example.com', '*.apps.example.com', '192.0.2.7'], issuer: 'CN=Test CA', state: 'good', warnings: [] })
  t.equal(Math.floor(status!.daysLeft), 60)
  t.equal(status!.fingerprint, new X509Certificate(good.cert).fingerprint256.replaceAll(':', '').toLowerCase())
  t.ok(app.certificates.isGood())
  t.same(app.posture().routes[0]!.controls.certificates, { http2: true, clientCertificates: false })
  t.same([recorded, logged], [[], []])
  t.match(await app.metrics.text(), /bastion_certificates_good 1\n/)
  const seconds = Number(/^bastion_certificate_expiry_seconds (\S+)/m.exec(await app.metrics.text())![1])
  t.equal(Math.floor(seconds / 86_400), 60)
})

t.test('without TLS of its own the concern has nothing to say', async t => {
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion, {})
  await app.ready()
  t.same([app.certificates.list(), app.certificates.isGood(), app.certificates.findings(), await app.certificates.reload()], [[], true, [], false])
})

t.test('several certificates: together they are good for all hosts', async t => {
  const [second] = [await issue(ca, { name: 'www.example.com' })]
  const folder = folderOf(t)
  const tls = { certificates: [write(folder, good, 'a'), write(folder, second, 'b')] }
  const { app } = await build(t, tls, {}, ['api.example.com', 'www.example.com', '*.apps.example.com', '192.0.2.7', 'localhost:3000', '127.0.0.1', '[::1]'])
  t.same(app.certificates.list().map(({ subject }) => subject), ['api.example.com', 'www.example.com'])
})

t.test('attack: a key that is not the certificate\'s stops boot', async t => {
  t.match(await refusal(t, { cert: good.cert, key: other.key }), /^the key server-key.pem does not belong to the certificate server-cert.pem: give the two that were issued together/)
  t.match(await refusal(t, { cert: ca.cert + good.cert, key: good.key }), /It belongs to certificate 2 of the file: put that one first/)
})

t.test('files that are missing or hold something else stop boot, and their content is not told', async t => {
  const { cert, key } = good
  for (const [what, issued, message] of [
    ['no certificate', { cert: 'SECRET', key }, /server-cert.pem holds no certificate in PEM/],
    ['a broken certificate', { cert: cert.replace(/\n[^-\n]+\n/, '\nAAAA\n'), key }, /certificate 1 of 1 cannot be read \(ERR_\w+\)/],
    ['a chain that is half written', { cert: cert + ca.cert.slice(0, 300), key }, /server-cert.pem ends within a certificate: write the file anew/],
    ['no key', { cert, key: 'SECRET' }, /server-key.pem is no private key that can be read \(ERR_\w+\)/],
    ['an encrypted key', { cert, key: '-----BEGIN ENCRYPTED PRIVATE KEY-----\nSECRET\n-----END ENCRYPTED PRIVATE KEY-----\n' }, /it is encrypted: give its passphrase/],
  ] as const) {
    const said = await refusal(t, issued)
    t.match(said, message, what)
    t.notMatch(said, 'SECRET', what)
  }
  t.throws(() => server({ tls: { cert: '/nowhere/cert.pem', key: '/nowhere/key.pem' } }), { code: 'FST_BASTION_CERTIFICATES_REFUSED', message: /\/nowhere\/cert\.pem cannot be read \(ENOENT\)/ })
})

t.test('what is weak, early, late or for something else stops boot [ASVS 12.1.2]', async t => {
  const RSA = { name: 'RSASSA-PKCS1-v1_5', modulusLength: 1024, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' }
  const sha1 = await authority({ name: 'Old CA', algorithm: { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-1' } })
  for (const [what, issued, message] of [
    ['expired', await issue(ca, { name: 'api.example.com', from: -30, to: -1 }), /server-cert.pem expired on .+: renew it/],
    ['not yet valid', await issue(ca, { name: 'api.example.com', from: 1 }), /is not valid before .+: check the clock/],
    ['RSA of 1024 bits', await issue(ca, { name: 'api.example.com', algorithm: RSA }), /has an RSA key of 1024 bits: make a key of P-256 or RSA 2048/],
    ['an unusual curve', await issue(ca, { name: 'api.example.com', algorithm: { name: 'ECDSA', namedCurve: 'K-256', hash: 'SHA-256' } }).catch(() => null), /has a key on the curve secp256k1/],
    ['SHA-1', await issue(sha1, { name: 'api.example.com' }), /is signed by ECDSA with SHA-1, which can be forged/],
    ['a client\'s', await issue(ca, { name: 'api.example.com', usage: 'client' }), /is not for servers \(its extended key usage lacks serverAuth\)/],
    ['of another host', await issue(ca, { name: 'www.example.com' }), /no certificate is good for api\.example\.com \(there are: www\.example\.com\)/],
  ] as const) {
    if (issued !== null) t.match(await refusal(t, issued), message, what)
  }
})

t.test('signatures are told by their object identifier, the hash of RSA-PSS by its parameters', async t => {
  const roots = rootCertificates.map(pem => new X509Certificate(pem))
  const names = new Set(roots.map(({ raw }) => signatureOf(raw).name))
  for (const name of names) t.match(name, /^(?:RSA|ECDSA) with SHA-(?:1|256|384|512)$/)
  t.ok(names.has('RSA with SHA-1'), 'old roots are signed by it, and nobody relies on that')
  for (const [hash, isStrong] of [['SHA-256', true], ['SHA-1', false]] as const) {
    const pss = await issue(null, { algorithm: { name: 'RSA-PSS', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash, saltLength: 20 } })
    t.same(signatureOf(new X509Certificate(pss.cert).raw), { name: `RSA-PSS with ${hash}`, isStrong })
  }
  t.same(signatureOf(new X509Certificate((await issue(null, { algorithm: { name: 'Ed25519' } })).cert).raw), { name: 'Ed25519', isStrong: true })
})

t.test('the chain is complete and in order, or it does not boot', async t => {
  const middle = await issue(ca, { name: 'Middle CA', ca: true, tellsIssuer: true })
  const upper = await issue(middle, { name: 'Upper CA', ca: true, tellsIssuer: true })
  const leaf = await issue(upper, { name: 'api.example.com', tellsIssuer: true })
  const file = (...chain: Issued[]) => ({ cert: chain.map(({ cert }) => cert).join(''), key: leaf.key })
  const roots = join(folderOf(t, { 'root.pem': ca.cert }), 'root.pem')
  t.equal(await refusal(t, file(leaf, upper, middle), { roots }), 'boots')
  t.equal(await refusal(t, file(leaf, upper, middle, ca)), 'boots', 'with its root')
  t.match(await refusal(t, file(leaf)), /the chain is not complete: it ends with api\.example\.com, and Upper CA is no root that is known: append the intermediate certificates \(certbot: fullchain\.pem, not cert\.pem\)/)
  t.match(await refusal(t, file(leaf, upper), { roots }), /does not lead to a root of certificates\.roots/)
  t.match(await refusal(t, file(leaf, middle, upper)), /out of order: certificate 3 must follow certificate 1/)
  t.match(await refusal(t, file(leaf, good)), /certificate 1 \(api\.example\.com\) is not issued by the next \(api\.example\.com\), and its issuer is not in the file/)
  const old = await issue(middle, { name: 'Old CA', ca: true, from: -30, to: -1 })
  const young = await issue(old, { name: 'api.example.com' })
  t.match(await refusal(t, { cert: young.cert + old.cert + middle.cert, key: young.key }, { roots }), /certificate 2 \(Old CA\) expired on/)
})

t.test('a key that others may read: refused in production, told in development', async t => {
  for (const mode of [0o644, 0o660, 0o604]) {
    t.match(await refusal(t, good, { production: true }, { mode }), new RegExp(`server-key.pem may be read or written by others \\(mode 0${mode.toString(8)}\\): chmod 600 it`))
  }
  t.equal(await refusal(t, good, { production: true }, { mode: 0o640 }), 'boots', "Debian's group for keys")
  const { app, logged } = await build(t, write(folderOf(t), good, 'server', 0o644), { production: false })
  t.match(logged.join(), /may be read or written by others/)
  t.match(app.posture().findings.map(({ message }) => message).join(), /may be read or written by others/)
})

t.test('names: only these must be covered', async t => {
  t.equal(await refusal(t, good, { names: ['192.0.2.7', 'x.apps.example.com'] }, { hosts: ['internal'] }), 'boots')
  t.match(await refusal(t, good, { names: ['192.0.2.8', 'y.x.apps.example.com'] }), /good for 192\.0\.2\.8, y\.x\.apps\.example\.com/)
})

t.test('before it expires: a warning from 30 days on, an event from 7, once a day', async t => {
  let time = now
  const { app, recorded, logged } = await build(t, write(folderOf(t), good), { now: () => time, roots: join(folderOf(t, { 'root.pem': ca.cert }), 'root.pem') })
  const after = (days: number) => {
    time = now + days * DAY
    app.certificates.check()
    app.certificates.check()
    return [logged.splice(0).length, recorded.splice(0).map(({ type, details }) => `${type} ${details.days}`).join()]
  }
  t.same(after(29), [0, ''])
  t.same(after(31), [1, ''], 'logged once')
  t.same(app.certificates.list()[0]!.state, 'expiring')
  t.same(after(32), [1, ''], 'and again the next day')
  t.match(app.posture().findings[0], { severity: 'low', message: /expires in 28 days/ })
  t.same(after(54), [1, 'certificate_expiring 6'])
  t.ok(app.certificates.isGood())
  t.same(after(61), [1, 'certificate_invalid -1'])
  t.notOk(app.certificates.isGood())
  t.match(app.posture().findings[0], { severity: 'high', message: /has expired/ })
  t.match(await app.metrics.text(), /bastion_certificates_good 0\n/)
  t.match(await app.metrics.text(), /^bastion_certificate_expiry_seconds -\d+/m)
  time = now - 2 * DAY
  t.notOk(app.certificates.isGood(), 'nor before it begins')
})

t.test('warnDays, alarmDays; refuseExpired: false serves what has expired, and says so', async t => {
  const { recorded } = await build(t, write(folderOf(t), good), { warnDays: 90, alarmDays: 80 })
  await new Promise(resolve => { setImmediate(resolve) })
  t.match(recorded, [{ type: 'certificate_expiring', details: { severity: 'warning' } }])
  const expired = await issue(ca, { name: 'api.example.com', from: -30, to: -1 })
  const { app, recorded: told } = await build(t, write(folderOf(t), expired), { refuseExpired: false })
  t.match(told, [{ type: 'certificate_invalid', details: { reason: 'expired', severity: 'critical' } }])
  t.notOk(app.certificates.isGood())
})

t.test('the development certificate: for this machine, for its owner, made anew before it runs out', async t => {
  const folder = join(folderOf(t), 'tls')
  const files = await developmentCertificate({ folder, production: false })
  const made = new X509Certificate(readFileSync(files.cert))
  t.same(['localhost', '127.0.0.1', '::1'].map((name, i) => (i === 0 ? made.checkHost(name) : made.checkIP(name)) !== undefined), [true, true, true])
  t.equal(statSync(files.key).mode & 0o777, 0o600)
  t.equal(statSync(folder).mode & 0o777, 0o700)
  const kept = readFileSync(files.cert, 'utf8')
  await developmentCertificate({ folder, production: false, now: () => now + 80 * DAY })
  t.equal(readFileSync(files.cert, 'utf8'), kept, 'kept while it is good')
  await developmentCertificate({ folder, production: false, now: () => now + 84 * DAY })
  t.not(readFileSync(files.cert, 'utf8'), kept, 'made anew')
  writeFileSync(files.cert, 'broken')
  await developmentCertificate({ folder, production: false })
  const { app, logged } = await build(t, files, { production: false }, ['localhost'])
  t.same(logged, [])
  t.match(app.posture().findings.map(({ message }) => message), ['it serves a development certificate', 'renewed certificates wait for a restart (certificates.watch is off)'])
})

t.test('attack: a development certificate in production is neither made nor served', async t => {
  const folder = folderOf(t)
  await t.rejects(developmentCertificate({ folder, production: true }), { code: 'FST_BASTION_CERTIFICATES_REFUSED', message: /is not made in production/ })
  const files = await developmentCertificate({ folder, production: false })
  await t.rejects(build(t, files, { production: true }, ['localhost']), { code: 'FST_BASTION_CERTIFICATES_REFUSED', message: /is a development certificate, whose key nobody guards: get one from a CA/ })
  const { NODE_ENV } = process.env
  t.teardown(() => {
    if (NODE_ENV === undefined) delete process.env.NODE_ENV
    else process.env.NODE_ENV = NODE_ENV
  })
  process.env.NODE_ENV = 'prodution'
  await t.rejects(developmentCertificate({ folder }), { message: /is not made in production/ }, 'a misspelt NODE_ENV is production')
  await t.rejects(build(t, files, {}, ['localhost']), { message: /is a development certificate/ })
})

t.test('npx fastify-bastion certificate', async t => {
  const folder = join(folderOf(t), 'made')
  const lines: string[] = []
  const run = (...args: string[]) => cli(['certificate', ...args], line => { lines.push(line) }, line => { lines.push(line) })
  t.equal(await run('--folder', folder), 0)
  t.match(lines.join('\n'), /development-cert\.pem[^]*SHA-256 [^]*server\(\{ tls: /)
  t.notMatch(lines.join('\n'), 'PRIVATE KEY')
  t.equal(statSync(join(folder, 'development-key.pem')).mode & 0o777, 0o600)
  t.equal(await run('--foldr', folder), 2)
})

t.test('misconfiguration stops boot', async t => {
  const files = write(folderOf(t), good)
  for (const tls of [{}, { cert: files.cert }, { certificates: [] }, { ...files, certificates: [files] }, { ...files, minVersion: 'TLSv1' }, { cert: good.cert, key: good.key }, { ...files, http2: 'yes' },
    { ...files, clientCertificates: {} }, { ...files, clientCertificates: { ca: files.cert, required: 'no' } }, { ...files, clientCertificates: { ca: files.cert, principal: 'x' } }, { ...files, clientCertificates: { ca: files.cert, extra: 1 } }]) {
    t.throws(() => server({ tls: tls as never }), { code: 'FST_BASTION_CERTIFICATES_MISCONFIGURED' }, JSON.stringify(Object.keys(tls)))
  }
  t.throws(() => server({ tls: { ...files, clientCertificates: { ca: files.key } } }), { code: 'FST_BASTION_CERTIFICATES_REFUSED' })
  t.throws(() => server({ tls: files, fastify: { https: {} } as never }), { code: 'FST_BASTION_SERVER_MISCONFIGURED' })
  for (const certificates of [{ warnDays: 0 }, { namez: [] }, { checkMs: 1 }, { checkMs: 2 ** 31 }, { pollMs: 2 ** 31 }]) await t.rejects(build(t, files, certificates as never), { code: 'FST_BASTION_CERTIFICATES_MISCONFIGURED' })
  const plain = Fastify(server({ logger: false }))
  t.teardown(() => plain.close())
  await t.rejects(async () => { await plain.register(bastion, { certificates: { names: ['x'] } }) }, { code: 'FST_BASTION_CERTIFICATES_MISCONFIGURED', message: /has no TLS/ })
})
