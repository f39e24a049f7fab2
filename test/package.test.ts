/** The package as its users get it: packed, installed into an empty folder, run and type-checked there. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'

const ROOT = fileURLToPath(new URL('../', import.meta.url))
const run = promisify(execFile)
/** Milliseconds: building and installing wait for a compiler and a registry. */
const PATIENCE = 240_000
t.setTimeout(PATIENCE * 2)

interface Manifest {
  name: string
  version: string
  engines: { node: string }
  exports: Record<string, string | { types: string, default: string }>
  peerDependencies: Record<string, string>
  peerDependenciesMeta: Record<string, { optional: boolean }>
  dependencies: Record<string, string>
  devDependencies: Record<string, string>
}
const manifest = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as Manifest
const rooms = Object.keys(manifest.exports).filter(name => name !== './package.json')
const specifiers = rooms.map(name => join(manifest.name, name))

interface Outcome { code: number, output: string }

/** Runs a program to its end; what it printed, whatever became of it. */
async function outcomeOf (command: string, args: string[], cwd: string): Promise<Outcome> {
  try {
    const { stdout, stderr } = await run(command, args, { cwd, timeout: PATIENCE, env: { ...process.env, NODE_OPTIONS: '', TAP: '' } })
    return { code: 0, output: stdout + stderr }
  } catch (error) {
    const { code, stdout, stderr } = error as { code?: unknown, stdout?: string, stderr?: string }
    return { code: typeof code === 'number' ? code : 1, output: `${stdout ?? ''}${stderr ?? String(error)}` }
  }
}

function tool (name: string): string {
  return join(ROOT, 'node_modules/.bin', name)
}

async function succeeds (t: Test, command: string, args: string[], cwd: string): Promise<string> {
  const { code, output } = await outcomeOf(command, args, cwd)
  t.equal(code, 0, `${command.replace(dirname(command), '').slice(0, 40)} ${args[0] ?? ''}: ${code === 0 ? 'ok' : output.slice(-4000)}`)
  return output
}

const folder = await mkdtemp(join(tmpdir(), 'bastion-package-'))
t.teardown(() => rm(folder, { recursive: true, force: true }))
const consumer = join(folder, 'consumer')
let tarball = ''
/** Why there is no consumer to look at. */
let absent: string | null = 'it was not packed'

t.test('packs what is needed and nothing else', async t => {
  const packed = await succeeds(t, 'npm', ['pack', '--json', '--pack-destination', folder], ROOT)
  tarball = join(folder, `${manifest.name}-${manifest.version}.tgz`)
  t.ok(existsSync(tarball))
  const { files } = (JSON.parse(packed.slice(packed.indexOf('[\n'), packed.lastIndexOf(']') + 1)) as [{ files: { path: string }[] }])[0]
  const paths = files.map(({ path }) => path)
  t.strictSame(paths.filter(path => !/^dist\/(?:plugins|schemas)\/[\w/-]+\.(?:js|d\.ts)$/.test(path)).sort(),
    ['CHANGELOG.md', 'LICENSE', 'README.md', 'SECURITY.md', 'package.json'])
  t.notMatch(paths.join('\n'), /\btests?\b|demo|bench|node_modules|\.tap|\.env/)
  const sources = (await readdir(ROOT, { recursive: true })).filter(path => /^(?:plugins|schemas)\/.*\.ts$/.test(path))
  t.strictSame(paths.filter(path => path.endsWith('.js')).sort(), sources.map(path => `dist/${path.replace(/\.ts$/, '.js')}`).sort(), 'nothing of an older build')
})

t.test('installs into an empty folder', async t => {
  await mkdir(consumer)
  await writeFile(join(consumer, 'package.json'), '{ "name": "consumer", "private": true }\n')
  const peers = [`fastify@${manifest.peerDependencies.fastify}`, `@types/node@${manifest.devDependencies['@types/node']}`]
  const { code, output } = await outcomeOf('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', tarball, ...peers], consumer)
  if (code !== 0 && process.env.CI !== 'true' && /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH|ENOTCACHED/.test(output)) {
    absent = 'no registry answers'
    t.pass('the package was not installed', { skip: absent })
    return
  }
  t.equal(code, 0, code === 0 ? 'npm install' : output)
  absent = null
  t.strictSame((await readdir(join(consumer, 'node_modules'))).filter(name => name === 'fastify' || name === manifest.name).sort(), ['fastify', manifest.name].sort())
  t.notOk(existsSync(join(consumer, 'node_modules', manifest.name, 'node_modules/fastify')), 'there is one Fastify: the one that is augmented is the one that runs')
})

