/** `npm run attack [-- name …] [--json file]`: every attack against the twin and the portal; exit code 1 unless each hits the twin and misses the portal. */
import { writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { RISKS } from './attack.js'
import { attacks, isShown, openRange, type Duel } from './range.js'
import { HEAD, line, report } from './table.js'

const { values: { json }, positionals } = parseArgs({ allowPositionals: true, options: { json: { type: 'string' } } })
const known = await attacks()
const unknown = positionals.filter(name => !known.has(name))
if (unknown.length > 0) {
  console.error(`There is no attack ${unknown.join(', ')}. There are: ${[...known.keys()].join(', ')}`)
  process.exit(2)
}
const order = Object.keys(RISKS)
const names = [...known].filter(([name]) => positionals.length === 0 || positionals.includes(name))
  .sort(([, a], [, b]) => order.indexOf(a.risk) - order.indexOf(b.risk)).map(([name]) => name)

console.log('Starting a portal and its vulnerable twin …')
const range = await openRange()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => range.close().finally(() => process.exit(130)))
const duels: Duel[] = []
try {
  console.log(`\n${HEAD}`)
  for (const name of names) {
    const duel = await range.run(name)
    duels.push(duel)
    console.log(line(known.get(name)!, duel))
    if (!isShown(duel)) console.log(`    twin:   ${duel.twin.evidence}\n    portal: ${duel.portal.evidence}`)
  }
} finally {
  await range.close()
}
if (json !== undefined) await writeFile(json, `${JSON.stringify(report(known, duels), null, 2)}\n`)
const shown = duels.filter(isShown).length
console.log(`\n${shown} of ${duels.length} attacks succeed on the twin and fail on the portal${json === undefined ? '' : `; written to ${json}`}`)
process.exitCode = shown === duels.length ? 0 : 1
