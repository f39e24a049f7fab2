/** AWS Secrets Manager by its official SDK, over real HTTP and HTTPS, against a server that speaks its protocol and checks signatures. */
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import { aws, Concealed, loadSettings, Secret, type AwsOptions, type SettingsFault } from '../../plugins/settings/index.js'
import { testClock, until } from '../fixtures/clock.js'
import { printed, refusal } from '../fixtures/refusals.js'
import { CREDENTIALS, secretsManager, type AwsAnswer, type SecretsManager } from '../fixtures/secrets-manager.js'
import { selfSigned } from '../wire/certificate.js'

const CANARY = 'canary-'
const ONE = `${CANARY}of-the-value-1`
const Schema = Type.Object({
  APP_SECRET: Type.Optional(Secret()),
  PORT: Type.Integer({ default: 3000 }),
  SIGNING_KEY: Type.Optional(Concealed(Type.String())),
})
type Options = Partial<AwsOptions>

async function serve (t: Test, settings?: Parameters<typeof secretsManager>[1]) {
  const server = await secretsManager(t, settings)
  server.secrets.set('portal', { SecretString: JSON.stringify({ APP_SECRET: ONE, PORT: 8080 }) })
  return { server, clock: testClock() }
}

function sourceOf (server: SecretsManager, clock: ReturnType<typeof testClock>, options: Options = {}) {
  return aws({ secrets: [{ id: 'portal' }], region: 'eu-central-1', endpoint: server.url, credentials: CREDENTIALS, clock, ...options })
}

async function build (t: Test, options: Options = {}) {
  const { server, clock } = await serve(t)
  const loaded = await loadSettings(Schema, { sources: [sourceOf(server, clock, options)], refresh: 300_000, clock })
  t.teardown(() => loaded.close())
  const faults: SettingsFault[] = []
  loaded.onFault(fault => { faults.push(fault) })
  return { server, clock, loaded, faults }
}

t.test('a secret of JSON: its fields are the variables; every request is signed [ASVS 13.3.1]', async t => {
  const { server, clock } = await serve(t)
  const source = sourceOf(server, clock)
  const loaded = await loadSettings(Schema, { sources: [source], refresh: false, clock })
  t.strictSame([{ ...loaded.values }, loaded.values.APP_SECRET], [{ PORT: 8080 }, ONE])
  t.match(server.requests, [{
    target: 'secretsmanager.GetSecretValue',
    body: { SecretId: 'portal', VersionStage: 'AWSCURRENT' },
    headers: { 'content-type': 'application/x-amz-json-1.1', authorization: /^AWS4-HMAC-SHA256 Credential=AKIDPORTALTEST\/\d{8}\/eu-central-1\/secretsmanager\/aws4_request, SignedHeaders=/ },
  }])
  t.notMatch(printed(source, loaded, loaded.values, loaded.status()), CANARY)
  await loaded.close()
  const other = sourceOf(server, clock, { credentials: { ...CREDENTIALS, secretAccessKey: 'another' } })
  t.match((await refusal(loadSettings(Schema, { sources: [other], refresh: false, clock }))).message, /portal was answered with 400 \(InvalidSignatureException\)$/, 'negative control: the signature is checked')
})

t.test('plain secrets and bytes by a name, fields by theirs, stages and versions; the first that has a variable wins', async t => {
  const { server, clock } = await serve(t)
  const version = 'b'.repeat(32)
  server.secrets.set('team/key', { SecretString: 'plain text' })
  server.secrets.set('bytes', { SecretBinary: Buffer.from([0xff, 0xfe, 0xfd]).toString('base64') })
  server.secrets.set('portal@AWSPREVIOUS', { SecretString: '{"PORT":1}' })
  server.secrets.set(version, { SecretString: '{"PORT":2}' })
  server.secrets.set('arn:aws:secretsmanager:eu-central-1:123456789012:secret:named-AbCdEf', { SecretString: '{"port":3}' })
  const read = async (...secrets: AwsOptions['secrets']) => {
    const loaded = await loadSettings(Schema, { sources: [sourceOf(server, clock, { secrets })], refresh: false, clock })
    await loaded.close()
    return [loaded.values.PORT, loaded.values.SIGNING_KEY]
  }
  t.strictSame(await read({ id: 'team/key', name: 'SIGNING_KEY' }), [3000, 'plain text'])
  t.strictSame(await read({ id: 'bytes', name: 'SIGNING_KEY' }), [3000, '//79'])
  t.strictSame(await read({ id: 'portal', stage: 'AWSPREVIOUS' }), [1, undefined])
  t.strictSame(await read({ id: 'portal', versionId: version }), [2, undefined])
  t.strictSame(await read({ id: 'arn:aws:secretsmanager:eu-central-1:123456789012:secret:named-AbCdEf', fields: { PORT: 'port' } }, { id: 'portal' }), [3, undefined])
})

