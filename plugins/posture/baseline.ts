/** The baseline: what a service's posture was when somebody last agreed to it, in a form that git shows well. */
import { isDeepStrictEqual } from 'node:util'
import type { Finding, Posture } from './index.js'
import type { Taken, Told } from './fields.js'

/** A route of the baseline. */
export interface Guarded {
  controls: Record<string, unknown>
  input: Record<string, Taken>
  output: Record<string, Told>
}

/** A route, and how it is declared. */
export interface Known extends Guarded {
  route: string
}

export interface Baseline {
  /** The form of this file. */
  bastion: 1
  roles: Posture['roles']
  findings: Finding[]
  /** What is the same on most routes: the controls of the answer to unknown URLs. */
  everywhere: Record<string, unknown>
  /** By `GET /posts`; each control that is not as everywhere, `null` where it has none. */
  routes: Record<string, Guarded>
}

/** What differs between two machines and is no decision. */
const OF_THE_MACHINE: Readonly<Record<string, readonly string[]>> = { overload: ['maxHeapUsedBytes', 'maxRssBytes'], transport: ['peers'], state: ['peer'] }
/** What decides who gets in. */
const GUARDS = ['access', 'resource', 'dpop']
/** Letters of a value that stands on one line. */
const SHORT = 120
/** The unknown URL. */
export const UNKNOWN = '*'
/** A parameter of a URL, and the regular expression that it is held to. */
export const PARAMETER = /:(\w+)(\(.*?\)(?=[/.-]|$))?/g

export function baselineOf ({ routes, roles, findings }: Posture): Baseline {
  const everywhere = settled(routes.find(({ kind }) => kind === 'not-found')?.controls ?? {})
  // A HEAD says what its GET says, unless somebody declared it with words of its own.
  const gets = new Map(routes.filter(({ kind, method }) => kind === 'route' && method.split(',').includes('GET')).map(({ url, controls }) => [url, controls]))
  const isTold = ({ kind, url, controls }: Posture['routes'][number]) => kind === 'route' || (kind === 'head' && GUARDS.some(name => !isDeepStrictEqual(controls[name], gets.get(url)?.[name])))
  const entries = routes.filter(isTold).map(({ method, url, controls, input, output }) => {
    const own = settled(controls)
    const names = [...new Set([...Object.keys(own), ...Object.keys(everywhere)])].sort()
    const different = names.filter(name => !isDeepStrictEqual(own[name], everywhere[name])).map(name => [name, own[name] ?? null])
    return [`${method} ${url}`, { controls: Object.fromEntries(different), input: input as Record<string, Taken>, output }] as const
  })
  return sorted({ bastion: 1, roles, findings, everywhere, routes: Object.fromEntries(several(entries)) }) as Baseline
}

/**
 * @throws Error where the text is none of ours
 */
export function readBaseline (text: string): Baseline {
  let read: Partial<Baseline> | null = null
  try {
    read = JSON.parse(text) as Partial<Baseline> | null
  } catch { /* said below */ }
  const isOurs = read?.bastion === 1 && areRecords([read.roles, read.everywhere, read.routes]) && Array.isArray(read.findings) &&
    Object.values(read.routes!).every(route => areRecords([route, route?.controls, route?.input, route?.output]))
  if (!isOurs) throw new Error('is no baseline of this version: write it anew with --write-baseline')
  return read as Baseline
}

/** All routes with all their controls, the unknown URL among them: by method and URL, in which it does not matter what parameters are called. */
export function unfolded ({ everywhere, routes }: Baseline): Map<string, Known> {
  const all = Object.entries(routes).flatMap(([route, { controls, input, output }]) => {
    const own = Object.entries({ ...everywhere, ...controls }).filter(([, value]) => value !== null)
    const [methods = '', ...url] = route.replace(PARAMETER, ':').split(' ')
    return methods.split(',').map(method => [[method, ...url].join(' '), { route, controls: Object.fromEntries(own), input, output }] as const)
  })
  return new Map<string, Known>([...several(all), [UNKNOWN, { route: UNKNOWN, controls: everywhere, input: {}, output: {} }]])
}

/** What a route took, its parameters called as another declaration of it calls them. */
export function namedAs ({ route: other }: Known, { route, input }: Known): Record<string, Taken> {
  const [from, to] = [route, other].map(text => [...text.matchAll(PARAMETER)].map(([, name = '']) => name)) as [string[], string[]]
  const renamed = (name: string) => to[from.indexOf(name)] ?? name
  if (input.params === undefined || isDeepStrictEqual(from, to)) return input
  const params = Object.entries(input.params).map(([path, bounds]) => {
    const [whole, first, ...rest] = path.split('/')
    const held = bounds.map(one => Array.isArray(one.required) && path === '' ? { ...one, required: (one.required as string[]).map(renamed).sort() } : one)
    return [first === undefined ? path : [whole, renamed(first), ...rest].join('/'), held]
  })
  return { ...input, params: Object.fromEntries(params) as Taken }
}

function areRecords (parts: readonly unknown[]): boolean {
  return parts.every(part => part !== null && typeof part === 'object' && !Array.isArray(part))
}

/** As a file: what is short stands on one line, so that a change of it is one line of a diff. */
export function writeBaseline (baseline: Baseline): string {
  return `${written(baseline, '')}\n`
}

function written (value: unknown, indent: string): string {
  const line = JSON.stringify(value)
  if (value === null || typeof value !== 'object' || line.length <= SHORT) return line
  const inner = `${indent}  `
  if (Array.isArray(value)) return `[\n${value.map(item => `${inner}${written(item, inner)}`).join(',\n')}\n${indent}]`
  return `{\n${Object.entries(value).map(([name, part]) => `${inner}${JSON.stringify(name)}: ${written(part, inner)}`).join(',\n')}\n${indent}}`
}

/** A URL that is declared twice (by constraints: versions, hosts) has its entries numbered, in their order. */
function several<Entry> (entries: readonly (readonly [string, Entry])[]): [string, Entry][] {
  const times = new Map<string, number>()
  return entries.map(([name, entry]) => {
    const time = (times.get(name) ?? 0) + 1
    times.set(name, time)
    return [time === 1 ? name : `${name} (${time})`, entry]
  })
}

function settled (controls: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(controls).map(([name, promise]) => {
    const machine = OF_THE_MACHINE[name]
    if (machine === undefined || promise === null || typeof promise !== 'object') return [name, promise]
    return [name, Object.fromEntries(Object.entries(promise).filter(([key]) => !machine.includes(key)))]
  }))
}

/** Keys in order, so that a file changes only where something did. */
function sorted (value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).sort(([one], [other]) => one < other ? -1 : 1).map(([key, part]) => [key, sorted(part)]))
}
