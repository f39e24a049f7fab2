/** `npx fastify-bastion doctor`: what is not fit is said, with an exit code, and no secret. */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { cli } from '../plugins/cli.js'
import { nodeChecks } from '../plugins/doctor/machine.js'
import { PUBLISHED } from '../plugins/doctor/published.js'
import { skewCheck } from '../plugins/doctor/services.js'
import { isIn } from '../plugins/doctor/versions.js'
import { authority, issue } from './fixtures/authority.js'
import { postgres, redis } from './services.js'

t.setTimeout(240_000)
const ROOT = fileURLToPath(new URL('../', import.meta.url))
const OURS = ['NODE_ENV', 'REDIS_URL', 'DATABASE_URL', 'TLS_CERT', 'TLS_KEY', 'NODE_TLS_REJECT_UNAUTHORIZED', 'npm_config_registry']
const STRONG = () => randomBytes(48).toString('base64url')

interface Said { code: number, text: string, checks: { about: string, state: string, message: string }[] }

/** A folder of a service, with what it has installed. */
async function folderOf (t: Test, installed: Record<string, string> = {}): Promise<string> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'bastion-doctor-')))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'package.json'), '{ "name": "service", "private": true }')
  for (const [place, version] of Object.entries(installed)) {
    const path = join(folder, 'node_modules', place)
    await mkdir(path, { recursive: true })
    await writeFile(join(path, 'package.json'), JSON.stringify({ name: place.split('/node_modules/').at(-1), version }))
  }
  return folder
}

async function ask (folder: string, env: Record<string, string>, ...args: string[]): Promise<Said> {
  const [before, kept] = [process.cwd(), Object.fromEntries(OURS.map(name => [name, process.env[name]]))]
  const lines: string[] = []
  try {
    process.chdir(folder)
    for (const name of OURS) delete process.env[name]
    Object.assign(process.env, env)
    const code = await cli(['doctor', '--json', ...args], line => { lines.push(line) }, line => { lines.push(line) })
    const text = lines.join('\n')
    return { code, text, checks: text.startsWith('{') ? JSON.parse(text).checks : [] }
  } finally {
    process.chdir(before)
    for (const name of Object.keys(env)) delete process.env[name]
    for (const [name, value] of Object.entries(kept)) if (value !== undefined) process.env[name] = value
  }
}

const messages = ({ checks }: Said, about: string, state?: string) => checks.filter(check => check.about === about && (state === undefined || check.state === state)).map(({ message }) => message)

t.test('secrets: weak ones are bad in production and warned of before it, and none is printed [ASVS 13.3.1]', async t => {
  const folder = await folderOf(t)
  const [weak, strong, other] = ['hunter2hunter2', STRONG(), STRONG()]
  const env = { APP_SECRET: strong, COOKIE_SECRET: weak, SESSION_SECRET: strong, DATABASE_PASSWORD: 'postgres', OTHER_SECRET: other }
  const inProduction = await ask(folder, { ...env, NODE_ENV: 'production' })
  t.equal(inProduction.code, 1)
  t.match(messages(inProduction, 'secrets', 'bad'), [/^COOKIE_SECRET .*npx fastify-bastion secret/, /^DATABASE_PASSWORD holds a password that is a well-known default/])
  t.match(messages(inProduction, 'secrets', 'warning'), [/^APP_SECRET and SESSION_SECRET are the same/])
  for (const value of [weak, strong, other]) t.notMatch(inProduction.text, value)

  const before = await ask(folder, { ...env, NODE_ENV: 'development' })
  t.equal(before.code, 0)
  t.equal(messages(before, 'secrets', 'warning').length, 3)
  t.equal((await ask(folder, { ...env, NODE_ENV: 'development' }, '--strict')).code, 1)
  t.equal((await ask(folder, { ...env, NODE_ENV: 'development' }, '--production')).code, 1)

  t.match(await ask(folder, { APP_SECRET: strong, NODE_ENV: 'production' }), { code: 0 }, 'negative control: strong ones alone are good')
})

