/** Passwords: hashed slowly, exactly as typed, a few at once. */
import Fastify, { type FastifyInstance } from 'fastify'
import argon2 from 'argon2'
import bcrypt from 'bcryptjs'
import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { closeSync, openSync } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { COMMON } from '../../plugins/passwords/blocklist.js'
import passwords, { type HashEngine, type PasswordsOptions } from '../../plugins/passwords/index.js'

async function build (t: Test, options: PasswordsOptions = {}): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(passwords, options)
  return app
}

/** An engine that is observed: it counts, and where it is told to it waits. */
function observed () {
  const seen = { running: 0, most: 0, hashes: 0, verifications: 0, release: [] as (() => void)[], isHeld: false }
  const digest = (password: string) => createHash('sha256').update(password).digest('hex')
  async function compute<T> (result: () => T): Promise<T> {
    seen.running += 1
    seen.most = Math.max(seen.most, seen.running)
    if (seen.isHeld) await new Promise<void>(resolve => { seen.release.push(resolve) })
    seen.running -= 1
    return result()
  }
  const engine: HashEngine = {
    hash: password => { seen.hashes += 1; return compute(() => `$test$2$${digest(password)}`) },
    verify: (hash, password) => {
      seen.verifications += 1
      return compute(() => {
        if (!hash.startsWith('$test$')) throw new Error('malformed')
        return hash.split('$').at(-1) === digest(password)
      })
    },
    isOutdated: hash => hash.startsWith('$test$1$'),
  }
  return { engine, seen, digest }
}

const turn = () => new Promise(resolve => { setImmediate(resolve) })

t.test('argon2id with OWASP\'s parameters, each hash with a salt of its own', async t => {
  const { passwords } = await build(t)
  const [one, two] = [await passwords.hash('correct horse battery'), await passwords.hash('correct horse battery')]
  t.match(one, /^\$argon2id\$v=19\$m=19456,p=1,t=2\$[\w+/]{22}\$[\w+/]{43}$/)
  t.not(one, two)
  for (const hash of [one, two]) t.same(await passwords.verify('correct horse battery', hash), { valid: true })
  for (const wrong of ['Correct horse battery', 'correct horse battery ', ' correct horse battery', 'correct horse batter', '', 'correct horse battery\0']) {
    t.same(await passwords.verify(wrong, one), { valid: false }, JSON.stringify(wrong))
  }
})

t.test('stronger parameters are in the hash, weaker ones stop boot; whoever stole it tries few passwords in the time of a million [ASVS 11.4.2]', async t => {
  const { passwords } = await build(t, { memoryCost: 20_000, timeCost: 3, parallelism: 2 })
  t.match(await passwords.hash('correct horse battery'), /\$m=20000,p=2,t=3\$/)
  for (const [options, message] of [
    [{ memoryCost: 19_455 }, /passwords: memoryCost/], [{ timeCost: 1 }, /timeCost/], [{ parallelism: 0 }, /parallelism/],
    [{ memoryCost: 19_456.5 }, /memoryCost/], [{ memoryCost: 19_456_000 }, /memoryCost/],
  ] as const) await t.rejects(build(t, options), { code: 'FST_BASTION_PASSWORDS_MISCONFIGURED', message })

  // What a guess costs is what is written for it: blocks of 64 bytes. The budget is that of a million guesses at SHA-256.
  const BUDGET = 1_000_000
  const guesses = [...COMMON].slice(0, 2000)
  const password = guesses.at(-1)!
  async function crack (cost: number, isIt: (guess: string) => Promise<boolean> | boolean): Promise<string | null> {
    for (const [i, guess] of guesses.entries()) {
      if ((i + 1) * cost > BUDGET) return null
      if (await isIt(guess)) return guess
    }
    return null
  }
  const { passwords: byDefault } = await build(t)
  const stolen = await byDefault.hash(password)
  const [, m, , passes] = /m=(\d+),p=(\d+),t=(\d+)/.exec(stolen)!
  t.equal(await crack(Number(m) * 1024 / 64 * Number(passes), guess => argon2.verify(stolen, guess)), null)
  t.equal(await argon2.verify(stolen, password), true, 'which stands on the list')

  await t.test('negative control: a fast hash, and argon2id with parameters that the library takes', async t => {
    const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
    const fast = sha256(password)
    t.equal(await crack(1, guess => sha256(guess) === fast), password)
    const cheap = await argon2.hash(password, { type: argon2.argon2id, memoryCost: 8, timeCost: 2, parallelism: 1 })
    t.equal(await crack(8 * 1024 / 64 * 2, guess => argon2.verify(cheap, guess)), password)
  })
})

