/** What changed between two postures, and whether a route became weaker by it. What cannot be said to be stronger counts as weaker. */
import { isDeepStrictEqual } from 'node:util'
import { namedAs, PARAMETER, unfolded, UNKNOWN, type Baseline, type Known } from '../baseline.js'
import { accessChanges, accessInWords, clientChanges, identityChanges, proofChanges, resourceChanges } from './access.js'
import { inputChanges, outputChanges, short } from './fields.js'
import { corsChanges, csrfChanges, headerChanges, sessionChanges, transportChanges } from './headers.js'
import { floodChanges, limitChanges, overloadChanges } from './limits.js'
import { ranked, stronger, weaker, without, type Note } from './note.js'

export interface Change extends Note {
  /** `GET /posts`, `role editor`, or `*` for the service. */
  route: string
  /** The concern that it is of. */
  control: string
}

type Compare = (was: unknown, is: unknown) => Note[]

const COMPARE: Readonly<Record<string, Compare>> = {
  access: accessChanges,
  resource: resourceChanges,
  identity: identityChanges,
  dpop: proofChanges,
  certificates: clientChanges,
  limits: limitChanges,
  flood: floodChanges,
  overload: overloadChanges,
  headers: headerChanges,
  cors: corsChanges,
  csrf: csrfChanges,
  transport: transportChanges,
  sessions: sessionChanges,
  validation: mediaTypeChanges,
  exposure: filterChanges,
  audit: auditChanges,
  encryption: encryptionChanges,
  cards: (was, is) => ranked(['strict', 'cards', 'false'], String(was ?? false), String(is ?? false), (old, now) => `card numbers are refused: ${now} (${old} before)`),
  versions: versionChanges,
  reports: () => [],
  metrics: () => [],
  state: () => [],
}

/** Every change, those that weaken first. */
export function changesBetween (before: Baseline, after: Baseline): Change[] {
  const [old, now] = [unfolded(before), unfolded(after)]
  const changes = [...now].flatMap(([key, guarded]) => {
    const [route, known] = [guarded.route, old.get(key)]
    return known === undefined ? newRoute(guarded, after) : routeChanges(known, guarded).map(note => ({ ...note, route }))
  })
  const gone = [...old].filter(([key]) => !now.has(key)).map(([, { route }]): Change => ({ ...stronger('is gone'), route, control: 'access' }))
  const told = [...changes, ...gone, ...roleChanges(before.roles, after.roles), ...serviceChanges(before, after)]
  // Of several methods of one declaration each change once.
  const all = [...new Map(told.map(change => [`${change.route} ${change.message}`, change])).values()]
  return [...all.filter(({ is }) => is === 'weaker'), ...all.filter(({ is }) => is === 'stronger')]
}

function routeChanges (before: Known, after: Known): Omit<Change, 'route'>[] {
  const names = [...new Set([...Object.keys(before.controls), ...Object.keys(after.controls)])].sort()
  const of = (control: string, notes: Note[]) => notes.map(note => ({ ...note, control }))
  return [
    ...names.flatMap(name => {
      const [was, is] = [before.controls[name], after.controls[name]]
      return isDeepStrictEqual(was, is) ? [] : of(name, (COMPARE[name] ?? anyChanges(name))(was, is))
    }),
    ...of('validation', inputChanges(namedAs(after, before), after.input)),
    ...of('validation', patternChanges(before.route, after.route)),
    // What was not filtered gave everything away.
    ...before.controls.exposure === 'raw' || after.controls.exposure === 'raw' ? [] : of('exposure', outputChanges(before.output, after.output)),
  ]
}

function newRoute ({ route, controls }: Known, { findings }: Baseline): Change[] {
  const grave = findings.filter(finding => finding.route === route && finding.severity !== 'low').map(({ rule, message }): Change => ({ ...weaker(`is new: ${message}`), route, control: rule.split('/', 1)[0]! }))
  const access = controls.access === 'public' ? weaker('is new and public') : controls.access === undefined ? weaker('is new, and does not say who may call it') : stronger(`is new: it asks for ${accessInWords(controls.access)}`)
  return [{ ...access, route, control: 'access' }, ...grave]
}

function roleChanges (before: Baseline['roles'], after: Baseline['roles']): Change[] {
  return Object.entries(after).flatMap(([role, { permissions, passesFor }]) => {
    const had = before[role]
    const others = passesFor.length === 0 ? '' : `, and passes for role ${passesFor.join(' and ')}`
    const of = (note: Note): Change => ({ ...note, route: `role ${role}`, control: 'access' })
    if (had === undefined) return [of(stronger(`is new: it may ${permissions.join(' ') || 'nothing of its own'}${others}`))]
    return [
      ...without(permissions, had.permissions).map(name => of(weaker(`may ${name} now`))),
      ...without(passesFor, had.passesFor).map(name => of(weaker(`passes for role ${name} now`))),
      ...without(had.permissions, permissions).map(name => of(stronger(`may ${name} no longer`))),
      ...without(had.passesFor, passesFor).map(name => of(stronger(`passes for role ${name} no longer`))),
    ]
  })
}

