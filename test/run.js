/**
 * All test files, several at once: `npm test`. One of them alone, with all that it says: `npx tap FILE`.
 * A line a file is printed; the whole of it, as TAP, is in `.tap/tests.tap`, or where the first argument says.
 *
 * tap's own runner goes by the alphabet, lets all that runs end before each file that must run alone, and watches the modules of
 * every process for a coverage that nobody asked for. Here the folders with the long files come first and what must run alone
 * comes last, so that both processors have work, and TypeScript is made into JavaScript once.
 */
import { createWriteStream, readdirSync, readFileSync } from 'node:fs'
import { sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { javaScript } from './typescript/cache.js'

// Else tap would measure the coverage of each process that it is loaded into.
process.env._TAPJS_PROCESSINFO_COVERAGE_ = '0'
const { default: t } = await import('tap')

const ROOT = new URL('../', import.meta.url)
const REGISTER = new URL('typescript/register.js', import.meta.url).href
const { tap: { jobs, serial, timeout } } = JSON.parse(readFileSync(new URL('package.json', ROOT), 'utf8'))

const sources = ['plugins', 'schemas', 'demo', 'test'].flatMap(folder => readdirSync(new URL(folder, ROOT), { recursive: true })
  .map(path => `${folder}/${path.split(sep).join('/')}`).filter(path => path.endsWith('.ts')))
await Promise.allSettled(sources.map(async path => javaScript(fileURLToPath(new URL(path, ROOT)))))

const files = sources.filter(path => path.endsWith('.test.ts')).sort().reverse()
const isAlone = file => serial.includes(file)

t.pipe(createWriteStream(process.argv[2] ?? fileURLToPath(new URL('.tap/tests.tap', ROOT))))
t.register()
t.setTimeout(0)
t.jobs = jobs
t.plan(files.length)
for (const file of files.filter(file => !isAlone(file))) run(file, { buffered: true })
for (const file of files.filter(isAlone)) run(file, { buffered: false })

async function run (file, options) {
  const env = { ...process.env, TAP_TIMEOUT: String(timeout) }
  const { ok, time } = await t.spawn(process.execPath, ['--enable-source-maps', '--liftoff-only', '--import', REGISTER, file],
    { cwd: fileURLToPath(ROOT), env, timeout: timeout * 1000, ...options }, file)
  console.log(`${ok ? '    ok' : 'NOT OK'} ${(time / 1000).toFixed(1).padStart(6)} s  ${file}`)
}
