/** What is reported, before it has a form. */
import { baselineOf, type Baseline } from './baseline.js'
import { changesBetween, type Change } from './changes/index.js'
import { gradeOf, placesOf, type Grade } from './grade.js'
import type { Posture } from './index.js'
import { STANDARDS, type Standard } from './standards.js'
import { wordsFor } from './words.js'

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

/** What a table says of each route. */
export const COLUMNS = ['route', 'who', 'via', 'limits', 'body', 'answers', 'audit'] as const

export function rowsOf ({ routes }: Posture): Record<typeof COLUMNS[number], string>[] {
  return routes.filter(({ kind }) => kind === 'route').map(({ method, url, controls }) => ({ route: `${method} ${url}`, ...wordsFor(controls) }))
}
