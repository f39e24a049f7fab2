/** What became of mutations, as text and as the page that is kept. */
import { FINDING_IDS } from '../../../plugins/testing/catalogue.js'
import { NOT_MUTATED, type Mutant } from './table.js'
import type { Outcome } from './trying.js'

/** A line. */
export function textOf ({ mutant: { expected, file, what }, caught, others, broken }: Outcome): string {
  const end = caught.length > 0 ? `caught at ${caught[0]!.route}` : `SURVIVED${broken !== null ? `: ${broken}` : others.length > 0 ? `: ${[...new Set(others.map(({ id }) => id))].join(', ')} instead` : ''}`
  return `${expected} · ${file}: ${what} · ${end}`
}

export function scoreOf (outcomes: readonly Outcome[]): string {
  const caught = outcomes.filter(outcome => outcome.caught.length > 0)
  return `${caught.length} of ${outcomes.length} mutations were caught, of ${new Set(caught.map(({ mutant }) => mutant.expected)).size} kinds of finding`
}

/** Where a row of the page begins. */
export function rowOf ({ expected, what, file }: Mutant): string {
  return `| \`${expected}\` | ${what} | \`${file}\` |`
}

/** Without times and machines: it changes where the table does, or the kit. */
export function markdownOf (outcomes: readonly Outcome[]): string {
  const rows = [...outcomes].sort((a, b) => FINDING_IDS.indexOf(a.mutant.expected) - FINDING_IDS.indexOf(b.mutant.expected))
  return [
    '# Mutations that the attack kit catches', '',
    'Each is one small edit of the suite or of the demo, made in a copy; then the kit attacks the routes concerned. `npm run mutants` does it, `-- --write` writes this page.', '',
    `**${scoreOf(outcomes)}**; before any edit the same attacks find nothing.`, '',
    '| kind of finding | what is wrong | edited | found at | |', '|---|---|---|---|---|',
    ...rows.map(({ mutant, caught: [found] }) => `${rowOf(mutant)} ${found === undefined ? ' | survived' : `\`${found.route}\` | caught`} |`),
    '',
    ...Object.entries(NOT_MUTATED).map(([id, reason]) => `\`${id}\` has none: ${reason}.`), '',
  ].join('\n')
}
