/** The report in SARIF 2.1.0, as code scanning services read it. */
import { createHash } from 'node:crypto'
import type { Change } from './changes/index.js'
import type { Finding } from './index.js'
import type { Report } from './report.js'
import { standardOf } from './standards.js'

const LEVELS = { high: 'error', medium: 'warning', low: 'note' } as const
const SEVERITIES = { high: '8.0', medium: '5.0', low: '2.0' } as const
const HOME = 'https://www.npmjs.com/package/fastify-bastion'

export function sarifOf ({ source, grade, posture, changes }: Report): object {
  const weakened = (changes ?? []).filter(({ is }) => is === 'weaker')
  const rules = new Map<string, object>()
  for (const { rule, severity } of posture.findings) rules.set(rule, ruleOf(rule, `A finding of ${rule.replace('/', ': ')}`, severity))
  for (const { control } of weakened) rules.set(`weaker/${control}`, ruleOf(`weaker/${control}`, `A route is weaker than the baseline says: ${control}`, 'high', control))
  const index = [...rules.keys()]
  return {
    $schema: 'https://json.schemastore.org/sarif-2.1.0.json',
    version: '2.1.0',
    runs: [{
      tool: { driver: { name: 'fastify-bastion', informationUri: HOME, rules: [...rules.values()] } },
      properties: { grade },
      results: [
        ...posture.findings.map(finding => resultOf(index, finding.rule, LEVELS[finding.severity], finding, source)),
        ...weakened.map(change => resultOf(index, `weaker/${change.control}`, 'error', change, source)),
      ],
    }],
  }
}

function ruleOf (id: string, text: string, severity: Finding['severity'], control = id): object {
  const { asvs, api } = standardOf(control)
  return {
    id,
    name: id.replace(/(?:^|[/-])(\w)/g, (_all, letter: string) => letter.toUpperCase()),
    shortDescription: { text },
    defaultConfiguration: { level: LEVELS[severity] },
    properties: { 'security-severity': SEVERITIES[severity], tags: ['security', ...asvs.map(asvsId => `external/asvs/5.0/${asvsId}`), ...api.map(risk => `external/owasp-api/${risk}`)] },
  }
}

function resultOf (index: readonly string[], ruleId: string, level: string, { route, message, ...rest }: Finding | Change, source: string): object {
  const name = route === '*' ? 'the service' : route
  return {
    ruleId,
    ruleIndex: index.indexOf(ruleId),
    level,
    message: { text: `${name}: ${message}${'fix' in rest ? `. ${rest.fix}` : ''}` },
    locations: [{
      physicalLocation: { artifactLocation: { uri: encodeURI(source.replaceAll('\\', '/').replace(/^\.\//, '')) }, region: { startLine: 1 } },
      logicalLocations: [{ fullyQualifiedName: name, kind: 'member' }],
    }],
    partialFingerprints: { 'bastion/v1': createHash('sha256').update(`${ruleId} ${route} ${message}`).digest('hex').slice(0, 32) },
  }
}
