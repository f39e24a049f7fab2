/** What the service is started with: Node, its settings and secrets, its certificates. */
import { existsSync, statSync } from 'node:fs'
import { daysLeft, inspect, namesOf } from '../certificates/inspection.js'
import { readPair } from '../certificates/pairs.js'
import { isDefaultCredential, weaknessOf } from '../settings/secrets.js'
import { readValues } from '../settings/values.js'
import type { TObject } from '@sinclair/typebox'
import { bad, good, grave, skipped, warning, type Check } from './check.js'
import { compareVersions } from './versions.js'

export type Lookup = (name: string) => string | undefined

const OLDEST_NODE = '20.20.0'
/** The last day on which a line of Node gets security fixes (nodejs/Release, schedule.json). */
const END_OF_LIFE: Readonly<Record<number, string>> = { 18: '2025-04-30', 20: '2026-04-30', 22: '2027-04-30', 24: '2028-04-30' }
const OF_OUR_OWN = /(?:^|_)(?:SECRET|PEPPER)(?:_|$)|(?:SIGNING|ENCRYPTION|COOKIE|SESSION|CSRF|HMAC)_KEY$/
const OF_OTHERS = /PASSWORD|PASSWD|_DSN$|(?:DATABASE|REDIS|POSTGRES|AMQP|MONGO)\w*_UR[IL]$/
/** Of tools that happen to run it. */
const OF_TOOLS = /^(?:npm_|AWS_|AZURE_|GITHUB_|CI_|KUBERNETES_)/
const SOON_DAYS = 21
const OTHERS_MAY_READ = 0o077

export function nodeChecks (version: string, env: Lookup, isProduction: boolean, now: number): Check[] {
  const about = 'node'
  const major = Number.parseInt(version.replace(/^v/, ''), 10)
  const end = END_OF_LIFE[major]
  const first = compareVersions(version, OLDEST_NODE) < 0
    ? bad(about, `${version} is older than ${OLDEST_NODE}, the oldest that the suite is tested on`)
    : major % 2 === 1
      ? warning(about, `${version} is of an odd line, which is looked after for months only: take an even one`)
      : end !== undefined && Date.parse(end) < now
        ? warning(about, `Node ${major} has had no security fixes since ${end}: take a newer line`)
        : good(about, `${version}${end === undefined ? '' : `, with security fixes until ${end}`}`)
  return [
    first,
    ...env('NODE_TLS_REJECT_UNAUTHORIZED') === '0' ? [bad(about, 'NODE_TLS_REJECT_UNAUTHORIZED=0: whoever is on the way can be any server that the service connects to')] : [],
    ...env('NODE_ENV') === undefined ? [warning('settings', 'NODE_ENV is not set: what production refuses is only warned of here')] : [],
    ...env('NODE_ENV') !== undefined && !['production', 'development', 'test'].includes(env('NODE_ENV')!) ? [warning('settings', 'NODE_ENV is neither production, development nor test: the suite takes it for production')] : [],
    ...isProduction && /--inspect/.test(env('NODE_OPTIONS') ?? '') ? [bad(about, 'NODE_OPTIONS opens the debugger (--inspect) in production')] : [],
  ]
}

/** Of a file of settings: who may read it. */
export function fileChecks (path: string, isProduction: boolean): Check[] {
  if (!existsSync(path) || process.platform === 'win32') return []
  const mode = statSync(path).mode & 0o777
  return (mode & OTHERS_MAY_READ) === 0 ? [] : [grave(isProduction, 'settings', `${path} may be read by others (mode 0${mode.toString(8)}): chmod 600 it`)]
}

/** By a schema where the service has shown one. */
export function settingChecks (schema: TObject, textOf: Lookup, isProduction: boolean): Check[] {
  const { faults } = readValues(schema, textOf, isProduction)
  return faults.length === 0 ? [good('settings', `all ${Object.keys(schema.properties).length} are good`)] : faults.map(({ message }) => bad('settings', message))
}

/** By their names: what looks like a secret of the service's own must be strong, what it was given must be no default. */
export function secretChecks (names: readonly string[], textOf: Lookup, isProduction: boolean): Check[] {
  const set = [...new Set(names)].sort().filter(name => (textOf(name) ?? '') !== '' && !OF_TOOLS.test(name) && !name.endsWith('_FILE'))
  const [own, given] = [set.filter(name => OF_OUR_OWN.test(name)), set.filter(name => OF_OTHERS.test(name) && !OF_OUR_OWN.test(name))]
  const checks = [
    ...own.flatMap(name => {
      const weakness = weaknessOf(textOf(name)!)
      return weakness === null ? [] : [grave(isProduction, 'secrets', `${name} ${weakness}: make one with npx fastify-bastion secret`)]
    }),
    ...given.filter(name => isDefaultCredential(textOf(name)!)).map(name => grave(isProduction, 'secrets', `${name} holds a password that is a well-known default`)),
    ...sameAmong(own, textOf).map(pair => warning('secrets', `${pair.join(' and ')} are the same: who learns one knows both; derive keys from one secret with deriveKey`)),
  ]
  if (own.length + given.length === 0) return [skipped('secrets', 'none is set by a name that tells')]
  return checks.length > 0 ? checks : [good('secrets', `${own.length + given.length} looked at, none weak`)]
}

function sameAmong (names: readonly string[], textOf: Lookup): string[][] {
  return names.flatMap((name, i) => names.slice(i + 1).filter(other => textOf(other) === textOf(name)).map(other => [name, other]))
}

export function certificateChecks (cert: string | undefined, key: string | undefined, isProduction: boolean, now: number): Check[] {
  const about = 'certificates'
  if (cert === undefined && key === undefined) return [skipped(about, 'TLS_CERT and TLS_KEY are not set: HTTPS is somebody else\'s, or nobody\'s')]
  if (cert === undefined || key === undefined) return [bad(about, `${cert === undefined ? 'TLS_CERT' : 'TLS_KEY'} is not set beside the other: a certificate and its key go together`)]
  const inline = Object.entries({ TLS_CERT: cert, TLS_KEY: key }).filter(([, value]) => value.includes('\n') || value.includes('-----BEGIN')).map(([name]) => name)
  if (inline.length > 0) return [bad(about, `${inline.join(' and ')} must name a file, and not be what is in it: processes and their reports show their environment`)]
  try {
    const pair = readPair({ cert, key })
    const { faults, warnings } = inspect(pair, { now, refuseExpired: true, production: isProduction, roots: null })
    const days = daysLeft(pair.leaf, now)
    return [
      ...faults.map(text => bad(about, text)),
      ...warnings.map(text => warning(about, text)),
      ...days >= 0 && days < SOON_DAYS ? [warning(about, `${cert} is good for ${Math.floor(days)} more days`)] : [],
      ...faults.length === 0 ? [good(about, `${cert} is for ${namesOf(pair.leaf).join(', ') || 'no name'}`)] : [],
    ]
  } catch (error) {
    return [bad(about, (error as Error).message)] // names files, and never what is in them
  }
}
