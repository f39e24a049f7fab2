/** The guides are true: their examples run as they stand, and what the table of threats names is there. */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import t, { type Test } from 'tap'
import { redis } from './services.js'

t.setTimeout(240_000)
const ROOT = fileURLToPath(new URL('../', import.meta.url))
const GUIDES = join(ROOT, 'docs/guides')
const BLOCK = /<!-- run(?:: (\w+))? -->\n```ts\n([\s\S]*?)```/g
const folder = await mkdtemp(join(ROOT, '.tap-guides-'))
t.teardown(() => rm(folder, { recursive: true, force: true }))
await writeFile(join(folder, 'store.ts'), `
  import argon2 from 'argon2'
  export const master = Buffer.from('${randomBytes(48).toString('hex')}', 'hex')
  const ada = { id: 'u1', passwordHash: await argon2.hash('right password', { memoryCost: 8192, timeCost: 1, parallelism: 1 }), roles: ['member'], isActive: true }
  export const accounts = { findByLogin: async name => name === 'ada' ? ada : null, findById: async () => ada, savePassword: async () => {} }
  export const orders = { find: id => ({ own: { id, userId: 'u1', total: 12 }, foreign: { id, userId: 'u2', total: 99 } })[id] ?? null }
`)
await writeFile(join(folder, 'store-sql.ts'), `
  import { API_KEYS_TABLE } from '${relative(folder, moduleOf('api-keys'))}'
  import { embedded } from '${relative(folder, join(ROOT, 'test/fixtures/embedded.js'))}'
  export * from './store.js'
  export const sql = await embedded()
  await sql.script(API_KEYS_TABLE)
`)

/** The module that the package gives under this name. */
function moduleOf (concern?: string): string {
  if (concern === undefined) return join(ROOT, 'plugins/index.js')
  if (concern === 'schemas') return join(ROOT, 'schemas/index.js')
  return join(ROOT, existsSync(join(ROOT, 'plugins', concern)) ? `plugins/${concern}/index.js` : `plugins/${concern}.js`)
}

/** The example of a guide, as one module; what it needs beside itself. */
async function exampleOf (name: string): Promise<{ source: string, needs: string[] }> {
  const blocks = [...(await readFile(join(GUIDES, name), 'utf8')).matchAll(BLOCK)]
  return { source: blocks.map(([, , source]) => source).join('\n'), needs: blocks.flatMap(([, need]) => need ?? []) }
}

async function holds (t: Test, name: string, source: string, store: string): Promise<void> {
  const module = source.replaceAll(/'fastify-bastion(?:\/([a-z-]+))?'/g, (_all, concern?: string) => `'${relative(folder, moduleOf(concern))}'`)
    .replaceAll("'./store.js'", `'./${store}.js'`).replaceAll('server()', 'server({ logger: false })')
    .replaceAll('(bastion, {', '(bastion, { overload: { maxEventLoopDelay: 600_000 },') // the machine may be busy with other tests
  const file = join(folder, `${name}.ts`)
  await writeFile(file, `${module}\nexport const holds = true\n`)
  t.ok((await import(pathToFileURL(file).href)).holds)
}

const names = (await readdir(GUIDES)).filter(name => name.endsWith('.md') && name !== 'README.md').sort()

for (const name of names) {
  t.test(`the example of ${name} runs and holds`, async t => {
    const { source, needs } = await exampleOf(name)
    t.match(source, /assert\./, 'it shows what it says')
    if (needs.includes('redis')) {
      const shared = await redis(t)
      if (shared === null) return
      process.env.REDIS_URL = shared.url
      t.teardown(() => { delete process.env.REDIS_URL })
    }
    await holds(t, name.replace('.md', ''), source, needs.includes('sql') ? 'store-sql' : 'store')
    if (needs.includes('sql')) await (await import(pathToFileURL(join(folder, 'store-sql.ts')).href)).sql.close()
  })
}

t.test('negative control: where the guard of the tenants is taken out the example does not hold [ASVS 8.4.1]', async t => {
  const { source } = await exampleOf('multi-tenant.md')
  const open = source.replace(' && tenant === tenantOf(request)) ?? null', ') ?? null').replace(/rule: .*/, 'rule: () => true,')
  t.not(open, source)
  await t.rejects(holds(t, 'multi-tenant-open', open, 'store'), { name: 'AssertionError' })
})

t.test('the list of guides names each of them', async t => {
  const list = await readFile(join(GUIDES, 'README.md'), 'utf8')
  t.strictSame([...list.matchAll(/\]\(([a-z-]+\.md)\)/g)].map(([, name]) => name).sort(), names)
})

t.test('each control of the table of threats is a plugin, and each test that it names is there', async t => {
  const text = await readFile(join(ROOT, 'docs/threats.md'), 'utf8')
  const rows = text.split('\n').filter(line => line.startsWith('| ') && !line.startsWith('| threat ')).map(line => line.split(/(?<!\\)\|/).slice(1, -1).map(cell => cell.trim()))
  t.ok(rows.length >= 30, `${rows.length} threats`)
  for (const [threat = '', controls = '', ids = '', proof = ''] of rows) {
    for (const [, control] of controls.matchAll(/`([a-z-]+)`/g)) t.ok(existsSync(moduleOf(control).replace(/\.js$/, '.ts')), `${threat}: ${control} is a plugin`)
    t.match(controls, /`[a-z-]+`/, `${threat}: names a control`)
    t.match(ids, /API\d+|CWE-\d+|TRAP \d+/, `${threat}: has an id`)
    for (const id of ids.split(', ')) t.match(id, /^(?:API(?:[1-9]|10)|CWE-\d+|TRAP (?:[1-9]|[12]\d|3[0-2]))$/, threat)
    const [, file = '', title = ''] = /^\[(?:[^\]]*)\]\(\.\.\/([^)]+)\): (.*)$/.exec(proof) ?? []
    t.ok(file.startsWith('test/') && existsSync(join(ROOT, file)), `${threat}: ${file} is there`)
    const source = existsSync(join(ROOT, file)) ? await readFile(join(ROOT, file), 'utf8') : ''
    t.ok(title.length > 10 && source.replaceAll("\\'", "'").includes(title), `${threat}: ${file} has the test "${title}"`)
  }
})

t.test('links of the documents lead somewhere, their anchors too, and each fault of traps.md has its number', async t => {
  const idOf = (heading: string) => heading.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, '').trim().replace(/\s/g, '-')
  const documents = ['README.md', 'SECURITY.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'bench/README.md', ...(await readdir(join(ROOT, 'docs'))).filter(name => name.endsWith('.md')).map(name => `docs/${name}`), ...['README.md', ...names].map(name => `docs/guides/${name}`)]
  let followed = 0
  for (const document of documents) {
    const text = await readFile(join(ROOT, document), 'utf8')
    for (const [, href = ''] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(href)) continue
      const [path = '', anchor] = href.split('#')
      const file = path === '' ? join(ROOT, document) : join(ROOT, dirname(document), path)
      t.ok(existsSync(file), `${document}: ${href}`)
      if (anchor !== undefined) t.ok([...(await readFile(file, 'utf8')).matchAll(/^#+ (.*)$/gm)].some(([, heading = '']) => idOf(heading) === anchor), `${document}: ${href} has its heading`)
      followed++
    }
  }
  t.ok(followed > 150, `${followed} links`)
  t.strictSame([...(await readFile(join(ROOT, 'docs/traps.md'), 'utf8')).matchAll(/^\| (\d+) \|/gm)].map(([, number]) => Number(number)), Array.from({ length: 32 }, (_none, i) => i + 1))
})
