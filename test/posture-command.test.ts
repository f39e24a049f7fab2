/** `npx fastify-bastion posture`: graded, in every form, and no route becomes weaker unseen. */
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { cli } from '../plugins/cli.js'
import { readBaseline } from '../plugins/posture/baseline.js'
import { changesBetween } from '../plugins/posture/changes/index.js'
import { gradeOf } from '../plugins/posture/grade.js'
import { loadApp } from '../plugins/posture/loading.js'
import { STANDARDS } from '../plugins/posture/standards.js'
import { TYPESCRIPT_BRIEFLY } from './fixtures/typescript.js'

t.setTimeout(240_000)
const ROOT = fileURLToPath(new URL('../', import.meta.url))
const folder = await mkdtemp(join(ROOT, '.tap-posture-'))
t.teardown(() => rm(folder, { recursive: true, force: true }))

const SERVICE = `
import Fastify from 'fastify'
import { Type } from '@sinclair/typebox'
import bastion, { deriveKey, server } from '../plugins/index.js'
import { closed } from '../schemas/closed.js'

const master = Buffer.alloc(48, 'Kv9')
const Post = closed({ id: Type.String(), title: Type.String(), email: Type.String({ visibleTo: 'users:read' }) })
const app = Fastify(server({ logger: false }))
await app.register(bastion, {
  transport: { hosts: ['api.example.com'] },
  cors: { origins: ['https://app.example.com'] },
  csrf: { key: deriveKey(master, 'csrf') },
  headers: {},
  access: {
    roles: { auditor: {}, reader: { permissions: ['posts:read'] }, editor: { inherits: ['reader'], permissions: ['posts:write', 'users:read'] } },
    resources: { post: { load: () => ({ userId: 'u1' }), owner: post => post.userId } },
  },
  tokens: { issuer: 'https://api.example.com', audience: 'https://api.example.com', keys: { access: deriveKey(master, 'access'), refresh: deriveKey(master, 'refresh') } },
})
app.get('/posts', { schema: { querystring: closed({ q: Type.String({ maxLength: 100 }) }), response: { 200: Type.Array(Post) } }, config: { access: { permissions: 'posts:read' } } }, async () => [])
app.post('/posts', {
  schema: { body: closed({ title: Type.String({ maxLength: 200 }), kind: Type.Union([Type.Literal('note'), Type.Literal('essay')]) }), response: { 201: closed({ id: Type.String() }) } },
  config: { access: { permissions: 'posts:write', stepUp: true }, limits: ['5/second', '100/minute'], audit: 'data_modification', csrf: 'token' },
}, async () => ({ id: '1' }))
app.delete('/posts/:id', {
  schema: { params: closed({ id: Type.String() }), response: { 204: Type.Null() } },
  config: { access: { resource: 'post', action: 'write', via: ['bearer'] }, audit: 'data_deletion' },
}, async () => null)
app.get('/health', { schema: { response: { 200: closed({ ok: Type.Boolean() }) } }, config: { access: 'public' } }, async () => ({ ok: true }))
export default app
`

let files = 0
/** A module; each has a name of its own, because a module is loaded once. */
async function moduleOf (source: string): Promise<string> {
  const path = join(folder, `app-${++files}.ts`)
  await writeFile(path, source)
  return path
}

interface Said { code: number, out: string, err: string }

async function run (...args: string[]): Promise<Said> {
  const [out, err]: [string[], string[]] = [[], []]
  const code = await cli(['posture', ...args], line => { out.push(line) }, line => { err.push(line) })
  return { code, out: out.join('\n'), err: err.join('\n') }
}

/** The service with a change in it, as a commit makes it. */
function changed (t: Test, from: string, to: string): string {
  t.ok(SERVICE.includes(from), `the service has ${from}`)
  return SERVICE.replace(from, to)
}

const baseline = join(folder, 'posture.json')

t.test('a module gives its application as an instance, a promise or a function, under each of four names', async t => {
  const make = "import Fastify from 'fastify'\nimport bastion, { server } from '../plugins/index.js'\n" +
    "const make = async () => { const app = Fastify(server({ logger: false })); await app.register(bastion, { transport: { hosts: ['localhost'] } }); return app }\n"
  for (const text of ['export default make', 'export const app = await make()', 'export const build = () => make()', 'export const buildApp = make', 'export default { app: make() }']) {
    t.match(await run(await moduleOf(make + text)), { code: 0, out: 'grade A+' }, text)
  }
})