t.test('a new version is taken over by the interval, and told [ASVS 13.3.4]', async t => {
  const { server, clock, loaded, faults } = await build(t)
  const told: unknown[] = []
  loaded.onChange(['APP_SECRET'], ({ APP_SECRET }) => { told.push(APP_SECRET) })
  server.secrets.set('portal', { SecretString: JSON.stringify({ APP_SECRET: 'two', PORT: 8080 }) })
  clock.pass(300_000)
  await until(() => told.length === 1)
  t.strictSame([told, loaded.values.APP_SECRET, faults], [['two'], 'two', []])
})

t.test('what fails in passing is tried again by us alone, a throttled request too; what is refused is not', async t => {
  const { server, clock } = await serve(t)
  const answers: (AwsAnswer | undefined)[] = []
  server.instead = () => answers.shift()
  const read = async (...given: AwsAnswer[]) => {
    answers.splice(0, answers.length, ...given)
    clock.pauses.length = 0
    const before = server.requests.length
    const outcome = await loadSettings(Schema, { sources: [sourceOf(server, clock)], refresh: false, clock }).then(async one => {
      await one.close()
      return 'read'
    }, (error: Error) => error.message.replace(/^.*Manager: /, ''))
    return { outcome, asked: server.requests.length - before }
  }
  const fails = (times: number, status: number, type?: string): AwsAnswer[] => Array.from({ length: times }, () => ({ status, type }))
  t.strictSame(await read(...fails(1, 500, 'InternalServiceError'), ...fails(1, 400, 'ThrottlingException'), ...fails(1, 503)), { outcome: 'read', asked: 4 })
  t.equal(clock.pauses.length, 3)
  for (const [i, ms] of clock.pauses.entries()) t.ok(ms >= 100 * 2 ** i && ms <= 200 * 2 ** i, `pause ${i + 1}: ${ms} ms`)
  t.strictSame(await read(...fails(5, 500, 'InternalServiceError')), { outcome: 'portal was answered with 500 (InternalServiceError), 4 attempts', asked: 4 })
  for (const type of ['ResourceNotFoundException', 'AccessDeniedException', 'DecryptionFailure', 'InvalidRequestException']) {
    t.strictSame(await read(...fails(2, 400, type)), { outcome: `portal was answered with 400 (${type})`, asked: 1 })
  }
})

t.test('no answer, no credentials, no server: a clear error at boot, the last reading later', async t => {
  const { server, clock, loaded, faults } = await build(t, { timeout: 1000, attempts: 1, staleFor: 60_000 })
  server.instead = () => 'hang'
  await loaded.refresh()
  t.match(faults.pop(), { kind: 'unavailable', message: 'AWS Secrets Manager: no answer within 1000 ms; what was read last goes on' })
  clock.pass(60_001)
  await loaded.refresh()
  t.match(faults.pop(), { kind: 'expired' })
  t.equal(loaded.values.APP_SECRET, ONE)
  const open = (options: Options) => refusal(loadSettings(Schema, { sources: [sourceOf(server, clock, { attempts: 1, ...options })], refresh: false, clock }))
  t.match(await open({ timeout: 200 }), { code: 'FST_BASTION_SETTINGS_UNAVAILABLE', message: 'Settings cannot be read: AWS Secrets Manager: no answer within 200 ms' })
  t.match((await open({ endpoint: 'http://127.0.0.1:9' })).message, /no connection \(ECONNREFUSED\)$/)
  t.match((await open({ credentials: async () => { throw Object.assign(new Error(CANARY), { name: 'CredentialsProviderError' }) } })).message, /no credentials were found$/)
})