t.test('a file of settings that others may read, and a schema of settings', async t => {
  const folder = await folderOf(t)
  await writeFile(join(folder, '.env'), `APP_SECRET=${STRONG()}\nPORT=many\n`, { mode: 0o644 })
  await chmod(join(folder, '.env'), 0o644)
  await writeFile(join(folder, 'settings.mjs'), `import { Type } from '${import.meta.resolve('@sinclair/typebox')}'
export const schema = Type.Object({ PORT: Type.Integer(), MAIL_KEY: Type.String({ secret: true, minLength: 1 }) })`)
  const said = await ask(folder, { NODE_ENV: 'production' }, '--settings', 'settings.mjs')
  t.equal(said.code, 1)
  t.match(messages(said, 'settings', 'bad'), [/^\.env may be read by others \(mode 0644\)/, /^PORT: /, /^MAIL_KEY is missing/])
  t.notMatch(said.text, /many/)
  await chmod(join(folder, '.env'), 0o600)
  t.strictSame(messages(await ask(folder, { NODE_ENV: 'production' }), 'settings'), [])
  await writeFile(join(folder, 'other.mjs'), "export default { type: 'object' }")
  t.match(await ask(folder, {}, '--settings', 'other.mjs'), { code: 1, text: 'exports no schema of settings' })
  t.match(await ask(folder, {}, '--settings', 'none.js'), { code: 1, text: 'there is no such file' })
  t.match(await ask(folder, {}, '--env-file', 'none.env'), { code: 1, text: 'there is no none.env' })
})

t.test('Redis: it answers, which one it is, whose clock is right; and why where it does not', async t => {
  const shared = await redis(t)
  const folder = await folderOf(t)
  if (shared !== null) {
    const said = await ask(folder, { REDIS_URL: shared.url, NODE_ENV: 'test' })
    t.match(messages(said, 'redis', 'good'), [/^(?:Redis|Valkey) \d+\.\d+\.\d+ answers$/, /^its clock and this one agree within 1000 ms$/])
    const wrong = new URL(shared.url)
    wrong.password = 'a-password-that-nobody-may-see'
    const refused = await ask(folder, { REDIS_URL: wrong.href, NODE_ENV: 'test' })
    t.match(refused, { code: 1 })
    t.match(messages(refused, 'redis', 'bad'), [/it refuses the credentials/])
    t.notMatch(refused.text, /nobody-may-see/)
  }
  const away = await ask(folder, { REDIS_URL: 'redis://:a-password-that-nobody-may-see@127.0.0.1:1', NODE_ENV: 'test' })
  t.match(away, { code: 1 })
  t.match(messages(away, 'redis', 'bad'), [/ECONNREFUSED/])
  t.notMatch(away.text, /nobody-may-see/)
  const strange = await ask(folder, { REDIS_URL: 'http://nobody-may-see@example.com', NODE_ENV: 'test' })
  t.match(messages(strange, 'redis', 'bad'), [/REDIS_URL/])
  t.notMatch(strange.text, /nobody-may-see/)
  t.match(messages(await ask(folder, { REDIS_URL: 'redis://192.0.2.1', NODE_ENV: 'production' }), 'redis', 'bad')[0], /plain: whoever is on the way/)
})

t.test('PostgreSQL: the same, and whether the service is a superuser there', async t => {
  const folder = await folderOf(t)
  const url = 'postgres://user:nobody-may-see@127.0.0.1:1/database'
  t.match(messages(await ask(folder, { DATABASE_URL: url }), 'postgresql'), [/the package pg is not installed here/])
  await mkdir(join(folder, 'node_modules'), { recursive: true })
  await symlink(join(ROOT, 'node_modules/pg'), join(folder, 'node_modules/pg'), 'dir')
  const away = await ask(folder, { DATABASE_URL: url })
  t.match(messages(away, 'postgresql', 'bad'), [/ECONNREFUSED/])
  const unclear = await ask(folder, { DATABASE_URL: 'postgres://user:nobody-may-see@127.0.0.1/database?sslmode=prefer' })
  t.equal(messages(unclear, 'postgresql', 'bad').length, 1)
  for (const { text } of [away, unclear]) t.notMatch(text, /nobody-may-see/)
  const shared = await postgres(t)
  if (shared === null) return
  const said = await ask(folder, { DATABASE_URL: shared.url })
  t.match(messages(said, 'postgresql', 'good'), [/^PostgreSQL \d+(?:\.\d+)* answers$/, /^its clock and this one agree/])
})

t.test('clocks: a second of difference is warned of, half a minute is bad', async t => {
  const checks = (theirs: number) => skewCheck('redis', theirs, 10_000, 14_000)
  for (const theirs of [9100, 10_000, 12_000, 14_000, 14_900]) t.match(checks(theirs), { state: 'good' }, 'what its answer took is no difference')
  t.match(checks(8500), { state: 'warning', message: '1500 ms behind this one' })
  t.match(checks(59_000), { state: 'bad', message: '45000 ms ahead of this one' })
})

