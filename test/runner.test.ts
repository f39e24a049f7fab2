/** How test files are run: one in which an error was caught by nobody has failed, however late it was thrown and whatever passed before. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'

const REGISTER = new URL('typescript/register.js', import.meta.url).href
const TAP = pathToFileURL(createRequire(import.meta.url).resolve('tap').replace('/commonjs/', '/esm/')).href

const folder = mkdtempSync(join(tmpdir(), 'runner-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

/** The exit code of a file with this body. */
async function run (body: string): Promise<number> {
  const file = join(folder, `${Math.random().toString(36).slice(2)}.mjs`)
  writeFileSync(file, `import t from ${JSON.stringify(TAP)}\n${body}`)
  const child = spawn(process.execPath, ['--import', REGISTER, file], { stdio: 'ignore', env: { ...process.env, TAP: '1' } })
  const [code] = await once(child, 'exit')
  return code as number
}

const PASSES = "t.test('passes', async t => { t.pass() })\n"

t.test('a file fails by an error that nobody catches', async t => {
  t.equal(await run(PASSES), 0, 'without one it passes')
  t.not(await run("t.test('fails', async t => { t.fail() })\n"), 0)
  for (const [name, late] of Object.entries({
    'thrown in a callback': 'setTimeout(() => { throw new Error() }, 20)',
    'a rejection': 'Promise.reject(new Error())',
    'a late rejection': 'setTimeout(() => { Promise.reject(new Error()) }, 20)',
    'no error': 'setTimeout(() => { throw undefined }, 20)',
  })) {
    t.not(await run(`t.test('goes on', async t => {\n  ${late}\n  await new Promise(resolve => setTimeout(resolve, 100))\n  t.pass()\n})\n`), 0, `${name}, while its test goes on`)
    t.not(await run(`t.test('is over', async t => {\n  ${late}\n  t.pass()\n})\n`), 0, `${name}, when its test is over`)
    t.not(await run(`${PASSES}${late}\n`), 0, `${name}, outside of all`)
  }
})