t.test('a hash grows when the parameters do, and never shrinks', async t => {
  const weak = await build(t)
  const strong = await build(t, { timeCost: 3 })
  const old = await weak.passwords.hash('correct horse battery')
  const { valid, newHash } = await strong.passwords.verify('correct horse battery', old)
  t.equal(valid, true)
  t.match(newHash, /t=3/)
  t.same(await strong.passwords.verify('correct horse battery', newHash!), { valid: true }, 'once is enough')
  t.same(await strong.passwords.verify('wrong', old), { valid: false }, 'a wrong password makes no hash')
  t.same(await weak.passwords.verify('correct horse battery', newHash!), { valid: true }, 'parameters that were lowered weaken nothing')
  const legacy = await argon2.hash('correct horse battery', { type: argon2.argon2i, memoryCost: 65_536, timeCost: 3, parallelism: 1 })
  t.match((await weak.passwords.verify('correct horse battery', legacy)).newHash, /^\$argon2id\$/, 'argon2i becomes argon2id')
})

t.test('the pepper is needed to verify', async t => {
  const pepper = randomBytes(32)
  const { passwords } = await build(t, { pepper })
  const hash = await passwords.hash('correct horse battery')
  t.notMatch(hash, pepper.toString('base64').slice(0, 20))
  t.same(await passwords.verify('correct horse battery', hash), { valid: true })
  const without = await build(t)
  t.same(await without.passwords.verify('correct horse battery', hash), { valid: false }, 'who has the table has not the passwords')
  const other = await build(t, { pepper: randomBytes(32) })
  t.same(await other.passwords.verify('correct horse battery', hash), { valid: false })
  t.equal(await argon2.verify(await without.passwords.hash('correct horse battery'), 'correct horse battery'), true, 'negative control: without it the table is enough')
})

t.test('a malformed hash verifies nothing, throws nothing, and is not known by its speed', async t => {
  const { passwords } = await build(t)
  const good = await passwords.hash('correct horse battery')
  const malformed = [
    '', 'x', '$', '$$$$$', 'correct horse battery', '$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy', '$argon2id$', '$argon2id$v=19$m=19456,t=2,p=1$$',
    '$argon2id$v=19$m=0,t=0,p=0$AAAA$AAAA', '$argon2id$v=19$m=4294967295,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
    '$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$AA', '$argon2x$v=19$m=19456,t=2,p=1$c2FsdA$AAAA', good.slice(0, -1), good.slice(0, 40), `${good}x`, '\0'.repeat(100), 'x'.repeat(100_000),
  ]
  for (const hash of malformed) t.equal((await passwords.verify('correct horse battery', hash)).valid, false, JSON.stringify(hash.slice(0, 60)))

  const { engine, seen } = observed()
  const app = await build(t, { engine })
  seen.verifications = 0
  await app.passwords.verify('x', 'malformed')
  t.equal(seen.verifications, 2, 'a hash is computed all the same')

  const time = async (hash: string) => {
    const began = process.hrtime.bigint()
    await passwords.verify('correct horse battery', hash)
    return Number(process.hrtime.bigint() - began)
  }
  const least = { good: Infinity, bcrypt: Infinity, empty: Infinity }
  for (let i = 0; i < 10; i++) {
    least.good = Math.min(least.good, await time(good))
    least.bcrypt = Math.min(least.bcrypt, await time(malformed[5]!))
    least.empty = Math.min(least.empty, await time(''))
  }
  t.ok(least.bcrypt > least.good * 0.7 && least.empty > least.good * 0.7, 'another scheme\'s too')
})

