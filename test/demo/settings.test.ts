/** The variables of the contract: their defaults, and what is refused before anything is opened. */
import { join } from 'node:path'
import t from 'tap'
import { makeKeys } from '../../demo/keys.js'
import { listOf, loadPortalSettings, readSettings } from '../../demo/settings.js'
import { CREDENTIALS, secretsManager } from '../fixtures/secrets-manager.js'
import { vaultServer } from '../fixtures/vault.js'

const STRONG = 'kJ3vZ8mQ1xT5bW9nR2cY6fH4gL7pD0sAeUiOwNqVtXyBzKjMhGrFdSlPaCuEIo9_'

t.test('without any variable it is a development run on 127.0.0.1:3000 with its data under .data', async t => {
  const settings = readSettings({})
  t.match({ ...settings }, { HOST: '127.0.0.1', PORT: 3000, NODE_ENV: 'development', DATA_DIR: '.data', JWT_ALGORITHM: 'HS256', PASSWORD_POLICY: 'composition', LOG_LEVEL: 'info' })
  for (const name of ['DATABASE_URL', 'REDIS_URL', 'APP_SECRET', 'JWT_KEYS', 'DEMO_PASSWORD', 'CORS_ORIGINS', 'PUBLIC_ORIGIN', 'TRUST_PROXY', 'TLS_CERT', 'TLS_KEY'] as const) t.equal(settings[name], undefined, name)
})

t.test('what is concealed never shows itself', async t => {
  const secrets = { APP_SECRET: STRONG, DATABASE_URL: 'postgres://portal:hunter2@localhost/portal', REDIS_URL: 'redis://:hunter2@localhost', DEMO_PASSWORD: 'hunter2-hunter2' }
  const settings = readSettings(secrets)
  t.match([settings.APP_SECRET, settings.DATABASE_URL, settings.REDIS_URL, settings.DEMO_PASSWORD], Object.values(secrets))
  t.notMatch(JSON.stringify(settings) + JSON.stringify({ ...settings }), /hunter2|kJ3v/)
})

t.test('wrong values are refused by their names, and not repeated', async t => {
  for (const [env, message] of [
    [{ NODE_ENV: 'production' }, /APP_SECRET is missing/],
    [{ NODE_ENV: 'production', APP_SECRET: 'c2hvcnQ' }, /APP_SECRET/],
    [{ NODE_ENV: 'production', APP_SECRET: 'change-me-change-me-change-me-change-me-change-me' }, /APP_SECRET/],
    [{ NODE_ENV: 'production', APP_SECRET: '0'.repeat(128) }, /APP_SECRET/],
    [{ NODE_ENV: 'production', APP_SECRET: 'correcthorsebatterystaplecorrecthorsebatterystaple' }, /APP_SECRET/],
    [{ NODE_ENV: 'prod', APP_SECRET: STRONG }, /NODE_ENV/],
    [{ NODE_ENV: 'prod' }, /APP_SECRET is missing/],
    [{ PORT: 'http' }, /PORT/], [{ PORT: '70000' }, /PORT/], [{ PORT: '-1' }, /PORT/], [{ PORT: '30.5' }, /PORT/],
    [{ JWT_ALGORITHM: 'none' }, /JWT_ALGORITHM/], [{ JWT_ALGORITHM: 'HS512' }, /JWT_ALGORITHM/],
    [{ PASSWORD_POLICY: 'none' }, /PASSWORD_POLICY/], [{ LOG_LEVEL: 'loud' }, /LOG_LEVEL/], [{ DEMO_PASSWORD: 'short' }, /DEMO_PASSWORD/],
    [{ PUBLIC_ORIGIN: 'https://portal.example/app' }, /PUBLIC_ORIGIN/], [{ PUBLIC_ORIGIN: 'portal.example' }, /PUBLIC_ORIGIN/],
    [{ TRUST_PROXY: 'all' }, /TRUST_PROXY/], [{ TRUST_PROXY: 'true' }, /TRUST_PROXY/],
    [{ DATABASE_URL: 'mysql://root:hunter2@localhost/x' }, /DATABASE_URL/], [{ REDIS_URL: 'http://:hunter2@localhost' }, /REDIS_URL/],
  ] as const) {
    t.throws(() => readSettings(env as Record<string, string>), { code: 'FST_BASTION_SETTINGS_REFUSED', message }, JSON.stringify(env).slice(0, 50))
    try {
      readSettings(env as Record<string, string>)
    } catch (error) {
      t.notMatch((error as Error).message, /hunter2|c2hvcnQ|change-me|0{64}|correcthorse/)
    }
  }
  t.equal(readSettings({ NODE_ENV: 'production', APP_SECRET: STRONG }).NODE_ENV, 'production')
})

