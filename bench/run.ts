/**
 * The benchmark: `npm run bench [-- --quick] [part …]`, by default all parts (with `--quick` those that are quick: under three minutes).
 * It compiles the suite, runs each part (`<part>.ts`: its `measure` prints a table), and keeps what it answers, stamped with date, commit, machine and
 * versions, as `results/<part>.json`. `--profile <contender> [kind]` keeps a CPU profile, a flame graph and the dearest functions instead (`profile.ts`).
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'

interface Part { measure: (quick: boolean) => Promise<object> }

const QUICK = ['requests', 'redis', 'floods', 'scale', 'boot']
const PARTS = [...QUICK, 'limits', 'audit']
const COMPARED = [
  'fastify', '@fastify/helmet', '@fastify/cors', '@fastify/rate-limit', '@fastify/jwt', 'argon2', 'ioredis', 'rate-limiter-flexible',
]

const root = fileURLToPath(new URL('..', import.meta.url))
const { values: { quick, profile: contender }, positionals } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, profile: { type: 'string' } }, allowPositionals: true,
})
const parts = positionals.length > 0 ? positionals : quick ? QUICK : PARTS
const unknown = parts.find(part => !PARTS.includes(part))
if (contender === undefined && unknown !== undefined) throw new TypeError(`there is no part ${unknown}: ${PARTS.join(', ')}`)

execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', join(root, 'bench/tsconfig.json'), '--noCheck'], { stdio: 'inherit' })
mkdirSync(join(root, 'bench/results'), { recursive: true })

if (contender !== undefined) {
  const { profile } = await compiled<{ profile: (contender: string, kind?: string) => Promise<{ name: string }> }>('profile')
  const { name, ...measured } = await profile(contender, positionals[0])
  save(name, measured)
} else {
  for (const part of parts) await run(part)
}

/** One that fails does not keep the others from running. */
async function run (part: string): Promise<void> {
  console.log(`\n${part}`)
  const begun = performance.now()
  try {
    const { measure } = await compiled<Part>(part)
    const measured = await measure(quick)
    save(part, { quick, seconds: Math.round((performance.now() - begun) / 1000), ...measured })
  } catch (error) {
    console.error(error)
    process.exitCode = 1
  }
}

async function compiled<Module> (name: string): Promise<Module> {
  return await import(pathToFileURL(join(root, `dist/bench/bench/${name}.js`)).href) as Module
}

function save (name: string, measured: object): void {
  writeFileSync(join(root, `bench/results/${name}.json`), `${JSON.stringify({ ...stamp(), ...measured }, null, 2)}\n`)
  console.log(`written to bench/results/${name}.json`)
}

/** Whose figures they are. */
function stamp () {
  const git = (...args: string[]) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim()
  const versionOf = (name: string) => (JSON.parse(readFileSync(join(root, 'node_modules', name, 'package.json'), 'utf8')) as { version: string }).version
  return {
    date: new Date().toISOString(),
    commit: `${git('rev-parse', '--short', 'HEAD')}${git('status', '--porcelain', 'plugins', 'schemas') === '' ? '' : ' with changes'}`,
    node: process.version,
    machine: { cpu: cpus()[0]?.model, cores: cpus().length, platform: `${process.platform} ${process.arch}` },
    versions: Object.fromEntries(COMPARED.map(name => [name, versionOf(name)])),
  }
}