t.test('it says what is wrong with a module, and does not start what it should only read', async t => {
  const make = "import Fastify from 'fastify'\n"
  const bastion = `${make}import bastion, { server } from '../plugins/index.js'\nconst app = Fastify(server({ logger: false }))\nawait app.register(bastion)\n`
  for (const [source, code, said] of [
    ['export const nothing = 1', 1, 'exports no application'],
    ['export default async function plugin (app, options) {}', 1, 'as plugins do'],
    [`${make}export default Fastify()`, 1, 'has no posture()'],
    [`${bastion}await app.listen({ host: '127.0.0.1', port: 0 })\nexport default app`, 1, 'listens by itself'],
    [`${bastion}app.get('/open', async () => 'x')\nexport default app`, 1, 'GET /open: no access policy'],
    ["throw new TypeError('APP_SECRET is missing')", 1, /app-\d+\.ts: APP_SECRET is missing/],
    ["export default async () => { throw new Error('cannot reach postgres://user:hunter2@db/members') }", 1, 'cannot reach postgres://[redacted]@db/members'],
  ] as const) t.match(await run(await moduleOf(source)), { code, out: '', err: said })
  const file = await moduleOf(SERVICE)
  t.match(await run(), { code: 2, err: 'name one module' })
  t.match(await run(file, 'more'), { code: 2, err: 'name one module' })
  t.match(await run(join(folder, 'none.js')), { code: 1, err: 'there is no such file' })
  t.match(await run(file, '--format', 'pdf'), { code: 2, err: '--format: must be one of table, json, markdown, html, sarif' })
  t.match(await run(file, '--basline', 'x'), { code: 2, err: 'basline' })
  t.match(await run(file, '--baseline', join(folder, 'none.json')), { code: 1, err: 'there is no baseline yet' })
  for (const text of ['{ "bastion": 2 }', '<<<<<<< HEAD', 'null', '{ "bastion": 1, "roles": {}, "everywhere": {}, "findings": [], "routes": { "GET /posts": {} } }']) {
    await writeFile(join(folder, 'other.json'), text)
    t.match(await run(file, '--baseline', join(folder, 'other.json')), { code: 1, err: 'is no baseline of this version' }, text)
  }
  await t.rejects(loadApp(await moduleOf('export default new Promise(() => {})'), 50), { message: /is not ready after 0.05 s/ })
})