t.test('very long passwords are bounded, not truncated [ASVS 6.2.8]', async t => {
  const { engine, seen } = observed()
  const { passwords } = await build(t, { engine })
  const longest = 'é'.repeat(512)
  const hash = await passwords.hash(longest)
  t.same(await passwords.verify(longest, hash), { valid: true })
  t.same(await passwords.verify(`${longest.slice(0, -1)}e`, hash), { valid: false }, 'the last character counts')
  seen.hashes = seen.verifications = 0
  await t.rejects(passwords.hash(`${longest}x`), { code: 'FST_BASTION_PASSWORDS_WEAK', statusCode: 400 })
  t.same(await passwords.verify(`${longest}x`, hash), { valid: false })
  t.same(await passwords.verify('x'.repeat(10_000_000), hash), { valid: false })
  await passwords.verifyNothing('x'.repeat(10_000_000))
  t.same([seen.hashes, seen.verifications], [0, 0], 'nothing is computed for it, for names that exist and for others')

  t.test('negative control: bcrypt knows 72 bytes, and takes whatever follows them', async t => {
    t.ok(await bcrypt.compare(`${'x'.repeat(72)}different`, await bcrypt.hash('x'.repeat(72), 4)))
  })
})

t.test('passwords of 64 characters are taken [ASVS 6.2.9]', async t => {
  const { passwords } = await build(t)
  const of64 = 'k'.repeat(32) + 'correct horse battery staple wow'
  t.same(passwords.faults(of64), [])
  t.same(await passwords.verify(of64, await passwords.hash(of64)), { valid: true })
})

t.test('Unicode, blanks and case are kept as they were typed [ASVS 6.2.8]', async t => {
  const { passwords } = await build(t)
  for (const [typed, other] of [['ﬁancée à la crème', 'fiancée à la crème'], ['Ångström units 10', 'Ångström units 10'.normalize('NFD')], ['  blanks at both ends  ', 'blanks at both ends'], ['Straße in Zürich', 'STRASSE in Zürich'], ['𝒑𝒂𝒔𝒔 phrase here 🙂', 'pass phrase here 🙂'], ['tab\tand\nnew line', 'tab and new line'], ['nul\0 in the middle', 'nul']] as const) {
    const hash = await passwords.hash(typed)
    t.same(await passwords.verify(typed, hash), { valid: true }, JSON.stringify(typed))
    t.same(await passwords.verify(other, hash), { valid: false })
  }
})

t.test('never more than N at once, and a bounded queue behind them', async t => {
  const { engine, seen } = observed()
  const app = await build(t, { engine, concurrency: 3, queue: 5 })
  seen.most = 0
  seen.isHeld = true
  const settled: string[] = []
  const tasks = Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? app.passwords.hash('x') : app.passwords.verify('x', '$test$2$'))
    .then(() => { settled.push('done') }, error => { settled.push(error.code) }))
  await turn()
  t.equal(seen.running, 3)
  t.same(settled, Array(12).fill('FST_BASTION_PASSWORDS_BUSY'), 'three run, five wait, twelve are refused at once')
  while (seen.release.length > 0) {
    seen.release.shift()!()
    await turn()
    t.ok(seen.running <= 3)
  }
  await Promise.all(tasks)
  t.equal(settled.filter(what => what === 'done').length, 8)
  t.equal(seen.most, 3)
  seen.isHeld = false
  t.ok(await app.passwords.hash('x'), 'and then it goes on')
})

t.test('a task that fails gives its place back', async t => {
  const { engine, seen } = observed()
  const app = await build(t, { engine: { ...engine, hash: async password => { if (password === 'fail') throw new Error('no memory'); return engine.hash(password) } }, concurrency: 1, queue: 10 })
  const outcomes = await Promise.allSettled(['fail', 'x', 'fail', 'fail', 'y'].map(password => app.passwords.hash(password)))
  t.same(outcomes.map(({ status }) => status), ['rejected', 'fulfilled', 'rejected', 'rejected', 'fulfilled'])
  t.equal(seen.running, 0)
  t.ok(await app.passwords.hash('z'))
})

