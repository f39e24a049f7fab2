/** Settings of several sources: their order, files, what is refused, and what becomes of a change. */
import { randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import { Concealed, dotenv, env, files, loadSettings, Secret, settings, SettingsRefused, SourceFault, weaknessOf, type LoadOptions, type SettingsFault, type Source } from '../../plugins/settings/index.js'
import { testClock } from '../fixtures/clock.js'
import { printed, refusal } from '../fixtures/refusals.js'

const CANARY = 'canary-7c1d'
const strong = () => randomBytes(48).toString('base64url')
const Schema = Type.Object({
  NODE_ENV: Type.Optional(Type.String()),
  PORT: Type.Integer({ default: 3000 }),
  NAME: Type.Optional(Type.String()),
  APP_SECRET: Type.Optional(Secret()),
  DATABASE_URL: Type.Optional(Concealed(Type.String())),
})

/** Loaded, and closed with the test; what it says is in `faults`. */
async function build (t: Test, sources: Source[], options: Partial<LoadOptions> = {}) {
  const loaded = await loadSettings(Schema, { sources, refresh: false, ...options })
  t.teardown(() => loaded.close())
  const faults: SettingsFault[] = []
  loaded.onFault(fault => { faults.push(fault) })
  return { loaded, faults }
}

t.test('the first source that has a variable wins; an empty one has it not', async t => {
  const folder = t.testdir({ '.env': 'PORT=2\nNAME=file\n', secrets: { NAME: 'mounted\n', PORT: '3', APP_SECRET: 'from a file\n' } })
  const { loaded } = await build(t, [env({ PORT: '1', NAME: '' }), dotenv(join(folder, '.env')), files({ folder: join(folder, 'secrets') })])
  t.strictSame({ ...loaded.values }, { PORT: 1, NAME: 'file' })
  t.equal(loaded.values.APP_SECRET, 'from a file')
  t.strictSame(loaded.status().map(({ name, problem }) => [name, problem]), [['the environment', null], [join(folder, '.env'), null], ['files', null]])
  const other = await build(t, [files({ folder: join(folder, 'secrets') }), env({ PORT: '1' })])
  t.equal(other.loaded.values.PORT, 3, 'in another order, another one')
})

t.test('without any, defaults; the values are those of settings(), frozen and concealed', async t => {
  const given = { APP_SECRET: CANARY, PORT: '4' }
  const { loaded } = await build(t, [env(given)])
  t.strictSame({ ...loaded.values }, { ...settings(Schema, { env: given, dotenv: false }) })
  t.throws(() => { (loaded.values as { PORT: number }).PORT = 1 }, TypeError)
  t.notMatch(printed(loaded, loaded.values, { ...loaded.values }, structuredClone(loaded.values), Object.entries(loaded.values)), CANARY)
  t.match(printed({ ...given }), CANARY, 'negative control: a plain object tells it')
  t.equal((await build(t, [env({})])).loaded.values.PORT, 3000)
})

t.test('NAME_FILE names a file, in the environment or in .env; one newline at its end is not of it', async t => {
  const folder = t.testdir({ one: 'first\r\n', two: 'second\n\n', three: 'third', '.env': '' })
  writeFileSync(join(folder, '.env'), `APP_SECRET_FILE=${join(folder, 'three')}\n`)
  for (const [variables, expected] of [[{ APP_SECRET_FILE: join(folder, 'one') }, 'first'], [{ APP_SECRET_FILE: join(folder, 'two') }, 'second\n'], [{}, 'third']] as const) {
    const { loaded } = await build(t, [env(variables), dotenv(join(folder, '.env')), files({ folder: false })])
    t.equal(loaded.values.APP_SECRET, expected)
  }
})

t.test('files: Docker\'s folder has them by the name of the variable, or in small letters; Kubernetes\' links are followed', async t => {
  const folder = t.testdir({ app_secret: 'docker\n', '..data': { PORT: '99' } })
  symlinkSync('..data/PORT', join(folder, 'PORT'))
  const { loaded } = await build(t, [env({}), files({ folder })])
  t.strictSame([loaded.values.APP_SECRET, loaded.values.PORT], ['docker', 99])
  t.equal((await build(t, [env({}), files({ folder: join(folder, 'absent') })])).loaded.values.PORT, 3000, 'a folder that is missing is no fault')
})

t.test('attack: what a file must not be stops boot, by the name of its variable', async t => {
  const folder = t.testdir({ good: `${CANARY}\n`, empty: '\n', large: 'x'.repeat(101), folder: {}, writable: CANARY, readable: CANARY })
  writeFileSync(join(folder, 'binary'), Buffer.from([0xff, 0xfe, 0x41]))
  writeFileSync(join(folder, 'nul'), 'a\0b')
  chmodSync(join(folder, 'writable'), 0o666)
  chmodSync(join(folder, 'readable'), 0o644)
  const read = (variables: Record<string, string>, options = {}) => loadSettings(Schema, { sources: [env(variables), files({ folder: false, maxBytes: 100, ...options })], refresh: false })
  for (const [file, message] of [['absent', / is missing/], ['empty', / is empty/], ['large', / has more than 100 bytes/], ['folder', / is no file/], ['binary', / is no text/], ['nul', / is no text/], ['writable', / has mode 666: take 022 away/]] as const) {
    const error = await refusal(read({ APP_SECRET_FILE: join(folder, file) }))
    t.equal(error.code, 'FST_BASTION_SETTINGS_REFUSED')
    t.match(error.message, /^Settings are refused:\n {2}APP_SECRET_FILE: /)
    t.match(error.message, message)
    t.notMatch(printed(error), CANARY)
  }
  t.match((await refusal(read({ APP_SECRET_FILE: join(folder, 'readable') }, { forbidden: 0o077 }))).message, /mode 644: take 044 away/)
  const good = await read({ APP_SECRET_FILE: join(folder, 'readable') })
  t.equal(good.values.APP_SECRET, CANARY, 'negative control: as orchestrators mount them they are read')
  const lax = await read({ APP_SECRET_FILE: join(folder, 'writable') }, { forbidden: 0 })
  t.equal(lax.values.APP_SECRET, CANARY, 'negative control: with the check switched off')
})

t.test('attack: a secret that is put where the path of its file belongs is refused and not told, at boot and later; a path is not told either', async t => {
  const folder = t.testdir({ good: 'one' })
  for (const value of [CANARY, `/${CANARY}`, `-----BEGIN PRIVATE KEY-----\n${CANARY.repeat(40)}\n`, `${CANARY}\0`, join(folder, 'good', CANARY)]) {
    const variables = { APP_SECRET_FILE: value }
    const error = await refusal(loadSettings(Schema, { sources: [env(variables), files({ folder: false })], refresh: false }))
    t.match(error.message, /APP_SECRET_FILE: the file that it names /)
    t.notMatch(printed(error), CANARY)
    variables.APP_SECRET_FILE = join(folder, 'good')
    const { loaded, faults } = await build(t, [env(variables), files({ folder: false })])
    variables.APP_SECRET_FILE = value
    await loaded.refresh()
    t.match(faults, [{ kind: 'refused' }])
    t.notMatch(printed(faults), CANARY)
    t.equal(loaded.values.APP_SECRET, 'one')
  }
})

t.test('attack: NAME and NAME_FILE at once is a fault, whoever set which; so are two files for one variable', async t => {
  const folder = t.testdir({ file: `${CANARY}-1`, twice: { app_secret: `${CANARY}-2`, APP_SECRET: `${CANARY}-3` }, '.env': '' })
  writeFileSync(join(folder, '.env'), `APP_SECRET=${CANARY}-4\n`)
  for (const sources of [
    [env({ APP_SECRET: `${CANARY}-5`, APP_SECRET_FILE: join(folder, 'file') }), files()],
    [env({ APP_SECRET_FILE: join(folder, 'file') }), dotenv(join(folder, '.env')), files()],
  ]) {
    const error = await refusal(loadSettings(Schema, { sources, refresh: false }))
    t.match(error.message, 'APP_SECRET and APP_SECRET_FILE are both set: set one')
    t.notMatch(printed(error), CANARY)
  }
  t.match((await refusal(loadSettings(Schema, { sources: [files({ folder: join(folder, 'twice') })], refresh: false }))).message, /app_secret are both there: leave one/)
})

t.test('a variable of the schema that ends in _FILE is one like any other', async t => {
  const loaded = await loadSettings(Type.Object({ LOG: Type.Optional(Type.String()), LOG_FILE: Type.Optional(Type.String()) }), { sources: [env({ LOG_FILE: '/var/log/x', LOG: 'y' }), files({ folder: false })], refresh: false })
  t.strictSame({ ...loaded.values }, { LOG: 'y', LOG_FILE: '/var/log/x' })
})

t.test('every fault of every source in one error, by name', async t => {
  const folder = t.testdir({ empty: '' })
  const { message } = await refusal(loadSettings(Schema, { sources: [env({ PORT: CANARY, NODE_ENV: 'production', NAME_FILE: join(folder, 'empty') }), files({ folder: false })], refresh: false }))
  t.match(message, /NAME_FILE: .* is empty\n {2}PORT: expected integer\n {2}APP_SECRET is missing$/)
  t.notMatch(message, CANARY)
})

t.test('onChange: a file that changes is told, to those who asked for it, with the new values', async t => {
  const folder = t.testdir({ APP_SECRET: 'one', PORT: '1' })
  const { loaded, faults } = await build(t, [env({ NAME: 'x' }), files({ folder })])
  const told: unknown[] = []
  loaded.onChange(['APP_SECRET'], (values, changed) => { told.push([values.APP_SECRET, ...changed]) })
  const end = loaded.onChange(['PORT', 'APP_SECRET'], (_values, changed) => { told.push(changed) })
  loaded.onChange(['NAME'], () => { told.push('never') })
  const before = loaded.values
  t.strictSame(await loaded.refresh(), [])
  t.equal(loaded.values, before, 'nothing changed')
  writeFileSync(join(folder, 'APP_SECRET'), 'two')
  t.strictSame(await loaded.refresh(), ['APP_SECRET'])
  t.strictSame(told, [['two', 'APP_SECRET'], ['APP_SECRET']])
  t.strictSame([before.APP_SECRET, loaded.values.APP_SECRET], ['one', 'two'], 'what was read stays what it was')
  end()
  writeFileSync(join(folder, 'PORT'), '2')
  unlinkSync(join(folder, 'APP_SECRET'))
  t.strictSame(await loaded.refresh(), ['PORT', 'APP_SECRET'])
  t.strictSame(told.slice(2), [[undefined, 'APP_SECRET']])
  t.strictSame(faults, [])
})

t.test('secrets are rotated while the service runs: all sources are read again by interval, and not at the same moment everywhere [ASVS 13.3.4]', async t => {
  const clock = testClock()
  const variables = { APP_SECRET: 'one' }
  const { loaded } = await build(t, [env(variables)], { clock, refresh: 60_000 })
  const changed = new Promise(resolve => { loaded.onChange(['APP_SECRET'], resolve) })
  const starts = new Set<number>()
  for (let i = 0; i < 20; i++) {
    const other = testClock(0)
    const one = await loadSettings(Schema, { sources: [env({})], clock: other, refresh: 60_000 })
    starts.add(other.next()!)
    await one.close()
    t.equal(other.next(), null, 'nothing is left to do once it is closed')
  }
  t.ok(starts.size > 10 && Math.min(...starts) >= 30_000 && Math.max(...starts) <= 60_000)
  variables.APP_SECRET = 'two'
  clock.pass(60_000)
  await changed
  t.equal(loaded.values.APP_SECRET, 'two')
})

t.test('attack: a new value that is weak or fails the schema is refused; the old ones stay, all of them, and it is told [ASVS 13.3.4]', async t => {
  const first = strong()
  const variables: Record<string, string> = { NODE_ENV: 'production', APP_SECRET: first, PORT: '1' }
  const { loaded, faults } = await build(t, [env(variables)])
  const told: unknown[] = []
  loaded.onChange(['APP_SECRET', 'PORT'], (_values, changed) => { told.push(changed) })
  for (const [change, name] of [[{ APP_SECRET: 'changeme' }, 'APP_SECRET'], [{ APP_SECRET: '' }, 'APP_SECRET'], [{ PORT: CANARY }, 'PORT'], [{ DATABASE_URL: 'postgres://postgres:postgres@db/x' }, 'DATABASE_URL']] as const) {
    Object.assign(variables, { APP_SECRET: strong(), PORT: '2', DATABASE_URL: '' }, change)
    t.strictSame(await loaded.refresh(), [])
    t.match(faults.pop(), { kind: 'refused', names: [name], message: new RegExp(`^New settings are refused, the old ones stay: ${name}`) })
    t.strictSame([loaded.values.APP_SECRET, loaded.values.PORT], [first, 1])
  }
  t.strictSame(told, [])
  Object.assign(variables, { NODE_ENV: 'development', APP_SECRET: 'changeme', PORT: '2', DATABASE_URL: '' })
  await loaded.refresh()
  t.equal(loaded.values.APP_SECRET, first, 'what was production at boot stays production')
  t.notMatch(printed(faults), new RegExp(`${CANARY}|changeme`))
  Object.assign(variables, { APP_SECRET: strong() })
  t.strictSame(await loaded.refresh(), ['NODE_ENV', 'PORT', 'APP_SECRET'], 'negative control: a good one is taken over')
})

t.test('a listener that fails is told, and called again after the next reading; what it says is not repeated', async t => {
  const variables = { APP_SECRET: 'one' }
  const { loaded, faults } = await build(t, [env(variables)])
  let isReady = false
  const taken: unknown[] = []
  loaded.onChange(['APP_SECRET'], async ({ APP_SECRET }) => {
    if (!isReady) throw Object.assign(new RangeError(`${CANARY} ${APP_SECRET}`), { cause: APP_SECRET })
    taken.push(APP_SECRET)
  })
  loaded.onChange(['APP_SECRET'], () => { taken.push('another') })
  variables.APP_SECRET = `${CANARY}-two`
  await loaded.refresh()
  t.match(faults, [{ kind: 'listener', names: ['APP_SECRET'], message: 'A change of APP_SECRET was not taken over (RangeError); it is told again after the next reading' }])
  t.notMatch(printed(faults), CANARY)
  isReady = true
  t.strictSame(await loaded.refresh(), [])
  t.strictSame(taken, ['another', `${CANARY}-two`])
  await loaded.refresh()
  t.equal(taken.length, 2)
})

t.test('refreshes do not run side by side, and who asks during one gets what is read after it', async t => {
  let value = 1
  let open = () => {}
  let running = 0
  const gate = () => new Promise<void>(resolve => { open = resolve })
  const slow: Source = {
    name: 'slow',
    async read () {
      const read = value
      t.equal(++running, 1)
      if (value > 1) await gate()
      running--
      return { texts: { PORT: String(read) } }
    },
  }
  const { loaded } = await build(t, [slow])
  value = 2
  const first = loaded.refresh()
  await new Promise(resolve => { setImmediate(resolve) })
  value = 3
  const others = [loaded.refresh(), loaded.refresh()]
  open()
  t.strictSame(await first, ['PORT'])
  await new Promise(resolve => { setImmediate(resolve) })
  open()
  t.strictSame(await Promise.all(others), [['PORT'], ['PORT']])
  t.equal(loaded.values.PORT, 3)
})

t.test('a source of one\'s own: what it throws is told by its name, and by its message only where that is meant to be told', async t => {
  let fault: unknown
  const own: Source = { name: 'the safe', read () { if (fault !== undefined) throw fault; return { texts: { PORT: '7' } } } }
  for (const [thrown, message] of [
    [new Error(CANARY), 'Settings cannot be read: the safe: it failed (Error)'],
    [CANARY, 'Settings cannot be read: the safe: it failed (with something else than an error)'],
    [new SourceFault('its door is shut'), 'Settings cannot be read: the safe: its door is shut'],
  ] as const) {
    fault = thrown
    const error = await refusal(loadSettings(Schema, { sources: [own] }))
    t.strictSame([error.code, error.message], ['FST_BASTION_SETTINGS_UNAVAILABLE', message])
    t.notMatch(printed(error), CANARY)
  }
  fault = undefined
  const { loaded, faults } = await build(t, [own])
  fault = new Error(CANARY)
  await loaded.refresh()
  t.match(faults, [{ kind: 'expired', message: 'the safe: it failed (Error)' }])
  t.match(loaded.status(), [{ isExpired: true, problem: 'the safe: it failed (Error)' }])
  t.equal(loaded.values.PORT, 7)
  t.notMatch(printed(faults, loaded.status(), loaded), CANARY)
})

t.test('a boot that fails closes its sources; a fault that nobody listens to is a warning of the process', async t => {
  const closed: string[] = []
  const one = (name: string, texts: Record<string, string>): Source => ({ name, read: () => ({ texts }), close: async () => { closed.push(name) } })
  await t.rejects(loadSettings(Schema, { sources: [one('a', {}), one('b', { PORT: 'x' })] }), SettingsRefused)
  t.strictSame(closed, ['a', 'b'])
  const variables = { PORT: '1' }
  const loaded = await loadSettings(Schema, { sources: [env(variables)], refresh: false })
  const warned = new Promise<Error>(resolve => { process.once('warning', resolve) })
  variables.PORT = 'x'
  await loaded.refresh()
  t.match(await warned, { name: 'SettingsWarning', message: 'New settings are refused, the old ones stay: PORT: expected integer' })
  await loaded.close()
  variables.PORT = '2'
  t.strictSame(await loaded.refresh(), [], 'closed is closed')
  t.equal(loaded.values.PORT, 1)
})

t.test('misconfiguration stops boot', async t => {
  const load = (options: object) => loadSettings(Schema, { sources: [env({})], ...options } as LoadOptions)
  for (const [options, message] of [[{ sources: [] }, /sources: must be a list/], [{ sources: undefined }, /sources: must be a list/], [{ sources: [{}] }, /sources: must be a list/], [{ refresh: 10 }, /refresh: must be 1000/], [{ refresh: '5m' }, /refresh/]] as const) {
    await t.rejects(load(options), { code: 'FST_BASTION_SETTINGS_REFUSED', message })
  }
  for (const [options, message] of [[{ folders: '/x' }, /settings: files: folders/], [{ maxBytes: 0 }, /settings: files: maxBytes/], [{ forbidden: 0o1000 }, /settings: files: forbidden/]] as const) {
    t.throws(() => files(options as never), { code: 'FST_BASTION_SETTINGS_REFUSED', message })
  }
  const { loaded } = await build(t, [env({})])
  t.throws(() => loaded.onChange(['PROT' as never], () => {}), { message: 'settings: onChange: PROT is no setting of the schema' })
  t.throws(() => loaded.onChange([], () => {}), SettingsRefused)
  mkdirSync(join(t.testdirName, 'folder.env'), { recursive: true })
  t.match((await refusal(loadSettings(Schema, { sources: [dotenv(join(t.testdirName, 'folder.env'))] }))).message, /cannot be read \(EISDIR\)/)
})

/** Public all of them: everybody who attacks a service tries these first. */
const PUBLISHED = {
  'RFC 7515, A.1': 'AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow',
  'RFC 7520': 'hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg',
  'SP 800-38A': '603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4',
  'the tutorial of FastAPI': '09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7',
  'the documentation of Flask': '192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf',
  'a tutorial of Spring': '404E635266556A586E3272357538782F413F4428472B4B6250645367566B5970',
  'a sample of Supabase': 'UpNVntn3cDxHJpq99YMc1T1AQgQpc8kfYTuRgBiYa15BLrx8etQoXz3gZv1/u2oq',
  'a sample of Airflow': '46BKJoQYlPPOexq0OhDZnIlNepKFf87WFwLbfzqDDho=',
  'the first account of Hardhat': 'ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80',
}
const NOT_BYTES = ['a-string-secret-at-least-256-bits-long', 'a secret with minimum length of 32 characters', 'averylogphrasebiggerthanthirtytwochars', 'your-super-secret-jwt-token-with-at-least-32-characters-long', 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY']

t.test('attack: a secret copied from a documentation stops boot in production, in whatever form; where it is not looked for it looks strong [ASVS 13.2.3] [ASVS 13.3.1]', async t => {
  const schema = Type.Object({ APP_SECRET: Secret() })
  const boot = (text: string, production = true) => loadSettings(schema, { sources: [env({ APP_SECRET: text })], production, refresh: false })
  for (const [where, text] of Object.entries(PUBLISHED)) {
    const bytes = Buffer.from(text, /^[0-9a-f]+$/i.test(text) ? 'hex' : 'base64url')
    for (const form of [text, text.replace(/=+$/, ''), bytes.toString('hex'), bytes.toString('base64'), bytes.toString('base64url'), Buffer.from(text).toString('base64'), Buffer.from(`${text}\n`).toString('base64'), Buffer.from(text).toString('hex')]) {
      const error = await refusal(boot(form))
      t.match(error.message, /APP_SECRET is copied from a documentation, where everybody can read it: make one with `npx fastify-bastion secret`/, where)
      t.notOk(printed(error).includes(form))
    }
    t.equal((await boot(text, false)).values.APP_SECRET, text, 'negative control: in development it boots')
    const changed = Buffer.concat([bytes.subarray(1), Buffer.from([bytes[0]! ^ 1])]).toString('base64url')
    if (where !== 'a tutorial of Spring') t.equal(weaknessOf(changed), null, 'negative control: with one bit changed, and in another order, it is taken')
  }
  for (const text of NOT_BYTES) t.not(weaknessOf(text), null)
})

t.test('whatever in README could be a secret is refused', async t => {
  const readme = await readFile(fileURLToPath(new URL('../../README.md', import.meta.url)), 'utf8')
  const candidates = [...readme.matchAll(/(?<![\w+/-])[\w+/-]{43,}={0,2}(?![\w+/=-])/g)].map(([text]) => text)
  t.ok(candidates.length > 0, 'it shows one')
  t.strictSame(candidates.filter(text => weaknessOf(text) === null), [])
})

t.test('attack: well-known passwords of other services stop boot in production; in development the same ones boot [ASVS 13.2.3]', async t => {
  const boot = (text: string, production = true) => loadSettings(Type.Object({ DATABASE_URL: Concealed(Type.String()) }), { sources: [env({ DATABASE_URL: text })], production, refresh: false })
  for (const text of [
    'postgres://postgres:postgres@db/portal', 'postgres://root:root@db/portal', 'redis://:foobared@redis', 'rediss://admin:admin123@redis:6380/1', 'mysql://root:my-secret-pw@db/x', 'postgres://u:mysecretpassword@db/x',
    'amqp://guest:guest@mq', 'postgres://portal:portal@db/portal', 'postgres://x:ch%61ngeme@db/x', 'smtp://user:Password@mail', 'changeme', 'admin', 'root', 'minioadmin', '123456', '0000', 'your-password-here',
    'P@ssw0rd', 'Passw0rd!', 'p@$$w0rd123', 'Adm1n2024!', 'r00t', 'Password2024!', 'admin@123', 's3://minio:minio@store/x', 'postgres://db/x?user=app&password=postgres', 'postgres://db/x?user=app&password=app',
    'postgres://u:postgres@one:5432,two:5432/x',
  ]) {
    const error = await refusal(boot(text))
    t.match(error.message, 'DATABASE_URL holds a password that is a well-known default', text)
    t.notOk(printed(error).includes(text))
    t.equal((await boot(text, false)).values.DATABASE_URL, text)
  }
  for (const text of ['postgres://portal@%2Frun%2Fpostgresql/portal', 'postgres://portal:kV7-ql2R.x9@db/portal', 'redis://redis:6379', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'sRtG-93kkd', 'admin-of-them-all', '42', 'postgres://u:kV7-ql2R.x9@one:5432,two:5432/x?password=', 'P@rt0fN0thing']) {
    t.equal((await boot(text)).values.DATABASE_URL, text)
  }
})
