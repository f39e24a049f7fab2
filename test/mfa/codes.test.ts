/** Codes that are used once, counted before they are told to be wrong, and kept where nobody reads them. */
import { createCipheriv, createHash, randomBytes } from 'node:crypto'
import { Secret } from 'otpauth'
import t from 'tap'
import type { MfaEnrolment, MfaStore } from '../../plugins/mfa/index.js'
import { stepOf } from '../../plugins/mfa/totp.js'
import { SqlUnavailable } from '../../plugins/sql.js'
import { build, KEY, MINUTE, outcomesOf, STEP } from './build.js'

const REFUSED = 'FST_BASTION_MFA_REFUSED'
const LOCKED = 'FST_BASTION_MFA_LOCKED'
const refused = { code: REFUSED, statusCode: 401 }
const locked = { code: LOCKED, statusCode: 429 }

t.test('a code of the authenticator works once, in all of its time [ASVS 6.5.1]', async t => {
  const { app, clock, codeOf, enrolled, recorded } = await build(t)
  const { id, secret } = await enrolled()
  const code = codeOf(secret, 1)
  t.equal(await app.mfa.verify(id, code), 'totp')
  for (const ms of [0, STEP, STEP - 1]) {
    clock.ms += ms
    await t.rejects(app.mfa.verify(id, code), refused)
  }
  t.match(recorded.map(({ type }) => type), ['mfa_enrolled', 'mfa_success', 'mfa_failure', 'mfa_failure', 'mfa_failure'])
  t.match(recorded.at(-1)!.details, { user: id, reason: 'used before' })
})

t.test('the code that confirmed the enrolment is used by it', async t => {
  const { app, codeOf } = await build(t)
  const { secret } = await app.mfa.enroll({ id: 'confirming', name: 'ada' })
  await app.mfa.confirm('confirming', codeOf(secret))
  await t.rejects(app.mfa.verify('confirming', codeOf(secret)), refused)
  t.equal(await app.mfa.verify('confirming', codeOf(secret, 1)), 'totp')
})

t.test('attack: of two hundred parallel uses of one code one passes, and none of them counts', async t => {
  // A store that answers at once, with what it knew before: all calls take each of their steps together.
  const { store } = await build(t)
  const known: (MfaEnrolment | null)[] = []
  const { app, codeOf, enrolled } = await build(t, { store: { ...store, find: async () => known[0] ?? null } })
  const { id, secret, recoveryCodes } = await enrolled()
  known.push(await store.find(id))
  for (const code of [codeOf(secret), recoveryCodes[0]!]) {
    const outcomes = await outcomesOf(Array.from({ length: 200 }, () => app.mfa.verify(id, code)))
    t.equal(outcomes.filter(one => one === 'fulfilled').length, 1)
    t.equal(outcomes.filter(one => one === REFUSED).length, 199)
  }
  t.equal(await app.mfa.verify(id, codeOf(secret, 1)), 'totp', 'nobody is locked')
})

t.test('negative control: a code that is looked up and then stored passes for all who come at once', async t => {
  const { app, clock, codeOf, enrolled } = await build(t)
  const { secret } = await enrolled()
  async function lookUpThenStore (code: string): Promise<void> {
    const step = stepOf(Buffer.from(Secret.fromBase32(secret).bytes), code, clock.ms, 1)
    if (step === null || await app.state.get(`naive:${step}`) !== null) throw Object.assign(new Error('refused'), { code: REFUSED })
    await app.state.set(`naive:${step}`, '1', 90_000)
  }
  const outcomes = await outcomesOf(Array.from({ length: 200 }, () => lookUpThenStore(codeOf(secret))))
  t.ok(outcomes.filter(one => one === 'fulfilled').length > 1, `${outcomes.filter(one => one === 'fulfilled').length} passed`)
  await t.rejects(lookUpThenStore(codeOf(secret)), { code: REFUSED }, 'one after the other it holds')
})

