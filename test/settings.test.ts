import { createHmac, randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { inspect } from 'node:util'
import { Type } from '@sinclair/typebox'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { cli } from '../plugins/cli.js'
import { Concealed, Secret, SettingsRefused, decodeSecret, deriveKey, settings, weaknessOf } from '../plugins/settings/index.js'

const STRONG = 'bV0xQ2h5c3k3R2pXc0tqY1N6d3VYb2Vqa0g5ZkRwTmE4TGlN'
const Plain = Type.Object({
  HOST: Type.String({ default: '127.0.0.1' }),
  PORT: Type.Integer({ minimum: 0, maximum: 65535, default: 3000 }),
  RATIO: Type.Optional(Type.Number()),
  VERBOSE: Type.Boolean({ default: false }),
  MODE: Type.Union([Type.Literal('fast'), Type.Literal('safe')], { default: 'safe' }),
})
const Secretive = Type.Object({
  NODE_ENV: Type.Optional(Type.String()),
  APP_SECRET: Secret({ description: 'the master secret' }),
  DATABASE_URL: Type.Optional(Concealed(Type.String({ pattern: '^postgres://' }))),
})
const none = { dotenv: false } as const

/** What a refusal says. */
function refusal (t: Test, read: () => unknown): string {
  try {
    read()
  } catch (error) {
    t.type(error, TypeError)
    t.match(error, { code: 'FST_BASTION_SETTINGS_REFUSED' })
    return (error as Error).message
  }
  t.fail('nothing was refused')
  return ''
}

function dotenvOf (t: Test, text: string): string {
  const path = join(t.testdir(), '.env')
  writeFileSync(path, text)
  return path
}

t.test('reads the environment, in the types of the schema, with its defaults', async t => {
  t.strictSame({ ...settings(Plain, { env: {}, ...none }) }, { HOST: '127.0.0.1', PORT: 3000, VERBOSE: false, MODE: 'safe' })
  const read = settings(Plain, { env: { HOST: '::1', PORT: '8080', RATIO: '0.25', VERBOSE: 'true', MODE: 'fast' }, ...none })
  t.strictSame({ ...read }, { HOST: '::1', PORT: 8080, RATIO: 0.25, VERBOSE: true, MODE: 'fast' })
  t.equal(settings(Plain, { env: { VERBOSE: '0' }, ...none }).VERBOSE, false)
})

t.test('reads process.env and .env by itself', async t => {
  const folder = t.testdir({ '.env': 'BASTION_SETTINGS_FILE=from the file\nBASTION_SETTINGS_BOTH=from the file\n' })
  const before = process.cwd()
  process.chdir(folder)
  process.env.BASTION_SETTINGS_BOTH = 'from the environment'
  t.teardown(() => {
    process.chdir(before)
    delete process.env.BASTION_SETTINGS_BOTH
  })
  const read = settings(Type.Object({ BASTION_SETTINGS_FILE: Type.String(), BASTION_SETTINGS_BOTH: Type.String() }))
  t.strictSame({ ...read }, { BASTION_SETTINGS_FILE: 'from the file', BASTION_SETTINGS_BOTH: 'from the environment' })
})

t.test('dotenv: a path; false for none; a missing file is no fault', async t => {
  const dotenv = dotenvOf(t, 'PORT=4000\nHOST="0.0.0.0" # everywhere\n')
  t.equal(settings(Plain, { env: {}, dotenv }).PORT, 4000)
  t.equal(settings(Plain, { env: {}, dotenv }).HOST, '0.0.0.0')
  t.equal(settings(Plain, { env: { PORT: '5000' }, dotenv }).PORT, 5000)
  t.equal(settings(Plain, { env: {}, dotenv: join(t.testdirName, 'absent.env') }).PORT, 3000)
  t.notOk('PORT' in process.env, 'the file is read, not put into the environment')
})

t.test('an empty variable is one that is not set', async t => {
  t.equal(settings(Plain, { env: { PORT: '' }, ...none }).PORT, 3000)
  t.equal(settings(Plain, { env: { PORT: '' }, dotenv: dotenvOf(t, 'PORT=4000') }).PORT, 4000)
})

t.test('settings are frozen, and defaults are not shared between readings', async t => {
  const read = settings(Plain, { env: {}, ...none })
  t.throws(() => { (read as { PORT: number }).PORT = 1 }, TypeError)
  t.throws(() => { (settings(Secretive, { env: { APP_SECRET: STRONG }, ...none }) as { APP_SECRET: string }).APP_SECRET = '' }, TypeError)
})

t.test('production: option, else NODE_ENV, of the file too', async t => {
  const weak = { APP_SECRET: 'changeme' }
  t.equal(settings(Secretive, { env: weak, ...none }).APP_SECRET, 'changeme', 'development has other worries')
  for (const mode of ['development', 'test']) t.equal(settings(Secretive, { env: { ...weak, NODE_ENV: mode }, ...none }).APP_SECRET, 'changeme')
  t.throws(() => settings(Secretive, { env: { ...weak, NODE_ENV: 'production' }, ...none }), SettingsRefused)
  t.throws(() => settings(Secretive, { env: weak, dotenv: dotenvOf(t, 'NODE_ENV=production') }), SettingsRefused)
  t.throws(() => settings(Secretive, { env: weak, production: true, ...none }), SettingsRefused)
  t.equal(settings(Secretive, { env: { ...weak, NODE_ENV: 'production' }, production: false, ...none }).APP_SECRET, 'changeme')
})

t.test('a misspelt NODE_ENV does not switch the checks off', async t => {
  for (const mode of ['Production', 'prod', 'production ', 'live', 'staging']) {
    t.throws(() => settings(Secretive, { env: { APP_SECRET: 'changeme', NODE_ENV: mode }, ...none }), SettingsRefused, mode)
  }
})

t.test('Secret: optional in development is needed in production, by name', async t => {
  const schema = Type.Object({ APP_SECRET: Type.Optional(Secret({ description: 'the master secret' })) })
  t.equal(settings(schema, { env: {}, ...none }).APP_SECRET, undefined)
  t.match(refusal(t, () => settings(schema, { env: {}, production: true, ...none })), /APP_SECRET is missing \(the master secret\)/)
  t.match(refusal(t, () => settings(schema, { env: { APP_SECRET: '' }, production: true, ...none })), /APP_SECRET is missing/)
})

t.test('Secret: what production can do without is strong all the same', async t => {
  const schema = Type.Object({ HOOK_SECRET: Type.Optional(Secret({ neededInProduction: false })) })
  t.equal(settings(schema, { env: {}, production: true, ...none }).HOOK_SECRET, undefined)
  t.match(refusal(t, () => settings(schema, { env: { HOOK_SECRET: 'changeme' }, production: true, ...none })), /HOOK_SECRET is a well-known default/)
  t.equal(settings(schema, { env: { HOOK_SECRET: STRONG }, production: true, ...none }).HOOK_SECRET, STRONG)
})

t.test('a strong secret passes in production, as base64url, base64 and hex', async t => {
  for (const encoding of ['base64url', 'base64', 'hex'] as const) {
    for (const bytes of [32, 33, 48, 64]) {
      const text = randomBytes(bytes).toString(encoding)
      t.equal(settings(Secretive, { env: { APP_SECRET: text }, production: true, ...none }).APP_SECRET, text)
      t.equal(decodeSecret(text)?.length, bytes)
    }
  }
})

t.test('random secrets are never taken for weak ones', async t => {
  t.equal(weaknessOf('kJ3vZ8mQ1xT5sEcrEt9nR2cY6fH4gL7pD0pLeAsEUiOwNqVtXyBzKjMhGrFdSlPa'), null, 'in a million of them one has such letters')
  const refused = Array.from({ length: 20_000 }, (_none, i) => randomBytes(32).toString(i % 2 === 0 ? 'base64url' : 'hex')).filter(text => weaknessOf(text) !== null)
  t.strictSame(refused, [])
})

const WEAK: Record<string, [reason: RegExp, texts: string[]]> = {
  'well-known defaults': [/is a well-known default/, [
    'secret', 'SECRET', 'changeme', 'change-me', 'password', 'password123!', 'supersecret', 'your-secret', 'your_secret_key', 'keyboard cat', 's3cr3t', 'default',
    'test', 'dev', 'devdevdev', 'secretsecretsecretsecretsecretsecretsecret', 'your-256-bit-secret', 'a-string-secret-at-least-256-bits-long',
    'This-Is-My-Very-Long-Secret-Key-For-Production-42', 'ChangeMe0ChangeMe1ChangeMe2ChangeMe3ChangeMe4', 'fastify-bastion-Fastify-Bastion-1234567890-XYZ',
    'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789',
  ]],
  'short ones': [/must have at least 32 bytes/, [
    'x', randomBytes(31).toString('base64url'), randomBytes(31).toString('hex'), randomBytes(16).toString('hex'), randomBytes(24).toString('base64'),
  ]],
  'ones of little entropy': [/has too little entropy/, [
    'a'.repeat(64), '00'.repeat(32), 'ff'.repeat(64), 'Ab'.repeat(40), 'deadbeef'.repeat(8), '0123456789abcdef'.repeat(4),
    Buffer.from(Array.from({ length: 32 }, (_none, i) => i)).toString('hex'), Buffer.from(Array.from({ length: 48 }, (_none, i) => 255 - i * 5 & 255)).toString('base64'),
    '00112233445566778899aabbccddeeff'.repeat(2), Buffer.alloc(40, 'Xy').toString('base64url'), 'the-quick-brown-fox-jumps-over-the-lazy-dog-0123456789',
    randomBytes(4).toString('hex').repeat(16),
  ]],
  'words that are encoded': [/is a well-known default/, [
    ...(['base64', 'base64url', 'hex'] as const).map(form => Buffer.from('This is the very Secret key of Quick Jumping Foxes').toString(form)), Buffer.from('ChangeMe-4-Production!PleaseGiveItJuvx\n').toString('base64'),
  ]],
  'prose that is encoded': [/has too little entropy/, ['base64', 'hex'].flatMap(form => [
    'The quick brown fox jumps over the lazy dog', 'the-quick-brown-fox-jumps-over-the-lazy-dog-0123456789',
  ].map(text => Buffer.from(text).toString(form as 'hex')))],
  'ones in another form': [/must be base64url or hex/, ['correct horse battery staple '.repeat(3), 'ümlaut'.repeat(10), 'p@ssw0rd!'.repeat(8), `${STRONG}\n`]],
}

for (const [kind, [reason, texts]] of Object.entries(WEAK)) {
  t.test(`attack: ${kind} stop boot in production; in development, where nothing is guarded, the same ones boot [TRAP 13]`, async t => {
    for (const text of texts) {
      const message = refusal(t, () => settings(Secretive, { env: { APP_SECRET: text }, production: true, ...none }))
      t.match(message, reason)
      t.match(message, /^Settings are refused:\n {2}APP_SECRET /)
      t.match(message, /openssl rand -base64 48/)
      t.notOk(text.length > 8 && message.includes(text), 'the refusal does not tell the secret')
      t.equal(settings(Secretive, { env: { APP_SECRET: text }, ...none }).APP_SECRET, text)
    }
  })
}

t.test('attack: a secret that stands in the code is none, however strong', async t => {
  const schema = Type.Object({ APP_SECRET: { ...Secret(), default: STRONG } })
  t.equal(settings(schema, { env: {}, ...none }).APP_SECRET, STRONG, 'in development it is a default like any other')
  const message = refusal(t, () => settings(schema, { env: {}, production: true, ...none }))
  t.match(message, /APP_SECRET is missing/)
  t.notOk(message.includes(STRONG))
})

t.test('attack: what is secret shows itself nowhere; a plain object shows all of it [ASVS 16.2.5]', async t => {
  const url = 'postgres://portal:hunter2@db.internal/portal'
  const env = { APP_SECRET: STRONG, DATABASE_URL: url }
  const read = settings(Secretive, { env, production: true, ...none })
  t.equal(read.APP_SECRET, STRONG)
  t.equal(read.DATABASE_URL, url)

  const printed = (values: object): Record<string, string> => {
    let log = ''
    const stream = new Writable({ write (chunk, _encoding, done) { log += chunk; done() } })
    const app = Fastify({ logger: { stream } })
    app.log.info(values)
    app.log.info({ settings: values, nested: { values } }, 'settings')
    app.log.info('%o %j %s', values, values, values)
    return {
      'a log line': log,
      JSON: JSON.stringify([values, { values }]),
      'util.inspect': inspect(values) + inspect({ values }, { showHidden: true, depth: 9, getters: true }),
      'an error': String(Object.assign(new Error('failed'), { values })) + inspect(new Error('failed', { cause: values })),
      'a template': `${String(values)}`,
      'a copy': JSON.stringify({ ...values }) + inspect(Object.assign({}, values)) + inspect(Object.entries(values)) + inspect(structuredClone(Object.values(values))),
    }
  }
  for (const [where, text] of Object.entries(printed(read))) {
    t.notOk(text.includes(STRONG), `no secret in ${where}`)
    t.notOk(text.includes('hunter2'), `no connection string in ${where}`)
  }
  t.strictSame(JSON.parse(JSON.stringify(read)), { APP_SECRET: '[secret]', DATABASE_URL: '[secret]' })
  const open = printed({ ...env })
  for (const where of ['a log line', 'JSON', 'util.inspect', 'an error', 'a copy']) t.ok(open[where]!.includes(STRONG), `negative control: ${where} of a plain object tells it`)
})

t.test('attack: a refusal tells no value of any variable', async t => {
  const schema = Type.Object({
    APP_SECRET: Secret(),
    DATABASE_URL: Concealed(Type.String({ pattern: '^postgres://' })),
    PORT: Type.Integer(),
    MODE: Type.Union([Type.Literal('a'), Type.Literal('b')]),
    TOKEN: Type.String({ maxLength: 4 }),
    EMAIL: Type.String({ minLength: 100 }),
  })
  const env = { APP_SECRET: 'hunter1', DATABASE_URL: 'mysql://root:hunter2@db', PORT: 'hunter3', MODE: 'hunter4', TOKEN: 'hunter5', EMAIL: 'hunter6' }
  let thrown: unknown
  try {
    settings(schema, { env, production: true, ...none })
  } catch (error) {
    thrown = error
  }
  const told = [String(thrown), JSON.stringify(thrown), inspect(thrown, { showHidden: true }), (thrown as Error).stack].join('\n')
  t.notMatch(told, /hunter/)
  for (const name of Object.keys(env)) t.match(told, new RegExp(name))
})

t.test('misconfiguration stops boot: every fault in one error, by name', async t => {
  const message = refusal(t, () => settings(Type.Object({ ...Plain.properties, ...Secretive.properties, NAME: Type.String() }), {
    env: { PORT: '70000', VERBOSE: 'yes', MODE: 'faster', RATIO: 'a half', APP_SECRET: 'secret' }, production: true, ...none,
  }))
  t.equal(message.split('\n').length, 7)
  t.match(message, /PORT: expected integer to be less or equal to 65535/)
  t.match(message, /VERBOSE: expected boolean/)
  t.match(message, /MODE: expected one of fast, safe/)
  t.match(message, /RATIO: expected number/)
  t.match(message, /APP_SECRET is a well-known default/)
  t.match(message, /NAME is missing/)
})

t.test('misconfiguration stops boot: nothing is guessed', async t => {
  for (const [name, text] of [
    ['PORT', 'true'], ['PORT', '7.9'], ['PORT', '0x10'], ['PORT', '1e3'], ['PORT', '80 '], ['PORT', '3000a'], ['PORT', '-1'], ['PORT', 'NaN'],
    ['RATIO', 'Infinity'], ['RATIO', '.5'], ['RATIO', '1_000'], ['VERBOSE', 'TRUE'], ['VERBOSE', 'on'], ['VERBOSE', '2'], ['MODE', 'Safe'],
  ] as const) {
    t.match(refusal(t, () => settings(Plain, { env: { [name]: text }, ...none })), new RegExp(`${name}: expected`), `${name}=${text}`)
  }
})

/** HKDF-SHA-256 (RFC 5869) from its definition. */
function hkdf (ikm: Buffer, salt: Buffer, info: Buffer, length: number): Buffer {
  const prk = createHmac('sha256', salt).update(ikm).digest()
  let block = Buffer.alloc(0)
  let out = Buffer.alloc(0)
  for (let i = 1; out.length < length; i++) {
    block = createHmac('sha256', prk).update(Buffer.concat([block, info, Buffer.from([i])])).digest()
    out = Buffer.concat([out, block])
  }
  return out.subarray(0, length)
}

t.test('deriveKey is HKDF-SHA-256, held against the vector of RFC 5869, A.1 [ASVS 11.2.1]', async t => {
  const vector = hkdf(Buffer.alloc(22, 0x0b), Buffer.from('000102030405060708090a0b0c', 'hex'), Buffer.from('f0f1f2f3f4f5f6f7f8f9', 'hex'), 42)
  t.equal(vector.toString('hex'), '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865')
  const master = decodeSecret(STRONG)!
  for (const [purpose, bytes] of [['tokens:access', 32], ['tokens:refresh', 32], ['passwords:pepper', 64]] as const) {
    t.strictSame(deriveKey(master, purpose, bytes), hkdf(master, Buffer.from('fastify-bastion'), Buffer.from(purpose), bytes))
  }
  t.equal(deriveKey(Buffer.alloc(32, 7), 'tokens:access').toString('hex'), '5356e4f0cce7802e658b996fd7083aeda51eaec224a2190607315ad0d8b58e6b', 'the same in every release: a change would end every token and pepper')
})

t.test('deriveKey: one purpose, one key; another master, another key', async t => {
  const master = decodeSecret(STRONG)!
  const purposes = ['tokens:access', 'tokens:refresh', 'tokens:access ', 'TOKENS:ACCESS', 'passwords:pepper', 'tokens', 'tokens:accesstokens:refresh']
  t.equal(new Set(purposes.map(purpose => deriveKey(master, purpose).toString('hex'))).size, purposes.length)
  t.strictSame(deriveKey(master, 'tokens:access'), deriveKey(Buffer.from(master), 'tokens:access'))
  t.notSame(deriveKey(master, 'tokens:access'), deriveKey(randomBytes(32), 'tokens:access'))
  t.equal(deriveKey(master, 'tokens:access').length, 32)
})

t.test('deriveKey refuses a short master and a key without purpose', async t => {
  t.throws(() => deriveKey(randomBytes(31), 'tokens:access'), new TypeError('deriveKey: the master secret must be a Buffer of at least 32 bytes'))
  t.throws(() => deriveKey(null as never, 'tokens:access'), TypeError)
  t.throws(() => deriveKey(STRONG as never, 'tokens:access'), TypeError)
  t.throws(() => deriveKey(randomBytes(32), ''), new TypeError('deriveKey: every key needs a purpose'))
})

t.test('decodeSecret tells what is none of the three forms', async t => {
  for (const text of ['', 'two words', 'a+b-c', 'ab=c', 'a.b', `${STRONG}===`]) t.equal(decodeSecret(text), null, JSON.stringify(text))
  t.strictSame(decodeSecret('+/+/'), decodeSecret('-_-_'))
  t.strictSame(decodeSecret('00fF'), Buffer.from([0, 255]))
})

/** What a command prints, where it complains, and its exit code. */
async function run (...args: string[]): Promise<{ code: number, printed: string, complained: string }> {
  const printed: string[] = []
  const complained: string[] = []
  const code = await cli(args, line => { printed.push(line) }, line => { complained.push(line) })
  return { code, printed: printed.join('\n'), complained: complained.join('\n') }
}

t.test('the command secret makes what production takes, each time another', async t => {
  const texts = await Promise.all(Array.from({ length: 50 }, async () => (await run('secret')).printed))
  t.equal(new Set(texts).size, 50)
  for (const text of texts) t.strictSame([decodeSecret(text)!.length, weaknessOf(text)], [48, null])
  for (const bytes of [32, 64, 1024]) t.equal(decodeSecret((await run('secret', '--bytes', String(bytes))).printed)!.length, bytes)
  const { code, printed, complained } = await run('secret', '--name', 'APP_SECRET', '--name', '_B2')
  t.strictSame([code, complained], [0, ''])
  t.match(printed, /^APP_SECRET=[\w-]{64}\n_B2=[\w-]{64}$/)
  t.equal(settings(Secretive, { env: {}, dotenv: dotenvOf(t, printed), production: true }).APP_SECRET, /=(.+)\n/.exec(printed)![1])
})

t.test('a command tells how it is called; one that is unknown, or called wrongly, exits with 2', async t => {
  for (const args of [['--help'], ['-h'], ['help']]) t.match(await run(...args), { code: 0, printed: /^npx fastify-bastion <command>[^]* {2}secret /, complained: '' })
  t.match(await run('secret', '--help'), { code: 0, printed: /--bytes N/, complained: '' })
  for (const [args, complaint] of [
    [[], /^npx fastify-bastion <command>/], [['sceret'], /^fastify-bastion: there is no command "sceret"\n\nnpx fastify-bastion/], [['constructor'], /there is no command/],
    [['secret', '--bytes', '31'], /--bytes: must be 32 to 1024/], [['secret', '--bytes', '1025'], /--bytes/], [['secret', '--bytes', '0x40'], /--bytes/], [['secret', '--name', 'A B'], /--name: must be the name/],
    [['secret', '--lenght', '3'], /--lenght/], [['secret', 'more'], /more/],
  ] as const) t.match(await run(...args), { code: 2, printed: '', complained: complaint }, args.join(' '))
})