t.test('the report has every route, its controls and the requirements that they serve, in five forms', async t => {
  const file = await moduleOf(SERVICE)
  const table = await run(file)
  t.match(table, { code: 0, out: /grade A\+, 5 routes/ })
  t.match(table.out, /POST \/posts +permission posts:write, proven in the last 300 s +bearer +5\/second, 100\/minute by .* +closed: application\/json +201 by its schema +data_modification/)
  t.match(table.out, /^resource +1 +8\.2\.2 8\.4\.1 +API1:2023$/m)

  const written = join(folder, 'report.json')
  t.match(await run(file, '--format', 'json', '--output', written), { code: 0, out: `grade A+, written to ${written}` })
  const read = JSON.parse(await readFile(written, 'utf8'))
  t.match(read, { grade: 'A+', controls: { access: { asvs: ['8.2.1'], api: ['API5:2023'] } }, routes: { 'GET /posts': { output: { 200: { '/[]/email': ['users:read'] } } } } })
  t.match(await run(file, '--baseline', written), { code: 0, out: 'nothing changed' }, 'a report in JSON is a baseline too')

  const markdown = await run(file, '--format', 'markdown')
  t.match(markdown.out, /^# Posture of .*: A\+$/m)
  t.match(markdown.out, /^\| `GET \/health` \| anybody \| nothing is needed \| 300\/minute an address/m)

  const page = await run(await moduleOf(changed(t, "app.get('/health'", "app.get('/<img src=x onerror=alert(1)>'")), '--format', 'html')
  t.match(page.out, '&lt;img src=x onerror=alert(1)&gt;')
  t.notMatch(page.out, /<img|<script/)
})

t.test('SARIF 2.1.0: a rule and a place for each result, and the ids of the standards as tags', async t => {
  const file = await moduleOf(changed(t, "limits: ['5/second', '100/minute'], audit", 'limits: false, audit').replace("{ permissions: 'posts:write', stepUp: true }", "'public'"))
  await run(await moduleOf(SERVICE), '--write-baseline', baseline)
  const { code, out } = await run(file, '--format', 'sarif', '--baseline', baseline)
  t.equal(code, 1)
  const { version, runs: [{ tool, results }] } = JSON.parse(out)
  t.equal(version, '2.1.0')
  for (const { ruleId, ruleIndex, level, message, locations, partialFingerprints } of results) {
    t.equal(tool.driver.rules[ruleIndex].id, ruleId)
    t.ok(['error', 'warning', 'note'].includes(level) && message.text.length > 10 && partialFingerprints['bastion/v1'].length === 32)
    t.notMatch(locations[0].physicalLocation.artifactLocation.uri, /^\.|\\| /)
  }
  t.match(results.find(({ ruleId }: { ruleId: string }) => ruleId === 'limits/public'), { level: 'error', message: { text: /^POST \/posts: public, changes something, and has no limit\. Take limits: false out/ } })
  t.ok(results.some(({ ruleId }: { ruleId: string }) => ruleId === 'weaker/access'))
  t.ok(tool.driver.rules.find(({ id }: { id: string }) => id === 'weaker/access').properties.tags.includes('external/asvs/5.0/8.2.1'))
})

t.test('the grade counts kinds of finding, and names them', async t => {
  const finding = (severity: 'high' | 'medium' | 'low', rule: string, route = 'GET /a') => ({ severity, rule, route, message: rule, fix: 'Mend it.' })
  const many = Array.from({ length: 9 }, (_none, i) => finding('medium', 'headers/none', `GET /${i}`))
  t.same(gradeOf({ findings: [] }).grade, 'A+')
  t.same(gradeOf({ findings: [finding('low', 'a')] }).grade, 'A')
  t.same(gradeOf({ findings: many }), { grade: 'B', reasons: ['medium: GET /0, GET /1, GET /2 and 6 more: headers/none. Mend it.'] }, 'one decision is one reason')
  t.same(gradeOf({ findings: ['a', 'b', 'c'].map(rule => finding('medium', rule)) }).grade, 'C')
  t.same(gradeOf({ findings: [finding('low', 'z'), finding('high', 'a')] }), { grade: 'D', reasons: ['high: GET /a: a. Mend it.', 'low: GET /a: z. Mend it.'] })
  t.same(gradeOf({ findings: [finding('high', 'a'), finding('high', 'b')] }).grade, 'F')

  const bare = "import Fastify from 'fastify'\nimport plan from '../plugins/plan/index.js'\nimport posture from '../plugins/posture/index.js'\nconst app = Fastify()\n" +
    "await app.register(plan)\nawait app.register(posture)\napp.get('/', async () => 'x')\nexport default app"
  t.match((await run(await moduleOf(bare))).out, /grade D.*\n {2}high: the service: no route says who may call it/)
})

/** Each a commit that weakens the service, and the line that the reviewer reads. */
const WEAKENINGS: readonly [string, string, string, RegExp][] = [
  ['a new public route', 'export default app', "app.get('/debug', { schema: { response: { 200: closed({}) } }, config: { access: 'public' } }, async () => ({}))\nexport default app", /GET \/debug: is new and public/],
  ['a route made public', "access: { permissions: 'posts:read' }", "access: 'public'", /GET \/posts: is public now: it asked for permission posts:read/],
  ['a permission dropped', "{ permissions: 'posts:read' }", "'user'", /GET \/posts: no longer asks for permission posts:read/],
  ['a permission given to a role', "permissions: ['posts:read']", "permissions: ['posts:read', 'users:read']", /role reader: may users:read now/],
  ['a role that passes for another', "reader: { permissions: ['posts:read'] }", "reader: { permissions: ['posts:read'], inherits: ['auditor'] }", /role reader: passes for role auditor now/],
  ['a limit raised', "'100/minute'", "'1000/minute'", /POST \/posts: limit raised: 5\/second and 1000\/minute \(5\/second and 100\/minute before\)/],
  ['a limit off', "limits: ['5/second', '100/minute']", 'limits: false', /POST \/posts: has no limit any more/],
  ['the limits of all raised', 'headers: {},', "headers: {}, limits: { address: ['3000/minute'] },", /and \d+ more: limit raised: 3000\/minute \(300\/minute before\), for callers who are anonymous/],
  ['a bound raised', 'maxLength: 200', 'maxLength: 20_000', /POST \/posts: its body takes more at \/title: maxLength 20000 \(200 before\)/],
  ['a bound dropped', 'maxLength: 200', "title: 'Title'", /its body takes more at \/title: maxLength dropped \(200 before\)/],
  ['a schema dropped', 'querystring: closed({ q: Type.String({ maxLength: 100 }) }), ', '', /GET \/posts: its query: no longer has a schema/],
  ['a field taken', 'title: Type.String({ maxLength: 200 }),', 'title: Type.String({ maxLength: 200 }), role: Type.Optional(Type.String()),', /its body takes a field that it refused: \/role/],
  ['a value taken', "Type.Literal('essay')]", "Type.Literal('essay'), Type.Literal('page')]", /its body takes more at \/kind: .*page/],
  ['a field needed no more', 'title: Type.String({ maxLength: 200 }),', 'title: Type.Optional(Type.String({ maxLength: 200 })),', /its body no longer needs \/title/],
  ['a field exposed', 'title: Type.String(), email', 'title: Type.String(), passwordHash: Type.String(), email', /GET \/posts: answers with a field that it kept to itself: \/\[\]\/passwordHash, for everybody who may call it/],
  ['a field shown to more', "{ visibleTo: 'users:read' }", "{ visibleTo: ['users:read', 'posts:read'] }", /shows \/\[\]\/email to posts:read or users:read \(users:read before\)/],
  ['an answer unfiltered', 'response: { 204: Type.Null() } },\n  config: {', "response: { 204: Type.Null() } },\n  config: { answers: 'raw',", /its answer is no longer filtered/],
  ['a step-up dropped', ', stepUp: true', '', /POST \/posts: no longer asks for a step-up/],
  ['a step-up that lasts', 'stepUp: true', 'stepUp: { maxAge: 86400 }', /a step-up is good for 86400 s \(300 s before\)/],
  ['csrf off', "csrf: 'token'", 'csrf: false', /POST \/posts: is no longer checked against requests that other sites forge/],
  ['csrf less', "csrf: 'token'", "csrf: 'origin'", /the check against forged requests is by origin all \(token all before\)/],
  ['csrf for other origins', "deriveKey(master, 'csrf') }", "deriveKey(master, 'csrf'), origins: ['https://evil.example'] }", /pages of https:\/\/evil\.example may have browsers send it/],
  ['via widened', "via: ['bearer']", "via: ['bearer', 'session']", /DELETE \/posts\/:id: takes credentials of kind session too/],
  ['an object asked for no more', "{ resource: 'post', action: 'write', via: ['bearer'] }", "{ via: ['bearer'] }", /no longer asks whether the caller may write on the post/],
  ['strangers told', 'owner: post => post.userId', 'hidden: false, owner: post => post.userId', /tells strangers that the object exists/],
  ['audit dropped', ", audit: 'data_modification'", '', /POST \/posts: is no longer recorded \(audit: data_modification before\)/],
  ['headers off', "config: { access: 'public' } }, async () => ({ ok", "config: { access: 'public', headers: false } }, async () => ({ ok", /GET \/health: sends no security headers any more/],
  ['headers weakened', 'headers: {}', 'headers: { hsts: { maxAge: 60 } }', /browsers keep to HTTPS for 60 s only/],
  ['cors widened', "origins: ['https://app.example.com']", "origins: ['https://app.example.com', 'https://evil.example']", /pages of https:\/\/evil\.example may read its answers/],
  ['a host more', "hosts: ['api.example.com']", 'hosts: []', /answers to any host/],
  ['an overload guard off', 'headers: {},', 'headers: {}, overload: false,', /is no longer refused when there is too much to do/],
]

t.test('a change that weakens a route is refused in one line, and its way back passes; without a baseline, nobody notices', async t => {
  await run(await moduleOf(SERVICE), '--write-baseline', baseline)
  for (const [name, from, to, line] of WEAKENINGS) {
    const file = await moduleOf(changed(t, from, to))
    const kept = join(folder, 'weaker.json')
    const { code, out } = await run(file, '--baseline', baseline, '--write-baseline', kept)
    t.equal(code, 1, name)
    const back = changesBetween(readBaseline(await readFile(kept, 'utf8')), readBaseline(await readFile(baseline, 'utf8')))
    t.ok(back.length > 0 && back.every(({ is }) => is === 'stronger'), `the way back of: ${name}: ${back.map(({ is, message }) => `${is}: ${message}`).join('; ')}`)
    const [, weak = ''] = /Weaker than the baseline:\n((?: {2}.*\n?)+)/.exec(out) ?? []
    t.match(weak, line, name)
    t.ok(weak.trim().split('\n').length <= 3, `${name}: few lines:\n${weak}`)
  }
  t.equal((await run(await moduleOf(changed(t, "{ permissions: 'posts:read' }", "'public'")))).code, 0, 'negative control: the same change without a baseline')
})

/** Commits, each on top of the one with the baseline: what it is called, what it changes, and the line that the reviewer reads; null where it passes. */
const COMMITS: readonly [subject: string, from: string, to: string, refusal: RegExp | null][] = [
  ['Tell the order of posts', 'async () => [])', 'async () => [].sort())', null],
  ['Add a page for debugging', 'export default app', "app.get('/debug', { schema: { response: { 200: closed({}) } }, config: { access: 'public' } }, async () => ({}))\nexport default app", / {2}GET \/debug: is new and public/],
  ['Let everybody who is signed in read', "{ permissions: 'posts:read' }", "'user'", / {2}GET \/posts: no longer asks for permission posts:read/],
  ['Take more posts at once', "'100/minute'", "'1000/minute'", / {2}POST \/posts: limit raised: 5\/second and 1000\/minute \(5\/second and 100\/minute before\)/],
  ['Take longer titles', 'maxLength: 200', 'maxLength: 20_000', / {2}POST \/posts: its body takes more at \/title: maxLength 20000 \(200 before\)/],
  ['Show what there is of an author', 'title: Type.String(), email', 'title: Type.String(), passwordHash: Type.String(), email', / {2}GET \/posts: answers with a field that it kept to itself: \/\[\]\/passwordHash/],
]

t.test('in a repository: a commit that weakens a route fails where its checkout is tested, a harmless one and one with a new baseline pass', async t => {
  const repository = join(folder, 'repository')
  // Nothing of whoever runs this, nor of a hook that does.
  const env = { PATH: process.env.PATH, HOME: folder, GIT_CONFIG_NOSYSTEM: '1', GIT_AUTHOR_NAME: 'Ada', GIT_AUTHOR_EMAIL: 'ada@people.example', GIT_COMMITTER_NAME: 'Ada', GIT_COMMITTER_EMAIL: 'ada@people.example' }
  const git = async (...args: string[]) => (await promisify(execFile)('git', args, { cwd: folder, env })).stdout.trim()
  if (await git('--version').catch(() => null) === null) return t.pass('git', { skip: 'there is no git here' })
  const inRepository = async (...args: string[]) => git('-C', repository, ...args)
  const commit = async (subject: string, app: string) => {
    await writeFile(join(repository, 'app.ts'), app)
    await inRepository('add', '--all')
    await inRepository('commit', '--quiet', '--message', subject)
    return inRepository('rev-parse', 'HEAD')
  }
  let checkouts = 0
  /** As CI does: what was committed, in a folder of its own. */
  const checkOut = async (revision: string) => {
    const path = join(folder, `checkout-${++checkouts}`)
    await git('clone', '--quiet', repository, path)
    await git('-C', path, 'checkout', '--quiet', '--detach', revision)
    return path
  }
  const test = async (revision: string) => {
    const path = await checkOut(revision)
    return run(join(path, 'app.ts'), '--baseline', join(path, 'posture.json'))
  }

  await git('init', '--quiet', repository)
  const service = SERVICE.replaceAll("from '../", "from '../../")
  const first = await checkOut(await commit('A service', service))
  t.equal((await run(join(first, 'app.ts'), '--write-baseline', join(repository, 'posture.json'))).code, 0)
  const main = await commit('Its posture', service)
  t.match(await test(main), { code: 0, out: 'nothing changed' })

  for (const [subject, from, to, refusal] of COMMITS) {
    await inRepository('checkout', '--quiet', '--detach', main)
    t.ok(service.includes(from), subject)
    const said = await test(await commit(subject, service.replace(from, to)))
    if (refusal === null) t.match(said, { code: 0, out: 'nothing changed' }, subject)
    else t.match(said, { code: 1, out: new RegExp(`Weaker than the baseline:\\n${refusal.source}`) }, subject)
  }

  const last = await checkOut('HEAD')
  const ended = await promisify(execFile)(process.execPath, [...TYPESCRIPT_BRIEFLY, 'plugins/cli.ts', 'posture', join(last, 'app.ts'), '--baseline', join(last, 'posture.json')], { cwd: ROOT, timeout: 60_000 })
    .catch((error: { code?: number, stdout?: string }) => error)
  t.match(ended, { code: 1, stdout: COMMITS.at(-1)![3] }, 'as a process: exit status 1')
  await run(join(last, 'app.ts'), '--write-baseline', join(repository, 'posture.json'))
  const accepted = await commit('Show it, on purpose', await readFile(join(last, 'app.ts'), 'utf8'))
  t.match(await test(accepted), { code: 0, out: 'nothing changed' }, 'whoever means it changes the baseline in the same commit, where a reviewer sees it')
  t.match(await inRepository('show', '--stat', '--format=', accepted), 'posture.json')
})

t.test('what is stronger, new and guarded, or gone passes, and is told', async t => {
  await run(await moduleOf(SERVICE), '--write-baseline', baseline)
  const guarded = changed(t, 'export default app', "app.get('/drafts', { schema: { response: { 200: closed({}) } }, config: { access: { permissions: 'posts:write' } } }, async () => ({}))\nexport default app")
  t.match(await run(await moduleOf(guarded), '--baseline', baseline), { code: 0, out: 'GET /drafts: is new: it asks for permission posts:write' })
  t.match(await run(await moduleOf(changed(t, "app.get('/health'", "if (false) app.get('/health'")), '--baseline', baseline), { code: 0, out: 'GET /health: is gone' })
})

t.test('a HEAD that somebody declared with words of its own is a route like others; those that Fastify adds are their GET', async t => {
  const heads = SERVICE.replace('server({ logger: false })', '{ ...server({ logger: false }), exposeHeadRoutes: false }').replace('export default app', "app.head('/posts', { schema: { response: { 200: Type.Null() } }, config: { access: 'public' } }, async () => null)\nexport default app")
  await run(await moduleOf(SERVICE), '--write-baseline', baseline)
  t.notMatch(await readFile(baseline, 'utf8'), /"HEAD /)
  t.match(await run(await moduleOf(heads), '--baseline', baseline), { code: 1, out: 'HEAD /posts: is new and public' })
})

t.test('the baseline is the same on each run, and says what is alike once', async t => {
  const [one, other] = [join(folder, 'one.json'), join(folder, 'other-one.json')]
  await run(await moduleOf(SERVICE), '--write-baseline', one)
  await run(await moduleOf(SERVICE), '--write-baseline', other)
  const text = await readFile(one, 'utf8')
  t.equal(text, await readFile(other, 'utf8'))
  t.equal(text.split('permissions-policy').length, 2)
  t.notMatch(text, /maxHeapUsedBytes/, 'what is of the machine is left out')
})

t.test('as a program: it ends, also where the application keeps something open', async t => {
  const file = await moduleOf(`setInterval(() => {}, 1000)\n${SERVICE}`)
  const start = (file: string) => promisify(execFile)(process.execPath, [...TYPESCRIPT_BRIEFLY, 'plugins/cli.ts', 'posture', file], { cwd: ROOT, timeout: 60_000 })
  t.match((await start(file)).stdout, 'grade A+')
  await t.rejects(start(await moduleOf('process.exit(0)')), { code: 1, stderr: /ended before it was done/ }, 'a module that ends the process does not pass for a good one')
})

t.test('the requirements of controls are those of the standards', async t => {
  const { rows } = JSON.parse(await readFile(new URL('./asvs/asvs.json', import.meta.url), 'utf8')) as { rows: [string, number, string][] }
  const known = new Set(rows.filter(([, , fit]) => fit === 'suite').map(([id]) => id))
  for (const [concern, { asvs, api }] of Object.entries(STANDARDS)) {
    t.strictSame(asvs.filter(id => !known.has(id)), [], concern)
    t.ok(api.every(id => /^API(?:[1-9]|10):2023$/.test(id)), concern)
  }
})