t.test('an overloaded service answers 503 with Retry-After, and its handler goes no further', async t => {
  const { engine, seen } = observed()
  const app = await build(t, { engine, concurrency: 1, queue: 0 })
  let done = 0
  app.get('/', async () => {
    await app.passwords.hash('x')
    done += 1
    return 'in'
  })
  seen.isHeld = true
  const first = app.inject('/')
  await turn()
  await turn()
  const refused = await app.inject('/')
  t.equal(refused.statusCode, 503)
  t.equal(refused.json().code, 'FST_BASTION_PASSWORDS_BUSY')
  t.equal(done, 0)
  await t.rejects(app.passwords.verifyNothing('x'), { code: 'FST_BASTION_PASSWORDS_BUSY', headers: { 'retry-after': '2' } })
  seen.isHeld = false
  seen.release.shift()!()
  t.equal((await first).statusCode, 200)
})

t.test('by default a thread is left for files and names, and a core for everybody else', async t => {
  const { engine, seen } = observed()
  const app = await build(t, { engine })
  seen.most = 0
  seen.isHeld = true
  const tasks = Array.from({ length: 20 }, () => app.passwords.hash('x'))
  await turn()
  t.equal(seen.most, Math.max(1, Math.min(availableParallelism(), Number(process.env.UV_THREADPOOL_SIZE) || 4) - 1))
  seen.isHeld = false
  while (seen.release.length > 0) {
    seen.release.shift()!()
    await turn()
  }
  await Promise.all(tasks)
})

t.test('attack: a flood of sign-ins, each of which holds a thread, leaves one to whoever reads a file; who waits comes to it in turn [ASVS 15.4.4]', async t => {
  const pipe = join(t.testdir(), 'held')
  execFileSync('mkfifo', [pipe])
  const ended: string[] = []
  // To open a pipe that nobody writes to holds a thread of libuv, until somebody does.
  const engine: HashEngine = {
    async hash (password) {
      if (password.startsWith('held')) await (await open(pipe, 'r')).close()
      ended.push(password)
      return `$test$${password}`
    },
    verify: async (hash, password) => hash === `$test$${password}`,
    isOutdated: () => false,
  }
  const app = await build(t, { engine })
  const flood = Array.from({ length: 20 }, (_none, i) => app.passwords.hash(`held ${i}`))
  await turn()
  ended.length = 0
  t.ok((await stat(pipe)).isFIFO(), 'a file is looked at')
  t.same(ended, [], 'before the first of them ends')
  let writer = openSync(pipe, 'r+')
  await Promise.all(flood)
  closeSync(writer)
  t.equal(ended.length, 20)

  const everywhere = await build(t, { engine, concurrency: 128 })
  const threads = Number(process.env.UV_THREADPOOL_SIZE) || 4
  const all = Array.from({ length: threads }, (_none, i) => everywhere.passwords.hash(`held ${i}`))
  await turn()
  ended.length = 0
  const looked = stat(pipe).then(() => { ended.push('looked') })
  for (let i = 0; i < 100; i++) await turn()
  t.same(ended, [], 'negative control: where sign-ins may take every thread, nobody else gets one')
  writer = openSync(pipe, 'r+')
  await Promise.all([...all, looked])
  closeSync(writer)
})

