/** What protects each route, in words: a table that people read, made of the report of the running application. */
import { Type, type Static } from '@sinclair/typebox'
import { acceptedBy, type Access, type StepUp } from '../plugins/access/rule.js'
import { escapeHtml } from '../plugins/html.js'
import type { Posture } from '../plugins/posture/index.js'
import { closed } from '../schemas/index.js'

const oneOf = <Name extends string>(...names: Name[]) => Type.Union(names.map(name => Type.Literal(name)))
const Text = Type.String()
const Gap = closed({ severity: oneOf('high', 'medium', 'low'), message: Text, fix: Text })
const Row = closed({
  method: Text,
  url: Text,
  kind: Type.String({ description: 'route, head (of a GET) or not-found' }),
  group: oneOf('anybody', 'signed in', 'permission', 'role', 'own'),
  who: Text,
  via: Text,
  limits: Text,
  body: Text,
  answers: Text,
  audit: Text,
  headers: Text,
  gaps: Type.Array(Gap),
})
export const PostureTable = closed({
  rows: Type.Array(Row),
  gaps: Type.Array(Gap, { description: 'Of the service as a whole' }),
  counts: Type.Array(closed({ label: Text, count: Type.Integer() })),
})
export type PostureTable = Static<typeof PostureTable>
type Row = Static<typeof Row>
type Gap = Static<typeof Gap>

/** As the concerns promise it; those that say nothing of a route are not among them. */
interface Controls {
  access?: Access
  resource?: { hidden: boolean, override: string[] }
  identity?: { credentials: string[] }
  csrf?: false | { check: 'token' | 'origin', of: 'cookies' | 'all' }
  dpop?: { required: boolean }
  limits?: false | { windows?: false | string[], plans?: Record<string, string[]>, address?: false | string[], principal?: false | string[], by: string | string[], algorithm: string, cost?: number }
  validation?: { body: 'closed' | null, mediaTypes?: string[] }
  uploads?: { kinds: string[], maxBytes: number }
  cards?: false | 'cards' | 'strict'
  exposure?: 'raw' | { statuses: string[], sights?: Record<string, string[]>, open?: Record<string, string[]> }
  encryption?: { fields: string[] }
  versions?: { status: string, sunset?: string }
  audit?: string | { type: string, durable: boolean }
  headers?: false | Record<string, string>
}

const GROUPS: readonly (readonly [Row['group'], string])[] = [
  ['anybody', 'for anybody'], ['signed in', 'for whoever is signed in'], ['own', 'by what is whose'], ['permission', 'by permission'], ['role', 'by role'],
]
const ALGORITHMS: Readonly<Record<string, string>> = { bucket: 'token bucket', sliding: 'sliding windows', fixed: 'fixed windows', log: 'exact log' }

export function tableOf ({ routes, findings }: Posture): PostureTable {
  const gapsOf = (name: string): Gap[] => findings.filter(({ route }) => route === name).map(({ severity, message, fix }) => ({ severity, message, fix }))
  const rows = routes.map(({ method, url, kind, controls }): Row => ({ method, url, kind, ...wordsFor(controls), gaps: gapsOf(`${method} ${url}`) }))
  const own = rows.filter(({ kind }) => kind === 'route')
  return {
    rows,
    gaps: gapsOf('*'),
    counts: [
      { label: 'routes', count: own.length },
      ...GROUPS.map(([group, label]) => ({ label, count: own.filter(row => row.group === group).length })),
      ...(['high', 'medium', 'low'] as const).map(severity => ({ label: `gaps, ${severity}`, count: findings.filter(finding => finding.severity === severity).length })),
    ],
  }
}

function wordsFor (all: Record<string, unknown>): Omit<Row, 'method' | 'url' | 'kind' | 'gaps'> {
  const controls = all as Controls
  const access = controls.access ?? 'public'
  return {
    group: groupOf(access),
    who: whoOf(access, controls),
    via: viaOf(access, controls),
    limits: limitsOf(controls),
    body: bodyOf(controls),
    answers: answersOf(controls),
    audit: auditOf(controls),
    headers: headersOf(controls),
  }
}

function groupOf (access: Access): Row['group'] {
  if (access === 'public') return 'anybody'
  if (access === 'user') return 'signed in'
  if (access.resource !== undefined) return 'own'
  if (access.permissions !== undefined) return 'permission'
  return access.roles === undefined ? 'signed in' : 'role'
}

function whoOf (access: Access, { resource }: Controls): string {
  if (access === 'public') return 'anybody'
  if (access === 'user') return 'whoever is signed in'
  const { roles, permissions, resource: object, action = 'read', stepUp } = access
  return [
    ...roles === undefined ? [] : [`role ${[roles].flat().join(' or ')}`],
    ...permissions === undefined ? [] : [`permission ${[permissions].flat().join(' and ')}`],
    ...object === undefined ? [] : [`who may ${action} this ${object}`],
    ...resource === undefined || resource.override.length === 0 ? [] : [`or role ${resource.override.join(' or ')}`],
    ...resource?.hidden === true ? ['to others it is not there'] : [],
    ...(roles ?? permissions ?? object) === undefined ? ['whoever is signed in'] : [],
    ...stepUp === undefined || stepUp === false ? [] : [proofOf(stepUp)],
  ].join(', ')
}

function proofOf (stepUp: true | StepUp): string {
  const { maxAge = stepUp === true ? 300 : undefined, factors }: { maxAge?: number, factors?: unknown } = stepUp === true ? {} : stepUp
  return [...maxAge === undefined ? [] : [`proven in the last ${maxAge} s`], ...factors === undefined ? [] : [`by ${[factors].flat().join(' and ')}`]].join(' ')
}

