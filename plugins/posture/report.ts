/** What is reported, before it has a form. */
import { baselineOf, type Baseline } from './baseline.js'
import { changesBetween, type Change } from './changes/index.js'
import { gradeOf, placesOf, type Grade } from './grade.js'
import type { Posture } from './index.js'
import { STANDARDS, type Standard } from './standards.js'

export interface Report extends Grade {
  /** The module that was read, as it was named. */
  source: string
  posture: Posture
  /** Of each concern: how many routes it guards, and the requirements that it serves. */
  controls: Record<string, Standard & { routes: number }>
  /** Against the baseline; null where there is none. */
  changes: Change[] | null
}

export function reportOf (source: string, posture: Posture, before: Baseline | null): Report {
  const routes = posture.routes.filter(({ kind }) => kind === 'route')
  const controls = posture.concerns.map(concern => {
    const { asvs, api } = STANDARDS[concern] ?? { asvs: [], api: [] }
    const guarded = routes.filter(route => ![undefined, null, false].includes(route.controls[concern] as never)).length
    return [concern, { routes: guarded, asvs, api }] as const
  })
  return { source, ...gradeOf(posture), posture, controls: Object.fromEntries(controls), changes: before === null ? null : changesBetween(before, baselineOf(posture)) }
}

/** One line a change; the same change of several routes is one. */
export function linesOf (changes: readonly Change[], is: Change['is']): string[] {
  const grouped = new Map<string, string[]>()
  for (const { route, message, is: became } of changes) if (became === is) grouped.set(message, [...grouped.get(message) ?? [], route])
  return [...grouped].map(([message, routes]) => `${placesOf(routes)}: ${message}`)
}

/** The row of a route: who may call it, how often, what comes in and goes out, what is kept. */
export interface Row {
  route: string
  access: string
  limits: string
  input: string
  output: string
  audit: string
}

export const COLUMNS: readonly (keyof Row)[] = ['route', 'access', 'limits', 'input', 'output', 'audit']

export function rowsOf ({ routes }: Posture): Row[] {
  return routes.filter(({ kind }) => kind === 'route').map(({ method, url, controls, input, output }) => {
    const { access, limits, exposure, audit, csrf } = controls as { access?: unknown, limits?: { windows?: string[] | false, address?: string[] | false, principal?: string[] | false } | false, exposure?: unknown, audit?: unknown, csrf?: unknown }
    const fields = Object.keys(input.body ?? {}).filter(path => path !== '').length
    const told = Object.entries(output).filter(([status]) => /^[23]|^default/.test(status))
    return {
      route: `${method} ${url}`,
      access: wordsOf(access),
      limits: limits === undefined || limits === false ? 'none' : [limits.windows ?? limits.address, ...limits.windows === undefined && access !== 'public' ? [limits.principal] : []].map(spanOf).join(', signed in '),
      input: [...input.body === undefined ? [] : [`body ${fields}`], ...input.query === undefined ? [] : ['query'], ...input.params === undefined ? [] : ['params'], ...csrf === undefined || csrf === false ? [] : ['csrf']].join(', '),
      output: exposure === 'raw' ? 'raw' : told.map(([status, paths]) => `${status} ${Object.keys(paths).length}`).join(', '),
      audit: typeof audit === 'string' ? audit : (audit as { type?: string } | undefined)?.type ?? '',
    }
  })
}

function spanOf (windows: readonly string[] | false | undefined): string {
  return windows === undefined || windows === false ? 'none' : windows.join(' ')
}

function wordsOf (access: unknown): string {
  if (access === undefined) return 'nothing'
  if (typeof access === 'string') return access
  return Object.entries(access as object).map(([name, value]) => `${name} ${typeof value === 'object' && !Array.isArray(value) ? JSON.stringify(value) : String(value)}`).join(', ')
}