t.test('TLS: a chain that is not trusted is refused before anything is signed for it', async t => {
  const tls = selfSigned(['localhost'])
  const { server, clock } = await serve(t, { tls })
  const open = (options: Options) => loadSettings(Schema, { sources: [sourceOf(server, clock, options)], refresh: false, clock })
  t.match((await refusal(open({}))).message, /no connection \(DEPTH_ZERO_SELF_SIGNED_CERT\)$/)
  t.equal(server.requests.length, 0)
  const loaded = await open({ ca: tls.cert })
  t.equal(loaded.values.APP_SECRET, ONE)
  await loaded.close()
})

t.test('attack: no redirect takes a signed request elsewhere', async t => {
  const [{ server, clock }, thief] = [await serve(t), await secretsManager(t)]
  for (const status of [301, 302, 307, 308]) {
    server.instead = () => ({ status, headers: { location: thief.url } })
    t.match((await refusal(loadSettings(Schema, { sources: [sourceOf(server, clock)], refresh: false, clock }))).message, new RegExp(`answered with ${status}`))
  }
  t.strictSame(thief.requests, [])
})

t.test('attack: no value and no credential in anything that is said, whatever goes wrong; the SDK\'s own errors tell them', async t => {
  const said: unknown[] = []
  const { server, clock, loaded, faults } = await build(t, { attempts: 1 })
  const open = (options: Options = {}) => refusal(loadSettings(Schema, { sources: [sourceOf(server, clock, { attempts: 1, ...options })], refresh: false, clock }))
  for (const answer of [
    { status: 400, type: `${CANARY}Exception`, body: { Message: ONE } }, { status: 403, type: 'AccessDeniedException', body: { Message: ONE } }, { status: 500, body: { SecretString: ONE, Message: ONE } },
    { status: 200, body: { SecretString: ONE } }, { status: 200, body: { SecretString: `["${ONE}"]` } }, { status: 200, body: { Other: ONE } }, { status: 200, body: [ONE] },
  ]) {
    server.instead = () => answer
    await loaded.refresh()
    t.ok(faults.length > 0)
    said.push(...faults.splice(0), loaded.status(), loaded, await open())
  }
  server.instead = () => undefined
  said.push(await open({ secrets: [{ id: 'portal', fields: { PORT: 'absent' } }] }), await open({ endpoint: 'http://127.0.0.1:9' }))
  t.equal(said.length, 7 * 4 + 2)
  t.notMatch(printed(...said), CANARY)

  const { GetSecretValueCommand, SecretsManagerClient } = await import('@aws-sdk/client-secrets-manager')
  const client = new SecretsManagerClient({ region: 'eu-central-1', endpoint: server.url, credentials: CREDENTIALS, maxAttempts: 1 })
  server.instead = () => ({ status: 400, type: 'AccessDeniedException', body: { Message: ONE } })
  t.match(String(await refusal(client.send(new GetSecretValueCommand({ SecretId: 'portal' })))), CANARY, 'negative control')
  client.destroy()
})

t.test('misconfiguration stops boot', async t => {
  for (const [change, message] of [
    [{ secrets: [] }, /aws: secrets/], [{ secrets: [{ id: '' }] }, /aws: secrets/], [{ secrets: [{ id: 'a b' }] }, /aws: secrets/], [{ secrets: [{ id: 'x', name: 'A', fields: {} }] }, /aws: secrets/],
    [{ region: 'Frankfurt!' }, /aws: region/], [{ endpoint: 'ftp://x' }, /aws: endpoint/], [{ endpoint: 'https://x:99999' }, /aws: endpoint/], [{ endpoint: 'http://secrets.example' }, /endpoint: must begin with https/], [{ ca: 'x' }, /aws: ca/], [{ staleFor: -1 }, /aws: stalefor/i], [{ regoin: 'x' }, /aws: regoin/],
  ] as const) t.throws(() => aws({ secrets: [{ id: 'portal' }], ...change } as never), { code: 'FST_BASTION_SETTINGS_REFUSED', message })
})