t.test('certificates: one that is good, one that ends soon, one that has ended, one of another key', async t => {
  const folder = await folderOf(t)
  const root = await authority()
  const write = async (name: string, { cert, key }: { cert: string, key: string }) => {
    await writeFile(join(folder, `${name}.pem`), cert)
    await writeFile(join(folder, `${name}.key`), key, { mode: 0o600 })
    return { TLS_CERT: join(folder, `${name}.pem`), TLS_KEY: join(folder, `${name}.key`) }
  }
  const [fine, soon, ended] = await Promise.all([60, 5, -1].map(async (to, i) => write(`c${i}`, await issue(root, { name: 'api.example.com', to, ...to < 0 && { from: -30 } }))))
  t.match(messages(await ask(folder, { ...fine!, NODE_ENV: 'test' }), 'certificates', 'good'), [/is for api\.example\.com/])
  t.match(messages(await ask(folder, { ...soon!, NODE_ENV: 'test' }), 'certificates', 'warning').join('\n'), /good for [45] more days/)
  t.match(await ask(folder, { ...ended!, NODE_ENV: 'test' }), { code: 1, text: 'expired' })
  t.match(await ask(folder, { TLS_CERT: fine!.TLS_CERT, TLS_KEY: soon!.TLS_KEY, NODE_ENV: 'test' }), { code: 1, text: 'does not belong to the certificate' })
  t.match(await ask(folder, { TLS_CERT: fine!.TLS_CERT, NODE_ENV: 'test' }), { code: 1, text: 'TLS_KEY is not set beside the other' })
  const shown = await ask(folder, { TLS_CERT: fine!.TLS_CERT, TLS_KEY: await readFile(fine!.TLS_KEY, 'utf8'), NODE_ENV: 'test' })
  t.match(shown, { code: 1, text: 'TLS_KEY must name a file' })
  t.notMatch(shown.text, 'PRIVATE KEY', 'a key that stands in the environment itself is not printed')
})

t.test('Node: its age, its end of life, and what would switch TLS off', async t => {
  const now = Date.parse('2026-11-21')
  const states = (version: string, env: Record<string, string> = { NODE_ENV: 'production' }) => nodeChecks(version, name => env[name], true, now).map(({ state, message }) => `${state}: ${message}`)
  t.match(states('v24.1.0'), [/^good/])
  t.match(states('v20.20.2'), [/^warning: Node 20 has had no security fixes since 2026-04-30/])
  t.match(states('v18.20.0'), [/^bad: .*older than 20\.20\.0/])
  t.match(states('v25.0.0'), [/^warning: .*odd line/])
  t.match(states('v24.1.0', { NODE_ENV: 'prod', NODE_TLS_REJECT_UNAUTHORIZED: '0', NODE_OPTIONS: '--inspect=0.0.0.0' }),
    [/^good/, /^bad: NODE_TLS_REJECT_UNAUTHORIZED=0/, /^warning: NODE_ENV is neither/, /^bad: NODE_OPTIONS opens the debugger/])
})

t.test('advisories: known ones of what is installed, wherever it is', async t => {
  const folder = await folderOf(t, { fastify: '5.3.1', '@fastify/jwt': '10.0.0', '@fastify/jwt/node_modules/fast-jwt': '6.0.0', ajv: '8.20.0' })
  const said = await ask(folder, { NODE_ENV: 'test' })
  t.equal(said.code, 1)
  t.match(messages(said, 'advisories', 'bad').join('\n'), /fastify 5\.3\.1: .*GHSA-mg2h-6x62-wpwc[^]*fast-jwt 6\.0\.0: .*GHSA-rp9m-7r4c-75qg/)
  t.match(messages(await ask(await folderOf(t, { fastify: '5.12.8' }), { NODE_ENV: 'test' }), 'advisories', 'good'), [/^1 packages that guard a service have none of the list/], 'negative control: a later one has none')
  t.strictSame(messages(await ask(await folderOf(t), { NODE_ENV: 'test' }), 'advisories', 'skipped').length, 1)

  const workspace = await folderOf(t, { fastify: '5.3.1', '.pnpm/fast-jwt@6.0.0/node_modules/fast-jwt': '6.0.0' })
  await mkdir(join(workspace, 'packages/api'), { recursive: true })
  t.match(messages(await ask(join(workspace, 'packages/api'), { NODE_ENV: 'test' }), 'advisories', 'bad').join('\n'), /fastify 5\.3\.1[^]*fast-jwt 6\.0\.0/, 'of a workspace, whose root has them')
})