/** A subtest that needs the installed package. */
function installed (title: string, body: (t: Test) => Promise<void>): void {
  t.test(title, async t => {
    if (absent === null) await body(t)
    else t.pass('the package is not installed', { skip: absent })
  })
}

const SERVICE = `
  const app = Fastify(server({ logger: false }))
  await app.register(bastion, { access: { roles: { reader: { permissions: ['posts:read'] } } } })
  app.get('/open', { schema: { response: { 200: { type: 'object', properties: { answer: { type: 'integer' } } } } }, config: { access: 'public' } }, async () => ({ answer: 42, secret: 1 }))
  app.get('/guarded', { schema: { response: { 200: { type: 'object', properties: {} } } }, config: { access: { permissions: 'posts:read' } } }, async () => ({}))
  const open = await app.inject('http://localhost/open')
  const guarded = await app.inject('http://localhost/guarded')
  const hash = await app.passwords.hash('correct horse battery staple')
  console.log(JSON.stringify([open.statusCode, open.body, open.headers['x-frame-options'], guarded.statusCode, guarded.json().code, hash.slice(0, 9)]))
  await app.close()
`
const SERVED = [200, '{"answer":42}', 'DENY', 401, 'FST_BASTION_ACCESS_UNAUTHENTICATED', '$argon2id']

installed('works from an ESM file', async t => {
  await writeFile(join(consumer, 'service.mjs'), `
    import Fastify from 'fastify'
    import bastion, { server } from '${manifest.name}'
    ${SERVICE}
    for (const name of ${JSON.stringify(specifiers)}) if (Object.keys(await import(name)).length === 0) throw new Error(name + ' is empty')
  `)
  t.strictSame(JSON.parse(await succeeds(t, process.execPath, ['service.mjs'], consumer)), SERVED)
})

installed('works from require(): register() takes what it returns, and its named exports are there', async t => {
  if (process.features.require_module !== true) {
    t.pass('require() of ES modules', { skip: `Node ${process.version} cannot` })
    return
  }
  await writeFile(join(consumer, 'service.cjs'), `
    const Fastify = require('fastify')
    const bastion = require('${manifest.name}')
    const { server, settings, default: plugin } = bastion
    if (typeof settings !== 'function' || typeof plugin !== 'function') throw new Error('exports are missing')
    async function main () { ${SERVICE} }
    main()
    for (const name of ${JSON.stringify(specifiers)}) if (Object.keys(require(name)).length === 0) throw new Error(name + ' is empty')
  `)
  t.strictSame(JSON.parse(await succeeds(t, process.execPath, ['--no-warnings', 'service.cjs'], consumer)), SERVED)
})

installed('nothing but what is exported can be reached', async t => {
  for (const inner of ['plugins/index.js', 'dist/plugins/index.js', 'options', 'address']) {
    t.match(await outcomeOf(process.execPath, ['--input-type=module', '-e', `await import('${manifest.name}/${inner}')`], consumer),
      { code: 1, output: 'ERR_PACKAGE_PATH_NOT_EXPORTED' })
  }
})

installed('npx fastify-bastion secret makes what production takes', async t => {
  const command = join(consumer, 'node_modules/.bin', manifest.name)
  const made = await outcomeOf(command, ['secret', '--name', 'APP_SECRET', '--bytes', '32'], consumer)
  t.match(made, { code: 0, output: /^APP_SECRET=[\w-]{43}\n$/ })
  await writeFile(join(consumer, '.env'), made.output)
  await writeFile(join(consumer, 'settings.mjs'), `
    import { Secret, settings } from '${manifest.name}'
    import { createRequire } from 'node:module'
    const { Type } = createRequire(new URL('node_modules/${manifest.name}/package.json', import.meta.url))('@sinclair/typebox')
    console.log(settings(Type.Object({ APP_SECRET: Secret() }), { production: true }).APP_SECRET.length)
  `)
  t.match(await outcomeOf(process.execPath, ['settings.mjs'], consumer), { code: 0, output: '43\n' })
  t.match(await outcomeOf('npx', ['--offline', manifest.name, '--help'], consumer), { code: 0, output: /^npx fastify-bastion <command>/m })
  t.match(await outcomeOf(command, ['sceret'], consumer), { code: 2, output: 'there is no command "sceret"' })
  t.match(await outcomeOf(command, ['secret', '--bytes', '8'], consumer), { code: 2, output: '--bytes: must be 32 to 1024' })
})

