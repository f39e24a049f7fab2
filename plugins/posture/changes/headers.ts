/** What browsers are told, and what other sites may have them do. */
import { listOf, ranked, stronger, weaker, without, type Note } from './note.js'
import { short } from './fields.js'

type Headers = Record<string, string>

/** Values of a header, the strongest first. */
const ORDERS: Readonly<Record<string, readonly string[]>> = {
  'x-frame-options': ['DENY', 'SAMEORIGIN'],
  'referrer-policy': ['no-referrer', 'same-origin', 'strict-origin', 'strict-origin-when-cross-origin', 'origin', 'origin-when-cross-origin', 'no-referrer-when-downgrade', 'unsafe-url'],
  'cross-origin-resource-policy': ['same-origin', 'same-site', 'cross-origin'],
  'cross-origin-opener-policy': ['same-origin', 'same-origin-allow-popups', 'noopener-allow-popups', 'unsafe-none'],
  'cross-origin-embedder-policy': ['require-corp', 'credentialless', 'unsafe-none'],
}
/** They say where reports go, and not what is allowed. */
const TELLING: ReadonlySet<string> = new Set(['reporting-endpoints', 'content-security-policy-report-only'])
/** Directives that fall back to no other. */
const ALONE: ReadonlySet<string> = new Set(['base-uri', 'form-action', 'frame-ancestors'])
const FLAGS: ReadonlySet<string> = new Set(['report-uri', 'report-to', 'require-trusted-types-for', 'trusted-types', 'sandbox', 'upgrade-insecure-requests'])

export function headerChanges (was: unknown, is: unknown): Note[] {
  if (was === false || was === undefined) return is === false || is === undefined ? [] : [stronger('sends security headers')]
  if (is === false || is === undefined) return [weaker('sends no security headers any more')]
  const [before, after] = [was, is] as [Headers, Headers]
  const gone = without(Object.keys(before), Object.keys(after)).filter(name => !TELLING.has(name)).map(name => weaker(`no longer sends ${name}`))
  const added = without(Object.keys(after), Object.keys(before)).filter(name => !TELLING.has(name)).map(name => stronger(`sends ${name}`))
  const changed = Object.keys(after).filter(name => name in before && before[name] !== after[name] && !TELLING.has(name)).flatMap(name => valueChanges(name, before[name]!, after[name]!))
  return [...gone, ...changed, ...added]
}

function valueChanges (name: string, before: string, after: string): Note[] {
  if (name === 'content-security-policy') return policyChanges(before, after)
  if (name === 'permissions-policy') return featureChanges(before, after)
  if (name === 'strict-transport-security') return hstsChanges(before, after)
  if (name === 'cache-control') {
    return ['no-store', 'private'].filter(word => before.includes(word) && !after.includes(word) && !after.includes('no-store')).slice(0, 1)
      .map(word => weaker(`may be cached: cache-control is ${after} and no longer ${word}`))
  }
  const order = ORDERS[name]
  if (order !== undefined) return ranked(order, before, after, (old, now) => `${name} is ${now} (${old} before)`)
  return [weaker(`${name} is ${short(after)} (${short(before)} before)`)]
}

function policyChanges (before: string, after: string): Note[] {
  const [old, now] = [before, after].map(directivesOf) as [Map<string, string[]>, Map<string, string[]>]
  const names = [...new Set([...old.keys(), ...now.keys()])]
  return names.flatMap(name => {
    if (FLAGS.has(name)) {
      if (!now.has(name)) return [weaker(`its content security policy has no ${name} any more`)]
      return old.has(name) ? [] : [stronger(`its content security policy has ${name}`)]
    }
    const [was, is] = [old, now].map(directives => directives.get(name) ?? (ALONE.has(name) ? ['*'] : directives.get('default-src') ?? ['*'])) as [string[], string[]]
    const more = without(is, [...was, "'none'"])
    if (was.includes('*') || more.length === 0) return without(was, [...is, "'none'"]).length > 0 ? [stronger(`its content security policy allows less for ${name}`)] : []
    return [weaker(`its content security policy allows ${more.join(' ')} for ${name}`)]
  })
}

function directivesOf (policy: string): Map<string, string[]> {
  return new Map(policy.split(';').map(text => text.trim().split(/\s+/)).filter(([name]) => name !== '').map(([name = '', ...sources]) => [name.toLowerCase(), sources]))
}

