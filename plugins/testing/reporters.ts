/** Reports: for people, for test runners, for code scanning. */
import { CATALOGUE, FINDING_IDS } from './catalogue.js'
import type { Finding, Report, Severity } from './contract.js'

const LEVELS: Readonly<Record<Severity, string>> = { critical: 'error', high: 'error', medium: 'warning', low: 'note' }
/** As code scanning sorts them (CVSS). */
const SCORES: Readonly<Record<Severity, string>> = { critical: '9.5', high: '8.0', medium: '5.5', low: '3.0' }
const MAX_LISTED = 20

/** All of it, as data: the same for the same seed, so that how long it took is left out. */
export function asJson ({ duration: _duration, ...report }: Report): string {
  return JSON.stringify(report, null, 2)
}

/** For people: what was found, what was not proven, what held. */
export function asText ({ findings, checks, skipped, unproven, routes, requests, duration, seed, aborted }: Report): string {
  const held = checks.filter(({ state }) => state === 'held')
  const absent = checks.filter(({ state }) => state === 'not applicable')
  const undecided = new Map<string, string[]>()
  for (const { route, what, reason } of unproven) undecided.set(`${route}: ${reason}`, [...undecided.get(`${route}: ${reason}`) ?? [], what])
  const listed = (title: string, lines: readonly string[]) => lines.length === 0 ? [] : ['', title, ...lines.slice(0, MAX_LISTED).map(line => `  ${line}`), ...lines.length > MAX_LISTED ? [`  … and ${lines.length - MAX_LISTED} more`] : []]
  return [
    `${routes.length} routes, ${requests} requests in ${(duration / 1000).toFixed(1)} s, seed ${seed}: ${findings.length === 0 ? 'no finding' : `${findings.length} ${findings.length === 1 ? 'finding' : 'findings'}`}`,
    ...findings.flatMap(({ id, severity, route, principal, expected, got, reproduce }) => [
      '', `${severity.toUpperCase()} ${id}: ${CATALOGUE[id].title}`, `  ${route}${principal === null ? '' : ` as ${principal}`}`, `  expected ${expected}`, `  got ${got}`, ...reproduce === '' ? [] : [`  ${reproduce}`],
    ]),
    ...aborted === undefined ? [] : ['', `Ended before its time: ${aborted}`],
    ...undecided.size === 0 ? [] : ['', 'Not proven:', ...[...undecided].map(([why, ids]) => `  ${why} (${ids.join(', ')})`)],
    ...listed('Switched off:', skipped.map(({ route, what, reason }) => `${route}, ${what}: ${reason}`)),
    ...listed('Not applicable:', absent.map(({ id, reason }) => `${id}: ${reason}`)),
    '', `Held: ${held.map(({ id, tried, unproven }) => `${id} (${tried}${unproven === 0 ? '' : `, not proven on ${unproven} routes`})`).join(', ') || 'nothing'}`,
  ].join('\n')
}

/** TAP version 14: a point a check, and one for each route on which it could not be decided. */
export function asTap ({ findings, checks, unproven, aborted }: Report): string {
  const points = checks.flatMap(({ id, state, tried, reason }) => {
    const directive = state === 'not applicable' || state === 'skipped' || state === 'unproven' ? ` # SKIP ${state}: ${(reason ?? '').replaceAll('#', '')}` : ''
    const faults = findings.filter(finding => finding.id === id)
    const lines = faults.flatMap(({ route, principal, expected, got, reproduce }) => [`    - route: ${JSON.stringify(route)}`, `      principal: ${JSON.stringify(principal)}`, `      expected: ${JSON.stringify(expected)}`, `      got: ${JSON.stringify(got)}`, `      reproduce: ${JSON.stringify(reproduce)}`])
    const diagnostics = faults.length === 0 ? [] : ['  ---', '  findings:', ...lines, '  ...']
    const undecided = unproven.filter(({ what }) => what === id).map(({ route, reason }) => ({ isHeld: true, lines: [`${id} on ${route} # SKIP unproven: ${reason.replaceAll('#', '')}`] }))
    return [{ isHeld: state !== 'broken', lines: [`${id} (${tried} tried)${directive}`, ...diagnostics] }, ...undecided]
  })
  const numbered = points.map(({ isHeld, lines: [first, ...others] }, i) => [`${isHeld ? 'ok' : 'not ok'} ${i + 1} - ${first}`, ...others].join('\n'))
  return ['TAP version 14', `1..${points.length}`, ...numbered, ...aborted === undefined ? [] : [`Bail out! ${aborted}`], ''].join('\n')
}

/**
 * SARIF 2.1.0, for code scanning.
 *
 * @param location the file to which results are tied: code scanning wants one (default `package.json`)
 */
export function asSarif ({ findings, unproven, seed, requests, aborted }: Report, { location = 'package.json' }: { location?: string } = {}): string {
  const used = FINDING_IDS.filter(id => findings.some(finding => finding.id === id))
  return JSON.stringify({
    $schema: 'https://json.schemastore.org/sarif-2.1.0.json',
    version: '2.1.0',
    runs: [{
      tool: { driver: { name: 'fastify-bastion', informationUri: 'https://www.npmjs.com/package/fastify-bastion', rules: used.map(id => ruleOf(id)) } },
      properties: { seed, requests },
      invocations: [{
        executionSuccessful: aborted === undefined,
        toolExecutionNotifications: [
          ...aborted === undefined ? [] : [{ level: 'error', message: { text: aborted } }],
          ...unproven.map(({ route, what, reason }) => ({ level: 'warning', message: { text: `${what} is not proven on ${route}: ${reason}` }, locations: [{ logicalLocations: [{ name: route, kind: 'function' }] }] })),
        ],
      }],
      results: findings.map(finding => resultOf(finding, used.indexOf(finding.id), location)),
    }],
  }, null, 2)
}

function ruleOf (id: Finding['id']): object {
  const { title, severity, cwe, owasp } = CATALOGUE[id]
  return {
    id,
    name: id.replace(/[.-](\w)/g, (_all, letter: string) => letter.toUpperCase()).replace(/^\w/, letter => letter.toUpperCase()),
    shortDescription: { text: title },
    helpUri: `https://cwe.mitre.org/data/definitions/${cwe}.html`,
    defaultConfiguration: { level: LEVELS[severity] },
    properties: { tags: ['security', `external/cwe/cwe-${cwe}`, `OWASP-${owasp}:2023`], 'security-severity': SCORES[severity] },
  }
}

function resultOf ({ id, severity, route, principal, expected, got, reproduce, way }: Finding, ruleIndex: number, uri: string): object {
  return {
    ruleId: id,
    ruleIndex,
    level: LEVELS[severity],
    message: { text: `${route}${principal === null ? '' : ` as ${principal}`}: expected ${expected}, got ${got}.${reproduce === '' ? '' : `\n${reproduce}`}` },
    locations: [{ physicalLocation: { artifactLocation: { uri }, region: { startLine: 1 } }, logicalLocations: [{ name: route, kind: 'function' }] }],
    partialFingerprints: { 'finding/v1': [id, route, principal ?? '', ...way === undefined ? [] : [way]].join(' ') },
  }
}