installed('npx fastify-bastion posture refuses what became weaker, and doctor looks at what is installed', async t => {
  const command = join(consumer, 'node_modules/.bin', manifest.name)
  const app = (access: string) => `
    import Fastify from 'fastify'
    import bastion, { server } from '${manifest.name}'
    export async function build () {
      const app = Fastify(server({ logger: false }))
      await app.register(bastion, { transport: { hosts: ['localhost'] }, access: { roles: { reader: { permissions: ['posts:read'] } } } })
      app.get('/posts', { schema: { response: { 200: { type: 'object', properties: { id: { type: 'string' } } } } }, config: { access: ${access} } }, async () => ({ id: '1' }))
      return app
    }
  `
  await writeFile(join(consumer, 'guarded.mjs'), app("{ permissions: 'posts:read' }"))
  await writeFile(join(consumer, 'weakened.mjs'), app("'public'"))
  t.match(await outcomeOf(command, ['posture', './guarded.mjs', '--write-baseline', 'posture.json'], consumer), { code: 0, output: /grade A\+, 2 routes/ })
  t.match(await outcomeOf(command, ['posture', 'guarded.mjs', '--baseline', 'posture.json'], consumer), { code: 0, output: 'nothing changed' })
  t.match(await outcomeOf(command, ['posture', 'weakened.mjs', '--baseline', 'posture.json'], consumer), { code: 1, output: 'GET /posts: is public now: it asked for permission posts:read' })
  t.match(await outcomeOf(command, ['doctor'], consumer), { code: 0, output: /packages that guard a service have none of the list/ })
})

installed('without an optional package the error says what to install', async t => {
  await writeFile(join(consumer, 'aws.mjs'), `
    import { aws, loadSettings } from '${manifest.name}/settings'
    import { createRequire } from 'node:module'
    const { Type } = createRequire(new URL('node_modules/${manifest.name}/package.json', import.meta.url))('@sinclair/typebox')
    await loadSettings(Type.Object({}), { sources: [aws({ secrets: [{ id: 'portal' }] })] }).catch(error => { console.log(error.message) })
  `)
  t.match(await outcomeOf(process.execPath, ['aws.mjs'], consumer), { code: 0, output: 'the package @aws-sdk/client-secrets-manager is not installed: npm install @aws-sdk/client-secrets-manager' })
})

const TYPED = `
import Fastify from 'fastify'
import bastion, { principalOf, resourceOf, server, type BastionOptions } from '${manifest.name}'
${specifiers.slice(1).map((name, i) => `import * as room${i} from '${name}'`).join('\n')}

declare module 'AUGMENTED' {
  interface AccessNames {
    role: 'reader' | 'editor'
    permission: 'posts:read' | 'posts:write'
    resources: { order: { id: string, total: number } }
  }
}

export const rooms = [${specifiers.slice(1).map((_name, i) => `room${i}`).join(', ')}]
const options: BastionOptions = { cors: { origins: ['https://app.example.com'] }, headers: {}, limits: { address: ['5/second'] } }
const app = Fastify(server({ trustProxy: ['127.0.0.1'] }))
await app.register(bastion, options)
app.get('/', { config: { access: { permissions: 'posts:read', roles: ['reader'] }, limits: ['5/second'] } }, async request => principalOf(request).id)
app.get('/order', { config: { access: { resource: 'order' } } }, async request => {
  const total: number = resourceOf(request, 'order').total
  return total
})
const codes: string[] = app.plan.routes.map(({ url }) => url)
// @ts-expect-error a permission that nobody declared
app.get('/1', { config: { access: { permissions: 'posts:raed' } } }, async () => codes)
// @ts-expect-error a role that nobody declared
app.get('/2', { config: { access: { roles: 'raeder' } } }, async () => codes)
// @ts-expect-error a resource that nobody declared
app.get('/3', { config: { access: { resource: 'ordre' } } }, async () => codes)
// @ts-expect-error a misspelt option
await app.register(bastion, { heders: {} })
const made = new room${specifiers.indexOf(join(manifest.name, './access')) - 1}.Forbidden()
// @ts-expect-error the error's code has its type, so it is not any
const wrong: number = made.code
export { wrong }
// @ts-expect-error what @fastify/jwt would type on every route, authenticated or not
app.get('/4', { config: { access: 'public' } }, async request => request.user)
`