function featureChanges (before: string, after: string): Note[] {
  const [old, now] = [before, after].map(text => new Map(text.split(', ').map(part => {
    const [name = '', list = ''] = part.split('=', 2)
    return [name.trim(), list.replace(/^\(|\)$/g, '').split(' ').filter(origin => origin !== '')] as const
  }))) as [Map<string, string[]>, Map<string, string[]>]
  return [...old].flatMap(([name, origins]) => {
    const allowed = now.get(name)
    if (allowed === undefined) return [weaker(`its permissions policy no longer says who may use ${name}`)]
    const more = without(allowed, origins)
    return more.length > 0 ? [weaker(`its permissions policy lets ${more.join(' ')} use ${name}`)] : []
  })
}

function hstsChanges (before: string, after: string): Note[] {
  const age = (text: string) => Number(/max-age=(\d+)/.exec(text)?.[1] ?? 0)
  return [
    ...age(after) < age(before) ? [weaker(`browsers keep to HTTPS for ${age(after)} s only (${age(before)} s before)`)] : [],
    ...age(after) > age(before) ? [stronger(`browsers keep to HTTPS for ${age(after)} s`)] : [],
    ...before.includes('includeSubDomains') && !after.includes('includeSubDomains') ? [weaker('browsers keep to HTTPS no longer on subdomains')] : [],
  ]
}

export function corsChanges (was: unknown, is: unknown): Note[] {
  const [before, after] = [was, is].map(promise => {
    const { origins = [], credentials = false } = (promise || {}) as { origins?: '*' | string[], credentials?: boolean }
    return { origins: listOf(origins), credentials }
  }) as [{ origins: string[], credentials: boolean }, { origins: string[], credentials: boolean }]
  const isAny = before.origins.includes('*')
  return [
    ...isAny ? [] : without(after.origins, before.origins).map(origin => weaker(origin === '*' ? 'any page may read its answers (cors)' : `pages of ${origin} may read its answers (cors)`)),
    ...after.credentials && !before.credentials ? [weaker('other origins may read answers to cookies (cors: credentials)')] : [],
    ...without(before.origins, after.origins).map(origin => stronger(`pages of ${origin} may no longer read its answers`)),
  ]
}

interface Csrf { check: string, of: string, origins: string[], sameSite: boolean }

export function csrfChanges (was: unknown, is: unknown): Note[] {
  const [before, after] = [was || null, is || null] as (Csrf | null)[]
  if (before === null || before === undefined) return after === null || after === undefined ? [] : [stronger('is checked against requests that other sites forge (csrf)')]
  if (after === null || after === undefined) return [weaker('is no longer checked against requests that other sites forge (csrf)')]
  return [
    ...without(before.origins, after.origins).map(origin => stronger(`pages of ${origin} may no longer have browsers send it`)),
    ...before.sameSite && !after.sameSite ? [stronger('pages of its own origin alone may have browsers send it')] : [],
    ...ranked(['token all', 'token cookies', 'origin all'], `${before.check} ${before.of}`, `${after.check} ${after.of}`, (old, now) => `the check against forged requests is by ${now} (${old} before)`),
    ...without(after.origins, before.origins).map(origin => weaker(`pages of ${origin} may have browsers send it (csrf)`)),
    ...after.sameSite && !before.sameSite ? [weaker('pages of every host of the site may have browsers send it (csrf: sameSite)')] : [],
  ]
}

export function transportChanges (was: unknown, is: unknown): Note[] {
  const [before, after] = [was, is].map(promise => (promise ?? { hosts: [], https: false }) as { hosts: string[], https: boolean }) as [{ hosts: string[], https: boolean }, { hosts: string[], https: boolean }]
  const more = before.hosts.length === 0 ? [] : after.hosts.length === 0 ? ['any host'] : without(after.hosts, before.hosts)
  return [
    ...before.https && !after.https ? [weaker('is answered over plain HTTP')] : [],
    ...!before.https && after.https ? [stronger('is answered over HTTPS alone')] : [],
    ...more.map(host => weaker(`answers to ${host}`)),
    ...after.hosts.length === 0 ? [] : without(before.hosts, after.hosts).map(host => stronger(`no longer answers to ${host}`)),
    ...before.hosts.length === 0 && after.hosts.length > 0 ? [stronger('answers to its own hosts alone')] : [],
  ]
}

export function sessionChanges (was: unknown, is: unknown): Note[] {
  const [before, after] = [was, is].map(promise => (promise as { cookie?: string } | undefined)?.cookie ?? '')
  return before!.startsWith('__Host-') && after !== '' && !after!.startsWith('__Host-') ? [weaker(`its session cookie is ${after}, without the guard of __Host-`)] : []
}
