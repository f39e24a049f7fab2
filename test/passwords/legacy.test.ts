/** Hashes of a service that migrates, and passwords that were in a breach. */
import { createHash, randomBytes, scryptSync } from 'node:crypto'
import bcrypt from 'bcryptjs'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import passwords, { bcryptHashes, scryptHashes, type PasswordsOptions } from '../../plugins/passwords/index.js'

const PASSWORD = 'the right password of long ago'

async function build (t: Test, options: PasswordsOptions = {}): Promise<{ app: FastifyInstance, log: string[] }> {
  const log: string[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: line => { log.push(line) } } } })
  t.teardown(() => app.close())
  await app.register(passwords, { pepper: randomBytes(32), ...options })
  await app.ready()
  return { app, log }
}

const base64 = (bytes: Buffer) => bytes.toString('base64').replaceAll('=', '')
function scryptPhc (password: string, { ln = 14, r = 8, p = 1 } = {}): string {
  const salt = randomBytes(16)
  return `$scrypt$ln=${ln},r=${r},p=${p}$${base64(salt)}$${base64(scryptSync(password, salt, 32, { cost: 2 ** ln, blockSize: r, parallelization: p, maxmem: 2 ** 28 }))}`
}

t.test('hashes of bcrypt and scrypt are verified, and replaced by argon2id at the first sign-in', async t => {
  const { app } = await build(t, { legacy: [bcryptHashes(bcrypt), scryptHashes] })
  for (const hash of [await bcrypt.hash(PASSWORD, 4), (await bcrypt.hash(PASSWORD, 4)).replace('$2b$', '$2a$'), scryptPhc(PASSWORD), scryptPhc(PASSWORD, { ln: 10, r: 16, p: 2 })]) {
    t.strictSame(await app.passwords.verify('a wrong password of long ago', hash), { valid: false }, hash.slice(0, 12))
    const { valid, newHash } = await app.passwords.verify(PASSWORD, hash)
    t.equal(valid, true)
    t.match(newHash, /^\$argon2id\$v=19\$m=19456,/)
    t.strictSame(await app.passwords.verify(PASSWORD, newHash!), { valid: true }, 'which is good, and not replaced again')
    t.equal((await app.passwords.verify('another', newHash!)).valid, false)
  }
})

t.test('a known vector of RFC 7914', async t => {
  const derived = 'fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b3731622eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640'
  const hash = `$scrypt$ln=10,r=8,p=16$${base64(Buffer.from('NaCl'))}$${base64(Buffer.from(derived, 'hex'))}`
  t.equal(scryptHashes.isOwn(hash), true)
  t.equal(await scryptHashes.verify(hash, 'password'), true)
  t.equal(await scryptHashes.verify(hash, 'passwort'), false)
})

t.test('negative control: without the option such a hash verifies nothing', async t => {
  const { app } = await build(t)
  for (const hash of [await bcrypt.hash(PASSWORD, 4), scryptPhc(PASSWORD)]) t.strictSame(await app.passwords.verify(PASSWORD, hash), { valid: false })
})

t.test('what is malformed, or costs more than one hash may, verifies nothing', async t => {
  const { app } = await build(t, { legacy: [bcryptHashes(bcrypt), scryptHashes] })
  const good = scryptPhc(PASSWORD)
  for (const hash of [
    good.replace('ln=14', 'ln=40'), good.replace('ln=14', 'ln=0'), good.replace('p=1', 'p=0'), good.slice(0, 40), `${good}x$`, '$2b$04$short', '$2b$99$' + 'a'.repeat(53), '', '$scrypt$', PASSWORD,
  ]) t.equal((await app.passwords.verify(PASSWORD, hash)).valid, false, hash)
})

t.test('a password that was in a breach is refused when it is set, and only five digits of its hash leave [ASVS 6.2.12]', async t => {
  const asked: string[] = []
  const known = createHash('sha1').update('correct horse battery').digest('hex').toUpperCase()
  const { app } = await build(t, {
    breached: async prefix => {
      asked.push(prefix)
      const padding = createHash('sha1').update('only padding, never breached').digest('hex').toUpperCase()
      return [`${'0'.repeat(35)}:3`, `${known.slice(5)}:12`, `${padding.slice(5)}:0`].join('\r\n')
    },
  })
  await t.rejects(app.passwords.checkNew('correct horse battery'), { code: 'FST_BASTION_PASSWORDS_WEAK', statusCode: 400, message: /was in a breach/ })
  t.strictSame(asked, [known.slice(0, 5)])
  await app.passwords.checkNew('only padding, never breached')
  await app.passwords.checkNew('one that nobody has used before')
  await t.rejects(app.passwords.checkNew('short'), { code: 'FST_BASTION_PASSWORDS_WEAK', message: /at least 15/ })
  t.equal(asked.length, 3, 'what the policy refuses is not asked about')

  const { app: unasking } = await build(t)
  await t.resolves(unasking.passwords.checkNew('correct horse battery'), 'negative control: without the option it is taken')
})

t.test('a range service that fails, hangs or talks nonsense blocks nobody, and is in the log without the password', async t => {
  for (const breached of [
    async () => { throw new Error('away') },
    async () => new Promise<string>(() => {}),
    async () => null as unknown as string,
    () => { throw new Error('at once') },
  ]) {
    const { app, log } = await build(t, { breached, breachedTimeout: 50 })
    await app.passwords.checkNew('one that nobody has used before')
    t.equal(log.length, 1)
    t.notMatch(log[0], /nobody has used/)
  }
  const { app } = await build(t, { breached: async () => '<html>:99\n:\n' })
  await app.passwords.checkNew('one that nobody has used before')
})

t.test('wrong options stop boot, and the message names them', async t => {
  await t.rejects(build(t, { legacy: [{}] } as never), { code: 'FST_BASTION_PASSWORDS_MISCONFIGURED', message: /passwords: legacy/ })
  await t.rejects(build(t, { breached: 'https://example.com' } as never), { message: /passwords: breached/ })
  await t.rejects(build(t, { breachedTimeout: 0 }), { message: /passwords: breachedTimeout/ })
})