const REQUIRED = `
import Fastify = require('fastify')
import bastion = require('${manifest.name}')
const app = Fastify(bastion.server())
app.register(bastion.default, { cors: false })
// @ts-expect-error a misspelt option
app.register(bastion.default, { cros: false })
`

for (const [resolution, module, augmented, files] of [['nodenext', 'nodenext', '/access', ['service.mts', 'service.cts']], ['bundler', 'preserve', '', ['service.mts']]] as const) {
  const also = files.length > 1 ? ', and in a CommonJS file that requires it' : ''
  installed(`type-checks in a consumer with moduleResolution ${resolution}, which augments '${manifest.name}${augmented}'${also} [TRAP 19]`, async t => {
    await writeFile(join(consumer, 'service.mts'), TYPED.replace('AUGMENTED', manifest.name + augmented))
    await writeFile(join(consumer, 'service.cts'), REQUIRED)
    await writeFile(join(consumer, `tsconfig.${resolution}.json`), JSON.stringify({
      compilerOptions: { strict: true, noEmit: true, target: 'es2023', module, moduleResolution: resolution, types: ['node'], skipLibCheck: false },
      files,
    }))
    // With the declarations of all packages, of which those of others may be wrong: a type that cannot be found would else be any.
    const { code, output } = await outcomeOf(tool('tsc'), ['-p', `tsconfig.${resolution}.json`], consumer)
    const faults = output.split('\n').filter(line => /error TS\d+/.test(line))
    t.ok(code === 0 || faults.length > 0, `the compiler came to its end (${code})`)
    t.strictSame(faults.filter(line => !line.includes('node_modules/')), [], 'the service')
    t.strictSame(output.split('\n').filter(line => line.includes(`node_modules/${manifest.name}/`)), [], 'the declarations themselves hold')
  })
}

/** A team's own service, as it would write it. */
const APP = `
import Fastify, { type FastifyInstance } from 'fastify'
import bastion, { principalOf, server } from '${manifest.name}'
import { closed } from '${manifest.name}/schemas'
import { Type } from '@sinclair/typebox'

declare module '${manifest.name}/access' {
  interface AccessNames {
    role: 'member' | 'auditor'
    permission: 'notes:write' | 'reports:read'
    resources: { note: Note }
  }
}

interface Note { id: string, owner: string, text: string }
const NoteParams = closed({ noteId: Type.String({ maxLength: 20, pattern: '^[a-z0-9-]+$' }) })
const NoteBody = closed({ text: Type.String({ minLength: 1, maxLength: 200 }) })
const NoteShape = closed({ id: Type.String(), owner: Type.String(), text: Type.String() })

export async function build (): Promise<FastifyInstance> {
  const notes = new Map<string, Note>(['ada', 'bob'].map(owner => [\`of-\${owner}\`, { id: \`of-\${owner}\`, owner, text: 'A note' }]))
  const noteOf = (params: unknown) => notes.get((params as { noteId: string }).noteId)
  const app = Fastify(server({ logger: false }))
  await app.register(bastion, {
    transport: { hosts: ['localhost'] },
    access: {
      roles: { member: { permissions: ['notes:write'] }, auditor: { permissions: ['reports:read'] } },
      resources: { note: { load: ({ params }) => noteOf(params), owner: note => note.owner } },
    },
    tokens: { issuer: 'https://notes.example', audience: 'https://notes.example', keys: { access: Buffer.alloc(32, 'an access key'), refresh: Buffer.alloc(32, 'a refresh key') } },
  })
  app.get('/notes/:noteId', { schema: { params: NoteParams, response: { 200: NoteShape } }, config: { access: { resource: 'note' } } }, async ({ params }) => noteOf(params)!)
  app.post('/notes', { schema: { body: NoteBody, response: { 201: NoteShape } }, config: { access: { permissions: 'notes:write' } } }, async (request, reply) => {
    const note = { id: \`new-\${notes.size}\`, owner: principalOf(request).userId, text: (request.body as { text: string }).text }
    notes.set(note.id, note)
    reply.code(201)
    return note
  })
  app.get('/reports', { schema: { response: { 200: closed({ total: Type.Integer() }) } }, config: { access: { permissions: 'reports:read' } } }, async () => ({ total: notes.size }))
  app.get('/health', { schema: { response: { 200: closed({ ok: Type.Boolean() }) } }, config: { access: 'public' } }, async () => ({ ok: true }))
  return app
}
`
/** Its test: three lines, once it is said who calls and whose the objects are. */
const APP_TEST = `
import { deepEqual } from 'node:assert/strict'
import { test } from 'node:test'
import { asText, attack, type Principals } from '${manifest.name}/testing'
import { build } from './app.js'

test('the service is what it says', async () => {
  const app = await build()
  await app.ready()
  const token = (id: string, ...roles: string[]) => async () => ({ token: (await app.tokens.issue({ id, roles })).access_token })
  const principals: Principals = { ada: token('ada', 'member'), bob: token('bob', 'member'), carl: token('carl', 'auditor') }
  const objects = { noteId: { ada: 'of-ada', bob: 'of-bob' } }

  const report = await attack(app, { principals, objects })
  deepEqual(report.findings, [], asText(report))
  await app.close()
})
`