t.test('nist: fifteen characters of any kind, no composition [ASVS 6.2.1, 6.2.5]', async t => {
  const { passwords } = await build(t)
  for (const good of ['alllowercaseletters', 'tulip window seven', 'ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟ with accents', '🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃😀', '739204861957302', 'correct horse battery staple', '               .']) {
    t.same(passwords.faults(good), [], good)
    t.doesNotThrow(() => passwords.check(good))
  }
  t.same(passwords.faults('fourteen chars'), ['must have at least 15 characters'])
  t.same(passwords.faults('🙂🙃🙂🙃🙂🙃🙂😀'), ['must have at least 15 characters'], 'characters, not bytes')
  t.throws(() => passwords.check('short'), { code: 'FST_BASTION_PASSWORDS_WEAK', statusCode: 400, message: /^The password must have at least 15 characters/ })

  t.test('negative control: plain Fastify that hashes what comes keeps short ones, and signs in by them', async t => {
    const bare = Fastify()
    t.teardown(() => bare.close())
    let kept = ''
    bare.post<{ Body: { password: string } }>('/register', async request => {
      kept = await argon2.hash(request.body.password, { memoryCost: 1024, timeCost: 2, parallelism: 1 })
      return 'kept'
    })
    bare.post<{ Body: { password: string } }>('/sign-in', async request => await argon2.verify(kept, request.body.password) ? 'in' : 'out')
    for (const password of ['short', '1234567', '🙂🙃🙂🙃🙂🙃🙂😀']) {
      t.throws(() => passwords.check(password), { code: 'FST_BASTION_PASSWORDS_WEAK' })
      for (const [url, said] of [['/register', 'kept'], ['/sign-in', 'in']] as const) t.equal((await bare.inject({ method: 'POST', url, payload: { password } })).body, said, password)
    }
  })

  t.test('negative control: rules about kinds of characters, by option, turn such passwords away', async t => {
    const strict = await build(t, { policy: 'composition' })
    for (const good of ['alllowercaseletters', 'tulip window seven', '🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃😀', '739204861957302', 'correct horse battery staple']) {
      t.throws(() => strict.passwords.check(good), { code: 'FST_BASTION_PASSWORDS_WEAK' }, good)
    }
  })
})

t.test('composition: eight characters of all four kinds', async t => {
  const { passwords } = await build(t, { policy: 'composition' })
  for (const good of ['Tulip-7x', 'Zürich#42!', 'Ωmega-φ-99', 'Two words 4 you!']) t.same(passwords.faults(good), [], good)
  for (const [weak, faults] of [
    ['Tul-7x', ['must have at least 8 characters']],
    ['tulip-7x', ['must have an upper-case letter']],
    ['TULIP-7X', ['must have a lower-case letter']],
    ['Tulip-xx', ['must have a digit']],
    ['Tulip77x', ['must have a special character']],
    ['Tulip 77x', ['must have a special character']],
    ['', ['must have at least 8 characters', 'must have an upper-case letter', 'must have a lower-case letter', 'must have a digit', 'must have a special character', 'must not be one that is common']],
  ] as const) t.same(passwords.faults(weak), faults, weak)
})

t.test('common passwords are refused, dressed up or not [ASVS 6.2.4]', async t => {
  const { passwords } = await build(t, { policy: 'composition' })
  const isCommon = (password: string) => passwords.faults(password).includes('must not be one that is common')
  const eight = [...COMMON].filter(password => password.length >= 8)
  t.ok(eight.length >= 3000, `${eight.length} of eight characters or more are known`)
  for (const password of eight) if (!isCommon(password) || !isCommon(password.toUpperCase())) t.fail(password)
  for (const password of [
    'Password1!', 'P@ssw0rd', 'P@$$w0rd!', 'Passw0rd123!', '!!Dragon77!!', 'Qwerty123!', 'Welcome2024!', 'Sunsh1ne!!', 'ｐａｓｓｗｏｒｄ', 'passwordpassword', 'PasswordPassword',
    '123456789012345', '987654321098765', 'abcdefghijklmnop', 'aaaaaaaaaaaaaaaa', 'abcabcabcabcabcabc', 'qazwsxqazwsxqazwsx', '121212121212121212',
  ]) t.ok(isCommon(password), password)
  for (const password of ['Seven-tulips-4', 'dragon riding a bicycle', 'love839201748!', 'xK9#mQ2$vL7@', 'passwords are like underwear', '739204861957302', '13579acegi97531!']) t.notOk(isCommon(password), password)
  for (const password of ['1'.repeat(1000), 'x1'.repeat(500), `${'1'.repeat(1023)}a`, '🙂'.repeat(250), '\u0000'.repeat(1000)]) {
    const began = process.hrtime.bigint()
    isCommon(password)
    t.ok(process.hrtime.bigint() - began < 200_000_000n, 'and no password takes long to judge')
  }

  t.test('negative control: rules about kinds of characters let the commonest ones through', async t => {
    const rules = [/.{8}/, /[A-Z]/, /[a-z]/, /\d/, /[^A-Za-z0-9]/]
    for (const password of ['Password1!', 'P@ssw0rd', 'Qwerty123!', 'Welcome2024!']) t.ok(rules.every(rule => rule.test(password)))
  })
})

