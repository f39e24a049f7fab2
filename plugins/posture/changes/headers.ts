/** What browsers are told, and what other sites may have them do. */
import { isDeepStrictEqual } from 'node:util'
import { listOf, ranked, stronger, weaker, without, type Note } from './note.js'
import { short } from './fields.js'

type Headers = Record<string, string | string[]>

/** Values of a header, the strongest first. */
const ORDERS: Readonly<Record<string, readonly string[]>> = {
  'x-frame-options': ['DENY', 'SAMEORIGIN'],
  'referrer-policy': ['no-referrer', 'same-origin', 'strict-origin', 'strict-origin-when-cross-origin', 'origin', 'origin-when-cross-origin', 'no-referrer-when-downgrade', 'unsafe-url'],
  'cross-origin-resource-policy': ['same-origin', 'same-site', 'cross-origin'],
  'cross-origin-opener-policy': ['same-origin', 'same-origin-allow-popups', 'noopener-allow-popups', 'unsafe-none'],
  'cross-origin-embedder-policy': ['require-corp', 'credentialless', 'unsafe-none'],
  'origin-agent-cluster': ['?1', '?0'],
  'x-dns-prefetch-control': ['off', 'on'],
  'x-permitted-cross-domain-policies': ['none', 'master-only', 'by-content-type', 'all'],
}
/** They say where reports go, and not what is allowed. */
const TELLING: ReadonlySet<string> = new Set(['reporting-endpoints', 'content-security-policy-report-only'])
/** Directives that fall back to no other. */
const ALONE: ReadonlySet<string> = new Set(['base-uri', 'form-action', 'frame-ancestors'])
const FLAGS: ReadonlySet<string> = new Set(['report-uri', 'report-to', 'require-trusted-types-for', 'trusted-types', 'sandbox', 'upgrade-insecure-requests'])
/** Directives of which each token allows something more. */
const LOOSENED: ReadonlySet<string> = new Set(['trusted-types', 'sandbox'])
/** What a directive stands for that is not there, before `default-src` (CSP level 3, 6.8.3). */
const FALLS_BACK: Readonly<Record<string, string>> = {
  'script-src-attr': 'script-src', 'script-src-elem': 'script-src', 'style-src-attr': 'style-src', 'style-src-elem': 'style-src', 'worker-src': 'script-src', 'frame-src': 'child-src',
}
/** What `*` does not stand for. */
const BEYOND_ANY = /^'|^(?:data|blob|filesystem|mediastream):/

export function headerChanges (was: unknown, is: unknown): Note[] {
  if (was === false || was === undefined) return is === false || is === undefined ? [] : [stronger('sends security headers')]
  if (is === false || is === undefined) return [weaker('sends no security headers any more')]
  const [before, after] = [was, is] as [Headers, Headers]
  const gone = without(Object.keys(before), Object.keys(after)).filter(name => !TELLING.has(name)).map(name => weaker(`no longer sends ${name}`))
  const added = without(Object.keys(after), Object.keys(before)).filter(name => !TELLING.has(name)).map(name => stronger(`sends ${name}`))
  const changed = Object.keys(after).filter(name => name in before && !isDeepStrictEqual(before[name], after[name]) && !TELLING.has(name)).flatMap(name => valueChanges(name, listOf(before[name]), listOf(after[name])))
  return [...gone, ...changed, ...added]
}

function valueChanges (name: string, was: readonly string[], is: readonly string[]): Note[] {
  if (name === 'clear-site-data') return [...without(was, is).map(what => weaker(`no longer clears ${what} of browsers`)), ...without(is, was).map(what => stronger(`clears ${what} of browsers`))]
  const [before, after] = [was.join(', '), is.join(', ')]
  if (name === 'content-security-policy') return policyChanges(before, after)
  if (name === 'permissions-policy') return featureChanges(before, after)
  if (name === 'strict-transport-security') return hstsChanges(before, after)
  if (name === 'cache-control') return keepingChanges(before, after)
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
      if (!old.has(name)) return [stronger(`its content security policy has ${name}`)]
      return !LOOSENED.has(name) ? [] : without(now.get(name)!, old.get(name)!).map(token => weaker(`its content security policy allows ${token} in ${name}`))
    }
    const [was, is] = [sourcesOf(old, name), sourcesOf(now, name)]
    const more = was === null ? [] : is === null ? ['everything'] : without(is, [...was, "'none'"]).filter(source => !was.includes('*') || BEYOND_ANY.test(source))
    if (more.length > 0) return [weaker(`its content security policy allows ${more.join(' ')} for ${name}`)]
    return is !== null && (was === null || without(was, [...is, "'none'"]).length > 0) ? [stronger(`its content security policy allows less for ${name}`)] : []
  })
}

/** Null where nothing is said, so that everything is allowed. */
function sourcesOf (directives: Map<string, string[]>, name: string): string[] | null {
  const next = FALLS_BACK[name] ?? (ALONE.has(name) || name === 'default-src' ? null : 'default-src')
  return directives.get(name) ?? (next === null ? null : sourcesOf(directives, next))
}

/** From what is kept nowhere to what everybody's caches keep for long. */
function keepingChanges (before: string, after: string): Note[] {
  const [was, is] = [before, after].map(text => {
    const words = text.toLowerCase().split(/\s*,\s*/)
    const seconds = (name: string) => Number(words.find(word => word.startsWith(`${name}=`))?.split('=')[1] ?? 0)
    const place = words.includes('no-store') ? 0 : words.includes('private') ? 1 : words.includes('public') || seconds('s-maxage') > 0 ? 3 : 2
    return { place, unasked: place === 0 || words.includes('no-cache') ? 0 : Math.max(seconds('max-age'), seconds('s-maxage'), seconds('stale-while-revalidate')) }
  }) as [Kept, Kept]
  const text = `cache-control is ${after} (${before} before)`
  if (is.place > was.place || is.unasked > was.unasked) return [weaker(`may be cached by more or for longer: ${text}`)]
  return is.place < was.place || is.unasked < was.unasked ? [stronger(text)] : []
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

/** Where an answer is kept, and the seconds for which nobody asks whether it still holds. */
interface Kept { place: number, unasked: number }

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
  const [before, after] = [was, is].map(promise => ({ cookie: '', activity: true, ...promise as object })) as [{ cookie: string, activity: boolean }, { cookie: string, activity: boolean }]
  return [
    ...before.cookie.startsWith('__Host-') && after.cookie !== '' && !after.cookie.startsWith('__Host-') ? [weaker(`its session cookie is ${after.cookie}, without the guard of __Host-`)] : [],
    ...before.activity || !after.activity || is === undefined ? [] : [weaker('keeps an idle session alive (activity: false before)')],
  ]
}
