/** The report as people read it: text, Markdown, and a page of its own. */
import { escapeHtml } from '../html.js'
import { baselineOf } from './baseline.js'
import { COLUMNS, linesOf, rowsOf, type Report } from './report.js'
import { sarifOf } from './sarif.js'

/** By the name that `--format` takes. */
export const FORMATS: Readonly<Record<string, (report: Report) => string>> = { table, json, markdown, html, sarif }

const WIDEST = 44

function table (report: Report): string {
  return [
    ...headOf(report),
    '',
    ...columns(routeGrid(report)),
    '',
    ...columns(controlGrid(report)),
    ...changeLines(report).flatMap(([title, lines]) => ['', `${title}:`, ...lines.map(line => `  ${line}`)]),
  ].join('\n')
}

/** Also what `--baseline` takes. */
function json ({ source, grade, reasons, controls, changes, posture }: Report): string {
  return JSON.stringify({ ...baselineOf(posture), source, grade, reasons, controls, changes }, null, 2)
}

function markdown (report: Report): string {
  const { grade, reasons, source } = report
  const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll('<', '&lt;')
  const grid = (rows: string[][]) => rows.flatMap((row, i) => [`| ${row.map(cell).join(' | ')} |`, ...i === 0 ? [`|${'---|'.repeat(row.length)}`] : []])
  return [
    `# Posture of ${cell(source)}: ${grade}`,
    '',
    ...reasons.map(reason => `- ${cell(reason)}`),
    ...changeLines(report).flatMap(([title, lines]) => ['', `## ${title}`, '', ...lines.map(line => `- ${cell(line)}`)]),
    '',
    '## Routes',
    '',
    ...grid(routeGrid(report, route => `\`${route}\``)),
    '',
    '## Controls',
    '',
    ...grid(controlGrid(report)),
  ].join('\n')
}

const STYLE = `:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}body{max-width:75rem;margin:2rem auto;padding:0 1rem}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid light-dark(#ddd,#444);vertical-align:top}td:first-child{font-family:ui-monospace,monospace}div{overflow-x:auto}strong{font-size:3rem;line-height:1}`

/** One file, without a script: it may be kept and sent. */
function html (report: Report): string {
  const { grade, reasons, source } = report
  const list = (lines: readonly string[]) => `<ul>${lines.map(line => `<li>${escapeHtml(line)}</li>`).join('')}</ul>`
  const grid = (caption: string, [head = [], ...rows]: readonly (readonly string[])[]) => [
    `<h2>${escapeHtml(caption)}</h2><div><table><thead><tr>${head.map(name => `<th scope="col">${escapeHtml(name)}</th>`).join('')}</tr></thead><tbody>`,
    ...rows.map(row => `<tr>${row.map(text => `<td>${escapeHtml(text)}</td>`).join('')}</tr>`),
    '</tbody></table></div>',
  ].join('\n')
  return [
    `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Posture of ${escapeHtml(source)}</title><style>${STYLE}</style></head><body>`,
    `<h1>Posture of ${escapeHtml(source)}</h1><p>Grade <strong>${escapeHtml(grade)}</strong></p>${list(reasons)}`,
    ...changeLines(report).map(([title, lines]) => `<h2>${escapeHtml(title)}</h2>${list(lines)}`),
    grid('Routes', routeGrid(report)),
    grid('Controls', controlGrid(report)),
    '</body></html>',
  ].join('\n')
}

function sarif (report: Report): string {
  return JSON.stringify(sarifOf(report), null, 2)
}

/** A row a route, below the names of its columns. */
function routeGrid ({ posture }: Report, named = (route: string) => route): string[][] {
  return [[...COLUMNS], ...rowsOf(posture).map(({ route, ...row }) => COLUMNS.map(name => name === 'route' ? named(route) : row[name]))]
}

/** A row a control, below the names of its columns. */
function controlGrid ({ controls }: Report): string[][] {
  return [['control', 'routes', 'ASVS 5.0', 'API Top 10'], ...Object.entries(controls).map(([name, { routes, asvs, api }]) => [name, String(routes), asvs.join(' '), api.join(' ')])]
}

function headOf ({ source, grade, reasons, posture }: Report): string[] {
  const routes = posture.routes.filter(({ kind }) => kind === 'route').length
  return [`${source}: grade ${grade}, ${routes} ${routes === 1 ? 'route' : 'routes'}`, ...reasons.map(reason => `  ${reason}`)]
}

/** Nothing where there is no baseline. */
export function changeLines ({ changes }: Pick<Report, 'changes'>): [string, string[]][] {
  if (changes === null) return []
  const [weak, strong] = [linesOf(changes, 'weaker'), linesOf(changes, 'stronger')]
  const all: [string, string[]][] = [['Weaker than the baseline', weak], ['Stronger or new', strong]]
  return weak.length + strong.length === 0 ? [['Against the baseline', ['nothing changed']]] : all.filter(([, lines]) => lines.length > 0)
}

function columns (rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_head, i) => Math.min(WIDEST, Math.max(...rows.map(row => row[i]!.length))))
  return rows.map(row => row.map((text, i) => text.padEnd(widths[i]!)).join('  ').trimEnd())
}