function viaOf (access: Access, { identity, csrf, dpop }: Controls): string {
  const crossSite = csrf === undefined || csrf === false ? '' : csrf.check === 'token' ? 'CSRF token' : 'own origin'
  if (access === 'public') return crossSite === '' || (csrf !== false && csrf?.of === 'cookies') ? 'nothing is needed' : `nothing is needed; ${crossSite}`
  const accepted = acceptedBy(access).filter(name => identity?.credentials.includes(name) ?? true)
  return accepted.map(name => name === 'session' && crossSite !== '' ? `session with ${crossSite}` : name === 'bearer' && dpop?.required === true ? 'bearer with proof of its key' : name).join(', ')
}

function limitsOf ({ limits }: Controls): string {
  if (limits === undefined || limits === false) return 'none'
  const { windows, plans, address, principal, by, algorithm, cost = 1 } = limits
  const list = (given: false | string[] | undefined) => given === undefined || given === false ? 'none' : given.join(', ')
  if (address !== undefined || principal !== undefined) return `${list(address)} an address, ${list(principal)} a caller, shared`
  const terms = plans === undefined ? list(windows) : Object.entries(plans).map(([plan, given]) => `${plan}: ${list(given)}`).join('; ')
  return `${terms} by ${[by].flat().join(' and ')} (${ALGORITHMS[algorithm] ?? algorithm}${cost > 1 ? `, each costs ${cost}` : ''})`
}

function bodyOf ({ validation, uploads, cards }: Controls): string {
  if (uploads !== undefined) return `${uploads.kinds.join(', ')} of up to ${uploads.maxBytes / 1_048_576} MiB`
  if (validation?.body !== 'closed') return 'none'
  return `closed: ${validation.mediaTypes!.join(', ')}${cards === 'strict' ? ', no card numbers' : ''}`
}

function answersOf ({ exposure, encryption, versions }: Controls): string {
  if (versions?.status === 'gone') return `410 since ${versions.sunset!.slice(0, 10)}`
  if (exposure === undefined) return 'problems alone'
  if (exposure === 'raw') return 'a page, file or stream: not filtered'
  const sights = [...new Set(Object.values(exposure.sights ?? {}).flat())]
  return [
    `${exposure.statuses.join(', ')} by its schema`,
    ...sights.length === 0 ? [] : [`some fields for ${sights.join(' or ')} alone`],
    ...exposure.open === undefined ? [] : ['some of it open, for a reason'],
    ...encryption === undefined ? [] : ['some of it kept encrypted'],
  ].join('; ')
}

function auditOf ({ audit }: Controls): string {
  if (audit === undefined) return 'refusals'
  return typeof audit === 'string' ? audit : `${audit.type}${audit.durable ? ', before it answers' : ''}`
}

function headersOf ({ headers }: Controls): string {
  if (headers === undefined || headers === false) return 'none'
  const policy = headers['content-security-policy'] ?? ''
  return [
    /script-src/.test(policy) ? 'a page: code with its nonce alone' : 'nothing may load',
    ...headers['cache-control'] === undefined ? [] : [headers['cache-control']],
    ...headers['clear-site-data'] === undefined ? [] : ['clears the site'],
  ].join(', ')
}

/** The same as a page, without a script. `nonce`: of its style. */
export function pageOf ({ rows, gaps, counts }: PostureTable, nonce: string): string {
  const columns = ['who', 'via', 'limits', 'body', 'answers', 'audit', 'headers'] as const
  const titles = ['Route', 'Who may', 'Via', 'Limits', 'Body', 'Answers', 'Audit', 'Headers']
  const told = ({ severity, message, fix }: Gap) => `<p class="gap"><strong>${severity}:</strong> ${escapeHtml(message)}. ${escapeHtml(fix)}</p>`
  const shown = rows.filter(({ kind }) => kind !== 'head')
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Posture</title>
<link rel="icon" href="data:,">
<style nonce="${nonce}">
:root { color-scheme: light dark; --bad: light-dark(#9f1f1f, #ff9d94); --line: light-dark(#d9dedb, #343b42); --ground: light-dark(#fff, #14171a); font: .875rem/1.4 system-ui, sans-serif }
body { margin: 1rem; background: var(--ground); color: light-dark(#1e2326, #e7eaec) }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid var(--line) }
thead th { white-space: nowrap }
code { font: .95em ui-monospace, monospace }
.gap { margin: .25rem 0; color: var(--bad) }
@media (min-width: 75rem) { .wide { overflow: visible } thead th { position: sticky; top: 0; background: var(--ground) } }
</style>
</head>
<body>
<h1>What protects each route</h1>
<p>Read from the running service. The HEAD of a GET is guarded as that is, and left out.</p>
<p>${counts.map(({ label, count }) => `${count} ${escapeHtml(label)}`).join(' · ')}</p>
${gaps.map(told).join('\n')}
<div class="wide" tabindex="0" role="region" aria-label="Routes">
<table>
<thead><tr>${titles.map(title => `<th scope="col">${title}</th>`).join('')}</tr></thead>
<tbody>
${shown.map(row => `<tr><th scope="row"><code>${escapeHtml(`${row.method} ${row.url}`)}</code>${row.gaps.map(told).join('')}</th>${columns.map(name => `<td>${escapeHtml(row[name])}</td>`).join('')}</tr>`).join('\n')}
</tbody>
</table>
</div>
</body>
</html>
`
}