t.test('NAME_FILE, Vault and AWS beside the environment; a change there is told', async t => {
  const [vault, manager] = [await vaultServer(t), await secretsManager(t)]
  vault.grant('hvs.portal')
  vault.write('secret/portal', { APP_SECRET: STRONG, JWT_ALGORITHM: 'EdDSA' })
  manager.secrets.set('portal', { SecretString: JSON.stringify({ DEMO_PASSWORD: 'from-aws-1', JWT_ALGORITHM: 'ES256' }) })
  const folder = t.testdir({ redis: 'redis://cache:6379\n' })
  const own = { AWS_ACCESS_KEY_ID: CREDENTIALS.accessKeyId, AWS_SECRET_ACCESS_KEY: CREDENTIALS.secretAccessKey, AWS_ENDPOINT_URL_SECRETS_MANAGER: manager.url }
  Object.assign(process.env, own)
  t.teardown(() => { for (const name of Object.keys(own)) delete process.env[name] })
  const loaded = await loadPortalSettings({ NODE_ENV: 'production', REDIS_URL_FILE: join(folder, 'redis'), VAULT_ADDR: vault.url, VAULT_TOKEN: 'hvs.portal', AWS_SECRET_ID: 'portal', AWS_REGION: 'eu-central-1' })
  t.teardown(() => loaded.close())
  const { APP_SECRET, REDIS_URL, DEMO_PASSWORD, JWT_ALGORITHM } = loaded.values
  t.strictSame([APP_SECRET, REDIS_URL, DEMO_PASSWORD, JWT_ALGORITHM], [STRONG, 'redis://cache:6379', 'from-aws-1', 'EdDSA'])
  manager.secrets.set('portal', { SecretString: JSON.stringify({ DEMO_PASSWORD: 'from-aws-2' }) })
  t.strictSame(await loaded.refresh(), ['DEMO_PASSWORD'])
})

t.test('what cannot be read stops it, and is not shown', async t => {
  const vault = await vaultServer(t)
  vault.grant('hunter2-token')
  for (const [env, message] of [
    [{ VAULT_ADDR: vault.url, VAULT_TOKEN: 'hunter2-token' }, /^Settings cannot be read: Vault \(127\.0\.0\.1:\d+\): secret\/data\/portal was answered with 404$/],
    [{ VAULT_ADDR: vault.url }, /^VAULT_ADDR needs either VAULT_TOKEN, or VAULT_ROLE_ID and VAULT_SECRET_ID$/],
    [{ VAULT_ADDR: vault.url, VAULT_TOKEN: 'hunter2', VAULT_ROLE_ID: 'hunter2', VAULT_SECRET_ID: 'hunter2' }, /^VAULT_ADDR needs either/],
    [{ VAULT_ADDR: 'http://vault.example', VAULT_TOKEN: 'hunter2' }, /address: must begin with https/],
    [{ APP_SECRET: 'hunter2', APP_SECRET_FILE: '/dev/null' }, /APP_SECRET and APP_SECRET_FILE are both set/],
    [{ NODE_ENV: 'production', APP_SECRET: STRONG, DATABASE_URL: 'postgres://postgres:postgres@db/portal' }, /DATABASE_URL holds a password that is a well-known default/],
  ] as const) {
    await t.rejects(loadPortalSettings(env as Record<string, string>), { message })
    await loadPortalSettings(env as Record<string, string>).catch(error => { t.notMatch((error as Error).stack, /hunter2|postgres:postgres/) })
  }
})

t.test('a private key where a path belongs is refused, and not shown', async t => {
  const pem = '-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n'
  t.throws(() => readSettings({ TLS_KEY: pem }), { message: /TLS_KEY: / })
  try {
    readSettings({ TLS_KEY: pem })
  } catch (error) {
    t.notMatch((error as Error).message, /hunter2/)
  }
})

t.test('private keys in another form than a JWK Set are refused, and not shown', async t => {
  for (const keys of ['[{"kty":"EC","d":"hunter2"}]', '-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n', 'hunter2', '{"keys":[{"kty":"RSA","d":"hunter2"}]}', '{hunter2']) {
    const { JWT_KEYS } = readSettings({ JWT_KEYS: keys })
    t.throws(() => makeKeys(STRONG, { JWT_ALGORITHM: 'ES256', JWT_KEYS, ENCRYPTION_VERSION: 1 }), { message: /^JWT_KEYS: (?:the file that it names|what it holds) (?:is not a readable JWK Set of private keys|has no private key for ES256)$/ })
  }
})

t.test('lists are separated by commas', async t => {
  t.strictSame(listOf(' a, b ,,c '), ['a', 'b', 'c'])
  t.strictSame(listOf(undefined), [])
})