/** What samples and guides call `./store.js`: a reader's own. */
const STORE = `
import type { FastifyInstance } from 'fastify'
import type { Sql } from '${manifest.name}/sql'
interface Account { id: string, passwordHash: string | null, roles: string[], isActive: boolean }
export const accounts: { findByLogin (name: string): Promise<Account | null>, findById (id: string): Promise<Account | null>, savePassword (id: string, hash: string): Promise<void> }
export const master: Buffer
export const orders: { find (id: string): { id: string, userId: string, total: number } | null }
export const sql: Sql
export const signingKeys: () => { keys: JsonWebKey[] }
export const portraits: { remove (id: string): Promise<number> }
export const app: FastifyInstance
export const pager: { page (rule: string, subject: unknown): Promise<void> }
export const clientCa: string, folder: string, roleId: string, secretId: string, vaultAddress: string, webhookUrl: string
`

t.test('a service in a fresh folder proves itself by three lines, and its CI refuses a route that was weakened; without a registry', async t => {
  const fresh = join(folder, 'fresh')
  const own = join(fresh, 'node_modules', manifest.name)
  const link = async (name: string) => {
    await mkdir(dirname(join(fresh, 'node_modules', name)), { recursive: true })
    await symlink(join(ROOT, 'node_modules', name), join(fresh, 'node_modules', name))
  }
  await mkdir(join(fresh, 'node_modules/.bin'), { recursive: true })
  await mkdir(own)
  await succeeds(t, 'tar', ['-xzf', tarball, '-C', own, '--strip-components=1'], fresh)
  // What npm would put there: the package as it was packed, and nothing but what it declares.
  const peers = Object.keys(manifest.peerDependencies).filter(name => manifest.peerDependenciesMeta[name]?.optional !== true)
  for (const name of [...Object.keys(manifest.dependencies), ...peers, '@types/node']) await link(name)
  await symlink(`../${manifest.name}/dist/plugins/cli.js`, join(fresh, 'node_modules/.bin', manifest.name))
  await chmod(join(own, 'dist/plugins/cli.js'), 0o755)
  await writeFile(join(fresh, 'package.json'), '{ "name": "notes", "private": true, "type": "module" }\n')
  await writeFile(join(fresh, 'tsconfig.json'), JSON.stringify({ compilerOptions: { strict: true, target: 'es2023', module: 'nodenext', types: ['node'], skipLibCheck: true } }))
  await writeFile(join(fresh, 'app.test.ts'), APP_TEST)
  const bastion = (...args: string[]) => outcomeOf('npx', ['--offline', manifest.name, ...args], fresh)
  const proven = () => outcomeOf(process.execPath, ['--test', '--test-reporter=tap', 'app.test.js'], fresh)

  await writeFile(join(fresh, 'app.ts'), APP)
  await succeeds(t, tool('tsc'), [], fresh)
  t.match(await proven(), { code: 0, output: /^# pass 1$/m })
  t.match(await bastion('posture', './app.js', '--write-baseline', 'posture.json'), { code: 0, output: /grade A\+, 5 routes/ })
  t.match(await bastion('doctor'), { code: 0, output: /packages that guard a service have none of the list/ })

  const [strong, weak] = ["access: { resource: 'note' }", "access: 'user'"]
  const compiled = await readFile(join(fresh, 'app.js'), 'utf8')
  t.equal(compiled.split(strong).length, 2, 'one route loads a note')
  await writeFile(join(fresh, 'app.js'), compiled.replace(strong, weak))
  t.match(await proven(), { code: 1, output: /CRITICAL authorization\.object: .*\n\s+GET \/notes\/:noteId as ada/ })
  t.match(await bastion('posture', './app.js', '--baseline', 'posture.json'), { code: 1, output: 'GET /notes/:noteId: no longer asks whether the caller may read on the note' })
})

t.test('every sample of README and every example of the guides is strict TypeScript', async t => {
  const fresh = join(folder, 'fresh')
  const samples = join(fresh, 'samples')
  await mkdir(samples)
  // Where a sample says `npm i`.
  for (const name of ['@fastify/swagger', '@simplewebauthn/server', 'ioredis', 'sharp']) {
    await mkdir(dirname(join(fresh, 'node_modules', name)), { recursive: true })
    await symlink(join(ROOT, 'node_modules', name), join(fresh, 'node_modules', name))
  }
  const guides = (await readdir(join(ROOT, 'docs/guides'))).map(name => `docs/guides/${name}`)
  let written = 0
  for (const document of ['README.md', ...guides]) {
    const text = await readFile(join(ROOT, document), 'utf8')
    const found = [...text.matchAll(/<!-- (sample|run)(?:: ([\w-]+))? -->\n```ts\n([\s\S]*?)```/g)].map(([, kind, name, source]) => [kind === 'sample' ? `readme-${name}` : basename(document, '.md'), source!] as const)
    // The blocks of a guide are one program.
    for (const name of new Set(found.map(([name]) => name))) {
      await writeFile(join(samples, `${name}.ts`), found.filter(([of]) => of === name).map(([, source]) => source).join('\n'))
      written++
    }
  }
  t.ok(written >= 30, `${written} programs`)
  await writeFile(join(samples, 'store.d.ts'), STORE)
  await writeFile(join(samples, 'tsconfig.json'), JSON.stringify({ extends: '../tsconfig.json', compilerOptions: { noEmit: true, noUncheckedIndexedAccess: true }, include: ['*.ts'] }))
  await succeeds(t, tool('tsc'), ['-p', samples], fresh)
  await writeFile(join(samples, 'wrong.ts'), "import bastion from 'fastify-bastion'\nimport Fastify from 'fastify'\nawait Fastify().register(bastion, { heders: {} })\n")
  t.match(await outcomeOf(tool('tsc'), ['-p', samples], fresh), { code: 2, output: /^samples\/wrong\.ts\(3,/m }, 'negative control: what is misspelt is found')
})

t.test('publint finds nothing to say', async t => {
  const said = await succeeds(t, tool('publint'), ['run', tarball, '--strict'], ROOT)
  t.match(said, 'All good!')
})

t.test('arethetypeswrong finds nothing wrong, as ESM only', async t => {
  await succeeds(t, tool('attw'), [tarball, '--profile', 'esm-only', '--format', 'ascii'], ROOT)
})

t.test('CI fails on grave advisories, passes on light ones, and says so where none are told', async t => {
  const report = (high: number) => JSON.stringify({
    vulnerabilities: { left: { name: 'left', severity: high > 0 ? 'high' : 'low', range: '<2' } },
    metadata: { vulnerabilities: { info: 0, low: 1 - high, moderate: 0, high, critical: 0, total: 1 }, dependencies: { prod: 77 } },
  })
  for (const [answer, code, said] of [
    [report(1), 1, 'high: left <2\nadvisories: 77 packages checked, 1 known, 1 of them high or critical'],
    [report(0), 0, '1 known, 0 of them high or critical'],
    ['{ "message": "405 Method Not Allowed" }', 0, 'not checked, no audit endpoint answers here'],
    ['', 0, 'not checked, no audit endpoint answers here'],
  ] as const) {
    const stand = await mkdtemp(join(folder, 'npm-'))
    await writeFile(join(stand, 'npm'), `#!/bin/sh\ntest -f package-lock.json && cat <<'END'\n${answer}\nEND\n`, { mode: 0o755 })
    const outcome = await outcomeOf('/bin/sh', ['-c', `PATH="${stand}:$PATH" exec "${process.execPath}" .ci/advisories.js`], ROOT)
    t.match(outcome, { code, output: said })
  }
})

t.test('exports are the concerns: every plugin of plugins/ has its door, and every door a room', async t => {
  const sources = (await readdir(ROOT, { recursive: true })).filter(path => /^plugins\/.*\.ts$/.test(path))
  const doors = new Map(rooms.map(name => [name, manifest.exports[name] as { types: string, default: string }]))
  for (const [name, door] of doors) {
    const source = door.default.replace(/^\.\/dist\//, '').replace(/\.js$/, '.ts')
    t.ok(existsSync(join(ROOT, source)), `${name} leads to ${source}`)
    t.equal(door.types, door.default.replace(/\.js$/, '.d.ts'), name)
    t.equal(Object.keys(door)[0], 'types', 'types come first')
    const place = source.replace(/^plugins\//, '').replace(/(?:^|\/)index\.ts$|\.ts$/, '')
    t.equal(name, source === 'schemas/index.ts' ? './schemas' : place === '' ? '.' : `./${place}`)
  }
  for (const source of sources) {
    const { default: plugin } = await import(pathToFileURL(join(ROOT, source)).href) as { default?: unknown }
    if (typeof plugin !== 'function') continue
    t.ok([...doors.values()].some(door => door.default === `./dist/${source.replace(/\.ts$/, '.js')}`), `${source} is exported`)
  }
  const named = ['plan', 'events', 'errors', 'headers', 'transport', 'cors', 'overload', 'state', 'identity', 'limits', 'access', 'validation', 'exposure', 'passwords', 'tokens', 'api-keys', 'sign-in', 'mfa', 'passkeys',
    'settings', 'server', 'posture']
  t.strictSame(named.filter(name => !doors.has(`./${name}`)), [])
})

t.test('dependencies are what is imported, and nothing else', async t => {
  const sources = (await readdir(ROOT, { recursive: true })).filter(path => /^(?:plugins|schemas)\/.*\.ts$/.test(path))
  const texts = await Promise.all(sources.map(path => readFile(join(ROOT, path), 'utf8')))
  const imported = texts.flatMap(text => [...text.matchAll(/^import .*?from '([^'.][^']*)'|^\} from '([^'.][^']*)'|(?:require|await import)\('([^'.][^']*)'\)/gm)]
    .map(([, one, other, third]) => (one ?? other ?? third)!))
    .filter(name => !name.startsWith('node:'))
    .map(name => name.split('/').slice(0, name.startsWith('@') ? 2 : 1).join('/'))
  t.strictSame([...new Set(imported)].sort(), [...Object.keys(manifest.dependencies), ...Object.keys(manifest.peerDependencies)].sort())
})

t.test('engines: the Node that is promised can run every dependency that is installed', async t => {
  t.equal(manifest.engines.node, '>=20.20.0')
  const lock = JSON.parse(await readFile(join(ROOT, 'package-lock.json'), 'utf8')) as { packages: Record<string, { engines?: { node: string } }> }
  t.strictSame(lock.packages['']!.engines, manifest.engines)
  for (const name of Object.keys(manifest.dependencies)) {
    const wants = lock.packages[`node_modules/${name}`]!.engines?.node ?? '>=0'
    const oldest = Math.min(...[...wants.matchAll(/(\d+)(?:\.\d+)*/g)].map(([, major]) => Number(major)))
    t.ok(oldest <= 20, `${name} wants ${wants}`)
  }
})

t.test('package-lock.json names no host', async t => {
  const lock = await readFile(join(ROOT, 'package-lock.json'), 'utf8')
  t.notOk(lock.includes('"resolved"'), 'nor `resolved`')
  const { packages } = JSON.parse(lock) as { packages: Record<string, Partial<Manifest>> }
  for (const part of ['dependencies', 'devDependencies', 'peerDependencies'] as const) t.strictSame(packages['']![part], manifest[part])
})
