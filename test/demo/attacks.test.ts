/** Every attack of the lab: it succeeds on the vulnerable twin, and fails on the portal by the refusal that it names. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, readdir, readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { RISKS } from '../../demo/lab/attack.js'
import { attacks, openRange, type Duel } from '../../demo/lab/range.js'
import { ENOUGH, lines, painter, summary } from '../../demo/lab/table.js'

t.setTimeout(600_000)
const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const PLUGINS = new URL('../../plugins/', import.meta.url)

const known = await attacks()

t.test('there is an attack for each risk of OWASP, and at least forty', async t => {
  t.ok(known.size >= 40, `there are ${known.size}`)
  t.strictSame(Object.keys(RISKS).filter(risk => ![...known.values()].some(attack => attack.risk === risk)), [])
})

t.test('each names a concern that there is, and one refusal', async t => {
  for (const [name, { concern, refusal, cwe }] of known) {
    await t.resolves(Promise.any([access(new URL(`${concern}/index.ts`, PLUGINS)), access(new URL(`${concern}.ts`, PLUGINS))]), `${name}: ${concern}`)
    t.ok(refusal.status >= 200 && refusal.status < 500 && Number.isInteger(cwe) && cwe > 0, name)
  }
})

t.test('each has a title of its own, that leaves room for the verdicts in 100 columns', async t => {
  const titles = [...known.values()].map(({ title }) => title)
  t.strictSame(titles.filter((title, i) => titles.indexOf(title) !== i), [])
  const result = { verdict: 'succeeded', evidence: '', exchanges: [], decisive: -1, left: 0, ms: 99_999 } as const
  const plain = painter({ isTTY: true }, { NO_COLOR: '1' })
  for (const attack of known.values()) t.ok(lines(attack, { name: '', twin: result, portal: { ...result, verdict: 'refused' } }, plain).length <= 100, attack.title)
})

t.test('a run is good where each did what it is for, and a run of all counts to forty', async t => {
  const result = { verdict: 'succeeded', evidence: 'What was read', exchanges: [], decisive: -1, left: 0, ms: 1 } as const
  const shown: Duel = { name: 'a', twin: result, portal: { ...result, verdict: 'refused' } }
  const forty = Array.from({ length: ENOUGH }, () => shown)
  t.equal(summary(forty, true).isGood, true)
  t.equal(summary(forty.slice(1), true).isGood, false)
  t.match(summary(forty.slice(1), true).text, /there are to be 40$/)
  t.equal(summary([shown], false).isGood, true)
  t.equal(summary([], false).isGood, false)
  for (const duel of [{ ...shown, portal: result }, { ...shown, twin: { ...result, verdict: 'refused' } }, { ...shown, portal: { ...result, verdict: 'unclear' } }] as Duel[]) {
    t.equal(summary([...forty, duel], true).isGood, false)
    t.match(lines([...known.values()][0]!, duel, painter({}, {})), /^✗ .*\n {4}twin: {3}What was read\n {4}portal: What was read$/)
  }
})

t.test('colours are for terminals, and not for who wants none', async t => {
  const isColoured = (stream: { isTTY?: boolean }, env: Record<string, string>) => painter(stream, env)('red', 'x') !== 'x'
  t.equal(isColoured({ isTTY: true }, {}), true)
  t.equal(isColoured({}, {}), false)
  t.equal(isColoured({ isTTY: true }, { NO_COLOR: '1' }), false)
  t.equal(isColoured({ isTTY: true }, { TERM: 'dumb' }), false)
  t.equal(isColoured({}, { FORCE_COLOR: '1' }), true)
})

t.test('each succeeds on the twin and fails on the portal', async t => {
  const range = await openRange()
  t.teardown(() => range.close())
  for (const [name, { title }] of known) {
    const { twin, portal } = await range.run(name)
    t.equal(twin.verdict, 'succeeded', `${title}: on the twin (${twin.evidence})`)
    t.equal(portal.verdict, 'refused', `${title}: on the portal (${portal.evidence})`)
  }
})

t.test('the twin refuses production, and to listen elsewhere than on loopback', async t => {
  for (const env of [{ NODE_ENV: 'production' }, { HOST: '0.0.0.0' }, {}] as Record<string, string>[]) {
    const { PATH } = process.env
    const child = spawn(process.execPath, ['--import', 'tsx', 'demo/vulnerable/server.ts'], { cwd: ROOT, env: { PATH, ...env }, stdio: ['ignore', 'ignore', 'pipe'] })
    let said = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => { said += text })
    const [code] = await once(child, 'close')
    t.equal(code, 1)
    t.match(said, /The vulnerable twin (does not run in production|listens on 127\.0\.0\.1 alone|is started by)/)
  }
})

t.test('each flaw says at its top what it is, and what closes it', async t => {
  const folder = new URL('../../demo/vulnerable/flaws/', import.meta.url)
  for (const file of await readdir(folder)) t.match(await readFile(new URL(file, folder), 'utf8'), /^\/\*\*[^/]*CWE-\d+[^/]*API\d+/, file)
})
