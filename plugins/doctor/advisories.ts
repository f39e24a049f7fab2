/** Known advisories of what is installed: from the list that ships, and from what the registry said when it was asked last. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { bad, good, skipped, warning, type Check } from './check.js'
import { AS_OF, PUBLISHED, WATCHED, type Advisory } from './published.js'
import { isIn } from './versions.js'

/** What `--refresh` leaves for later. */
interface Refreshed { asOf: string, advisories: Advisory[] }

const ABOUT = 'advisories'
const OLD_MS = 30 * 86_400_000
const PATIENCE_MS = 20_000
/** Nested folders of packages that are looked into. */
const DEPTH = 8
const SEVERITIES = ['low', 'moderate', 'high', 'critical']

/** The versions of the packages that are watched, wherever they are below a folder, or below one around it where a workspace keeps them. */
export function installedIn (folder: string): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>()

  function look (modules: string, depth: number): void {
    if (depth === 0 || !existsSync(modules)) return
    for (const entry of readdirSync(modules, { withFileTypes: true })) {
      // Where pnpm keeps what is not named in package.json.
      if (entry.name === '.pnpm') for (const place of readdirSync(join(modules, entry.name))) look(join(modules, entry.name, place, 'node_modules'), 1)
      if (entry.name.startsWith('.') || !(entry.isDirectory() || entry.isSymbolicLink())) continue
      const names = entry.name.startsWith('@') ? readdirSync(join(modules, entry.name)).map(name => `${entry.name}/${name}`) : [entry.name]
      for (const name of names) {
        const version = WATCHED.includes(name) ? versionOf(join(modules, name)) : null
        if (version !== null) found.set(name, (found.get(name) ?? new Set()).add(version))
        if (!entry.isSymbolicLink()) look(join(modules, name, 'node_modules'), depth - 1)
      }
    }
  }

  for (let at = folder; ; at = dirname(at)) {
    look(join(at, 'node_modules'), DEPTH)
    if (at === dirname(at) || existsSync(join(at, '.git'))) return found
  }
}

function versionOf (folder: string): string | null {
  try {
    return (JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { version?: string }).version ?? null
  } catch {
    return null
  }
}

/** Where what the registry said is kept. */
export function refreshedIn (folder: string): string {
  return join(folder, 'node_modules', '.cache', 'fastify-bastion', 'advisories.json')
}

export function advisoryChecks (folder: string, now: number): Check[] {
  const installed = installedIn(folder)
  if (installed.size === 0) return [skipped(ABOUT, 'nothing is installed here that is watched: run it where package.json is')]
  const refreshed = readRefreshed(refreshedIn(folder))
  const known = new Map([...PUBLISHED, ...refreshed?.advisories ?? []].map(advisory => [`${advisory.package} ${advisory.id}`, advisory]))
  const asOf = refreshed !== null && refreshed.asOf > AS_OF ? refreshed.asOf : AS_OF
  const met = [...known.values()].flatMap(advisory => [...installed.get(advisory.package) ?? []].filter(version => isIn(version, advisory.range)).map(version => ({ ...advisory, version })))
  const age = now - Date.parse(asOf)
  return [
    ...met.map(({ package: name, version, severity, id, title }) => (SEVERITIES.indexOf(severity) > 1 ? bad : warning)(ABOUT, `${name} ${version}: ${title} (${severity}, ${id})`)),
    ...met.length > 0 ? [] : [good(ABOUT, `${installed.size} packages that guard a service have none of the list of ${asOf}`)],
    ...age > OLD_MS ? [warning(ABOUT, `the list is of ${asOf}: ask again with --refresh`)] : [],
  ]
}

/**
 * Asks the registry what is known of the versions that are installed, and keeps it.
 *
 * @throws Error that says why nothing was learned
 */
export async function refresh (folder: string, registry: string, now: number): Promise<Check> {
  const url = new URL('-/npm/v1/security/advisories/bulk', registry.endsWith('/') ? registry : `${registry}/`)
  if (url.protocol !== 'https:' && !/^(?:localhost|127\.0\.0\.1|\[::1\])$/.test(url.hostname)) throw new TypeError('--registry: must be an https: URL')
  const asked = Object.fromEntries([...installedIn(folder)].map(([name, versions]) => [name, [...versions]]))
  let answer: unknown
  try {
    const response = await fetch(url, {
      method: 'POST', headers: { 'content-type': 'application/json', accept: 'application/json' }, body: JSON.stringify(asked), signal: AbortSignal.timeout(PATIENCE_MS), redirect: 'error',
    })
    if (!response.ok) return unlearned(url, `it answers ${response.status}: a mirror may not have what npm audit asks`)
    answer = await response.json()
  } catch (error) {
    const { cause, name } = error as { cause?: { code?: string }, name: string }
    return unlearned(url, cause?.code ?? name)
  }
  const advisories = advisoriesIn(answer)
  if (advisories === null) return unlearned(url, 'its answer is none of an advisory service')
  const file = refreshedIn(folder)
  mkdirSync(dirname(file), { recursive: true })
  const kept: Refreshed = { asOf: new Date(now).toISOString().slice(0, 10), advisories }
  writeFileSync(file, `${JSON.stringify(kept, null, 2)}\n`)
  return good(ABOUT, `${url.host} knows ${advisories.length} of ${Object.keys(asked).length} packages that are watched`)
}

function unlearned ({ host }: URL, why: string): Check {
  return warning(ABOUT, `${host} was asked in vain (${why}): what is told here is of the list that is at hand`)
}

/** Null where it is no answer of the bulk endpoint. */
function advisoriesIn (answer: unknown): Advisory[] | null {
  if (answer === null || typeof answer !== 'object' || Array.isArray(answer)) return null
  const found: Advisory[] = []
  for (const [name, list] of Object.entries(answer)) {
    if (!WATCHED.includes(name)) continue
    if (!Array.isArray(list)) return null
    for (const { url = '', id, severity, title, vulnerable_versions: range } of list as Record<string, string | undefined>[]) {
      if (typeof range !== 'string' || typeof title !== 'string') return null
      found.push({ package: name, range, severity: (SEVERITIES.includes(severity ?? '') ? severity : 'high') as Advisory['severity'], id: /GHSA-[\w-]+/.exec(url)?.[0] ?? String(id), title: printable(title) })
    }
  }
  return found
}

/** It comes from elsewhere, and goes to a terminal. */
function printable (text: string): string {
  return text.replace(/[^\x20-\x7e]/g, ' ').slice(0, 200)
}

function readRefreshed (file: string): Refreshed | null {
  try {
    const { asOf, advisories } = JSON.parse(readFileSync(file, 'utf8')) as Refreshed
    return typeof asOf === 'string' && Array.isArray(advisories) ? { asOf, advisories } : null
  } catch {
    return null
  }
}
