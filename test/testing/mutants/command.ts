/**
 * `npm run mutants`: tries every mutation of the table, prints what became of each, and ends with 1 where one survives or does not apply.
 * `npm run mutants -- --write` keeps the score in docs/mutants.md; `npm run mutants -- credentials sessions` tries those whose kind or file is called so.
 */
import { writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { markdownOf, scoreOf, textOf } from './score.js'
import { MUTANTS } from './table.js'
import { Copy, ROOT, type Outcome } from './trying.js'

const words = process.argv.slice(2).filter(word => !word.startsWith('--'))
const chosen = MUTANTS.filter(({ expected, file }) => words.length === 0 || words.some(word => expected.includes(word) || file.includes(word)))
const started = performance.now()
const copies = await Promise.all(Array.from({ length: Math.min(availableParallelism(), 4) }, () => Copy.make()))
try {
  const control = await copies[0]!.attack(chosen)
  const early = control.flatMap((found, i) => found.map(({ id, route }) => `${chosen[i]!.what}: ${id} at ${route}`))
  if (early.length > 0) throw new Error(`There is a finding before anything was changed:\n${early.join('\n')}`)
  const waiting = [...chosen.entries()]
  const outcomes: Outcome[] = []
  await Promise.all(copies.map(async copy => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [i, mutant] = next
      outcomes[i] = await copy.try(mutant)
      console.log(textOf(outcomes[i]))
    }
  }))
  console.log(`\n${scoreOf(outcomes)}, in ${Math.round((performance.now() - started) / 1000)} s`)
  if (process.argv.includes('--write')) await writeFile(join(ROOT, 'docs/mutants.md'), markdownOf(outcomes))
  if (outcomes.some(({ caught }) => caught.length === 0)) process.exitCode = 1
} finally {
  await Promise.all(copies.map(copy => copy.remove()))
}
