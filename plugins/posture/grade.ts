/** One letter for what the report says, and why. */
import type { Finding, Posture } from './index.js'

export interface Grade {
  grade: 'A+' | 'A' | 'B' | 'C' | 'D' | 'F'
  /** What it was given for: a line a kind of finding, the gravest first. */
  reasons: string[]
}

const ORDER = ['high', 'medium', 'low'] as const
/** Routes that a reason names. */
const NAMED = 3

/**
 * Kinds of finding count, not routes: one decision is often taken for many of them. Two grave kinds are an F, one is a D; three or more
 * middling ones a C, fewer a B; light ones alone an A; none at all an A+.
 */
export function gradeOf ({ findings }: Pick<Posture, 'findings'>): Grade {
  const kinds = kindsOf(findings)
  const [high, medium, low] = ORDER.map(severity => kinds.filter(({ first }) => first.severity === severity).length) as [number, number, number]
  const grade = high > 1 ? 'F' : high === 1 ? 'D' : medium > 2 ? 'C' : medium > 0 ? 'B' : low > 0 ? 'A' : 'A+'
  const reasons = kinds.map(({ first, routes }) => `${first.severity}: ${placesOf(routes)}: ${first.message}. ${first.fix}`)
  return { grade, reasons: reasons.length > 0 ? reasons : ['nothing to look at: every route says who may call it, and nothing that guards it is off'] }
}

/** `GET /a, GET /b and 3 more`; the service as a whole is `the service`. */
export function placesOf (routes: readonly string[]): string {
  const names = routes.map(route => route === '*' ? 'the service' : route)
  return names.length <= NAMED ? names.join(', ') : `${names.slice(0, NAMED).join(', ')} and ${names.length - NAMED} more`
}

function kindsOf (findings: readonly Finding[]): { first: Finding, routes: string[] }[] {
  const kinds = new Map<string, { first: Finding, routes: string[] }>()
  for (const finding of [...findings].sort((one, other) => ORDER.indexOf(one.severity) - ORDER.indexOf(other.severity))) {
    const key = `${finding.severity} ${finding.rule} ${finding.message}`
    const kind = kinds.get(key) ?? { first: finding, routes: [] }
    kind.routes.push(finding.route)
    kinds.set(key, kind)
  }
  return [...kinds.values()]
}
