/** What protects each route, in words: a table that people read, made of the report of the running application. */
import { Type, type Static } from '@sinclair/typebox'
import { escapeHtml } from '../plugins/html.js'
import type { Posture } from '../plugins/posture/index.js'
import { wordsFor } from '../plugins/posture/words.js'
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

const GROUPS: readonly (readonly [Row['group'], string])[] = [
  ['anybody', 'for anybody'], ['signed in', 'for whoever is signed in'], ['own', 'by what is whose'], ['permission', 'by permission'], ['role', 'by role'],
]

export function tableOf ({ routes, findings }: Posture): PostureTable {
  const gapsOf = (name: string): Gap[] => findings.filter(({ route }) => route === name).map(({ severity, message, fix }) => ({ severity, message, fix }))
  const rows = routes.map(({ method, url, kind, controls }): Row => ({ method, url, kind, ...wordsFor(controls), ...kind === 'not-found' && { body: 'none', answers: 'problems alone' }, gaps: gapsOf(`${method} ${url}`) }))
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