t.test('five wrong codes in fifteen minutes lock, for the rest of the window, the right code too [ASVS 6.3.1]', async t => {
  const { app, clock, codeOf, wrongFor, enrolled, recorded } = await build(t)
  const { id, secret, recoveryCodes } = await enrolled()
  await app.mfa.verify(id, codeOf(secret, -1))
  for (const [i, code] of [wrongFor(secret), recoveryCodes[0]!.replace(/.$/, last => last === '0' ? '1' : '0'), 'nonsense', '', wrongFor(secret)].entries()) {
    if (i === 4) clock.ms += 10 * MINUTE
    await t.rejects(app.mfa.verify(id, code), refused)
  }
  await t.rejects(app.mfa.verify(id, codeOf(secret)), { ...locked, headers: { 'retry-after': String(5 * 60) } })
  await t.rejects(app.mfa.verify(id, recoveryCodes[0]!), locked)
  clock.ms -= 10 * MINUTE
  await t.rejects(app.mfa.verify(id, codeOf(secret, -1)), locked, 'a used one too')
  clock.ms += 10 * MINUTE
  t.match(recorded.at(-1), { type: 'mfa_locked', details: { user: id, locks: ['window'], severity: 'warning' } })
  const other = await enrolled()
  t.equal(await app.mfa.verify(other.id, codeOf(other.secret)), 'totp', 'nobody else is')
  clock.ms += 5 * MINUTE
  t.equal(await app.mfa.verify(id, codeOf(secret)), 'totp')
  t.equal(await app.mfa.verify(id, recoveryCodes[0]!), 'recovery', 'a locked attempt spent nothing')
})

t.test('a replay counts nothing and a success forgets; unlock lifts the lock', async t => {
  const { app, clock, codeOf, wrongFor, enrolled } = await build(t)
  const { id, secret, recoveryCodes } = await enrolled()
  const code = codeOf(secret)
  await app.mfa.verify(id, code)
  await app.mfa.verify(id, recoveryCodes[0]!)
  for (let i = 0; i < 10; i++) await t.rejects(app.mfa.verify(id, i % 2 === 0 ? code : recoveryCodes[0]!), refused)
  for (let i = 0; i < 4; i++) await t.rejects(app.mfa.verify(id, wrongFor(secret)), refused)
  clock.ms += STEP
  t.equal(await app.mfa.verify(id, codeOf(secret)), 'totp')
  for (let i = 0; i < 5; i++) await t.rejects(app.mfa.verify(id, wrongFor(secret)), refused)
  await t.rejects(app.mfa.verify(id, wrongFor(secret)), locked)
  await app.mfa.unlock(id)
  await t.rejects(app.mfa.verify(id, wrongFor(secret)), refused)
})

t.test('attack: parallel guesses, the right code among them, are answered five times; without the bound one of them passes', async t => {
  for (const [attempts, answered] of [[5, 5], [100_000, 500]] as const) {
    const { app, codeOf, enrolled } = await build(t, { attempts, streak: attempts })
    const { id, secret } = await enrolled()
    const right = codeOf(secret)
    const good = [codeOf(secret, -1), right, codeOf(secret, 1)]
    const guesses = Array.from({ length: 1000 }, (_none, i) => String(i).padStart(6, '0')).filter(guess => !good.includes(guess)).slice(0, 499)
    guesses.splice(250, 0, right)
    const outcomes = await outcomesOf(guesses.map(guess => app.mfa.verify(id, guess)))
    t.equal(outcomes.filter(one => one !== LOCKED).length, answered)
    t.equal(outcomes.filter(one => one === 'fulfilled').length, attempts === 5 ? 0 : 1)
  }
})

t.test('a hundred wrong codes without a right one lock it beyond every window, until somebody unlocks it', async t => {
  const { app, clock, codeOf, wrongFor, enrolled, recorded } = await build(t)
  const { id, secret } = await enrolled()
  for (let i = 0; i < 100; i++) {
    await t.rejects(app.mfa.verify(id, wrongFor(secret)), refused)
    if (i % 5 === 4) clock.ms += 15 * MINUTE
  }
  await t.rejects(app.mfa.verify(id, codeOf(secret)), locked)
  t.match(recorded.at(-1), { type: 'mfa_locked', details: { locks: ['streak'], severity: 'critical' } })
  await app.mfa.unlock(id)
  t.equal(await app.mfa.verify(id, codeOf(secret)), 'totp')
})