function serviceChanges (before: Baseline, after: Baseline): Change[] {
  const known = new Set(before.findings.map(({ route, rule, message }) => `${route} ${rule} ${message}`))
  return after.findings.filter(({ route, rule, message, severity }) => route === UNKNOWN && severity !== 'low' && !known.has(`${route} ${rule} ${message}`))
    .map(({ rule, message }) => ({ ...weaker(message), route: UNKNOWN, control: rule.split('/', 1)[0]! }))
}

/** Of the regular expressions that parameters of a URL are held to. */
function patternChanges (was: string, is: string): Note[] {
  const [before, after] = [was, is].map(route => [...route.matchAll(PARAMETER)].map(([, , pattern = '']) => pattern)) as [string[], string[]]
  return isDeepStrictEqual(before, after) ? [] : [before.every((pattern, i) => pattern === '' || pattern === after[i]) ? stronger(`its URL takes less (${was} before)`) : weaker(`its URL takes other values (${was} before)`)]
}

function versionChanges (was: unknown, is: unknown): Note[] {
  const [before, after] = [was, is].map(promise => (promise as { status?: string } | undefined)?.status === 'gone')
  return before === after ? [] : [after ? stronger('answers 410') : weaker('answers again, and not by 410')]
}

function mediaTypeChanges (was: unknown, is: unknown): Note[] {
  const [before, after] = [was, is].map(promise => (promise as { mediaTypes?: string[] | null } | undefined)?.mediaTypes ?? []) as [string[], string[]]
  if (was !== undefined && is === undefined) return [weaker('what comes in is no longer validated')]
  return before.length === 0 ? [] : without(after, before).map(type => weaker(`takes a body of type ${type} too`))
}

function filterChanges (was: unknown, is: unknown): Note[] {
  if (is === 'raw' || is === undefined) return [weaker('its answer is no longer filtered (answers: raw)')]
  if (was === 'raw' || was === undefined) return [stronger('its answer is filtered')]
  const [before, after] = [was, is].map(promise => Object.values((promise as { open?: Record<string, string[]> }).open ?? {}).flat()) as [string[], string[]]
  return without(after, before).map(place => weaker(`lets everything through at ${place}`))
}

function auditChanges (was: unknown, is: unknown): Note[] {
  const [before, after] = [was, is].map(promise => typeof promise === 'string' ? { type: promise, durable: false } : promise || null) as ({ type?: string, durable?: boolean } | null)[]
  if (before === null || before === undefined) return [stronger(`is recorded as ${after?.type ?? 'what it is'}`)]
  if (after === null || after === undefined) return [weaker(`is no longer recorded (audit: ${before.type} before)`)]
  return [
    ...before.type !== after.type ? [weaker(`is recorded as ${after.type} (${before.type} before)`)] : [],
    ...before.durable === true && after.durable !== true ? [weaker('no longer waits until it is recorded (audit: durable)')] : [],
    ...before.durable !== true && after.durable === true ? [stronger('waits until it is recorded')] : [],
  ]
}

function encryptionChanges (was: unknown, is: unknown): Note[] {
  const [before, after] = [was, is].map(promise => (promise as { fields?: string[] } | undefined)?.fields ?? []) as [string[], string[]]
  return [...without(before, after).map(field => weaker(`no longer encrypts ${field}`)), ...without(after, before).map(field => stronger(`encrypts ${field}`))]
}

/** Of a control that nothing more is known of. */
function anyChanges (name: string): Compare {
  return (was, is) => {
    if (was === undefined || was === false) return is === undefined || is === false ? [] : [stronger(`is guarded by ${name}`)]
    if (is === undefined || is === false) return [weaker(`is no longer guarded by ${name}`)]
    const parts = isRecord(was) && isRecord(is) ? [...new Set([...Object.keys(was), ...Object.keys(is)])].filter(key => !isDeepStrictEqual(was[key], is[key])) : []
    if (parts.length === 0) return [weaker(`${name} is ${short(is)} (${short(was)} before)`)]
    return parts.map(key => {
      const [old, now] = [(was as Record<string, unknown>)[key], (is as Record<string, unknown>)[key]]
      const text = `${name}: ${key} is ${now === undefined ? 'gone' : short(now)} (${old === undefined ? 'none' : short(old)} before)`
      const isLess = /^max|Bytes$|^quota$/.test(key) && isAtMost(now, old)
      const isFewer = Array.isArray(old) && Array.isArray(now) && without(now, old).length === 0
      return isLess || isFewer || now === 'refuse' || (old === false && now === true) ? stronger(text) : weaker(text)
    })
  }
}

/** Numbers, each no higher than before; null is no limit. */
function isAtMost (now: unknown, old: unknown): boolean {
  if (isRecord(now) && isRecord(old)) return Object.keys(old).every(key => isAtMost(now[key], old[key]))
  return old === null || (typeof old === 'number' && typeof now === 'number' && now <= old)
}

function isRecord (value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === 'object' && !Array.isArray(value)
}