t.test('advisories are asked for anew, kept, and used from then on; and it says so where nobody answers', async t => {
  let asked: unknown
  let answer: { status: number, body: string } = { status: 200, body: '' }
  const registry = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += String(chunk)
    asked = { method: request.method, url: request.url, body: JSON.parse(body) }
    response.writeHead(answer.status, { 'content-type': 'application/json', connection: 'close' }).end(answer.body)
  })
  registry.listen(0, '127.0.0.1')
  await once(registry, 'listening')
  t.teardown(() => { registry.close() })
  const url = `http://127.0.0.1:${(registry.address() as AddressInfo).port}/mirror`
  const folder = await folderOf(t, { fastify: '5.12.8', 'left-pad': '1.0.0' })

  answer = { status: 200, body: JSON.stringify({ fastify: [{ id: 1, url: 'https://github.com/advisories/GHSA-aaaa-bbbb-cccc', title: 'new \u001b[31m one', severity: 'critical', vulnerable_versions: '>=5.0.0 <5.13.0' }] }) }
  const said = await ask(folder, { NODE_ENV: 'test' }, '--refresh', '--registry', url)
  t.strictSame(asked, { method: 'POST', url: '/mirror/-/npm/v1/security/advisories/bulk', body: { fastify: ['5.12.8'] } }, 'it tells of nothing but what is watched')
  t.equal(said.code, 1)
  t.match(messages(said, 'advisories', 'bad'), [/^fastify 5\.12\.8: new {2}\[31m one \(critical, GHSA-aaaa-bbbb-cccc\)$/])
  t.equal((await ask(folder, { NODE_ENV: 'test' })).code, 1, 'and without asking again')

  const kept = join(folder, 'node_modules/.cache/fastify-bastion/advisories.json')
  const before = await readFile(kept, 'utf8')
  for (const [next, why] of [[{ status: 405, body: '{}' }, 'it answers 405'], [{ status: 200, body: 'no JSON' }, 'SyntaxError'], [{ status: 200, body: '[]' }, 'none of an advisory service'], [{ status: 200, body: '{"fastify":[{}]}' }, 'none of an advisory service']] as const) {
    answer = next
    t.match(messages(await ask(folder, { NODE_ENV: 'test' }, '--refresh', '--registry', url), 'advisories', 'warning'), [why])
    t.equal(await readFile(kept, 'utf8'), before, 'what was known stays')
  }
  registry.close()
  t.match(messages(await ask(folder, { NODE_ENV: 'test' }, '--refresh', '--registry', url), 'advisories', 'warning'), [/ECONNREFUSED/])
  t.match(await ask(folder, {}, '--refresh', '--registry', 'http://registry.example/'), { code: 2, text: 'must be an https: URL' })
  t.match(await ask(folder, {}, '--registry', 'nowhere'), { code: 2, text: 'must be a URL' })
  t.match(await ask(folder, {}, '--jsn'), { code: 2 })
})

t.test('ranges are read as advisories write them, and one that cannot be read holds every version', async t => {
  for (const [version, range, expected] of [
    ['4.29.0', '=4.29.0 || >=5.0.0 <5.3.2', true], ['4.28.0', '=4.29.0 || >=5.0.0 <5.3.2', false], ['5.3.2', '=4.29.0 || >=5.0.0 <5.3.2', false], ['5.3.1', '>= 5.0.0, < 5.3.2', true],
    ['6.1.0', '<=6.1.0', true], ['10.9.0', '<10.9.0', false], ['9.99.0', '<10.9.0', true], ['1.0.0-beta.1', '<1.0.0', true], ['1.2.3', '*', true], ['not a version', '<1.0.0', true],
  ] as const) t.equal(isIn(version, range), expected, `${version} in ${range}`)
  for (const { range, id, package: name } of PUBLISHED) {
    t.match(id, /^GHSA(?:-[a-z\d]{4}){3}$/)
    t.notOk(isIn('999.0.0', range), `${name} ${id} has an end`)
    for (const [, sign, version = ''] of range.matchAll(/(<=|>=|<|=)(\S+)/g)) {
      const [major, minor, patch] = version.split('.').map(Number) as [number, number, number]
      const before = patch > 0 ? [major, minor, patch - 1] : minor > 0 ? [major, minor - 1, 999] : [major - 1, 999, 999]
      const isFirst = sign === '>=' || sign === '='
      t.equal(isIn(version, range), sign !== '<', `${name} ${version}: ${id}`)
      t.equal(isIn(before.join('.'), range), !isFirst, `${name} ${before.join('.')}: ${id}`)
      if (sign !== '>=') t.notOk(isIn([major, minor, patch + 1].join('.'), range), `${name} after ${version}: ${id}`)
    }
  }
  t.equal(new Set(PUBLISHED.map(({ id }) => id)).size, PUBLISHED.length, 'each once')
})

t.test('what the project itself has installed has none that is known', async t => {
  t.strictSame(messages(await ask(ROOT, { NODE_ENV: 'test' }), 'advisories', 'bad'), [])
})