t.test('one\'s own name, and the words of the service, are refused [ASVS 6.2.11]', async t => {
  const { passwords } = await build(t, { words: ['Acme', 'RoadRunner'] })
  const fault = 'must not hold your own name or address, nor the name of this service'
  for (const [password, own] of [
    ['my acme password', []], ['ROADRUNNER beeps twice', []], ['i am Ada.Lovelace today', ['ada.lovelace']], ['write to ada@example.test', ['Ada@Example.test']], ['ｌｏｖｅｌａｃｅ is my name', ['lovelace']],
  ] as const) t.same(passwords.faults(password, own), [fault], password)
  t.same(passwords.faults('i am ada and nobody', ['ada']), [], 'three letters stand in too many words')
  t.throws(() => passwords.check('acme', ['x']), { message: /at least 15 characters, .*nor the name of this service/ })

  const without = await build(t)
  for (const password of ['my acme password', 'ROADRUNNER beeps twice']) t.same(without.passwords.faults(password), [], `negative control: without the list ${password} is taken`)
})

t.test('a password has no end of its own [ASVS 6.2.10]', async t => {
  const { passwords } = await build(t)
  const hash = await passwords.hash('correct horse battery')
  t.notMatch(hash, /exp|iat|date/)
  t.same(Object.keys(await passwords.verify('correct horse battery', hash)), ['valid'])
})

t.test('verifyNothing costs what verify costs', async t => {
  const { engine, seen } = observed()
  const { passwords } = await build(t, { engine })
  seen.hashes = seen.verifications = 0
  await passwords.verifyNothing('x')
  t.same([seen.hashes, seen.verifications], [0, 1])
})

t.test('an engine of one\'s own that does not tell right from wrong stops boot', async t => {
  const { engine } = observed()
  for (const [name, faulty] of Object.entries({
    'verifies anything': { ...engine, verify: async () => true },
    'verifies nothing': { ...engine, verify: async () => false },
    'hashes nothing': { ...engine, hash: async (password: string) => password, verify: async (hash: string, password: string) => hash === password },
    'calls everything outdated': { ...engine, isOutdated: () => true },
  })) await t.rejects(build(t, { engine: faulty }), { code: 'FST_BASTION_PASSWORDS_MISCONFIGURED', message: /engine/ }, name)
})

t.test('wrong options stop boot, and the message names them', async t => {
  const { engine } = observed()
  for (const [options, message] of [
    [{ pepper: randomBytes(31) }, /pepper: must be a Buffer of at least 32 bytes/],
    [{ pepper: 'a text that is longer than thirty-two bytes' }, /pepper/],
    [{ concurrency: 0 }, /concurrency/],
    [{ queue: -1 }, /queue/],
    [{ policy: 'none' }, /policy/],
    [{ words: ['abc'] }, /words/],
    [{ peper: randomBytes(32) }, /peper/],
    [{ engine, pepper: randomBytes(32) }, /pepper: are of the built-in engine/],
    [{ engine, memoryCost: 20_000 }, /memoryCost: are of the built-in engine/],
  ] as [PasswordsOptions, RegExp][]) {
    const error = await build(t, options).then(() => null, (error: Error & { code: string }) => error)
    t.match(error, { code: 'FST_BASTION_PASSWORDS_MISCONFIGURED', message })
    t.notMatch(error!.message, /a text that/, 'no value is shown')
  }
})