t.test('recovery codes are ten of 120 random bits, work once each and however they are typed [ASVS 6.5.1] [ASVS 6.5.4]', async t => {
  const { app, enrolled, recorded } = await build(t)
  const { id, recoveryCodes } = await enrolled()
  t.equal(new Set(recoveryCodes).size, 10)
  for (const code of recoveryCodes) t.match(code, /^[0-9A-HJKMNP-TV-Z]{4}(?:-[0-9A-HJKMNP-TV-Z]{4}){5}$/)
  const typed = [
    (code: string) => code,
    (code: string) => code.toLowerCase(),
    (code: string) => code.replaceAll('-', ''),
    (code: string) => ` ${code.replaceAll('-', ' ')}\n`,
    (code: string) => code.replaceAll('0', 'O').replaceAll('1', 'l'),
    (code: string) => code.replaceAll('0', 'o').replaceAll('1', 'I'),
  ]
  for (const [i, code] of recoveryCodes.entries()) {
    t.equal(await app.mfa.verify(id, typed[i % typed.length]!(code)), 'recovery')
    t.match(recorded.at(-1), { type: 'recovery_code_used', details: { user: id, left: 9 - i } })
  }
  for (const code of recoveryCodes.slice(0, 5)) await t.rejects(app.mfa.verify(id, code), refused)
  const other = await enrolled()
  await t.rejects(app.mfa.verify(id, other.recoveryCodes[0]!), refused, "somebody else's")
})

t.test('what is kept tells no secret and no code [ASVS 6.5.2]', async t => {
  const { app, sql, log, recorded, codeOf, wrongFor, enrolled } = await build(t)
  const { id, secret, recoveryCodes } = await enrolled()
  const code = codeOf(secret)
  const wrong = wrongFor(secret)
  await app.mfa.verify(id, code)
  await app.mfa.verify(id, recoveryCodes[0]!)
  await t.rejects(app.mfa.verify(id, wrong), refused)
  const dump = JSON.stringify([await sql.query('select * from mfa_enrolments'), await sql.query('select * from mfa_recovery_codes')])
  t.ok(dump.includes(id))
  const bytes = Buffer.from(Secret.fromBase32(secret).bytes)
  for (const [place, text] of Object.entries({ dump, log: log.join(''), events: JSON.stringify(recorded) })) {
    for (const plain of [secret, bytes.toString('hex'), bytes.toString('base64'), bytes.toString('base64url'), ...recoveryCodes, ...recoveryCodes.map(one => one.replaceAll('-', ''))]) {
      t.notOk(text.includes(plain), place)
    }
    t.notMatch(text, new RegExp(`"(?:${code}|${wrong})"`), place)
  }
  const [one, two] = [(await app.mfa.enroll({ id, name: id })).secret, await app.state.get(`mfa:enrolment:${id}`)]
  t.notOk(two!.includes(one), 'nor is one that waits to be confirmed')

  /** The codes that somebody who holds a table finds in it, as they are or under a hash that needs no key. */
  const foundIn = (table: string, guesses: readonly string[]) => {
    const kept = new Set(table.split(/[^\w+/=-]+/))
    return guesses.filter(guess => [guess, ...['md5', 'sha1', 'sha256', 'sha512'].flatMap(hash => (['hex', 'base64', 'base64url'] as const).map(form => createHash(hash).update(guess).digest(form)))].some(text => kept.has(text)))
  }
  const rows = await sql.query<{ hash: string }>('select hash from mfa_recovery_codes where user_id = $1', [id])
  t.equal(rows.length, 10)
  for (const { hash } of rows) t.equal(Buffer.from(hash, 'base64url').length, 32)
  for (const plain of recoveryCodes) t.match(plain.replaceAll('-', ''), /^[0-9A-HJKMNP-TV-Z]{24}$/, '120 bits, for which a standard hash is enough')
  t.same(foundIn(JSON.stringify(rows), [...recoveryCodes, ...recoveryCodes.map(one => one.replaceAll('-', '')), ...recoveryCodes.map(one => `${id}${one}`)]), [], 'not even by who guesses right, without the key')
  const short = Array.from({ length: 10 }, (_none, i) => String(i * 1009).padStart(4, '0'))
  const table = JSON.stringify(short.map(one => ({ hash: createHash('sha256').update(one).digest('hex') })))
  t.same(foundIn(table, Array.from({ length: 10_000 }, (_none, i) => String(i).padStart(4, '0'))), short, 'negative control: short codes under a plain hash are all found by trying')
})

