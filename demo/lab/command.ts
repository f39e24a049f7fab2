/**
 * `npm run attack [-- name …] [--list] [--json file]`: every attack against the twin and the portal. Exit code 1 unless each hits the twin and misses the portal, and, where none is
 * named, there are at least forty; 2 where there is no such attack.
 */
import { writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { RISKS } from './attack.js'
import { attacks, openRange, type Duel } from './range.js'
import { HEAD, heading, lines, painter, report, summary } from './table.js'

const { values: { json, list }, positionals } = parseArgs({ allowPositionals: true, options: { json: { type: 'string' }, list: { type: 'boolean' } } })
// JSON that goes to standard output is alone there.
const stream = json === '-' ? process.stderr : process.stdout
const say = (text: string) => { stream.write(`${text}\n`) }
const paint = painter(stream, process.env)

const known = await attacks()
const unknown = positionals.filter(name => !known.has(name))
if (unknown.length > 0) {
  console.error(`There is no attack ${unknown.join(', ')}; \`npm run attack -- --list\` shows those that there are`)
  process.exit(2)
}
const order = Object.keys(RISKS)
const isAll = positionals.length === 0
const chosen = [...known].filter(([name]) => isAll || positionals.includes(name)).sort(([, a], [, b]) => order.indexOf(a.risk) - order.indexOf(b.risk))

if (list === true) {
  for (const [i, [name, { title, risk }]] of chosen.entries()) {
    if (risk !== chosen[i - 1]?.[1].risk) say(heading(risk, paint))
    say(`  ${name.padEnd(34)} ${title}`)
  }
  process.exit()
}

say('Starting a portal and its vulnerable twin …')
const range = await openRange()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => range.close().finally(() => process.exit(130)))
const duels: Duel[] = []
try {
  say(`\n${paint('dim', HEAD)}`)
  for (const [i, [name, attack]] of chosen.entries()) {
    if (attack.risk !== chosen[i - 1]?.[1].risk) say(heading(attack.risk, paint))
    const duel = await range.run(name)
    duels.push(duel)
    say(lines(attack, duel, paint))
  }
} finally {
  await range.close()
}
const { text, isGood } = summary(duels, isAll)
if (json !== undefined) {
  const written = `${JSON.stringify(report(known, duels), null, 2)}\n`
  if (json === '-') process.stdout.write(written)
  else await writeFile(json, written)
}
say(`\n${text}${json === undefined || json === '-' ? '' : `; written to ${json}`}`)
process.exitCode = isGood ? 0 : 1
