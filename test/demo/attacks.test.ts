/** Every attack of the lab: it succeeds on the vulnerable twin, and fails on the portal by the refusal that it names. */
import type { ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { access, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { RISKS } from '../../demo/lab/attack.js'
import { startProgram } from '../../demo/lab/program.js'
import { attacks, openRange, type Duel } from '../../demo/lab/range.js'
import { ENOUGH, lines, painter, summary } from '../../demo/lab/table.js'
import { targetOf } from '../../demo/lab/target.js'

t.setTimeout(600_000)
const KEY = randomBytes(32).toString('hex').replace(/^./, 'k')
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
    t.notMatch(JSON.stringify(twin.exchanges), /x-range-key/i, `${title}: the key of the range is not shown`)
  }
})

/** Starts the twin in a folder of its own, by these settings. */
function twinOf (t: Test, settings: Record<string, string>): ChildProcess {
  const directory = t.testdir({})
  const child = startProgram('demo/vulnerable/server.ts', directory, { DATA_DIR: directory, ...settings })
  t.teardown(() => { child.kill('SIGKILL') })
  return child
}

t.test('the twin refuses production, to listen elsewhere than on loopback, and to start without what the range gives it', async t => {
  const given = { DEMO_PASSWORD: 'Range-password-1a', RANGE_KEY: KEY }
  const refused: [Record<string, string>, RegExp][] = [
    [{ ...given, NODE_ENV: 'production' }, /The vulnerable twin does not run in production/],
    [{ ...given, HOST: '0.0.0.0' }, /The vulnerable twin listens on 127\.0\.0\.1 alone/],
    [{ RANGE_KEY: KEY }, /The vulnerable twin is started by/],
    [{ DEMO_PASSWORD: given.DEMO_PASSWORD }, /The vulnerable twin answers nobody without a key/],
  ]
  for (const [settings, message] of refused) {
    const child = twinOf(t, settings)
    let said = ''
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        said += text
        if (said.includes('listening on')) child.kill()
      })
    }
    const [code] = await once(child, 'close')
    t.equal(code, 1, said)
    t.match(said, message)
    t.notMatch(said, /listening on/)
  }
})

t.test('the twin answers the range alone: without its key no route, no error and no command runs', async t => {
  const password = 'Range-password-1a'
  const child = twinOf(t, { DEMO_PASSWORD: password, RANGE_KEY: KEY, PORT: '0' })
  const ended = once(child, 'close')
  const port = await new Promise<number>((resolve, reject) => {
    let said = ''
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        said += text
        const [, port] = /^listening on \S+:(\d+)$/m.exec(said) ?? []
        if (port !== undefined) resolve(Number(port))
      })
    }
    ended.then(() => reject(new Error(said)), reject)
  })
  const side = { side: 'twin', port, password, stolen: async () => [] } as const
  const { target: known } = targetOf({ ...side, key: KEY }, () => '127.0.0.1')
  const { target: stranger } = targetOf(side, () => '127.0.0.1')
  const { target: guesser } = targetOf({ ...side, key: KEY.replace('k', 'l') }, () => '127.0.0.1')

  const { paths } = (await known.ask('GET', '/docs/json')).body as { paths: Record<string, Record<string, object>> }
  const routes = Object.entries(paths).flatMap(([path, methods]) => Object.keys(methods).map(method => [method.toUpperCase(), path.replaceAll(/:\w+|\*/g, '1')] as const))
  t.ok(routes.length >= 60, `${routes.length} routes`)
  for (const { ask } of [stranger, guesser]) {
    for (const [method, path] of [...routes, ['GET', '/nowhere'], ['GET', '/%zz'], ['OPTIONS', '/users'], ['POST', '/auth/login/']] as const) {
      const { status, text } = await ask(method, path, method === 'POST' ? { raw: '{', headers: { 'content-type': 'application/json' } } : {})
      t.match({ status, text }, { status: 403, text: '' }, `${method} ${path}`)
    }
  }

  const mona = await known.signIn('mona')
  const mark = join(t.testdir({}), 'mark')
  const ping = `/ping?host=${encodeURIComponent(`127.0.0.1;touch ${mark}`)}`
  t.equal((await stranger.ask('GET', ping, { token: mona.token })).status, 403)
  t.match(await stranger.write(`GET ${ping} HTTP/1.1\r\nHost: rebound.example:${port}\r\nAuthorization: Bearer ${mona.token}\r\n\r\n`), { status: 403 })
  // Nor with the key in the body of a request that has not brought it.
  const inner = `GET ${ping} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${mona.token}\r\nX-Range-Key: no\r\n\r\n`
  t.match((await stranger.write(`GET / HTTP/1.1\r\nHost: a\r\n\r\n${inner}`)).text.match(/HTTP\/1\.1 \d+/g), ['HTTP/1.1 403'])
  t.equal(existsSync(mark), false, 'no command has run')
  // The negative control.
  t.equal((await mona.ask('GET', ping)).status, 200)
  t.equal(existsSync(mark), true, 'with the key it runs')
  t.notMatch((await known.ask('GET', '/debug/settings')).text, KEY, 'the key is not in what it shows of itself')
  child.kill()
  await ended
})

t.test('each flaw says at its top what it is, and what closes it', async t => {
  const folder = new URL('../../demo/vulnerable/flaws/', import.meta.url)
  for (const file of await readdir(folder)) t.match(await readFile(new URL(file, folder), 'utf8'), /^\/\*\*[^/]*CWE-\d+[^/]*API\d+/, file)
})