t.test('attack: a row that is copied to another account opens nothing there; in its own it does', async t => {
  const { app, sql, store, codeOf, enrolled, log } = await build(t)
  const owner = await enrolled()
  const victim = await enrolled()
  const kept = (await store.find(owner.id))!
  await sql.query('update mfa_enrolments set secret = $1 where user_id = $2', [kept.secret, victim.id])
  await sql.query('update mfa_recovery_codes set user_id = $1 where user_id = $2', [victim.id, owner.id])
  await t.rejects(app.mfa.verify(victim.id, codeOf(owner.secret)), refused)
  await t.rejects(app.mfa.verify(victim.id, owner.recoveryCodes[0]!), refused)
  t.match(log.join(''), /the second factor of an account cannot be read/, 'and operators are told')
  t.equal(await app.mfa.verify(owner.id, codeOf(owner.secret)), 'totp', 'negative control: the text itself is whole')
})

t.test('a secret that was changed, or encrypted without the key, opens nothing', async t => {
  const { app, sql, store, codeOf, enrolled } = await build(t, { attempts: 100 })
  const { id, secret } = await enrolled()
  const { secret: sealed } = (await store.find(id))!
  const bytes = Buffer.from(sealed.slice(3), 'base64url')
  const cipher = createCipheriv('aes-256-gcm', KEY, bytes.subarray(0, 12))
  const foreign = Buffer.concat([bytes.subarray(0, 12), cipher.update(Buffer.from(Secret.fromBase32(secret).bytes)), cipher.final(), cipher.getAuthTag()])
  const changed = (at: number) => Buffer.from(bytes.map((byte, i) => i === at ? byte ^ 1 : byte))
  for (const text of [...[0, 12, 20, bytes.length - 1].map(at => `v1.${changed(at).toString('base64url')}`), `v1.${foreign.toString('base64url')}`, `v2.${sealed.slice(3)}`, 'v1.', '', secret, `v1.${bytes.subarray(0, 28).toString('base64url')}`]) {
    await sql.query('update mfa_enrolments set secret = $1 where user_id = $2', [text, id])
    await t.rejects(app.mfa.verify(id, codeOf(secret)), refused, text.slice(0, 12))
  }
  await sql.query('update mfa_enrolments set secret = $1 where user_id = $2', [sealed, id])
  t.equal(await app.mfa.verify(id, codeOf(secret)), 'totp')
})

t.test('keys rotate: the first encrypts, all open; without its key a factor is nobody\'s', async t => {
  const next = randomBytes(32)
  const old = await build(t)
  const { id, secret, recoveryCodes } = await old.enrolled()
  const both = await build(t, { key: [next, KEY] })
  both.clock.ms = old.clock.ms
  t.equal(await both.app.mfa.verify(id, both.codeOf(secret)), 'totp')
  t.equal(await both.app.mfa.verify(id, recoveryCodes[0]!), 'recovery')
  const fresh = await both.enrolled()
  const only = await build(t, { key: next })
  only.clock.ms = both.clock.ms
  t.equal(await only.app.mfa.verify(fresh.id, only.codeOf(fresh.secret)), 'totp')
  t.equal(await only.app.mfa.verify(fresh.id, fresh.recoveryCodes[0]!), 'recovery')
  await t.rejects(only.app.mfa.verify(id, only.codeOf(secret)), refused)
  await t.rejects(only.app.mfa.verify(id, recoveryCodes[1]!), refused)
})

t.test('an enrolment: confirmed within its time, by its own user, once; a new one keeps the old until then', async t => {
  const { app, clock, codeOf, wrongFor, store, enrolled, recorded } = await build(t)
  const none = { code: 'FST_BASTION_MFA_NOT_ENROLLING', statusCode: 409 }
  await t.rejects(app.mfa.confirm('nobody', '123456'), none)
  const first = await app.mfa.enroll({ id: 'enrolling', name: 'ada' })
  t.notOk(await app.mfa.isEnrolled('enrolling'))
  await t.rejects(app.mfa.verify('enrolling', codeOf(first.secret)), refused, 'it counts for nothing')
  await t.rejects(app.mfa.confirm('somebody', codeOf(first.secret)), none)
  const second = await app.mfa.enroll({ id: 'enrolling', name: 'ada' })
  await t.rejects(app.mfa.confirm('enrolling', codeOf(first.secret)), refused, 'the last one begun is the one')
  await t.rejects(app.mfa.confirm('enrolling', wrongFor(second.secret)), refused)
  clock.ms += 15 * MINUTE
  await t.rejects(app.mfa.confirm('enrolling', codeOf(second.secret)), none)
  const third = await app.mfa.enroll({ id: 'enrolling', name: 'ada' })
  const outcomes = await outcomesOf([-1, 0, 1, 0, 1].map(steps => app.mfa.confirm('enrolling', codeOf(third.secret, steps))))
  t.equal(outcomes.filter(one => one === 'fulfilled').length, 1)
  t.ok(await app.mfa.isEnrolled('enrolling'))
  t.match(recorded.at(-1), { type: 'mfa_enrolled', details: { user: 'enrolling', replaced: false } })

  const { id, secret, recoveryCodes } = await enrolled()
  const next = await app.mfa.enroll({ id, name: id })
  await t.rejects(app.mfa.verify(id, codeOf(next.secret)), refused)
  t.equal(await app.mfa.verify(id, codeOf(secret)), 'totp')
  await app.mfa.confirm(id, codeOf(next.secret))
  t.match(recorded.at(-1), { type: 'mfa_enrolled', details: { user: id, replaced: true } })
  await t.rejects(app.mfa.verify(id, codeOf(secret, 1)), refused)
  await t.rejects(app.mfa.verify(id, recoveryCodes[0]!), refused)
  t.equal((await store.find(id))!.recoveryCodes.length, 10)
  t.equal(await app.mfa.verify(id, codeOf(next.secret, 1)), 'totp')
})

