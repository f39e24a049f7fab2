/**
 * Known advisories of what a service gets when it installs the package: its dependencies and Fastify, the peer.
 * Fails on high and critical ones. Where no audit endpoint answers it says so, and does not fail.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const PATIENCE_MS = 60_000
const GRAVE = ['high', 'critical']

const manifest = JSON.parse(readFileSync('package.json', 'utf8'))
const { dependencies, peerDependencies, devDependencies, ...rest } = manifest
const folder = mkdtempSync(join(tmpdir(), 'bastion-advisories-'))
try {
  // A peer that is also a development dependency would be left out with those.
  const shipped = { ...dependencies, ...peerDependencies }
  const others = Object.fromEntries(Object.entries(devDependencies).filter(([name]) => !(name in shipped)))
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ ...rest, dependencies: shipped, devDependencies: others }))
  copyFileSync('package-lock.json', join(folder, 'package-lock.json'))
  const { stdout } = spawnSync('npm', ['audit', '--omit=dev', '--package-lock-only', '--json'], { cwd: folder, encoding: 'utf8', timeout: PATIENCE_MS })
  const report = parse(stdout)
  const counts = report?.metadata?.vulnerabilities
  if (counts === undefined) {
    console.log('advisories: not checked, no audit endpoint answers here')
  } else {
    for (const { name, severity, range } of Object.values(report.vulnerabilities)) console.log(`advisories: ${severity}: ${name} ${range}`)
    const grave = GRAVE.reduce((sum, severity) => sum + counts[severity], 0)
    console.log(`advisories: ${report.metadata.dependencies?.prod ?? 'all'} packages checked, ${counts.total} known, ${grave} of them high or critical`)
    process.exitCode = grave > 0 ? 1 : 0
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}

function parse (text) {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