t.test('wrong codes of a confirmation count, too', async t => {
  const { app, codeOf, wrongFor } = await build(t)
  const { secret } = await app.mfa.enroll({ id: 'guessing', name: 'ada' })
  for (let i = 0; i < 5; i++) await t.rejects(app.mfa.confirm('guessing', wrongFor(secret)), refused)
  await t.rejects(app.mfa.confirm('guessing', codeOf(secret)), locked)
})

t.test('disable ends the factor, its recovery codes and what was begun [ASVS 6.5.6]', async t => {
  const { app, codeOf, enrolled, sql, recorded } = await build(t)
  const { id, secret, recoveryCodes } = await enrolled()
  const { secret: begun } = await app.mfa.enroll({ id, name: id })
  t.equal(await app.mfa.disable(id), true)
  t.notOk(await app.mfa.isEnrolled(id))
  for (const code of [codeOf(secret), recoveryCodes[0]!]) await t.rejects(app.mfa.verify(id, code), refused)
  await t.rejects(app.mfa.confirm(id, codeOf(begun)), { code: 'FST_BASTION_MFA_NOT_ENROLLING' })
  t.equal((await sql.query('select 1 from mfa_recovery_codes where user_id = $1', [id])).length, 0)
  t.equal(recorded.filter(({ type }) => type === 'mfa_disabled').length, 1)
  t.equal(await app.mfa.disable(id), false)
  t.equal(recorded.filter(({ type }) => type === 'mfa_disabled').length, 1)
})

t.test('while the database is away nobody passes, no code is spent and none counted', async t => {
  const away = { find: false, spend: false, save: false }
  const unless = <Answer>(isAway: boolean, ask: () => Promise<Answer>) => isAway ? Promise.reject(new SqlUnavailable()) : ask()
  const { store } = await build(t)
  const flaky: MfaStore = {
    find: id => unless(away.find, () => store.find(id)),
    spend: (id, hash) => unless(away.spend, () => store.spend(id, hash)),
    save: (id, secret, codes) => unless(away.save, () => store.save(id, secret, codes)),
    remove: id => store.remove(id),
  }
  const { app, codeOf, enrolled } = await build(t, { store: flaky })
  const { id, secret, recoveryCodes } = await enrolled()
  const unavailable = { code: 'FST_BASTION_SQL_UNAVAILABLE', statusCode: 503 }
  away.find = true
  for (let i = 0; i < 8; i++) await t.rejects(app.mfa.verify(id, codeOf(secret)), unavailable)
  await t.rejects(app.mfa.isEnrolled(id), unavailable)
  await t.rejects(app.mfa.demand({ id, passwordHash: null }), unavailable, 'nor does the password alone do')
  away.find = false
  t.equal(await app.mfa.verify(id, codeOf(secret)), 'totp')
  away.spend = true
  for (let i = 0; i < 8; i++) await t.rejects(app.mfa.verify(id, recoveryCodes[0]!), unavailable)
  away.spend = false
  t.equal(await app.mfa.verify(id, recoveryCodes[0]!), 'recovery')
  const { secret: next } = await app.mfa.enroll({ id, name: id })
  away.save = true
  await t.rejects(app.mfa.confirm(id, codeOf(next)), unavailable)
  away.save = false
  t.equal((await app.mfa.confirm(id, codeOf(next, 1))).length, 10, 'and an enrolment can be confirmed again')
})
